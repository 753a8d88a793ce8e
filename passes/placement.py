"""Where on a wafer the rectangles of cores of the stages go: OR-Tools CP-SAT around dead parts.

The search starts from the best serpentine (placement_shelves.py) and never ends worse. What the
rectangles are, and what they exchange, is decided before, by the strategy and the stages.
"""

from ..ir.program import Rectangle
from ..ir.result import Infeasibility
from .placement_problem import (
    Anchor,
    Exchange,
    Placed,
    PlacementProblem,
    least_objective,
    objective,
)
from .placement_search import search
from .placement_shelves import count_fitting, dead_map, serpentine, serpentines

__all__ = [
    "Anchor",
    "Exchange",
    "Placed",
    "PlacementError",
    "PlacementProblem",
    "count_fitting",
    "objective",
    "place",
    "serpentine",
]


class PlacementError(Exception):
    """The rectangles do not fit on the wafer; `infeasibility` says how many would."""

    def __init__(self, infeasibility: Infeasibility) -> None:
        short = infeasibility
        super().__init__(
            f"{short.where}: {short.demand:g} {short.unit} wanted, {short.limit:g} fit"
        )
        self.infeasibility = infeasibility


def place(problem: PlacementProblem) -> Placed:
    """Rectangles with the least bytes times hops that the search finds, and how little it may be.

    The same problem gives the same answer in every process. Raises PlacementError.
    """
    if not problem.sizes:
        return Placed((), 0.0, 0.0)
    if _too_large(problem):
        raise PlacementError(_shortage(problem))
    least = least_objective(problem)
    start = _start(problem)
    if start is not None and (reached := objective(problem, start)) <= least:
        return Placed(tuple(start), reached, reached)
    found, proven = search(problem, start)
    ways = [way for way in (start, found) if way is not None]
    if not ways:
        raise PlacementError(_shortage(problem))
    best = min(ways, key=lambda way: objective(problem, way))
    reached = objective(problem, best)
    return Placed(tuple(best), reached, min(max(least, proven), reached))


def _too_large(problem: PlacementProblem) -> bool:
    """Whether the cores do not suffice, whatever the arrangement."""
    wafer = problem.wafer
    wanted = sum(rows * columns for rows, columns in problem.sizes)
    return wanted > (~dead_map(wafer)).sum() or any(
        rows > wafer.usable_rows or columns > wafer.usable_columns
        for rows, columns in problem.sizes
    )


def _start(problem: PlacementProblem) -> list[Rectangle] | None:
    """The best serpentine; unequal rectangles stand in cells of the largest rows and columns."""
    rows, columns = (max(size) for size in zip(*problem.sizes, strict=True))
    ways = [
        [Rectangle(at.row, at.column, *size) for at, size in zip(way, problem.sizes, strict=True)]
        for way in serpentines(problem.wafer, rows, columns, len(problem.sizes))
    ]
    return min(ways, key=lambda way: objective(problem, way), default=None)


def _shortage(problem: PlacementProblem) -> Infeasibility:
    rows, columns = (max(size) for size in zip(*problem.sizes, strict=True))
    count, fit = len(problem.sizes), count_fitting(problem.wafer, rows, columns)
    largest = "" if problem.equal else "up to "
    return Infeasibility(
        resource="cores",
        where=f"wafer {problem.wafer.name}",
        demand=count,
        limit=fit,
        gap=count - fit,
        unit=f"rectangles of {largest}{rows} x {columns} cores",
        changes=(f"place at most {fit}", "make the rectangles smaller"),
    )
