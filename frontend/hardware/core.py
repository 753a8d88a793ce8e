"""The small parts of a spec in one binding: technology, software, link, and the core.

What a part holds is in fields.py; dies, wafers and the system are in build.py.
"""

from typing import Any

from ...ir import hardware as ir
from ...ir.errors import UserError
from ...ir.graph import DTYPE_BYTES
from .assumed import Assumptions
from .evaluate import View
from .fields import DTYPES, PARTS
from .read import inner, read, read_field

NO_SOFTWARE = ir.Software("none", issue_cycles=0.0, launch_cycles=0.0)
"""Of a core without `software`: what the hardware alone would do."""

FUNCTION_CYCLES = 12.0
"""Of a core without `function`: range reduction 3, polynomial 5, scaling 2, load and store."""


def technology(view: View) -> ir.Technology:
    """The energies and the leakage of a process; raises UserError, as all of these do."""
    values, sram = read(view, PARTS["technology"]), _block(view, "sram")
    return ir.Technology(
        name=view.path[0],
        multiply_add_energy_j=_by_dtype(view, "multiply_add"),
        sram_read_energy_j_per_byte=sram["read"],
        sram_write_energy_j_per_byte=sram["write"],
        router_energy_j_per_byte=values["router"],
        wire_energy_j_per_byte_m=values["wire"],
        leakage_w_per_m2=values["leakage"],
    )


def software(view: View) -> ir.Software:
    """The overheads of a software stack."""
    values = read(view, PARTS["software"])
    return ir.Software(view.path[0], values["issue"], values["launch"])


def link(view: View, clock_hz: float) -> ir.Link:
    """What joins dies; `clock_hz` turns a latency in cycles into seconds."""
    values = read(view, PARTS["link"], clock_hz)
    return ir.Link(view.path[0], values["share"], values["latency"], values["energy"])


def gap_m(view: View) -> float:
    """The distance that a link leaves between two dies."""
    return read_field(view, "gap", PARTS["link"].fields["gap"])


def declared_size(view: View) -> tuple[float, float] | None:
    """Height and width of a core, die or wafer in metres, where its block says them."""
    return read_field(view, "size", PARTS[view.block.kind].fields["size"])


def core(view: View, share: tuple[float, float], assumed: Assumptions) -> ir.Core:
    """The core; `share` is the height and width in metres that it has without a `size`."""
    clock_hz = read_field(view, "clock", PARTS["core"].fields["clock"])
    values = read(view, PARTS["core"], clock_hz)
    process = technology(values["technology"])
    matrix = _by_dtype(view, "matrix")
    vector = _vector(view, matrix, process, assumed)
    if values["size"] is None:
        assumed.say(view, "size", f"{dimensions(share)}, an equal share of its die")
    if values["software"] is None:
        assumed.say(view, "software", "no overhead of software")
    if values["function"] is None:
        assumed.say(view, "function", f"{FUNCTION_CYCLES:g} steps a scalar function")
    if values["control"] is None:
        assumed.say(view, "control", "no energy of clock and control")
    height_m, width_m = values["size"] or share
    return ir.Core(
        name=view.path[0],
        clock_hz=clock_hz,
        height_m=height_m,
        width_m=width_m,
        technology=process,
        matrix_flops_per_cycle=matrix,
        vector_elements_per_cycle=vector,
        function_cycles=FUNCTION_CYCLES if values["function"] is None else values["function"],
        sram=_sram(view, assumed),
        router=_router(view, clock_hz),
        software=software(values["software"]) if values["software"] else NO_SOFTWARE,
        control_energy_j_per_cycle=values["control"] or 0.0,
    )


def _vector(
    view: View, matrix: dict[str, float], process: ir.Technology, assumed: Assumptions
) -> dict[str, float]:
    """The vector unit by dtype: as given, else an element for every multiply-add.

    Every dtype of the multiply-add unit, and float32 for norms and softmax, has a rate: where
    none is given, as many bytes a cycle as the first dtype that has one. Raises UserError for a
    dtype of either unit without a multiply-add energy.
    """
    if inner(view, "vector"):
        rates = _by_dtype(view, "vector")
    else:
        rates = {dtype: flops / 2 for dtype, flops in matrix.items()}
        assumed.say(view, "vector", "vector unit as wide as the multiply-add unit")
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
        text = f"vector unit at {rates[dtype]:g} {spelt(dtype)} element/cycle, as many bytes as of "
        assumed.say(view, f"vector.{spelt(dtype)}", text + spelt(first))
    return rates


def _no_energy(view: View, process: ir.Technology, dtype: str, why: str = "") -> UserError:
    return UserError(
        f"{view.label}: technology {process.name} gives no multiply_add energy for "
        f"{spelt(dtype)}{why}",
        view.block.location,
    )


def _sram(view: View, assumed: Assumptions) -> ir.Sram:
    values = _block(view, "sram")
    if values["reserved"] is None:
        assumed.say(view, "sram.reserved", "no SRAM reserved")
    reserved = values["reserved"] or 0.0
    if reserved >= values["capacity"]:
        raise UserError(
            f"{view.label}: the SRAM's reserved bytes leave nothing of its capacity",
            inner(view, "sram")[0].fields["reserved"].location,
        )
    return ir.Sram(values["capacity"], reserved, values["read"], values["write"])


def _router(view: View, clock_hz: float) -> ir.Router:
    values = _block(view, "router", clock_hz)
    return ir.Router(
        kind=values["kind"],
        width_bytes=values["width"],
        hop_cycles=values["hop"],
        ramp_cycles=values["ramp"],
        multicast=values["multicast"] == "yes",
    )


def _block(view: View, kind: str, clock_hz: float | None = None) -> dict[str, Any]:
    return read(inner(view, kind)[0], PARTS[view.block.kind].blocks[kind], clock_hz)


def _by_dtype(view: View, kind: str) -> dict[str, float]:
    """A block with a figure by dtype, by torch's names; at least one must be given."""
    values = _block(view, kind)
    found = {DTYPES[name]: value for name, value in values.items() if value is not None}
    if not found:
        block = inner(view, kind)[0]
        raise UserError(
            f"{block.label}: expected a figure for at least one of {', '.join(DTYPES)}",
            block.block.location,
        )
    return found


def spelt(dtype: str) -> str:
    """A dtype as a spec spells it."""
    return next(name for name, torch_name in DTYPES.items() if torch_name == dtype)


def dimensions(size: tuple[float, float]) -> str:
    """Height and width in metres, for a person."""
    if max(size) < 1e-3:
        return f"{size[0] * 1e6:.4g} um x {size[1] * 1e6:.4g} um"
    return f"{size[0] * 1e3:.4g} mm x {size[1] * 1e3:.4g} mm"
