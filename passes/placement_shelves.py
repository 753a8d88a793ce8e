"""Rectangles of one size in shelves across a wafer, and the serpentine that runs through them.

A shelf is a band of cores as high as a rectangle; in it rectangles stand side by side between the
dead cores. Where rectangles should go for what they exchange is decided in placement.py.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ir.hardware import DeadCore, Wafer
from ..ir.program import Rectangle


@dataclass(frozen=True)
class _Ground:
    """What decides where a core is usable; small enough to be a cache's key."""

    die_rows: int
    die_columns: int
    rows: int
    columns: int
    dead_dies: tuple[tuple[int, int], ...]
    dead_cores: tuple[DeadCore, ...]


@dataclass(frozen=True)
class _View:
    """How the wafer is turned before shelves are laid from its top: mirrored, then transposed."""

    transposed: bool = False
    flip_rows: bool = False
    flip_columns: bool = False


_VIEWS = tuple(_View(*turns) for turns in product((False, True), repeat=3))


@dataclass(frozen=True)
class _Map:
    """A turned wafer: only the columns with dead cores are held.

    `dead_columns` is (m,); `dead_above` is (rows + 1, m) and counts the dead cores of these
    columns in the rows above; `starts` is (rows,): where a shelf pushed up may come to rest.
    """

    rows: int
    columns: int
    dead_columns: NDArray[np.int64]
    dead_above: NDArray[np.int32]
    starts: NDArray[np.bool_]


def dead_map(wafer: Wafer) -> NDArray[np.bool_]:
    """Which cores of the usable rectangle are dead: (usable_rows, usable_columns)."""
    return _dead(_ground(wafer)).copy()


def walls(wafer: Wafer) -> list[Rectangle]:
    """Disjoint rectangles that cover the dead cores: equal runs in successive rows are one."""
    dead = _dead(_ground(wafer))
    done: list[Rectangle] = []
    above: dict[tuple[int, int], Rectangle] = {}
    for row in np.flatnonzero(dead.any(axis=1)).tolist():
        edges = np.flatnonzero(np.diff(dead[row].astype(np.int8), prepend=0, append=0)).tolist()
        runs: dict[tuple[int, int], Rectangle] = {}
        for west, east in zip(edges[::2], edges[1::2], strict=True):
            wall = above.pop((west, east), Rectangle(row, west, 0, east - west))
            if wall.row + wall.rows != row:
                done.append(wall)
                wall = Rectangle(row, west, 0, east - west)
            runs[west, east] = Rectangle(wall.row, west, wall.rows + 1, east - west)
        done += above.values()
        above = runs
    return done + list(above.values())


def count_fitting(wafer: Wafer, rows: int, columns: int) -> int:
    """How many disjoint rectangles of rows x columns live cores stand in shelves on the wafer.

    The best of all ways to lay shelves along rows or along columns.
    """
    return _count(_ground(wafer), rows, columns)


@lru_cache(maxsize=16384)
def _count(ground: _Ground, rows: int, columns: int) -> int:
    counts: list[int] = []
    for view in (_View(), _View(transposed=True)):
        high, wide = (columns, rows) if view.transposed else (rows, columns)
        counts.append(_most(_map(ground, view), high, wide)[0])
    return max(counts)


def serpentines(wafer: Wafer, rows: int, columns: int, count: int) -> list[list[Rectangle]]:
    """Every serpentine of `count` rectangles, along rows and columns and from each corner.

    Rectangles come in the order of the walk: each shelf in the direction opposite to the last.
    """
    ground = _ground(wafer)
    found: list[list[Rectangle]] = []
    for view in _VIEWS:
        high, wide = (columns, rows) if view.transposed else (rows, columns)
        walk = _walk(_map(ground, view), high, wide, count)
        if len(walk) == count:
            found.append([_turned_back(ground, view, rows, columns, at) for at in walk])
    return found


