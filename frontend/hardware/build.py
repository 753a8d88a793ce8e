"""A spec in one binding becomes the hardware tree: parts by their tables, then what must fit.

What a part holds is in fields.py; what a name is worth is in evaluate.py.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Literal, TypeAlias, cast

from ...ir import hardware as ir
from ...ir.errors import Location, UserError, nearest
from . import syntax, units
from .binding import Binding, Value
from .evaluate import Scope, View
from .fields import DTYPES, PARTS, PARTS_LATER, SYSTEM
from .files import SourceFile
from .read import NotBuiltError, inner, read, read_field
from .units import Quantity

PhysicsFunction: TypeAlias = Callable[[Any], float]
"""A core, a die or a wafer to a figure in SI."""

PHYSICS_UNITS = {
    "area": units.SQUARE_METRES,
    "power": units.WATTS,
    "yield": units.NUMBER,
    "cost": units.NUMBER,
}

FIT_TOLERANCE = 1e-9


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
        self.scope = Scope(file, Binding(chosen, self._physical))

    def hardware(self, name: str, parameters: Mapping[str, float | str]) -> ir.Hardware:
        """The design: raises UserError for any mistake in any part, used or not.

        What is not built yet is refused only in the parts that the system uses.
        """
        self._check_kinds()
        for part in self.scope.parts:
            with suppress(NotBuiltError):
                self.part(self.scope.part_named(part, self.scope.parts[part].location))
        wafers, wafer = self._system()
        built = self.wafer(wafer)
        constraints = tuple(self._constraint(line) for line in self.scope.file.constraints)
        return ir.Hardware(name, wafers, built, parameters, constraints)

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
            return read(View(block, self.scope, ("system",)), SYSTEM)["wafers"]
        only = self.scope.only_part("wafer")
        if only is not None:
            return 1, only
        raise UserError(
            "the file describes no system, expected one as in 'system { wafers = 1 of wse }'",
            Location(self.scope.file.name, 1, 1),
        )

    # Parts, from the smallest to the largest.

    def part(self, view: View) -> object:
        """Whatever part `view` is."""
        match view.block.kind:
            case "technology":
                return self.technology(view)
            case "software":
                return self.software(view)
            case "link":
                return self.link(view, clock_hz=1.0)
            case "core":
                return self.core(view)
            case "die":
                return self.die(view)
            case _:
                return self.wafer(view)

    def technology(self, view: View) -> ir.Technology:
        spec = PARTS["technology"]
        values, sram = read(view, spec), self._block(view, "sram", None)
        return ir.Technology(
            name=_name(view),
            multiply_add_energy_j=self._by_dtype(view, "multiply_add"),
            sram_read_energy_j_per_byte=sram["read"],
            sram_write_energy_j_per_byte=sram["write"],
            router_energy_j_per_byte=values["router"],
            wire_energy_j_per_byte_m=values["wire"],
            leakage_w_per_m2=values["leakage"],
        )

    def software(self, view: View) -> ir.Software:
        values = read(view, PARTS["software"])
        return ir.Software(_name(view), values["issue"], values["launch"])

    def link(self, view: View, clock_hz: float) -> ir.Link:
        values = read(view, PARTS["link"], clock_hz)
        return ir.Link(_name(view), values["share"], values["latency"], values["energy"])

    def core(self, view: View) -> ir.Core:
        clock_hz = self._clock(view)
        values = read(view, PARTS["core"], clock_hz)
        matrix = self._by_dtype(view, "matrix")
        technology = self.technology(values["technology"])
        unknown = [name for name in matrix if name not in technology.multiply_add_energy_j]
        if unknown:
            raise UserError(
                f"{view.label}: technology {technology.name} gives no multiply_add energy for "
                f"{_spelt(unknown[0])}",
                view.block.location,
            )
        return ir.Core(
            name=_name(view),
            clock_hz=clock_hz,
            height_m=values["size"][0],
            width_m=values["size"][1],
            technology=technology,
            matrix_flops_per_cycle=matrix,
            vector_elements_per_cycle=self._by_dtype(view, "vector"),
            function_cycles=values["function"],
            sram=self._sram(view),
            router=self._router(view, clock_hz),
            software=self.software(values["software"]),
            control_energy_j_per_cycle=values["control"],
        )

    def _clock(self, view: View) -> float:
        """Read ahead of the other fields, which need it to tell cycles from seconds."""
        return read_field(view, "clock", PARTS["core"].fields["clock"])

    def _sram(self, view: View) -> ir.Sram:
        values = self._block(view, "sram", None)
        if values["reserved"] >= values["capacity"]:
            raise UserError(
                f"{view.label}: the SRAM's reserved bytes leave nothing of its capacity",
                inner(view, "sram")[0].fields["reserved"].location,
            )
        return ir.Sram(values["capacity"], values["reserved"], values["read"], values["write"])

    def _router(self, view: View, clock_hz: float) -> ir.Router:
        values = self._block(view, "router", clock_hz)
        return ir.Router(
            kind=values["kind"],
            width_bytes=values["width"],
            hop_cycles=values["hop"],
            ramp_cycles=values["ramp"],
            multicast=values["multicast"] == "yes",
        )

    def die(self, view: View) -> ir.Die:
        values = read(view, PARTS["die"])
        rows, columns, core_view, _ = values["cores"]
        core = self.core(core_view)
        needed = rows * core.height_m, columns * core.width_m
        size = values["size"] or needed
        _check_fit(view, f"rows of core {core.name}", rows, needed[0], size[0], "high")
        _check_fit(view, f"columns of core {core.name}", columns, needed[1], size[1], "wide")
        spare_rows, spare_columns = values["spares"]
        if spare_rows >= rows or spare_columns >= columns:
            raise UserError(
                f"{view.label}: no cores are left beside the spares",
                view.fields["spares"].location,
            )
        return ir.Die(
            name=_name(view),
            core=core,
            rows=rows - spare_rows,
            columns=columns - spare_columns,
            height_m=size[0],
            width_m=size[1],
        )

    def wafer(self, view: View) -> ir.Wafer:
        values = read(view, PARTS["wafer"])
        rows, columns, die_view, link_view = values["dies"]
        die = self.die(die_view)
        link = self.link(link_view, die.core.clock_hz)
        gap = read(link_view, PARTS["link"], die.core.clock_hz)["gap"]
        height, width = values["size"]
        high, wide = (
            count * each + (count - 1) * gap
            for count, each in ((rows, die.height_m), (columns, die.width_m))
        )
        _check_fit(view, f"rows of die {die.name}", rows, high, height, "high")
        _check_fit(view, f"columns of die {die.name}", columns, wide, width, "wide")
        dead_dies, dead_cores = self._defects(view, (rows, columns), die)
        made = rows * columns * die.rows * die.columns
        alive = made - len(dead_dies) * die.rows * die.columns - len(dead_cores)
        return ir.Wafer(
            name=_name(view),
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

    def _defects(
        self, view: View, grid: tuple[int, int], die: ir.Die
    ) -> tuple[tuple[tuple[int, int], ...], tuple[ir.DeadCore, ...]]:
        """The dead dies and the dead cores, each checked against its grid."""
        dies: list[tuple[int, int]] = []
        cores: list[ir.DeadCore] = []
        for block in inner(view, "defects"):
            read(block, PARTS["wafer"].blocks["defects"])
            for dead in block.block.items:
                if not isinstance(dead, syntax.Dead):
                    continue
                if dead.what == "die" and dead.of is None:
                    dies.append(_place("die", dead.at, grid, f"wafer {_name(view)}", dead))
                elif dead.what == "core" and dead.of == "die" and dead.of_at is not None:
                    of = _place("die", dead.of_at, grid, f"wafer {_name(view)}", dead)
                    within = (die.rows, die.columns)
                    core = _place("core", dead.at, within, f"die {die.name}", dead)
                    cores.append(ir.DeadCore(of, core))
                else:
                    raise UserError(
                        "expected 'dead die 11, 6' or 'dead core 3, 5 of die 0, 2'", dead.location
                    )
        self._check_dead_once(view, dies, cores)
        return tuple(dies), tuple(core for core in cores if core.die not in dies)

    def _check_dead_once(
        self, view: View, dies: list[tuple[int, int]], cores: list[ir.DeadCore]
    ) -> None:
        repeated = [item for item, times in Counter([*dies, *cores]).items() if times > 1]
        if repeated:
            item = repeated[0]
            text = (
                f"core {_at(item.core)} of die {_at(item.die)}"
                if isinstance(item, ir.DeadCore)
                else f"die {_at(item)}"
            )
            raise UserError(
                f"{view.label}: {text} is named dead twice",
                inner(view, "defects")[0].block.location,
            )

    # Inside a part.

    def _block(self, view: View, kind: str, clock_hz: float | None) -> dict[str, Any]:
        return read(inner(view, kind)[0], PARTS[view.block.kind].blocks[kind], clock_hz)

    def _by_dtype(self, view: View, kind: str) -> dict[str, float]:
        """A block with a figure by dtype, by torch's names; at least one must be given."""
        values = self._block(view, kind, None)
        found = {DTYPES[name]: value for name, value in values.items() if value is not None}
        if not found:
            block = inner(view, kind)[0]
            raise UserError(
                f"{block.label}: expected a figure for at least one of {', '.join(DTYPES)}",
                block.block.location,
            )
        return found

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
        part = self.part(scope.part(call.part, "core", "die", "wafer"))
        return units.si(self._physics[name](part), PHYSICS_UNITS[name])


def _name(view: View) -> str:
    return view.path[0]


def _spelt(dtype: str) -> str:
    return next(name for name, torch_name in DTYPES.items() if torch_name == dtype)


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


def _at(place: tuple[int, int]) -> str:
    return f"{place[0]}, {place[1]}"


def _place(
    what: str, at: tuple[float, float], grid: tuple[int, int], of: str, dead: syntax.Dead
) -> tuple[int, int]:
    row, column = at
    if row != int(row) or column != int(column) or row >= grid[0] or column >= grid[1]:
        raise UserError(
            f"{of} has no {what} {row:g}, {column:g}: it has {grid[0]} x {grid[1]}, counted "
            "from zero",
            dead.location,
        )
    return int(row), int(column)
