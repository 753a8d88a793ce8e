"""Which rectangles of cores a stage may have, and into how many parts heads are cut in them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..ir.floor import Floor
from ..ir.program import Layout

Integers = NDArray[np.int64]

GRID_SIDES = 40
"""Sides of a region that are tried along each direction, besides the whole island's shares."""
SHARES = 8
MOST_NODES = 4
"""Nodes round switches that one stage may take together."""


@dataclass(frozen=True)
class Regions:
    """Regions that are looked at, as equally long arrays."""

    rows: Integers
    columns: Integers
    head_groups: Integers

    def __getitem__(self, which: Integers) -> "Regions":
        """The regions of some numbers."""
        return Regions(self.rows[which], self.columns[which], self.head_groups[which])

    def sizes(self, layout: Layout) -> dict[str, Integers]:
        """The mesh axes of every region (as `lay_out.mesh_of` makes them)."""
        row_groups = self.head_groups if layout == "matmul" else np.ones_like(self.rows)
        return {
            "yh": row_groups,
            "yd": self.rows // row_groups,
            "xh": self.head_groups,
            "xd": self.columns // self.head_groups,
        }


def regions(
    floor: Floor,
    pinned: tuple[int, int] | None,
    groups: Sequence[int],
    sizes: tuple[Iterable[int], Iterable[int]],
    grid: int = GRID_SIDES,
) -> Regions:
    """Every region that an island could hold, with every way to cut the heads; `sizes` are what is
    cut over rows and over columns, `grid` how many sides are tried besides an island's shares.
    Devices round a switch are never left idle."""
    if floor.switched:
        table = _in_switches(floor, pinned, groups)
    else:
        rows = [pinned[0]] if pinned else sides(floor.rows, sizes[0], grid)
        columns = [pinned[1]] if pinned else sides(floor.columns, sizes[1], grid)
        table = [(r, c, g) for r in rows for c in columns for g in groups if g <= min(r, c)]
    array = np.array(table, dtype=np.int64)
    return Regions(array[:, 0], array[:, 1], array[:, 2])


def sides(extent: int, sizes: Iterable[int], grid: int = GRID_SIDES) -> list[int]:
    """Lengths from a few cores to the whole extent: its equal shares, and along a geometric grid
    the shortest that cut one of some sizes into blocks as small."""
    tried = [int(side) for side in np.geomspace(min(4, extent), extent, grid)]
    snapped = {-(-size // -(-size // side)) for side in tried for size in sizes}
    return sorted({*(extent // n for n in range(1, SHARES + 1)), *(snapped or tried)} - {0})


def _in_switches(
    floor: Floor, pinned: tuple[int, int] | None, groups: Sequence[int]
) -> list[tuple[int, int, int]]:
    """Devices in a row: a part of a node, or whole nodes; heads are cut as far as they can be."""
    assert floor.node is not None
    wide = [floor.node * n for n in range(1, MOST_NODES + 1)]
    counts = [pinned[1]] if pinned else sorted({*divisors(floor.node), *wide})
    found: list[tuple[int, int, int]] = []
    for count in (count for count in counts if count <= floor.columns):
        most = max(group for group in groups if count % group == 0)
        found.append((1, count, most))
    return found


def divisors(number: int) -> list[int]:
    """All divisors, in order."""
    return [n for n in range(1, number + 1) if number % n == 0]
