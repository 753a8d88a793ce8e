"""A spec in one binding becomes the hardware tree: dies, wafers, the system, and what must fit.

Cores and what is smaller are in core.py, the tables of fields in fields.py, names and expressions
in evaluate.py.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal, TypeAlias, cast

from ...ir import hardware as ir
from ...ir.errors import Location, UserError, nearest
from . import core, syntax, units
from .assumed import Assumptions
from .binding import Binding, Value
from .core import declared_size, dimensions
from .defects import defects
from .evaluate import Scope, View
from .fields import PARTS, PARTS_LATER, SYSTEM
from .files import SourceFile
from .read import LARGEST_COUNT, NotBuiltError, inner, read, read_field
from .units import Quantity

PhysicsFunction: TypeAlias = Callable[[Any], float]
"""A core, a die or a wafer to a figure in SI."""

Size: TypeAlias = tuple[float, float]
"""Height and width in metres."""

PHYSICS_UNITS = {
    "area": units.SQUARE_METRES,
    "power": units.WATTS,
    "yield": units.NUMBER,
    "cost": units.NUMBER,
}

FIT_TOLERANCE = 1e-9
ANY_SHARE = (1.0, 1.0)
"""The size of a part that is only checked, and has none of its own."""


def area_m2(part: ir.Core | ir.Die | ir.Wafer) -> float:
    """The outline's area, from the declared height and width."""
    return part.height_m * part.width_m


