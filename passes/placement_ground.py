"""What of a wafer is dead, as placement sees it.

Cores and the links between them are cells of one map with half rows and half columns: core (r, c)
is cell (2 r, 2 c), the link to its neighbour in the east (2 r, 2 c + 1), to that in the south
(2 r + 1, 2 c). A rectangle must hold no dead cell: its collectives use all links inside it. Two
rectangles may touch along a dead link; routes between them are taken to be mended.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..ir.hardware import DeadCore, DeadLink, Edge, Wafer
from ..ir.program import Rectangle


@dataclass(frozen=True, eq=False)
class Ground:
    """What decides where a core is usable; equal ones are one object (`ground_of`), the key of
    caches."""

    die_rows: int
    die_columns: int
    rows: int
    columns: int
    dead_dies: tuple[tuple[int, int], ...]
    dead_cores: tuple[DeadCore, ...]
    dead_links: tuple[DeadLink, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is dead."""
        return not (self.dead_dies or self.dead_cores or self.dead_links)


@dataclass(frozen=True, eq=False)
class _Same:
    """A wafer by its identity, which takes no time to hash."""

    wafer: Wafer

    def __hash__(self) -> int:
        return id(self.wafer)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.wafer is other.wafer


def ground_of(wafer: Wafer) -> Ground:
    """The ground of a wafer: of equal wafers the same object."""
    return _ground(_Same(wafer))


@lru_cache(maxsize=64)
def _ground(same: _Same) -> Ground:
    wafer = same.wafer
    return _interned(
        wafer.die.rows,
        wafer.die.columns,
        wafer.usable_rows,
        wafer.usable_columns,
        wafer.dead_dies,
        wafer.dead_cores,
        wafer.dead_links,
    )


_interned = lru_cache(maxsize=64)(Ground)


@lru_cache(maxsize=8)
def defects(ground: Ground) -> NDArray[np.bool_]:
    """What is dead, in half rows and half columns: (2 rows - 1, 2 columns - 1)."""
    dead = np.zeros((2 * ground.rows - 1, 2 * ground.columns - 1), dtype=bool)
    high, wide = ground.die_rows, ground.die_columns
    for row, column in ground.dead_dies:
        north, west = 2 * row * high, 2 * column * wide
        dead[north : north + 2 * high - 1, west : west + 2 * wide - 1] = True
    for core in ground.dead_cores:
        row = 2 * (core.die[0] * high + core.core[0])
        column = 2 * (core.die[1] * wide + core.core[1])
        dead[row : row + 1, column : column + 1] = True
    for link in ground.dead_links:
        for row, column in _cells(link, high, wide):
            if row >= 0 and column >= 0:
                dead[row : row + 1, column : column + 1] = True
    dead[:, 1::2] |= dead[:, :-1:2] & dead[:, 2::2]
    dead[1::2] |= dead[:-1:2] & dead[2::2]
    return dead


_SIDES: dict[Edge, tuple[int, int]] = {
    "north": (-1, 0),
    "south": (1, 0),
    "west": (0, -1),
    "east": (0, 1),
}


def _cells(link: DeadLink, high: int, wide: int) -> list[tuple[int, int]]:
    """The cells of a dead link: of one core, or of all cores along a side of a die."""
    down, right = _SIDES[link.side]
    if link.core is not None:
        cores = [link.core]
    elif down:
        cores = [(high - 1 if down > 0 else 0, column) for column in range(wide)]
    else:
        cores = [(row, wide - 1 if right > 0 else 0) for row in range(high)]
    north, west = link.die[0] * high, link.die[1] * wide
    return [(2 * (north + row) + down, 2 * (west + column) + right) for row, column in cores]


def dead_map(wafer: Wafer) -> NDArray[np.bool_]:
    """Which cores of the usable rectangle are dead: (usable_rows, usable_columns)."""
    return defects(ground_of(wafer))[::2, ::2].copy()


def walls(wafer: Wafer) -> list[Rectangle]:
    """Disjoint rectangles that cover the dead cores."""
    return _covering(dead_map(wafer))


def half_walls(wafer: Wafer) -> list[Rectangle]:
    """Disjoint rectangles that cover all that is dead, in half rows and half columns."""
    return _covering(defects(ground_of(wafer)))


def _covering(dead: NDArray[np.bool_]) -> list[Rectangle]:
    """Disjoint rectangles of what is dead: equal runs in successive rows are one."""
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
