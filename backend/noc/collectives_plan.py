"""Messages of a collective: who sends which data to whom, and what must have come before.

Algorithms (collectives_lines.py) write tables of messages step by step; the dependencies are
derived from what each message reads. What a plan costs is in collectives_cost.py, what it
computes in values.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ...ir.errors import VerificationError
from .arrays import Ints
from .flows import Flows, flows_of

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Messages:
    """A table with a row for every message: seven arrays of one length.

    A message of a step reads what its source holds after all earlier steps. `source` and
    `destination` count members, and blocks `first` to `first + count - 1` travel. Messages with
    the same `stream` are one multicast: the same words, sent once.
    """

    step: Ints
    source: Ints
    destination: Ints
    first: Ints
    count: Ints
    reduces: Bools
    """Added to what the destination holds; otherwise a copy takes its place."""
    stream: Ints

    def at(self, rows: Ints) -> "Messages":
        """Some of the messages, in the order of `rows`."""
        return Messages(
            self.step[rows],
            self.source[rows],
            self.destination[rows],
            self.first[rows],
            self.count[rows],
            self.reduces[rows],
            self.stream[rows],
        )

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return int(self.step.max(initial=-1)) + 1


def messages(
    step: npt.ArrayLike,
    source: npt.ArrayLike,
    destination: npt.ArrayLike,
    first: npt.ArrayLike = 0,
    count: npt.ArrayLike = 1,
    reduces: bool = False,
    multicast: bool = False,
) -> Messages:
    """A table from columns that broadcast against each other; one stream, or one a message."""
    columns = np.broadcast_arrays(step, source, destination, first, count)
    flat = [np.asarray(column, np.int64).ravel() for column in columns]
    size = len(flat[0])
    stream = np.zeros(size, np.int64) if multicast else np.arange(size)
    return Messages(flat[0], flat[1], flat[2], flat[3], flat[4], np.full(size, reduces), stream)


def one_after_another(tables: Sequence[Messages]) -> Messages:
    """The steps of each table after all steps of the table before."""
    first = np.cumsum([0, *(table.steps for table in tables)])
    return at_once(
        [replace(t, step=t.step + begin) for t, begin in zip(tables, first, strict=False)]
    )


def at_once(tables: Sequence[Messages]) -> Messages:
    """Several tables side by side."""
    if not tables:
        return messages(np.zeros(0), 0, 0)
    streams = np.cumsum([0, *(int(table.stream.max(initial=-1)) + 1 for table in tables)])
    apart = [replace(t, stream=t.stream + s) for t, s in zip(tables, streams, strict=False)]
    columns = {
        field.name: np.concatenate([getattr(table, field.name) for table in apart])
        for field in fields(Messages)
    }
    return Messages(**columns)


def renamed(table: Messages, members: Ints) -> Messages:
    """The same messages among other members: position i becomes `members[i]`."""
    return replace(table, source=members[table.source], destination=members[table.destination])


def over_lines(table: Messages, lines: Ints, first: Ints, scale: int = 1) -> Messages:
    """The same messages on many lines at once.

    `lines` (lines, members a line) are members; block b of the table is blocks
    `first[line] + scale * b` and the `scale - 1` behind it.
    """
    line = np.repeat(np.arange(len(lines)), len(table.step))
    at = np.tile(np.arange(len(table.step)), len(lines))
    return Messages(
        step=table.step[at],
        source=lines[line, table.source[at]],
        destination=lines[line, table.destination[at]],
        first=first[line] + scale * table.first[at],
        count=scale * table.count[at],
        reduces=table.reduces[at],
        stream=table.stream[at] + line * (int(table.stream.max(initial=-1)) + 1),
    )


@dataclass(frozen=True, eq=False)
class Plan:
    """A collective among members, message by message in the order of their steps.

    What a block must be in the end, wherever it `ends`, is the sum of the values that it has in
    all members where it `starts`.
    """

    members: Ints
    """(n,) node of each member."""
    block_bytes: Ints
    """(b,)"""
    starts: Bools
    """(n, b) which members hold a value of a block at first."""
    ends: Bools
    """(n, b) which members hold the sum of those values in the end."""
    messages: Messages
    waits: Ints
    """(2, w): a message, and one that must have arrived before it is sent."""

    def __len__(self) -> int:
        return len(self.messages.step)

    @cached_property
    def bytes(self) -> Ints:
        """(m,) of each message."""
        before = np.concatenate([[0], np.cumsum(self.block_bytes)])
        table = self.messages
        return before[table.first + table.count] - before[table.first]

    @property
    def multicasts(self) -> bool:
        """Whether some words are sent once to several members."""
        return len(np.unique(self.messages.stream)) < len(self)

    def sent_bytes(self) -> Ints:
        """(n,) bytes that each member puts on the wire; a multicast counts once."""
        _, once = np.unique(self.messages.stream, return_index=True)
        sent = np.zeros(len(self.members), np.int64)
        np.add.at(sent, self.messages.source[once], self.bytes[once])
        return sent

    def flows(
        self,
        flit_bytes: int,
        packet_flits: int,
        *,
        delay: int = 0,
        release: Ints | None = None,
        in_turn: bool = False,
    ) -> Flows:
        """Its messages for the simulators of wormhole networks, a multicast as one message each.

        delay: cycles between what a message waits for and the message, for the work on the words
            and the launch; release: (n,) the cycle from which each member may send
        """
        table = self.messages
        return flows_of(
            self.members[table.source],
            self.members[table.destination],
            -(-self.bytes // flit_bytes),
            packet_flits=packet_flits,
            release=0 if release is None else release[table.source],
            in_turn=in_turn,
            waiting=self.waits[0],
            awaited=self.waits[1],
            delay=delay,
        )

    def verify(self) -> None:
        """Raise VerificationError where arrays do not fit together."""
        table, members, blocks = self.messages, len(self.members), len(self.block_bytes)
        ends = np.concatenate([table.source, table.destination])
        if len(ends) and (ends.min() < 0 or ends.max() >= members):
            raise VerificationError(f"a message of a plan of {members} members leaves it")
        if np.any(table.source == table.destination):
            raise VerificationError("a message goes to its own source")
        if np.any(table.first < 0) or np.any(table.first + table.count > blocks):
            raise VerificationError(f"a message carries a block that is not among the {blocks}")
        if self.starts.shape != (members, blocks) or self.ends.shape != (members, blocks):
            raise VerificationError("what members hold must be given for each member and block")
        if self.waits.size and np.any(table.step[self.waits[0]] <= table.step[self.waits[1]]):
            raise VerificationError("a message waits for one of its own or of a later step")


def plan_of(
    members: Ints,
    block_bytes: Ints,
    starts: Bools,
    ends: Bools,
    table: Messages,
    chunks: int = 1,
) -> Plan:
    """A plan with the dependencies that follow from what its messages read.

    With `chunks`, every block is cut into as many, and each chunk goes its way a step behind the
    one before. Messages without bytes are left out.
    """
    blocks = len(block_bytes)
    edges = np.arange(chunks + 1)[:, np.newaxis] * block_bytes // chunks
    cut = np.diff(edges, axis=0)
    chunk = np.repeat(np.arange(chunks), len(table.step))
    at = np.tile(np.arange(len(table.step)), chunks)
    cut_table = Messages(
        step=table.step[at] + chunk,
        source=table.source[at],
        destination=table.destination[at],
        first=table.first[at] + chunk * blocks,
        count=table.count[at],
        reduces=table.reduces[at],
        stream=table.stream[at] + chunk * (int(table.stream.max(initial=-1)) + 1),
    )
    before = np.concatenate([[0], np.cumsum(cut)])
    full = before[cut_table.first + cut_table.count] > before[cut_table.first]
    kept = np.flatnonzero(full)
    kept = kept[np.argsort(cut_table.step[kept], kind="stable")]
    cut_table = cut_table.at(kept)
    return Plan(
        members=np.asarray(members, np.int64),
        block_bytes=cut.ravel(),
        starts=np.tile(starts, (1, chunks)),
        ends=np.tile(ends, (1, chunks)),
        messages=cut_table,
        waits=_what_is_read(cut_table, chunks * blocks),
    )


def shares(whole: int, parts: int) -> Ints:
    """`whole` bytes as evenly as whole bytes can be: (parts,)."""
    edges = np.arange(parts + 1) * whole // parts
    return np.diff(edges)


def _what_is_read(table: Messages, blocks: int) -> Ints:
    """(2, w): every message waits for the last copy of each of its blocks into its source, and
    for what was added since.

    Arrivals and departures are sorted by member, block and step; a departure then waits for the
    arrivals of its run that began with the last copy.
    """
    size = len(table.step)
    message = np.repeat(np.arange(size), table.count)
    within = np.arange(len(message)) - np.repeat(np.cumsum(table.count) - table.count, table.count)
    block = table.first[message] + within
    place = np.concatenate([table.destination[message], table.source[message]]) * blocks
    place += np.concatenate([block, block])
    leaves = np.repeat([False, True], len(message))
    message = np.concatenate([message, message])
    step = table.step[message]
    order = np.lexsort((~leaves, step, place))
    message, place, leaves = message[order], place[order], leaves[order]
    begins = np.concatenate([[True], place[1:] != place[:-1]])[: len(place)]
    begins |= ~leaves & ~table.reduces[message]
    arrivals = np.cumsum(~leaves)
    run_start = np.maximum.accumulate(np.where(begins, arrivals - ~leaves, 0))
    departing = np.flatnonzero(leaves)
    number = arrivals[departing] - run_start[departing]
    waiting = np.repeat(departing, number)
    offset = np.arange(len(waiting)) - np.repeat(np.cumsum(number) - number, number)
    arriving = np.flatnonzero(~leaves)[run_start[waiting] + offset]
    pairs = np.unique(message[waiting] * size + message[arriving])
    return np.stack(np.divmod(pairs, max(1, size)))
