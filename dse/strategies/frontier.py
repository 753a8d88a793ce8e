"""All designs of a finite space with their optimistic losses, and what excluded each.

Held in codes and columns: ten million designs of fifteen parameters take half a gigabyte.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...ir.errors import UserError
from ..design import Columns, Design, Floats, designs_of
from ..evaluator import Optimist
from ..objective import DIRECTIONS, Limit, Objective
from ..strategy import Problem

EQUAL = 1e-12
"""Share of a figure by which two that are the same may differ through rounding."""

OPEN, HOPELESS, EVALUATED, FAILED = -1, -2, -3, -4
"""In place of the number of the trial that excluded a design: neither evaluated nor excluded;
excluded by its optimistic figures alone; evaluated at the top; its evaluation there broke."""


@dataclass(frozen=True)
class Excluder:
    """An evaluation at the top that holds every limit."""

    losses: Floats
    """(objectives,)"""
    trial: int


@dataclass(frozen=True)
class Packed:
    """A batch of designs: of each parameter the values that occur, and a code for each design."""

    values: dict[str, np.ndarray]
    codes: dict[str, np.ndarray]

    @classmethod
    def of(cls, columns: Columns) -> "Packed":
        values: dict[str, np.ndarray] = {}
        codes: dict[str, np.ndarray] = {}
        for name, column in columns.items():
            values[name], code = np.unique(column, return_inverse=True)
            codes[name] = code.astype(np.min_scalar_type(len(values[name])))
        return cls(values, codes)

    def design(self, row: int) -> Design:
        one = {name: self.values[name][code[row : row + 1]] for name, code in self.codes.items()}
        return designs_of(one)[0]

    def row(self, design: Design) -> int | None:
        """Where a design is in the batch."""
        values = dict(design.values)
        if not values.keys() <= self.codes.keys():
            return None
        rows = np.arange(len(next(iter(self.codes.values()), ())))
        for name, code in self.codes.items():
            at = _place(self.values[name], values.get(name))
            rows = rows[code[rows] == at] if at is not None else rows[:0]
        return int(rows[0]) if len(rows) else None


def _place(known: np.ndarray, value: float | str | None) -> int | None:
    """The code of a value; None for one that does not occur."""
    if known.dtype.kind in "US":
        same = known == ("" if value is None else str(value))
    elif isinstance(value, str):
        return None
    else:
        same = np.isnan(known) if value is None else known == value
    found = np.flatnonzero(same)
    return int(found[0]) if len(found) else None


class Frontier:
    """Rows are designs in the order of the space."""

    def __init__(self, batches: list[Packed], starts: NDArray[np.intp], optimistic: Floats) -> None:
        self._batches = batches
        self._starts = starts
        self.optimistic = optimistic
        """Losses that no evaluation betters; inf where a design cannot do the work or breaks a
        limit, -inf where nothing is known. (rows, objectives)"""
        self.by = np.where(np.isposinf(optimistic).any(axis=1), HOPELESS, OPEN)
        """Number of the trial that excluded each design, or one of OPEN to FAILED. (rows,)"""
        known = np.where(np.isfinite(optimistic), optimistic, np.nan)
        least = np.fmin.reduce(known, axis=0, initial=np.inf)
        most = np.fmax.reduce(known, axis=0, initial=-np.inf)
        self._least = np.where(most >= least, least, 0.0)
        self._spread = np.where(most > least, most - least, 1.0)

    def __len__(self) -> int:
        return len(self.by)

    def design(self, row: int) -> Design:
        batch = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._batches[batch].design(row - int(self._starts[batch]))

    def promise(self, rows: NDArray[np.integer]) -> Floats:
        """Less is more promising. Where one row's optimistic losses dominate another's it is never
        more, so the most promising open row is dominated by no other open one. (rows,)"""
        scaled = (self.optimistic[rows] - self._least) / self._spread
        return np.where(np.isneginf(scaled), 0.0, scaled).sum(axis=1)

    @property
    def open(self) -> NDArray[np.intp]:
        """Rows neither evaluated nor excluded."""
        return np.flatnonzero(self.by == OPEN)

    def settle(self, design: Design, state: int) -> None:
        """A design was evaluated at the top; one that is not in the space changes nothing."""
        for start, batch in zip(self._starts.tolist(), self._batches, strict=True):
            row = batch.row(design)
            if row is not None:
                self.by[start + row] = state

    def refine(self, row: int, losses: Floats) -> None:
        """Better known optimistic losses of one design: the worse of both hold."""
        self.optimistic[row] = np.maximum(self.optimistic[row], losses)

    def give_up(self, row: int, trial: int) -> None:
        """A trial showed that a design cannot do the work or breaks a limit."""
        self.optimistic[row] = np.inf
        self.by[row] = trial

    def exclude(self, rows: NDArray[np.integer], better: Excluder, epsilon: float) -> None:
        """Those of some rows that are open and that an evaluation betters, whatever they could
        reach. Where optimistic losses equal the evaluated ones a design stays: it may tie."""
        rows = rows[self.by[rows] == OPEN]
        best, losses = self.optimistic[rows], better.losses
        slack = np.where(np.isfinite(best), np.abs(best), 0.0)
        beaten = (losses <= best + slack * max(epsilon, EQUAL)).all(axis=1)
        if epsilon == 0:
            beaten &= (losses < best - slack * EQUAL).any(axis=1)
        self.by[rows[beaten]] = better.trial


def frontier_of(problem: Problem) -> Frontier:
    """Every design of the space, bounded. Raises UserError where its designs cannot be listed."""
    batches: list[Packed] = []
    parts: list[Floats] = []
    for columns in problem.space.all():
        batches.append(Packed.of(columns))
        parts.append(_bounded(problem, columns))
    if not batches:
        return Frontier([], np.zeros(0, dtype=np.intp), np.zeros((0, len(problem.objectives))))
    starts = np.cumsum([0, *(len(part) for part in parts[:-1])])
    return Frontier(batches, starts, np.concatenate(parts))


def _bounded(problem: Problem, columns: Columns) -> Floats:
    """Optimistic losses of a batch; inf for what certainly breaks a limit."""
    count = len(next(iter(columns.values())))
    best = np.full((count, len(problem.objectives)), -np.inf)
    optimist = problem.optimist
    if optimist is None:
        return best
    known = [m for m, one in enumerate(problem.objectives) if optimist.proven(one) is None]
    limits = [limit for limit in problem.limits if optimist.proven(limited(limit)) is None]
    wanted = [*(problem.objectives[m] for m in known), *map(limited, limits)]
    if not wanted:
        return best
    found = optimist.optimistic(columns, wanted)
    best[:, known] = found[:, : len(known)]
    broken = np.isposinf(found).any(axis=1)
    for limit, column in zip(limits, found[:, len(known) :].T, strict=True):
        broken |= breaks(limit, column)
    best[broken] = np.inf
    return best


def limited(limit: Limit) -> Objective:
    """What to minimize to keep a limit."""
    return Objective(limit.figure, "min" if limit.relation == "<=" else "max")


def breaks(limit: Limit, losses: Floats | float) -> NDArray[np.bool_]:
    """Whether even these optimistic losses of the limited figure break the limit."""
    bound = limited(limit).sign * limit.value
    return np.asarray(losses > bound + abs(bound) * EQUAL)


def usual(one: Objective) -> bool:
    """Whether an objective asks for what is better of its figure: what a rung proves bounds that
    way."""
    return DIRECTIONS.get(one.figure.rpartition("/")[2]) == one.direction


def refuse_unproven(optimist: Optimist | None, proven: Sequence[str], one: Objective) -> None:
    """Raises UserError for an objective without an optimistic figure."""
    if one.figure in proven and usual(one):
        return
    if optimist is None:
        reason = f"nothing proves how good {one.figure} can get for this evaluator"
    else:
        reason = optimist.proven(one)
    if reason is not None:
        raise UserError(f"--strategy certified cannot prune by {one}: {reason}")
