"""Where on a wafer the rectangles of cores of the stages go: OR-Tools CP-SAT around dead parts.

The search starts from the best serpentines (placement_layouts.py) and never ends worse: rectangles
move (placement_moves.py), then CP-SAT moves them all, and a few at a time (placement_search.py); at
last a little of what is gained is given for a cooler busiest link (placement_links.py). What the
rectangles are, and what they exchange, is decided before, by the strategy and the stages.
"""

from collections.abc import Sequence

from ..ir.program import Rectangle
from ..ir.result import Infeasibility
from .placement_board import Board
from .placement_ground import dead_map
from .placement_layouts import adjacent_order, layouts
from .placement_links import hottest
from .placement_moves import constructed, cooled, improve
from .placement_problem import (
    Anchor,
    Exchange,
    Placed,
    PlacementProblem,
    least_objective,
    objective,
)
from .placement_search import search
from .placement_shelves import count_fitting, serpentine

__all__ = [
    "Anchor",
    "Exchange",
    "Placed",
    "PlacementError",
    "PlacementProblem",
    "count_fitting",
    "hottest",
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


def place(problem: PlacementProblem, share: float = 1.0) -> Placed:
    """Rectangles with the least bytes times hops that the search finds, and how little it may be.

    The same problem gives the same answer in every process. `share` is the part of the search's
    usual work that may be spent. Raises PlacementError.
    """
    if not problem.sizes:
        return Placed((), 0.0, 0.0)
    if _too_large(problem):
        raise PlacementError(_shortage(problem))
    least = least_objective(problem)
    starts = sorted(layouts(problem), key=lambda way: objective(problem, way))
    if starts and (reached := objective(problem, starts[0])) <= least:
        return Placed(tuple(starts[0]), reached, reached, hottest(problem, starts[0]))
    board = Board(problem)
    moved = _moved(board, starts, share)
    done = moved is not None and objective(problem, moved) <= least
    found, proven = (moved, least) if done else search(problem, moved, share)
    ways = [way for way in (*starts[:1], moved, found) if way is not None]
    if not ways:
        raise PlacementError(_shortage(problem))
    best = min(ways, key=lambda way: objective(problem, way))
    most = objective(problem, (starts or [best])[0])
    cooler = _cooler(board, best, most, share)
    reached = objective(problem, cooler)
    heat = hottest(problem, cooler)
    return Placed(tuple(cooler), reached, min(max(least, proven), reached), heat)


def _moved(board: Board, starts: Sequence[list[Rectangle]], share: float) -> list[Rectangle] | None:
    """The best that moves of rectangles make of two serpentines, in the given order and in that of
    the exchanges, or of a first placement where none fits; None if there is no room."""
    problem = board.problem
    others = [way for way in layouts(problem, adjacent_order(problem)) if way not in starts]
    other = min(others or starts[1:], key=lambda way: objective(problem, way), default=None)
    begins = [board.corners(way) for way in (*starts[:1], other) if way is not None]
    if not begins:
        begins = [way for way in [constructed(board, problem.seed)] if way is not None]
    found = [
        board.rectangles(improve(board, begin, share / len(begins), problem.seed + at))
        for at, begin in enumerate(begins)
    ]
    return min(found, key=lambda way: objective(problem, way), default=None)


def _cooler(board: Board, best: list[Rectangle], most: float, share: float) -> list[Rectangle]:
    """Places with a cooler busiest link, if there are some that cost little more, and no more than
    `most` byte-hops."""
    problem = board.problem
    found = board.rectangles(cooled(board, board.corners(best), share, problem.seed))
    return best if objective(problem, found) > most else found


def _too_large(problem: PlacementProblem) -> bool:
    """Whether the cores do not suffice, whatever the arrangement."""
    wafer = problem.wafer
    wanted = sum(rows * columns for rows, columns in problem.sizes)
    return wanted > (~dead_map(wafer)).sum() or any(
        rows > wafer.usable_rows or columns > wafer.usable_columns
        for rows, columns in problem.sizes
    )


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