def serpentine(wafer: Wafer, rows: int, columns: int, count: int) -> list[Rectangle] | None:
    """The serpentine with the shortest way from centre to centre; None if `count` do not fit."""
    return min(serpentines(wafer, rows, columns, count), key=_way, default=None)


def _way(rectangles: list[Rectangle]) -> int:
    """Hops from each rectangle to the next, summed; all are of one size."""
    return sum(abs(a.row - b.row) + abs(a.column - b.column) for a, b in pairwise(rectangles))


def _ground(wafer: Wafer) -> _Ground:
    return _Ground(
        wafer.die.rows,
        wafer.die.columns,
        wafer.usable_rows,
        wafer.usable_columns,
        wafer.dead_dies,
        wafer.dead_cores,
    )


@lru_cache(maxsize=8)
def _dead(ground: _Ground) -> NDArray[np.bool_]:
    dead = np.zeros((ground.rows, ground.columns), dtype=bool)
    high, wide = ground.die_rows, ground.die_columns
    for row, column in ground.dead_dies:
        dead[row * high : (row + 1) * high, column * wide : (column + 1) * wide] = True
    for core in ground.dead_cores:
        row = core.die[0] * high + core.core[0]
        column = core.die[1] * wide + core.core[1]
        dead[row : row + 1, column : column + 1] = True
    return dead


@lru_cache(maxsize=64)
def _map(ground: _Ground, view: _View) -> _Map:
    dead: NDArray[Any] = _dead(ground)
    if view.flip_rows:
        dead = dead[::-1]
    if view.flip_columns:
        dead = dead[:, ::-1]
    if view.transposed:
        dead = dead.T
    rows, columns = dead.shape
    dead_columns = np.flatnonzero(dead.any(axis=0))
    above = np.zeros((rows + 1, len(dead_columns)), dtype=np.int32)
    np.cumsum(dead[:, dead_columns], axis=0, out=above[1:])
    starts = np.zeros(rows, dtype=bool)
    starts[0] = True
    starts[1:] = dead[:-1].any(axis=1)
    return _Map(rows, columns, dead_columns, above, starts)


def _shelf_counts(map_: _Map, high: int, wide: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
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
    np.not_equal(map_.dead_above[tops + high], map_.dead_above[tops], out=blocked[:, :-1])
    shelf, wall = np.nonzero(blocked)
    ends = np.append(map_.dead_columns, map_.columns)[wall]
    begins = np.zeros_like(ends)
    begins[1:] = np.where(shelf[1:] == shelf[:-1], ends[:-1] + 1, 0)
    fits = np.bincount(shelf, weights=(ends - begins) // wide, minlength=len(tops))
    return tops, fits.astype(np.int64)


def _most(map_: _Map, high: int, wide: int) -> tuple[int, list[int]]:
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


def _walk(map_: _Map, high: int, wide: int, count: int) -> list[tuple[int, int]]:
    """North-west corners on the turned wafer of the first `count` rectangles, to and fro."""
    _, shelves = _most(map_, high, wide)
    corners: list[tuple[int, int]] = []
    for number, top in enumerate(shelves):
        blocked = map_.dead_above[top + high] != map_.dead_above[top]
        walls = [-1, *map_.dead_columns[blocked].tolist(), map_.columns]
        columns = [
            column
            for west, east in pairwise(walls)
            for column in range(west + 1, east - wide + 1, wide)
        ]
        corners += [(top, column) for column in (reversed(columns) if number % 2 else columns)]
        if len(corners) >= count:
            break
    return corners[:count]


def _turned_back(
    ground: _Ground, view: _View, rows: int, columns: int, corner: tuple[int, int]
) -> Rectangle:
    row, column = reversed(corner) if view.transposed else corner
    if view.flip_rows:
        row = ground.rows - row - rows
    if view.flip_columns:
        column = ground.columns - column - columns
    return Rectangle(row, column, rows, columns)
