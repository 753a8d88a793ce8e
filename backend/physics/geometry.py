"""Outlines of parts without a size, and whether everything fits: core, die, reticle, wafer, edges.

Areas come from area.py. A limit is a Constraint that no line of the spec states; it is given in
every case, met or not. Lengths in metres; figures are floats, or arrays of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ...ir.hardware import Constraint, Core, Die, Wafer
from ...ir.technology import Link
from .area import core_area_m2, core_areas, die_areas, link_edges_m, total_m2
from .figures import plain
from .stacked import die_footprint_m2, die_interface_edge_m

RETICLE_M = (26e-3, 33e-3)
"""The field of a lithography scanner, shorter side first (ASML TWINSCAN NXT: 26 x 33 mm)."""

WAFER_SQUARE_M = 0.215
"""Side of the square that a wafer of 300 mm yields with corners cut (Cerebras WSE-2: 215 mm)."""

ROUNDING = 1e-6
"""Relative; what sums of the same lengths in another order may differ by, and much less than any
published figure's last digit."""


@dataclass(frozen=True)
class Patch:
    """Rows (or columns) of a grid that hold parts of another size than the rest."""

    first: float
    count: float
    across: float
    """How many columns (or rows) of the grid the patch covers."""
    size_m: float

    @property
    def end(self) -> float:
        return self.first + self.count

    def holds(self, row: float) -> bool:
        return (self.first <= row) & (row < self.end)


def extent_m(count: float, across: float, size_m: float, patches: Sequence[Patch]) -> float:
    """Height of a grid of `count` rows whose parts are `size_m` high but for patches, each row as
    high as its highest part; or, of columns, its width.

    A row that patches cover whole, all `across` columns of it, holds none of the other parts.
    """
    if not patches:
        return count * size_m
    edges = (edge for patch in patches for edge in (patch.first, patch.end))
    bounds = np.sort(np.stack(np.broadcast_arrays(0, count, *edges)), axis=0)
    total = 0.0
    for low, high in pairwise(bounds):
        covered = sum(patch.across * patch.holds(low) for patch in patches)
        highest = size_m * (covered < across)
        for patch in patches:
            highest = np.maximum(highest, patch.size_m * patch.holds(low))
        total = total + (high - low) * highest
    return total


def cores_outline_m(die: Die) -> tuple[float, float]:
    """Height and width of all cores that a die is made with, spare ones and patches included."""
    rows, columns = die.rows + die.spare_rows, die.columns + die.spare_columns
    high = [Patch(p.row, p.rows, p.columns, p.core.height_m) for p in die.patches]
    wide = [Patch(p.column, p.columns, p.rows, p.core.width_m) for p in die.patches]
    return (
        extent_m(rows, columns, die.core.height_m, high),
        extent_m(columns, rows, die.core.width_m, wide),
    )


def dies_outline_m(wafer: Wafer) -> tuple[float, float]:
    """Height and width of all dies of a wafer and the gaps between them."""
    high = [Patch(p.row, p.rows, p.columns, p.die.height_m) for p in wafer.patches]
    wide = [Patch(p.column, p.columns, p.rows, p.die.width_m) for p in wafer.patches]
    height = extent_m(wafer.rows, wafer.columns, wafer.die.height_m, high)
    width = extent_m(wafer.columns, wafer.rows, wafer.die.width_m, wide)
    gap = wafer.link.gap_m
    return height + (wafer.rows - 1) * gap, width + (wafer.columns - 1) * gap


def core_outline_m(core: Core) -> tuple[float, float] | None:
    """A square of the area of a core's components; None where one of them is not known."""
    area = core_area_m2(core)
    if area is None:
        return None
    side = plain(np.sqrt(area))
    return side, side


def die_outline_m(die: Die, link: Link | None) -> tuple[float, float]:
    """The rectangle of a die's cores, grown by one margin on all sides until it holds the rest.

    The margin t solves (height + 2 t) (width + 2 t) = total area.
    """
    height, width = cores_outline_m(die)
    rest = total_m2(die_areas(die, link, (height, width))) - height * width
    margin = (np.sqrt((height + width) ** 2 + 4 * rest) - (height + width)) / 4
    return plain(height + 2 * margin), plain(width + 2 * margin)


def limits(wafer: Wafer) -> tuple[Constraint, ...]:
    """What geometry demands of a wafer, its kinds of die and their kinds of core."""
    dies = {id(die): die for die, _ in wafer.kinds}.values()
    cores = {id(core): core for die in dies for core, _ in die.kinds}.values()
    return (
        *(limit for core in cores for limit in _core_limits(core)),
        *(limit for die in dies for limit in _die_limits(die, wafer)),
        *(() if wafer.board else _wafer_limits(wafer)),
    )


def _core_limits(core: Core) -> Iterator[Constraint]:
    need = total_m2(core_areas(core))
    yield _fits(f"core {core.name}: the area of its parts", need, core.area_m2, "m2")


def _die_limits(die: Die, wafer: Wafer) -> Iterator[Constraint]:
    cores = cores_outline_m(die)
    sides = (("height", cores[0], die.height_m), ("width", cores[1], die.width_m))
    for side, need, given in sides:
        yield _fits(f"die {die.name}: the {side} of its cores", need, given, "m")
    need = total_m2(die_areas(die, wafer.link, cores, wafer.switch is not None))
    yield _fits(f"die {die.name}: the area of its parts", need, die.area_m2, "m2")
    if any(memory.kind == "stacked" for memory in die.memories):
        text = f"die {die.name}: the footprint of the memory on it"
        yield _fits(text, die_footprint_m2(die), die.area_m2, "m2")
    lengths = np.minimum(die.height_m, die.width_m), np.maximum(die.height_m, die.width_m)
    for side, length, field in zip(("shorter", "longer"), lengths, RETICLE_M, strict=True):
        yield _fits(f"die {die.name}: its {side} side in a reticle", length, field, "m")
    yield from _edge_limits(die, wafer)


def _edge_limits(die: Die, wafer: Wafer) -> Iterator[Constraint]:
    """A link's interface fits each edge, and all interfaces fit the whole outline of a die."""
    taken = die_interface_edge_m(die)
    edges = link_edges_m(die, wafer.link)
    if edges is not None and wafer.switch is not None:
        taken = taken + edges[0]
    elif edges is not None:
        needs = edges[0] * (wafer.rows > 1), edges[1] * (wafer.columns > 1)
        taken = taken + 2 * (needs[0] + needs[1])
        given = (("north and south", die.width_m), ("east and west", die.height_m))
        for need, (side, length) in zip(needs, given, strict=True):
            text = f"die {die.name}: link {wafer.link.name} along its {side} edges"
            yield _fits(text, need, length, "m")
    if edges is None and not die.memories:
        return
    outline = 2 * (die.height_m + die.width_m)
    yield _fits(f"die {die.name}: its interfaces along its outline", taken, outline, "m")


def _wafer_limits(wafer: Wafer) -> Iterator[Constraint]:
    given = (("height", wafer.height_m), ("width", wafer.width_m))
    for need, (side, length) in zip(dies_outline_m(wafer), given, strict=True):
        yield _fits(f"wafer {wafer.name}: the {side} of its dies and gaps", need, length, "m")
    diagonal, most = np.hypot(wafer.height_m, wafer.width_m), WAFER_SQUARE_M * np.sqrt(2)
    yield _fits(f"wafer {wafer.name}: its diagonal on a round wafer", diagonal, most, "m")


def _fits(text: str, need: float, given: float, unit: str) -> Constraint:
    return Constraint(text, plain(need), "<=", plain(given * (1 + ROUNDING)), unit, implied=True)
