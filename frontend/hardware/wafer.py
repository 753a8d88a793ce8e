"""Wafers and nodes: their dies, what joins them, their edges, and the cores that programs use."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from ...ir import hardware as ir
from ...ir.errors import UserError
from ...ir.physics import Physics
from ...ir.technology import Link, Memory
from . import parts
from .assumed import Assumptions
from .binding import OneByOneError
from .defects import Dead, Ground, defects, stand
from .fields import PARTS
from .grids import Size, die, die_share, dies_or_cores, placed
from .read import LARGEST_COUNT, inner, read
from .view import View


@dataclass(frozen=True)
class Builder:
    """Builds the wafers and nodes of one binding, and keeps the parts that it made for them."""

    physics: Physics
    assumed: Assumptions

    def wafer(self, view: View) -> tuple[ir.Wafer, dict[tuple[str, ...], Any]]:
        """The wafer or node, and it with its cores and dies by the keys of their views."""
        kind = view.block.kind
        values = read(view, PARTS[kind])
        rows, columns, die_view, link_view = values["dies"]
        switch = None if values["switch"] is None else parts.switch(values["switch"])
        share = die_share(view)
        clock = parts.read_field(dies_or_cores(die_view)[2], "clock", PARTS["core"].fields["clock"])
        link = parts.link(link_view, clock) if switch is None else parts.bandwidth_link(link_view)
        made = self._die(die_view, share, link)
        others = (
            [
                (other, self._die(other.view, share, link))
                for other in placed(view, (rows, columns), "die")
            ]
            if kind == "wafer"
            else []
        )
        patches = tuple(other.patch(ir.DiePatch, built) for other, built in others)
        ground = Ground(
            view,
            rows,
            columns,
            (
                stand(made, (0, 0), (rows, columns)),
                *(stand(p.die, (p.row, p.column), (p.rows, p.columns)) for p in patches),
            ),
        )
        dead = defects(ground)
        size = values["size"] or _board(made, rows, columns)
        built = ir.Wafer(
            name=view.path[0],
            die=made,
            rows=rows,
            columns=columns,
            link=link,
            height_m=size[0],
            width_m=size[1],
            **_in_use(ground, values, dead.cores),
            io=tuple(_io(block) for block in inner(view, "io")),
            memories=tuple(_memory(view, block) for block in inner(view, "memory")),
            dead_dies=dead.dies,
            dead_cores=dead.dead_cores,
            dead_links=dead.links,
            patches=patches,
            switch=switch,
            board=kind == "node",
            regulator_efficiency=values["regulator"],
            power_w=values["power"],
            cost_usd=values["cost"],
        )
        view.scope.binding.require(
            _alive(built, ground.cores - dead.cores, dead) > 0,
            lambda: f"{view.label}: no core that programs can use is alive",
            view.fields["dies"].location,
        )
        dies = [(die_view, made), *((other.view, placed_die) for other, placed_die in others)]
        return built, {view.key(""): built} | _parts_of_dies(dies)

    def _die(self, view: View, share: Size | None, link: Link) -> ir.Die:
        return die(view, share, link, self.physics, self.assumed)


def _alive(built: ir.Wafer, alive: Any, dead: Dead) -> Any:
    """Cores that programs can use and that are alive, or, where it is more than none, fewer."""
    if not dead.dies and not dead.dead_cores:
        return alive
    usable = built.usable_rows * built.usable_columns
    if isinstance(usable, np.ndarray):
        raise OneByOneError
    return usable - dead.cores if usable > dead.cores else built.usable_alive


def _parts_of_dies(dies: Sequence[tuple[View, ir.Die]]) -> dict[tuple[str, ...], Any]:
    """Dies and their cores by the keys of their views; a core that only some dies, which are
    copies, change is that of the others."""
    found: list[tuple[View, ir.Die | ir.Core]] = []
    for view, made in dies:
        found += [(view, made), (dies_or_cores(view)[2], made.core)]
        others = placed(view, (made.rows, made.columns), "core")
        found += [(o.view, patch.core) for o, patch in zip(others, made.patches, strict=True)]
    found.sort(key=lambda part: len(part[0].scope.changes), reverse=True)
    return {view.key(""): part for view, part in found}


def _board(made: ir.Die, rows: Any, columns: Any) -> Size:
    """The outline of a node that gives none: its dies side by side."""
    return rows * made.height_m, columns * made.width_m


def _in_use(ground: Ground, values: dict[str, Any], dead: int) -> dict[str, Any]:
    """The cores that programs may use, how many are powered, and how many dies are spare."""
    view, binding = ground.view, ground.view.scope.binding
    location = view.fields["dies"].location
    spare_rows, spare_columns = values["spares"]
    binding.require(
        (spare_rows < ground.rows) & (spare_columns < ground.columns),
        lambda: f"{view.label}: no dies are left beside the spares",
        view.fields["spares" if "spares" in view.fields else "dies"].location,
    )
    rows, columns = ground.rows - spare_rows, ground.columns - spare_columns
    binding.require(
        ground.cores <= LARGEST_COUNT,
        lambda: f"{view.label}: {ground.cores:,} cores, expected at most {LARGEST_COUNT:,}",
        location,
    )
    made = rows * ground.stands[0].rows, columns * ground.stands[0].columns
    usable = values.get("usable") or made
    binding.require(
        (usable[0] <= made[0]) & (usable[1] <= made[1]),
        lambda: (
            f"{view.label}: usable {usable[0]} x {usable[1]} exceeds the {made[0]} x {made[1]} "
            "cores made"
        ),
        view.fields["usable" if "usable" in view.fields else "dies"].location,
    )
    spare_dies = ground.rows * ground.columns - rows * columns
    alive, spare = (
        ground.cores - dead,
        spare_dies * ground.stands[0].rows * ground.stands[0].columns,
    )
    wanted = values["cores_in_use"]
    in_use = _least(alive, ground.cores - spare) if wanted is None else wanted
    binding.require(
        in_use <= alive,
        lambda: f"{view.label}: {in_use:,} cores in use exceed the {alive:,} made and alive",
        view.fields["cores_in_use" if "cores_in_use" in view.fields else "dies"].location,
    )
    return {
        "usable_rows": usable[0],
        "usable_columns": usable[1],
        "cores_in_use": in_use,
        "cores_needed": wanted,
        "spare_dies": spare_dies,
    }


def _least(one: Any, other: Any) -> Any:
    both = isinstance(one, np.ndarray) or isinstance(other, np.ndarray)
    return np.minimum(one, other) if both else min(one, other)


def _io(block: View) -> ir.EdgeIO:
    values = read(block, PARTS["wafer"].blocks["io"])
    edge = cast(ir.Edge, block.block.name)
    return ir.EdgeIO(edge, values["ports"], values["bandwidth"], values["energy"])


def _memory(wafer: View, block: View) -> Memory:
    made = parts.memory(block, "board")
    if made.via not in [str(port.block.name) for port in inner(wafer, "io")]:
        raise UserError(
            f"{block.label}: via {made.via}, but the {wafer.block.kind} has no io {made.via}",
            block.fields["via"].location,
        )
    return made
