"""Rectangles of one size in shelves across a wafer, and the serpentine that runs through them.

A shelf is a band of cores as high as a rectangle; in it rectangles stand side by side between the
dead cores and links. What is dead is in placement_ground.py; where rectangles should go for what
they exchange is decided in placement.py.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ir.hardware import Wafer
from ..ir.program import Rectangle
from .placement_ground import Ground, defects, ground_of

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class View:
    """How the wafer is turned before shelves are laid from its top: mirrored, then transposed."""

    transposed: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def size(self, rows: int, columns: int) -> tuple[int, int]:
        """Of a rectangle of rows x columns on the turned wafer."""
        return (columns, rows) if self.transposed else (rows, columns)

    def turned_back(
        self, ground: Ground, rows: int, columns: int, corner: tuple[int, int]
    ) -> Rectangle:
        """A rectangle of rows x columns, given its north-west corner on the turned wafer."""
        row, column = reversed(corner) if self.transposed else corner
        if self.flip_rows:
            row = ground.rows - row - rows
        if self.flip_columns:
            column = ground.columns - column - columns
        return Rectangle(row, column, rows, columns)


VIEWS = tuple(View(*turns) for turns in product((False, True), repeat=3))


@dataclass(frozen=True)
class TurnedMap:
    """A turned wafer: only the half columns (placement_ground.py) with anything dead are held.

    `dead_columns` is (m,); `dead_above` is (2 rows, m) and counts what is dead in these in the half
    rows above; `starts` is (rows,): where a shelf pushed up may come to rest.
    """

    rows: int
    columns: int
    dead_columns: Integers
    dead_above: NDArray[np.int32]
    starts: NDArray[np.bool_]

    def free(self, top: int, high: int) -> list[tuple[int, int]]:
        """The runs of columns, from and up to, without anything dead in a shelf."""
        blocked = self.dead_above[2 * (top + high) - 1] != self.dead_above[2 * top]
        walls = [-1, *self.dead_columns[blocked].tolist(), 2 * self.columns - 1]
        return [(west // 2 + 1, (east + 1) // 2) for west, east in pairwise(walls)]


def count_fitting(wafer: Wafer, rows: int, columns: int) -> int:
    """How many disjoint rectangles of rows x columns live cores stand in shelves on the wafer.

    The best of all ways to lay shelves along rows or along columns.
    """
    ground = ground_of(wafer)
    if ground.sound:
        return (ground.rows // rows) * (ground.columns // columns)
    return _count(ground, rows, columns)


@lru_cache(maxsize=16384)
def _count(ground: Ground, rows: int, columns: int) -> int:
    counts: list[int] = []
    for view in (View(), View(transposed=True)):
        high, wide = view.size(rows, columns)
        counts.append(_most(turned_map(ground, view), high, wide)[0])
    return max(counts)


def serpentines(wafer: Wafer, rows: int, columns: int, count: int) -> list[list[Rectangle]]:
    """Every serpentine of `count` rectangles, along rows and columns and from each corner.

    Rectangles come in the order of the walk: each shelf in the direction opposite to the last.
    """
    ground = ground_of(wafer)
    found: list[list[Rectangle]] = []
    for view in VIEWS:
        high, wide = view.size(rows, columns)
        walk = _walk(turned_map(ground, view), high, wide, count)
        if len(walk) == count:
            found.append([view.turned_back(ground, rows, columns, at) for at in walk])
    return found


def serpentine(wafer: Wafer, rows: int, columns: int, count: int) -> list[Rectangle] | None:
    """The serpentine with the shortest way from centre to centre; None if `count` do not fit."""
    return min(serpentines(wafer, rows, columns, count), key=_way, default=None)


def _way(rectangles: list[Rectangle]) -> int:
    """Hops from each rectangle to the next, summed; all are of one size."""
    return sum(abs(a.row - b.row) + abs(a.column - b.column) for a, b in pairwise(rectangles))


@lru_cache(maxsize=64)
def turned_map(ground: Ground, view: View) -> TurnedMap:
    """What is dead on a wafer that is turned."""
    dead: NDArray[Any] = defects(ground)
    if view.flip_rows:
        dead = dead[::-1]
    if view.flip_columns:
        dead = dead[:, ::-1]
    if view.transposed:
        dead = dead.T
    half_rows, half_columns = dead.shape
    dead_columns = np.flatnonzero(dead.any(axis=0))
    above = np.zeros((half_rows + 1, len(dead_columns)), dtype=np.int32)
    np.cumsum(dead[:, dead_columns], axis=0, out=above[1:])
    starts = np.zeros((half_rows + 1) // 2, dtype=bool)
    starts[0] = True
    below: NDArray[Any] = np.any(dead, axis=1, keepdims=False)
    starts[1:] = below[:-1:2] | below[1::2]
    return TurnedMap(len(starts), (half_columns + 1) // 2, dead_columns, above, starts)


def _shelf_counts(map_: TurnedMap, high: int, wide: int) -> tuple[Integers, Integers]:
    """Rows (n,) where a shelf of height `high` may start and how many rectangles it holds (n,).

    A shelf pushed up as far as it goes without loss rests on a dead core or on another shelf, so
    these rows suffice for the best layout.
    """
    last = map_.rows - high
    padded = np.zeros(-(-(last + 1) // high) * high, dtype=bool)
    padded[: last + 1] = map_.starts[: last + 1]
    reached = np.logical_or.accumulate(padded.reshape(-1, high), axis=0).ravel()
    tops = np.flatnonzero(reached[: last + 1])
    blocked = np.ones((len(tops), len(map_.dead_columns) + 1), dtype=bool)
    last_rows, first_rows = 2 * (tops + high) - 1, 2 * tops
    above = map_.dead_above
    np.not_equal(above[last_rows], above[first_rows], out=blocked[:, :-1])
    shelf, wall = np.nonzero(blocked)
    walls = np.append(map_.dead_columns, 2 * map_.columns - 1)[wall]
    begins = np.zeros_like(walls)
    begins[1:] = np.where(shelf[1:] == shelf[:-1], walls[:-1] // 2 + 1, 0)
    room = np.maximum((walls + 1) // 2 - begins, 0)
    fits = np.bincount(shelf, weights=room // wide, minlength=len(tops))
    return tops, fits.astype(np.int64)


def _most(map_: TurnedMap, high: int, wide: int) -> tuple[int, list[int]]:
    """The most rectangles that stand in shelves, and the rows where these shelves start."""
    if high > map_.rows or wide > map_.columns:
        return 0, []
    tops, fits = _shelf_counts(map_, high, wide)
    below = np.searchsorted(tops, tops + high).tolist()
    held = fits.tolist()
    best = [0] * (len(held) + 1)
    for at in reversed(range(len(held))):
        best[at] = max(best[at + 1], held[at] + best[below[at]])
    chosen: list[int] = []
    at = 0
    while at < len(held) and best[at]:
        if best[at] == held[at] + best[below[at]]:
            chosen.append(int(tops[at]))
            at = below[at]
        else:
            at += 1
    return best[0], chosen


def _walk(map_: TurnedMap, high: int, wide: int, count: int) -> list[tuple[int, int]]:
    """North-west corners on the turned wafer of the first `count` rectangles, to and fro."""
    _, shelves = _most(map_, high, wide)
    corners: list[tuple[int, int]] = []
    for number, top in enumerate(shelves):
        columns = [
            column
            for begin, end in map_.free(top, high)
            for column in range(begin, end - wide + 1, wide)
        ]
        corners += [(top, column) for column in (reversed(columns) if number % 2 else columns)]
        if len(corners) >= count:
            break
    return corners[:count]
