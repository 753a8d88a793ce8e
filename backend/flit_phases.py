"""Phases of a program's traffic on the cycle-level simulator: what is sent at a time, by pattern.

A phase is all that decides how long it takes, so that equal ones are simulated once: a collective
on one line, a step of a product on a patch of the mesh, or flows between rectangles. Which phases a
program has is in flit_costs.py; what is simulated in place of too large ones in flit_network.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

import numpy as np

from .flit_routers import NO_BORDERS, Borders, Floats, Integers, Routers, pieces_of_words
from .network import Flows as Sent
from .noc import collectives_lines as lines
from .noc.collectives_plan import Messages, Plan, at_once, over_lines, plan_of
from .noc.collectives_rings import Rectangle, ring_in
from .noc.flows import flows_of

LEAST_WORDS = 32
"""Of the longer of two messages that still longer ones are judged by, at the least."""
LEAST_MEMBERS = 16
"""Of the lines that longer ones are judged by, at the least."""
PATCH = 6
"""Cores along a side of the patch that stands for a mesh of folded rings: both ends, where rings
turn, and cores between them, of which all are alike."""

Pattern = Literal["reduce", "broadcast", "reduce_scatter", "all_gather"]


@dataclass(frozen=True)
class LinePhase:
    """A collective along a line by chains of neighbours, a word a message.

    `reduce` and `broadcast` are to and from the middle; in the other two every member is the end or
    the beginning of chains for its own part. `sharing` such collectives lie in between each other.
    """

    pattern: Pattern
    members: int
    stride: int
    """Cores from a member to the next one."""
    sharing: int
    words: float
    """Of the whole vector."""
    die_cores: int
    """Cores between two borders of dies; 0 where the line lies on one."""
    period: float
    """Cycles of a word over a border."""
    offset: int = 0
    """Cores of the first die before the line."""

    @property
    def cores(self) -> int:
        return (self.members - 1) * self.stride + self.sharing

    @property
    def parted(self) -> bool:
        """Whether every member has a part of its own."""
        return self.pattern in ("reduce_scatter", "all_gather")

    @property
    def message_words(self) -> float:
        return float(ceil(self.words / (self.members if self.parted else 1) - 1e-9))

    @property
    def steps(self) -> int:
        """Pieces of words times routers that they pass."""
        messages = self.sharing * (self.members - 1) * (self.members if self.parted else 1)
        return messages * pieces_of_words(self.message_words) * (self.stride + 1)

    def with_words(self, factor: float) -> "LinePhase":
        """Shorter messages."""
        return replace(self, words=self.words * factor)

    def shorter(self, members: int) -> "LinePhase":
        """Fewer members with messages of the same length."""
        words = self.message_words * (members if self.parted else 1)
        return replace(self, members=members, words=words)

    def plan(self) -> Plan:
        """The messages of one of the collectives, a word each; sizes are pieces of words."""
        n, middle = self.members, self.members // 2
        ones, one = np.ones((n, n if self.parted else 1), np.bool_), np.zeros((n, 1), np.bool_)
        one[middle] = True
        own = np.eye(n, dtype=np.bool_)
        table, starts, ends = {
            "reduce": lambda: (lines.chain_reduce(n, middle), ones, one),
            "broadcast": lambda: (lines.chain_broadcast(n, middle), one, ones),
            "reduce_scatter": lambda: (_everyones(n, lines.chain_reduce), ones, own),
            "all_gather": lambda: (_everyones(n, lines.chain_broadcast), own, ones),
        }[self.pattern]()
        blocks = n if self.parted else 1
        sizes = np.full(blocks, pieces_of_words(self.message_words))
        chunks = int(sizes[0]) // pieces_of_words(1)
        return plan_of(np.arange(n) * self.stride, sizes, starts, ends, table, chunks)

    def arrivals(self, routers: Routers) -> Floats:
        """Cycles until the last core has handled its last word: (1,)."""
        plan = self.plan()
        one = plan.flows(1, pieces_of_words(1))
        at = np.arange(self.sharing)[:, np.newaxis]
        borders = Borders(0, self.die_cores, column_offset=self.offset)
        flows = flows_of(
            (one.source + at).ravel(),
            (one.destination + at).ravel(),
            np.tile(one.flits, self.sharing),
            packet_flits=one.packet_flits,
            waiting=(one.waiting + at * one.count).ravel(),
            awaited=(one.awaited + at * one.count).ravel(),
        )
        crossed = borders.crossed(self.cores, flows.source, flows.destination)
        flows = routers.relayed(flows, crossed)
        found = routers.arrivals(flows, self.cores, 1, borders, int(self.period))
        return np.array([found.max(initial=0.0) + HANDLING])


HANDLING = 2
"""Cycles in which the last receiver handles the last word, as closed forms of collectives count
them ("Near-Optimal Wafer-Scale Reduce", arXiv 2404.15888)."""


def _everyones(n: int, chain: Callable[[int, int], Messages]) -> Messages:
    """Chains to or from every member, each for its own block; those of the ends first, which have
    the longest way."""
    order = sorted(range(n), key=lambda at: min(at, n - 1 - at))
    own = (over_lines(chain(n, at), np.arange(n)[np.newaxis], np.array([at])) for at in order)
    return at_once([*own])


Motion = Literal["ring", "owner"]
"""Of a tile to the next core of a ring folded onto the line, or of sums to the one who owns them,
from both sides."""


@dataclass(frozen=True)
class StepPhase:
    """What all cores of a mesh send at a step of a product, each along its row and its column."""

    rows: int
    columns: int
    row_motion: Motion
    row_words: float
    column_motion: Motion
    column_words: float
    row_border: bool
    """Whether borders of dies cut the rows."""
    column_border: bool
    period: float

    @property
    def steps(self) -> int:
        """Pieces of words times routers that they pass."""
        pieces = pieces_of_words(self.row_words) + pieces_of_words(self.column_words)
        return 3 * min(self.rows, PATCH) * min(self.columns, PATCH) * pieces

    @property
    def message_words(self) -> float:
        return float(ceil(max(self.row_words, self.column_words)))

    def with_words(self, factor: float) -> "StepPhase":
        """Shorter messages."""
        return replace(
            self, row_words=self.row_words * factor, column_words=self.column_words * factor
        )

    def arrivals(self, routers: Routers) -> Floats:
        """Cycles until the last tile or sum of a step is there and handled: (1,)."""
        height, width = min(self.rows, PATCH), min(self.columns, PATCH)
        node = np.arange(height * width).reshape(height, width)
        along = _moves(width, self.row_motion) if self.row_words else np.zeros((0, 2), np.int64)
        down = _moves(height, self.column_motion) if self.column_words else along[:0]
        across = node[:, along].reshape(-1, 2)
        downward = node[down].transpose(2, 0, 1).reshape(-1, 2)
        ends = np.concatenate([across, downward])
        if not len(ends):
            return np.zeros(1)
        sizes = [pieces_of_words(self.row_words)] * len(across)
        sizes += [pieces_of_words(self.column_words)] * len(downward)
        flows = flows_of(ends[:, 0], ends[:, 1], sizes, packet_flits=routers.packet, in_turn=True)
        borders = Borders(
            (height + 1) // 2 if self.column_border else 0,
            (width + 1) // 2 if self.row_border else 0,
        )
        slow = replace(routers, border_cycles=0.0)
        found = slow.arrivals(flows, width, height, borders, int(self.period))
        return np.array([found.max() + HANDLING])


def _moves(cores: int, motion: Motion) -> Integers:
    """(messages, 2): from which place of a line to which."""
    if cores < 2:
        return np.zeros((0, 2), np.int64)
    if motion == "ring":
        ring = ring_in(Rectangle(1, cores, cores)).members
        return np.stack([ring, np.roll(ring, -1)], axis=1)
    place = np.delete(np.arange(cores), cores // 2)
    return np.stack([place, place + np.sign(cores // 2 - place)], axis=1)


@dataclass(frozen=True)
class SentPhase:
    """Flows on a wafer, all at once. `ends` are (4, flows) as bytes: rows and columns of sources
    and of targets, in a rectangle that begins some cores behind a die's first."""

    ends: bytes
    words: tuple[float, ...]
    borders: Borders
    period: float

    @staticmethod
    def of(sent: Sent, word_bytes: float, die: tuple[int, int], period: float) -> "SentPhase":
        """Flows in their place on dies of so many rows and columns."""
        rows = np.stack([sent.source_row, sent.target_row])
        columns = np.stack([sent.source_column, sent.target_column])
        top, left = int(rows.min()), int(columns.min())
        ends = np.stack([rows[0] - top, columns[0] - left, rows[1] - top, columns[1] - left])
        words = np.ceil(sent.bytes / word_bytes)
        crosses = (columns.max() // die[1] > left // die[1], rows.max() // die[0] > top // die[0])
        borders = Borders(
            die[0] if crosses[1] else 0,
            die[1] if crosses[0] else 0,
            top % die[0] if crosses[1] else 0,
            left % die[1] if crosses[0] else 0,
        )
        slow = period if borders != NO_BORDERS else 1.0
        return SentPhase(ends.astype(np.int64).tobytes(), tuple(words.tolist()), borders, slow)

    @property
    def _ends(self) -> Integers:
        return np.frombuffer(self.ends, np.int64).reshape(4, -1)

    @property
    def steps(self) -> int:
        """Pieces of words times routers that they pass."""
        ends = self._ends
        hops = abs(ends[0] - ends[2]) + abs(ends[1] - ends[3])
        pieces = np.array([pieces_of_words(words) for words in self.words])
        return int(pieces @ (hops + 1))

    @property
    def message_words(self) -> float:
        return max(self.words)

    def with_words(self, factor: float) -> "SentPhase":
        """Shorter messages."""
        return replace(self, words=tuple(factor * words for words in self.words))

    def arrivals(self, routers: Routers) -> Floats:
        """Cycles after which each flow has arrived: (flows,)."""
        ends = self._ends
        height, width = 1 + int(ends[::2].max()), 1 + int(ends[1::2].max())
        flows = flows_of(
            ends[0] * width + ends[1],
            ends[2] * width + ends[3],
            [pieces_of_words(words) for words in self.words],
            packet_flits=routers.packet,
        )
        return routers.arrivals(flows, width, height, self.borders, int(self.period))


Phase = LinePhase | StepPhase | SentPhase
