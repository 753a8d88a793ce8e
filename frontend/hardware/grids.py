"""Dies of cores and wafers of dies: what fills a grid, what is placed in it, and its outline.

What stands around the dies of a wafer is wafer.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

from ...ir import hardware as ir
from ...ir.errors import UserError
from ...ir.physics import Physics
from ...ir.technology import Link
from . import core, syntax
from .assumed import Assumptions
from .fields import PARTS
from .parts import declared_size, dimensions, gap_m, memory, stacks, stated_areas
from .read import inner, read, read_field, whole
from .view import View

Size: TypeAlias = tuple[Any, Any]
"""Height and width in metres."""

PartT = TypeVar("PartT")

MAX_PLACED = 200
"""Rectangles in a die or wafer: each is compared with the others."""


@dataclass(frozen=True)
class Placed:
    """A rectangle of a grid that another kind of part fills."""

    view: View
    row: Any
    column: Any
    rows: Any
    columns: Any

    def patch(self, make: Callable[[Any, Any, Any, Any, Any], PartT], part: Any) -> PartT:
        return make(part, self.row, self.column, self.rows, self.columns)


def placed(view: View, grid: tuple[Any, Any], kind: str) -> list[Placed]:
    """What is placed in a die or wafer, inside its grid and apart from each other."""
    found: list[Placed] = []
    binding = view.scope.binding
    for item in view.block.items:
        if not isinstance(item, syntax.Place):
            continue
        label = f"{view.label}: place"
        if len(found) == MAX_PLACED:
            raise UserError(f"{label}: more than {MAX_PLACED} rectangles", item.location)
        rows, columns = (
            whole(view, side, 1, label) for side in (item.grid.first, item.grid.second)
        )
        row, column = (whole(view, side, 0, label) for side in (item.row, item.column))
        binding.require(
            (row + rows <= grid[0]) & (column + columns <= grid[1]),
            lambda item=item: f"{view.label}: '{item.text}' reaches beyond its {kind}s",
            item.location,
        )
        new = Placed(view.scope.part(item.part, kind), row, column, rows, columns)
        for other in found:
            binding.require(
                _apart(new, other),
                lambda item=item: f"{view.label}: '{item.text}' overlaps what is placed before",
                item.location,
            )
        found.append(new)
    return found


def _apart(one: Placed, other: Placed) -> Any:
    above = (one.row + one.rows <= other.row) | (other.row + other.rows <= one.row)
    beside = (one.column + one.columns <= other.column) | (
        other.column + other.columns <= one.column
    )
    return above | beside


def die(
    view: View, share: Size | None, link: Link | None, physics: Physics, assumed: Assumptions
) -> ir.Die:
    """The die; without a `size` it has what its cores and interfaces need, or, where its cores have
    no size either, `share`, an equal part of its wafer."""
    values = read(view, PARTS["die"])
    rows, columns, core_view, _ = values["cores"]
    spare_rows, spare_columns = values["spares"]
    view.scope.binding.require(
        (spare_rows < rows) & (spare_columns < columns),
        lambda: f"{view.label}: no cores are left beside the spares",
        view.fields["spares" if "spares" in view.fields else "cores"].location,
    )
    within = values["size"] or share
    cell = None if within is None else (within[0] / rows, within[1] / columns)
    own = core.core(core_view, physics, assumed)
    made = _sized(core_view, own, cell, assumed)
    left = (rows - spare_rows, columns - spare_columns)
    built = ir.Die(
        name=view.path[0],
        core=made,
        rows=left[0],
        columns=left[1],
        height_m=0.0,
        width_m=0.0,
        spare_rows=spare_rows,
        spare_columns=spare_columns,
        patches=tuple(
            other.patch(
                ir.CorePatch,
                _sized(other.view, core.core(other.view, physics, assumed), cell, assumed),
            )
            for other in placed(view, left, "core")
        ),
        memories=_memories(view, values["memories"]),
        declared_area_m2=stated_areas(view),
        power_w=values["power"],
    )
    height, width = values["size"] or _outline(
        view, built, share if core.unsized(own) else None, link, physics, assumed
    )
    return replace(built, height_m=height, width_m=width)


def _sized(view: View, made: ir.Core, cell: Size | None, assumed: Assumptions) -> ir.Core:
    """A core of a die; one without a size of its own has a cell of the die's grid."""
    if not core.unsized(made):
        return made
    if cell is None:
        raise UserError(
            f"{view.label}: field size is missing, its technology gives no densities, and no "
            "wafer gives it a share",
            view.block.location,
        )
    _require_room(view, cell)
    assumed.say(view, "size", lambda: f"{dimensions(cell)}, an equal share of its die")
    return replace(made, height_m=cell[0], width_m=cell[1])


def _require_room(view: View, share: Size) -> None:
    view.scope.binding.require(
        (share[0] > 0) & (share[1] > 0),
        lambda: f"{view.label}: the gaps between the dies of its wafer leave nothing for it",
        view.block.location,
    )


def _outline(
    view: View,
    built: ir.Die,
    share: Size | None,
    link: Link | None,
    physics: Physics,
    assumed: Assumptions,
) -> Size:
    """The outline of a die that gives none; `share` where its cores have no size of their own."""
    if share is None:
        size, why = physics.die_outline_m(built, link), "what its cores need"
    else:
        _require_room(view, share)
        size, why = share, "an equal share of its wafer"
    assumed.say(view, "size", lambda: f"{dimensions(size)}, {why}")
    return size


def _memories(view: View, several: tuple[Any, View, None] | None) -> tuple[Any, ...]:
    found = [memory(block, "die") for block in inner(view, "memory")]
    if several is not None:
        count, one, _ = several
        found.append(stacks(memory(one, "die"), count))
    return tuple(found)


def dies_or_cores(view: View) -> tuple[Any, Any, View, View | None]:
    """Rows, columns, part and joint of the grid of a die, wafer or node."""
    name = "cores" if view.block.kind == "die" else "dies"
    return read_field(view, name, PARTS[view.block.kind].fields[name])


def die_share(wafer: View) -> Size | None:
    """An equal part of a wafer for each of its dies, less the gaps, and so not always of a size
    above zero; None for a node that gives no size."""
    size = declared_size(wafer)
    if size is None:
        return None
    rows, columns, _, link_view = dies_or_cores(wafer)
    assert link_view is not None
    gap = gap_m(link_view)
    return (size[0] - (rows - 1) * gap) / rows, (size[1] - (columns - 1) * gap) / columns
