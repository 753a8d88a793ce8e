"""What is to be placed, what a placement costs, and how little it can cost without any search."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from ..ir.hardware import Wafer
from ..ir.program import Rectangle


@dataclass(frozen=True)
class Exchange:
    """Bytes that two rectangles send each other, both ways together."""

    first: int
    second: int
    weight_bytes: float


@dataclass(frozen=True)
class Anchor:
    """Bytes that a rectangle exchanges with the I/O ports on an edge of the wafer."""

    rectangle: int
    edge: Literal["north", "south", "east", "west"]
    weight_bytes: float


@dataclass(frozen=True)
class PlacementProblem:
    """Rectangles by their (rows, columns), and what they exchange."""

    wafer: Wafer
    sizes: tuple[tuple[int, int], ...]
    exchanges: tuple[Exchange, ...] = ()
    anchors: tuple[Anchor, ...] = ()
    seed: int = 0
    """Of the solver's search."""

    @cached_property
    def equal(self) -> bool:
        """Whether all rectangles are of one size."""
        return len(set(self.sizes)) <= 1


@dataclass(frozen=True)
class Placed:
    """Rectangles in the order of the problem's sizes; objective and bound in byte-hops."""

    rectangles: tuple[Rectangle, ...]
    objective: float
    lower_bound: float

    @property
    def gap(self) -> float:
        """How far the objective may be from the best, as a fraction of it."""
        return 0.0 if self.objective == 0 else 1 - self.lower_bound / self.objective


def objective(problem: PlacementProblem, rectangles: Sequence[Rectangle]) -> float:
    """Bytes times hops: Manhattan distance between centres, and from a centre to its edge."""
    total = 0.0
    for exchange in problem.exchanges:
        a, b = rectangles[exchange.first].centre, rectangles[exchange.second].centre
        total += exchange.weight_bytes * (abs(a[0] - b[0]) + abs(a[1] - b[1]))
    for anchor in problem.anchors:
        row, column = rectangles[anchor.rectangle].centre
        total += anchor.weight_bytes * _hops_to_edge(problem.wafer, anchor.edge, row, column)
    return total


def _hops_to_edge(wafer: Wafer, edge: str, row: float, column: float) -> float:
    return {
        "north": row,
        "south": wafer.core_rows - 1 - row,
        "west": column,
        "east": wafer.core_columns - 1 - column,
    }[edge]


def apart(problem: PlacementProblem, first: int, second: int) -> float:
    """Hops that two disjoint rectangles' centres are apart at least."""
    a, b = problem.sizes[first], problem.sizes[second]
    return min(a[0] + b[0], a[1] + b[1]) / 2


def least_objective(problem: PlacementProblem) -> float:
    """A lower bound of the objective that needs no search.

    Each pair is apart by at least half its sizes, each anchor by half a rectangle, and a chain of
    equal rectangles that is longer than the wafer pays for its turns.
    """
    wafer = problem.wafer
    total = sum(e.weight_bytes * apart(problem, e.first, e.second) for e in problem.exchanges)
    for anchor in problem.anchors:
        rows, columns = problem.sizes[anchor.rectangle]
        near = (rows - 1) / 2, (columns - 1) / 2
        far = wafer.usable_rows - 1 - near[0], wafer.usable_columns - 1 - near[1]
        corner = far if anchor.edge in ("south", "east") else near
        total += anchor.weight_bytes * _hops_to_edge(wafer, anchor.edge, *corner)
    return total + (_turns(problem) if problem.equal else 0.0)


def _turns(problem: PlacementProblem) -> float:
    """Byte-hops that chains of equal rectangles pay beyond the shortest steps.

    Let rectangles be r x c with r <= c, and n = floor(usable rows / r). Of n + 1 rectangles in a
    chain not all can follow each other in one direction down the rows. Either a step is not
    apart in rows, and is c long instead of r; or the chain turns back, and its rectangles before
    and after the turn, disjoint as well, add r or c. So n steps pay at least min(c - r, r) more.
    """
    rows, columns = problem.sizes[0]
    usable = problem.wafer.usable_rows, problem.wafer.usable_columns
    short, long = min(rows, columns), max(rows, columns)
    along = max(1, usable[0 if rows <= columns else 1] // short)
    extra = min(long - short, short)
    return sum(
        extra * min(chain[at : at + along])
        for chain in _chains(problem.exchanges)
        for at in range(0, len(chain) - along + 1, along)
    )


def _chains(exchanges: Sequence[Exchange]) -> list[list[float]]:
    """Weights along paths without a repeated rectangle, each exchange in at most one path."""
    next_: dict[int, list[tuple[int, float]]] = {}
    for exchange in exchanges:
        ends = sorted((exchange.first, exchange.second))
        next_.setdefault(ends[0], []).append((ends[1], exchange.weight_bytes))
    chains: list[list[float]] = []
    for head in sorted(next_):
        while next_[head]:
            at, chain = head, list[float]()
            while next_.get(at):
                at, weight = next_[at].pop(0)
                chain.append(weight)
            chains.append(chain)
    return chains
