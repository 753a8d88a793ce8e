"""What a plan computes: its messages carried out on numbers, in the worst legal order.

Nothing but a plan's dependencies keeps a message back, so a dependency that is missing shows as a
wrong number under some order. A member reads what it sends when it sends it, and adds or copies
what comes when it comes; any number of other things may happen between the two.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...ir.errors import VerificationError
from .arrays import NOTHING, Ints
from .collectives_plan import Plan


def initial_values(plan: Plan, seed: int) -> Ints:
    """(n, bytes) a number for every byte of every member; noise where it starts with nothing."""
    random = np.random.default_rng(seed)
    return random.integers(1, 1 << 40, (len(plan.members), int(plan.block_bytes.sum())))


def carried_out(plan: Plan, values: Ints, seed: int = 0, held_back: int = NOTHING) -> Ints:
    """What the members hold in the end: (n, bytes).

    Whatever may happen happens in an order that the seed decides, but that the message
    `held_back` arrives only when nothing else can happen.

    Raises VerificationError where messages wait for each other for ever.
    """
    random = np.random.default_rng(seed)
    held = values.copy()
    edge = np.concatenate([[0], np.cumsum(plan.block_bytes)])
    table, count = plan.messages, len(plan)
    parts = [slice(*ends) for ends in edge[np.stack([table.first, table.first + table.count], 1)]]
    awaited_by: list[list[int]] = [[] for _ in range(count)]
    for message, earlier in plan.waits.T.tolist():
        awaited_by[earlier].append(message)
    missing = np.bincount(plan.waits[0], minlength=count)
    sendable = np.flatnonzero(missing == 0).tolist()
    flying: dict[int, Ints] = {}
    arrived = 0
    while sendable or flying:
        landing = [message for message in flying if message != held_back]
        if sendable and (not landing or random.random() < 0.5):
            message = sendable.pop(random.integers(len(sendable)))
            flying[message] = held[table.source[message], parts[message]].copy()
            continue
        message = landing[random.integers(len(landing))] if landing else held_back
        data = flying.pop(message)
        target = held[table.destination[message], parts[message]]
        target[:] = target + data if table.reduces[message] else data
        arrived += 1
        for later in awaited_by[message]:
            missing[later] -= 1
            if missing[later] == 0:
                sendable.append(later)
    if arrived < count:
        raise VerificationError(f"{count - arrived} messages of a plan wait for each other")
    return held


def intended(plan: Plan, values: Ints) -> Ints:
    """(bytes,) the sum over the members that start with each block."""
    starts = np.repeat(plan.starts, plan.block_bytes, axis=1)
    return np.where(starts, values, 0).sum(axis=0)


@dataclass(frozen=True)
class Mismatch:
    """Members and bytes where a plan leaves a wrong value."""

    wrong: npt.NDArray[np.bool_]
    """(n, bytes)"""
    seed: int
    held_back: int
    """The message that came last, or NOTHING."""

    def __str__(self) -> str:
        member, byte = np.argwhere(self.wrong)[0]
        late = "" if self.held_back == NOTHING else f" and message {self.held_back} comes last"
        return (
            f"{self.wrong.sum()} values are wrong, first byte {byte} of member {member}, "
            f"when seed {self.seed} decides the order{late}"
        )


def first_mismatch(plan: Plan, seeds: int = 2, held_back: int = 1000) -> Mismatch | None:
    """Carry the plan out in several orders; the first that leaves a wrong value, or None.

    Besides an order for every seed, each message in turn (of at most `held_back`, evenly spread)
    is held back as long as possible, which finds every dependency that is missing on its own.
    """
    plan.verify()
    ends = np.repeat(plan.ends, plan.block_bytes, axis=1)
    late = np.unique(np.linspace(0, len(plan) - 1, min(held_back, len(plan))).astype(np.int64))
    for seed in range(seeds):
        values = initial_values(plan, seed)
        wanted = intended(plan, values)
        for message in [NOTHING, *(late.tolist() if seed == 0 else [])]:
            wrong = (carried_out(plan, values, seed, message) != wanted) & ends
            if wrong.any():
                return Mismatch(wrong, seed, message)
    return None
