"""The core of a spec in one binding: its units, its SRAM, its router, and what it leaves out.

What a core holds is in fields.py; what it is made of in parts.py.
"""

from dataclasses import replace
from typing import Any

from ...ir import hardware as ir
from ...ir.errors import UserError
from ...ir.graph import DTYPE_BYTES
from ...ir.physics import Physics
from ...ir.technology import Technology
from . import parts
from .assumed import Assumptions
from .fields import DTYPES, PARTS
from .parts import block, by_dtype, dimensions
from .read import inner, read, read_field
from .view import View

NO_SOFTWARE = ir.Software("none", issue_cycles=0.0, launch_cycles=0.0)
"""Of a core without `software`: what the hardware alone would do."""

NO_NETWORK = ir.Router("circuit", 1.0, hop_cycles=1.0, ramp_cycles=0.0, multicast=False)
"""Of a core without `router`: no other core is near."""

FUNCTION_CYCLES = 12.0
"""Of a core without `function`: range reduction 3, polynomial 5, scaling 2, load and store."""


def core(view: View, physics: Physics, assumed: Assumptions) -> ir.Core:
    """The core; without a `size` it has what its parts need, or, where its technology gives no
    densities, none yet: an outline of zero, which `unsized` tells."""
    if view.scope.changes:
        return _core(view, physics, assumed)

    def made() -> tuple[ir.Core, dict[str, str]]:
        said = Assumptions()
        found = _core(view, physics, said)
        return found, said.found if view.scope.binding.points is None else {}

    key = ("core", view.scope.prefix, id(view.block))
    found, said = view.scope.binding.remembered(key, made)
    assumed.repeat(said)
    return found


def _core(view: View, physics: Physics, assumed: Assumptions) -> ir.Core:
    clock_hz = read_field(view, "clock", PARTS["core"].fields["clock"])
    values = read(view, PARTS["core"], clock_hz)
    process = parts.technology(values["technology"])
    matrix = by_dtype(view, "matrix")
    if values["software"] is None:
        assumed.say(view, "software", lambda: "no overhead of software")
    if values["function"] is None:
        assumed.say(view, "function", lambda: f"{FUNCTION_CYCLES:g} steps a scalar function")
    if values["control"] is None:
        assumed.say(view, "control", lambda: "no energy of clock and control")
    made = ir.Core(
        name=view.path[0],
        clock_hz=clock_hz,
        height_m=0.0,
        width_m=0.0,
        technology=process,
        matrix_flops_per_cycle=matrix,
        vector_elements_per_cycle=_vector(view, matrix, process, assumed),
        function_cycles=FUNCTION_CYCLES if values["function"] is None else values["function"],
        sram=_sram(view, assumed),
        router=_router(view, values["router"], clock_hz, assumed),
        software=parts.software(values["software"]) if values["software"] else NO_SOFTWARE,
        control_energy_j_per_cycle=0.0 if values["control"] is None else values["control"],
        declared_area_m2=parts.stated_areas(view),
        multiprocessors=_multiprocessors(view),
    )
    size = values["size"]
    if size is None:
        needed = physics.core_outline_m(made)
        if needed is None:
            return made
        size = needed
        assumed.say(view, "size", lambda: f"{dimensions(needed)}, what its parts need")
    return replace(made, height_m=size[0], width_m=size[1])


def unsized(made: ir.Core) -> bool:
    """Whether a core has no size of its own."""
    return isinstance(made.height_m, float) and made.height_m == 0.0


def _vector(
    view: View, matrix: dict[str, Any], process: Technology, assumed: Assumptions
) -> dict[str, Any]:
    """The vector unit by dtype: as given, else an element for every multiply-add.

    Every dtype of the multiply-add unit, and float32 for norms and softmax, has a rate: where
    none is given, as many bytes a cycle as the first dtype that has one. Raises UserError for a
    dtype of either unit without a multiply-add energy.
    """
    if inner(view, "vector"):
        rates = by_dtype(view, "vector")
    else:
        rates = {dtype: flops / 2 for dtype, flops in matrix.items()}
        assumed.say(view, "vector", lambda: "vector unit as wide as the multiply-add unit")
    for dtype in (*matrix, *rates):
        if dtype not in process.multiply_add_energy_j:
            raise _no_energy(view, process, dtype)
    first, rate = next(iter(rates.items()))
    for dtype in (*matrix, "float32"):
        if dtype in rates:
            continue
        if dtype not in process.multiply_add_energy_j:
            raise _no_energy(view, process, dtype, ", in which norms and softmax are computed")
        rates[dtype] = rate * DTYPE_BYTES[first] / DTYPE_BYTES[dtype]
        assumed.say(
            view,
            f"vector.{spelt(dtype)}",
            lambda dtype=dtype: (
                f"vector unit at {rates[dtype]:g} {spelt(dtype)} element/cycle, as many bytes as "
                f"of {spelt(first)}"
            ),
        )
    return rates


def _no_energy(view: View, process: Technology, dtype: str, why: str = "") -> UserError:
    return UserError(
        f"{view.label}: technology {process.name} gives no multiply_add energy for "
        f"{spelt(dtype)}{why}",
        view.block.location,
    )


def _sram(view: View, assumed: Assumptions) -> ir.Sram:
    values = block(view, "sram")
    reserved = values["reserved"]
    if reserved is None:
        assumed.say(view, "sram.reserved", lambda: "no SRAM reserved")
        reserved = 0.0
    else:
        view.scope.binding.require(
            reserved < values["capacity"],
            lambda: f"{view.label}: the SRAM's reserved bytes leave nothing of its capacity",
            inner(view, "sram")[0].fields["reserved"].location,
        )
    return ir.Sram(values["capacity"], reserved, values["read"], values["write"])


def _multiprocessors(view: View) -> ir.Multiprocessors | None:
    if not inner(view, "multiprocessors"):
        return None
    values = block(view, "multiprocessors")
    return ir.Multiprocessors(values["count"], values["load"], values["sustained"])


def _router(view: View, network: View | None, clock_hz: Any, assumed: Assumptions) -> ir.Router:
    inside = inner(view, "router")
    if network is not None and inside:
        raise UserError(
            f"{view.label}: the router is given twice, as a network and as a block",
            inside[0].block.location,
        )
    if network is not None:
        values = read(network, PARTS["network"], clock_hz)
    elif inside:
        values = read(inside[0], PARTS["core"].blocks["router"], clock_hz)
    else:
        assumed.say(view, "router", lambda: "no network between cores")
        return NO_NETWORK
    return ir.Router(
        kind=values["kind"],
        width_bytes=values["width"],
        hop_cycles=values["hop"],
        ramp_cycles=values["ramp"],
        multicast=values["multicast"] == "yes",
        virtual_channels=values["virtual_channels"],
        buffer_flits=values["buffer"],
    )


def spelt(dtype: str) -> str:
    """A dtype as a spec spells it."""
    return next(name for name, torch_name in DTYPES.items() if torch_name == dtype)
