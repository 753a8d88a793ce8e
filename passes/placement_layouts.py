"""Serpentines of rectangles in their given order: where placement's search begins.

Rectangles of one size stand in the shelves of placement_shelves.py. Unequal ones stand in cells of
the largest rows and columns, or in shelves each as high as its tallest rectangle.
"""

from collections.abc import Sequence

from ..ir.program import Rectangle
from .placement_ground import ground_of
from .placement_problem import PlacementProblem
from .placement_shelves import VIEWS, TurnedMap, serpentines, turned_map


def layouts(problem: PlacementProblem, order: Sequence[int] | None = None) -> list[list[Rectangle]]:
    """Every serpentine of the rectangles in an order, at first that of the problem, that fits:
    along rows and columns and from each corner, first from the north-west along rows."""
    sizes = problem.sizes
    order = order or range(len(sizes))
    rows, columns = (max(size) for size in zip(*sizes, strict=True))
    cells = serpentines(problem.wafer, rows, columns, len(sizes))
    in_cells: list[list[Rectangle]] = []
    for way in cells:
        corners = dict(zip(order, way, strict=True))
        in_cells.append(
            [Rectangle(corners[n].row, corners[n].column, *size) for n, size in enumerate(sizes)]
        )
    return in_cells if problem.equal else [*_shelves(problem, order), *in_cells]


def adjacent_order(problem: PlacementProblem) -> list[int]:
    """Rectangles so that each exchanges the most bytes with those before it."""
    count = len(problem.sizes)
    partners: list[dict[int, float]] = [{} for _ in range(count)]
    for each in problem.exchanges:
        for one, other in ((each.first, each.second), (each.second, each.first)):
            partners[one][other] = partners[one].get(other, 0.0) + each.weight_bytes
    order: list[int] = []
    drawn = dict.fromkeys(range(count), 0.0)
    while drawn:
        following = max(drawn, key=lambda index: (drawn[index], -index))
        del drawn[following]
        order.append(following)
        for other, weight in partners[following].items():
            if other in drawn:
                drawn[other] += weight
    return order


def _shelves(problem: PlacementProblem, order: Sequence[int]) -> list[list[Rectangle]]:
    """Shelves filled to and fro, each as high as it must be."""
    ground = ground_of(problem.wafer)
    found: list[list[Rectangle]] = []
    for view in VIEWS:
        sizes = [view.size(*problem.sizes[index]) for index in order]
        corners = _fill(turned_map(ground, view), sizes)
        if corners is not None:
            places = dict(zip(order, corners, strict=True))
            found.append(
                [
                    view.turned_back(ground, *size, places[index])
                    for index, size in enumerate(problem.sizes)
                ]
            )
    return found


def _fill(map_: TurnedMap, sizes: Sequence[tuple[int, int]]) -> list[tuple[int, int]] | None:
    """Corners of rectangles (high, wide) on the turned wafer, in order; None if they do not fit."""
    corners: list[tuple[int, int]] = []
    top, shelf = 0, 0
    while len(corners) < len(sizes):
        columns, high = _shelf(map_, top, sizes[len(corners) :], bool(shelf % 2))
        if high == 0:
            return None
        corners += [(top, column) for column in columns]
        top += high if columns else 1
        shelf += bool(columns)
    return corners


def _shelf(
    map_: TurnedMap, top: int, sizes: Sequence[tuple[int, int]], backwards: bool
) -> tuple[list[int], int]:
    """Columns of as many rectangles as a shelf at `top` takes, and its height; a height of 0 says
    that not even the first one is low enough."""
    best: list[int] = []
    height = high = 0
    for count in range(1, len(sizes) + 1):
        high = max(high, sizes[count - 1][0])
        if top + high > map_.rows:
            break
        height = height or high
        columns = _side_by_side(map_, top, high, [wide for _, wide in sizes[:count]], backwards)
        if columns is None:
            break
        best, height = columns, high
    return best, height


def _side_by_side(
    map_: TurnedMap, top: int, high: int, widths: Sequence[int], backwards: bool
) -> list[int] | None:
    """Columns of rectangles side by side between what is dead, each as near to where the shelf
    begins as it can be; None if they do not all fit."""
    free = map_.free(top, high)
    if backwards:
        free = [(map_.columns - end, map_.columns - begin) for begin, end in reversed(free)]
    columns: list[int] = []
    runs = iter(free)
    begin, end = next(runs, (0, 0))
    for wide in widths:
        while end - begin < wide:
            following = next(runs, None)
            if following is None:
                return None
            begin, end = following
        columns.append(map_.columns - begin - wide if backwards else begin)
        begin += wide
    return columns