class Builder:
    """Builds the parts of one file in one binding."""

    def __init__(
        self,
        file: SourceFile,
        chosen: Mapping[str, Value],
        physics: Mapping[str, PhysicsFunction],
    ) -> None:
        self._physics = {"area": area_m2, **physics}
        self._in_constraint = False
        self._assumed = Assumptions()
        self.scope = Scope(file, Binding(chosen, self._physical))

    def hardware(self, name: str, parameters: Mapping[str, float | str]) -> ir.Hardware:
        """The design: raises UserError for any mistake in any part, used or not.

        What is not built yet is refused only in the parts that the system uses.
        """
        self._check_kinds()
        for part in self.scope.parts:
            with suppress(NotBuiltError):
                self._check(self.scope.part_named(part, self.scope.parts[part].location))
        wafers, wafer = self._system()
        with self._assumed.of_the_system():
            built = self.wafer(wafer)
        constraints = tuple(self._constraint(line) for line in self.scope.file.constraints)
        assumed = dict(self._assumed.found)
        return ir.Hardware(name, wafers, built, parameters, constraints, assumed)

    def _check_kinds(self) -> None:
        for part in self.scope.file.parts.values():
            if part.kind == "system":
                raise UserError(f"a system has no name, got '{part.name}'", part.location)
            if part.kind in PARTS_LATER:
                raise UserError(f"{PARTS_LATER[part.kind]} is not built yet", part.location)
            if part.kind not in PARTS:
                raise UserError(
                    f"unknown kind of part '{part.kind}'{nearest(part.kind, [*PARTS, 'system'])}",
                    part.location,
                )
            if part.name is None:
                raise UserError(f"a {part.kind} needs a name", part.location)

    def _system(self) -> tuple[int, View]:
        """How many wafers, and which; a file with one wafer needs no system."""
        block = self.scope.file.system
        if block is not None and self.scope.holds(block.when):
            view = View(block, self.scope, ("system",))
            wafers, wafer = read(view, SYSTEM)["wafers"]
            if wafers > 1:
                raise NotBuiltError(
                    "system: several wafers are not built yet, expected 1",
                    view.fields["wafers"].location,
                )
            return wafers, wafer
        only = self.scope.only_part("wafer")
        if only is not None:
            return 1, only
        raise UserError(
            "the file describes no system, expected one as in 'system { wafers = 1 of wse }'",
            Location(self.scope.file.name, 1, 1),
        )

    # Parts, from the smallest to the largest.

    def _check(self, view: View) -> None:
        """Raise UserError for a mistake in a part, wherever it stands."""
        match view.block.kind:
            case "technology":
                core.technology(view)
            case "software":
                core.software(view)
            case "link":
                core.link(view, clock_hz=1.0)
            case "core":
                core.core(view, ANY_SHARE, self._assumed)
            case "die":
                self.die(view, ANY_SHARE)
            case _:
                self.wafer(view)

    def die(self, view: View, share: Size) -> ir.Die:
        """The die; `share` is its size where neither it nor its core gives one."""
        values = read(view, PARTS["die"])
        rows, columns, core_view, _ = values["cores"]
        core_size = declared_size(core_view)
        size = _own_size(view) or share
        if values["size"] is None:
            why = "what its cores need" if core_size else "an equal share of its wafer"
            self._assumed.say(view, "size", f"{dimensions(size)}, {why}")
        built = core.core(core_view, _part_of(size, (rows, columns)), self._assumed)
        what = f"of core {built.name}"
        _check_fit(view, f"rows {what}", rows, rows * built.height_m, size[0], "high")
        _check_fit(view, f"columns {what}", columns, columns * built.width_m, size[1], "wide")
        spare_rows, spare_columns = values["spares"]
        if spare_rows >= rows or spare_columns >= columns:
            raise UserError(
                f"{view.label}: no cores are left beside the spares",
                view.fields["spares"].location,
            )
        return ir.Die(
            name=view.path[0],
            core=built,
            rows=rows - spare_rows,
            columns=columns - spare_columns,
            height_m=size[0],
            width_m=size[1],
        )

    def wafer(self, view: View) -> ir.Wafer:
        values = read(view, PARTS["wafer"])
        rows, columns, die_view, link_view = values["dies"]
        die = self.die(die_view, _die_share(view))
        link = core.link(link_view, die.core.clock_hz)
        height, width = values["size"]
        gap = core.gap_m(link_view)
        high, wide = (
            count * each + (count - 1) * gap
            for count, each in ((rows, die.height_m), (columns, die.width_m))
        )
        _check_fit(view, f"rows of die {die.name}", rows, high, height, "high")
        _check_fit(view, f"columns of die {die.name}", columns, wide, width, "wide")
        dead_dies, dead_cores = defects(view, (rows, columns), die)
        made = rows * columns * die.rows * die.columns
        alive = made - len(dead_dies) * die.rows * die.columns - len(dead_cores)
        location = view.fields["dies"].location
        if made > LARGEST_COUNT:
            raise UserError(
                f"{view.label}: {made:,} cores, expected at most {LARGEST_COUNT:,}", location
            )
        wafer = ir.Wafer(
            name=view.path[0],
            die=die,
            rows=rows,
            columns=columns,
            link=link,
            height_m=height,
            width_m=width,
            **self._in_use(view, values, (rows * die.rows, columns * die.columns), alive),
            io=tuple(self._io(block) for block in inner(view, "io")),
            memories=tuple(self._memory(view, block) for block in inner(view, "memory")),
            dead_dies=dead_dies,
            dead_cores=dead_cores,
        )
        if not wafer.usable_alive:
            raise UserError(f"{view.label}: no core that programs can use is alive", location)
        return wafer

    def _in_use(
        self, view: View, values: dict[str, Any], made: tuple[int, int], alive: int
    ) -> dict[str, int]:
        usable = values["usable"] or made
        if usable[0] > made[0] or usable[1] > made[1]:
            raise UserError(
                f"{view.label}: usable {usable[0]} x {usable[1]} exceeds the {made[0]} x "
                f"{made[1]} cores made",
                view.fields["usable"].location,
            )
        in_use = alive if values["cores_in_use"] is None else values["cores_in_use"]
        if in_use > alive:
            raise UserError(
                f"{view.label}: {in_use:,} cores in use exceed the {alive:,} made and alive",
                view.fields["cores_in_use"].location,
            )
        return {"usable_rows": usable[0], "usable_columns": usable[1], "cores_in_use": in_use}

    def _io(self, block: View) -> ir.EdgeIO:
        values = read(block, PARTS["wafer"].blocks["io"])
        edge = cast(Literal["north", "south", "east", "west"], block.block.name)
        return ir.EdgeIO(edge, values["ports"], values["bandwidth"])

    def _memory(self, wafer: View, block: View) -> ir.ExternalMemory:
        values = read(block, PARTS["wafer"].blocks["memory"])
        edges = [str(port.block.name) for port in inner(wafer, "io")]
        if values["via"] not in edges:
            raise UserError(
                f"{block.label}: via {values['via']}, but the wafer has no io {values['via']}",
                block.fields["via"].location,
            )
        return ir.ExternalMemory(str(block.block.name), values["via"], values["capacity"])

    # Constraints.

    def _constraint(self, line: syntax.ConstraintSyntax) -> ir.Constraint:
        if line.comparison not in ("<=", ">=", "<", ">"):
            raise UserError(
                f"a constraint compares with <=, >=, < or >, not {line.comparison}", line.location
            )
        self._in_constraint = True
        left, right = (self.scope.number(side) for side in (line.left, line.right))
        self._in_constraint = False
        units.same_dimension(left, right, line.location)
        comparison = cast(ir.Comparison, line.comparison)
        return ir.Constraint(line.text, left.magnitude, comparison, right.magnitude)

    def _physical(self, call: syntax.Call, scope: Scope) -> Quantity:
        """The value of `area(tile)` and the like."""
        name = call.function
        if name not in PHYSICS_UNITS:
            raise UserError(
                f"unknown function '{name}'{nearest(name, PHYSICS_UNITS)}", call.location
            )
        if not self._in_constraint:
            raise UserError(f"{name}() may be used in constraints only", call.location)
        if name not in self._physics:
            raise UserError(f"constraint uses {name}(), which is not built yet", call.location)
        part = self._placed(scope.part(call.part, "core", "die", "wafer"))
        return units.si(self._physics[name](part), PHYSICS_UNITS[name])

    def _placed(self, view: View) -> ir.Core | ir.Die | ir.Wafer:
        """A core, die or wafer; without a size it has that of where it stands."""
        match view.block.kind:
            case "core":
                share = declared_size(view) or self._share(view)
                return core.core(view, share, self._assumed)
            case "die":
                return self.die(view, _own_size(view) or self._share(view))
            case _:
                return self.wafer(view)

    def _share(self, view: View) -> Size:
        """What a core or die without a size has of what it stands in: in the system's wafer, else
        in another of the file, else, a core, in a die of its own. Raises UserError for none."""
        shares = self._shares_of_cores() if view.block.kind == "core" else self._shares_of_dies()
        found = next((share for part, share in shares if part.key("") == view.key("")), None)
        if found is None:
            raise UserError(
                f"{view.label}: field size is missing, and no wafer gives it a share",
                view.block.location,
            )
        return found

    def _shares_of_dies(self) -> Iterator[tuple[View, Size]]:
        for wafer in (self._system()[1], *self._parts("wafer")):
            yield _dies(wafer)[2], _own_size(_dies(wafer)[2]) or _die_share(wafer)

    def _shares_of_cores(self) -> Iterator[tuple[View, Size]]:
        sized = ((die, _own_size(die)) for die in self._parts("die"))
        for die, size in (*self._shares_of_dies(), *sized):
            if size is not None:
                rows, columns, core_view, _ = _cores(die)
                yield core_view, _part_of(size, (rows, columns))

    def _parts(self, kind: str) -> Iterator[View]:
        for name, part in self.scope.parts.items():
            if part.kind == kind:
                yield self.scope.part_named(name, part.location)


