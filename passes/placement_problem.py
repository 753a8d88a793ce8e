"""What is to be placed, what a placement costs, and how little it can cost without any search."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import sqrt

from ..ir.hardware import Edge, Wafer
from ..ir.program import Rectangle


@dataclass(frozen=True)
class Exchange:
    """Bytes that two rectangles send each other, both ways together."""

    first: int
    second: int
    weight_bytes: float


@dataclass(frozen=True)
class Anchor:
    """Bytes that a rectangle exchanges with the I/O ports on an edge of the wafer, or on the
    nearest of several."""

    rectangle: int
    edge: Edge
    weight_bytes: float
    others: tuple[Edge, ...] = ()

    @property
    def edges(self) -> tuple[Edge, ...]:
        return self.edge, *self.others


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
    """Rectangles in the order of the problem's sizes; objective and bound in byte-hops, and bytes
    over the busiest link (placement_links.py)."""

    rectangles: tuple[Rectangle, ...]
    objective: float
    lower_bound: float
    hottest_bytes: float = 0.0

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
        centre = rectangles[anchor.rectangle].centre
        edge = nearest_edge(problem.wafer, anchor, *centre)
        total += anchor.weight_bytes * hops_to_edge(problem.wafer, edge, *centre)
    return total


def nearest_edge(wafer: Wafer, anchor: Anchor, row: float, column: float) -> Edge:
    """The edge that an anchored rectangle with this centre goes to."""
    return min(anchor.edges, key=lambda edge: hops_to_edge(wafer, edge, row, column))


def hops_to_edge(wafer: Wafer, edge: Edge, row: float, column: float) -> float:
    """Hops from a centre to the last core before an edge."""
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

    Each pair is apart by at least half its sizes, each anchor by half a rectangle; a chain of equal
    rectangles that is longer than the wafer pays for its turns, and many partners of one rectangle
    cannot all be next to it.
    """
    wafer = problem.wafer
    total = sum(e.weight_bytes * apart(problem, e.first, e.second) for e in problem.exchanges)
    if problem.equal and problem.sizes:
        total = max(total + _turns(problem), _crowding(problem))
    for anchor in problem.anchors:
        rows, columns = problem.sizes[anchor.rectangle]
        near = (rows - 1) / 2, (columns - 1) / 2
        far = wafer.usable_rows - 1 - near[0], wafer.usable_columns - 1 - near[1]
        total += anchor.weight_bytes * min(
            hops_to_edge(wafer, edge, *(far if edge in ("south", "east") else near))
            for edge in anchor.edges
        )
    return total


def _crowding(problem: PlacementProblem) -> float:
    """Byte-hops of exchanges among equal rectangles, were each next to its heaviest partners.

    The k nearest of a rectangle of r x c, and itself, have their centres within its distance d of
    the k-th, so that all lie in a diamond of that radius widened by half a rectangle, of area
    2 d^2 + 2 d (r + c) + r c. Disjoint, they cover (k + 1) r c of it. Every exchange has two ends,
    which count a half each.
    """
    rows, columns = problem.sizes[0]
    weights: list[dict[int, float]] = [{} for _ in problem.sizes]
    for each in problem.exchanges:
        for one, other in ((each.first, each.second), (each.second, each.first)):
            if one != other:
                weights[one][other] = weights[one].get(other, 0.0) + each.weight_bytes
    half = (rows + columns) / 2
    most = max(map(len, weights))
    least = [
        max(min(rows, columns), sqrt(half * half + k * rows * columns / 2) - half)
        for k in range(1, most + 1)
    ]
    return sum(
        weight * hops / 2
        for each in weights
        for weight, hops in zip(sorted(each.values(), reverse=True), least, strict=False)
    )


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