def _dies(wafer: View) -> tuple[int, int, View, View]:
    return read_field(wafer, "dies", PARTS["wafer"].fields["dies"])


def _cores(die: View) -> tuple[int, int, View, None]:
    return read_field(die, "cores", PARTS["die"].fields["cores"])


def _part_of(size: Size, grid: tuple[int, int]) -> Size:
    return size[0] / grid[0], size[1] / grid[1]


def _own_size(die: View) -> Size | None:
    """The size of a die by itself: what it says, else what its cores need, else None."""
    rows, columns, core_view, _ = _cores(die)
    core_size = declared_size(core_view)
    needed = (rows * core_size[0], columns * core_size[1]) if core_size else None
    return declared_size(die) or needed


def _die_share(wafer: View) -> Size:
    """What a die without a size has: an equal share of its wafer, less the gaps."""
    rows, columns, die_view, link_view = _dies(wafer)
    size, gap = cast(Size, declared_size(wafer)), core.gap_m(link_view)
    share = _part_of((size[0] - (rows - 1) * gap, size[1] - (columns - 1) * gap), (rows, columns))
    if min(share) <= 0 and _own_size(die_view) is None:
        raise UserError(
            f"{wafer.label}: the gaps of link {link_view.path[0]} leave nothing for its dies",
            wafer.fields["dies"].location,
        )
    return share


def _check_fit(
    view: View, what: str, count: int, needed_m: float, given_m: float, side: str
) -> None:
    """Raise UserError where a part's cores or dies exceed its own height or width."""
    if needed_m > given_m * (1 + FIT_TOLERANCE):
        raise UserError(
            f"{view.label}: {count} {what} need {_mm(needed_m)}, the {view.block.kind} is "
            f"{_mm(given_m)} {side}",
            view.fields[{"die": "cores", "wafer": "dies"}[view.block.kind]].location,
        )


def _mm(length_m: float) -> str:
    return f"{length_m * 1e3:g} mm"
