"""Joules of an operator on a whole mesh, by component; watts of a core with every unit busy.

Every figure is a count times an energy of the spec's technology. Leakage runs all the time on the
whole wafer and is added where the time is known (evaluate.py).
"""

from ..ir.hardware import Core, Hardware
from .core import compute_dtype
from .cost import OpCost

COMPONENTS: tuple[str, ...] = (
    "matrix",
    "vector",
    "sram",
    "control",
    "router",
    "wire",
    "die_to_die",
    "leakage",
)


def hop_energy_j_per_word(hardware: Hardware) -> dict[str, float]:
    """Energy of a word over one hop: through a router, along a core's pitch, and the share of a
    die boundary that an average hop crosses."""
    core, die = hardware.core, hardware.wafer.die
    word = core.router.width_bytes
    pitch_m = (core.width_m + core.height_m) / 2
    crossings = (1 / die.columns + 1 / die.rows) / 2
    return {
        "router": word * core.technology.router_energy_j_per_byte,
        "wire": word * pitch_m * core.technology.wire_energy_j_per_byte_m,
        "die_to_die": word * crossings * hardware.wafer.link.energy_j_per_byte,
    }


def op_energy_j(hardware: Hardware, cost: OpCost, devices: int) -> dict[str, float]:
    """Joules of one run of an operator on all devices of a mesh, by component."""
    core, work = hardware.core, cost.work
    technology = core.technology
    multiply_add = technology.multiply_add_energy_j[compute_dtype(core, cost.op.type.dtype)]
    sram = (
        float(work.sram_read_bytes) * technology.sram_read_energy_j_per_byte
        + float(work.sram_write_bytes) * technology.sram_write_energy_j_per_byte
    )
    per_core = {
        "matrix": float(work.multiply_adds) * multiply_add,
        "vector": float(work.vector_operations) * multiply_add,
        "sram": sram,
        "control": float(cost.core_cycles) * core.control_energy_j_per_cycle,
    }
    energy = {name: joules * devices for name, joules in per_core.items()}
    hops = hop_energy_j_per_word(hardware)
    return energy | {name: float(cost.word_hops) * joules for name, joules in hops.items()}


def leakage_w(hardware: Hardware) -> float:
    """Static power of all cores of the system."""
    core = hardware.core
    return hardware.cores * core.area_m2 * core.technology.leakage_w_per_m2


def nameplate_w(core: Core) -> float:
    """Every unit of a core busy in every cycle: the multiply-add unit in its most hungry dtype,
    all SRAM ports, a word through the router and over the core's pitch, control, leakage.

    The load at which published powers are compared.
    """
    technology = core.technology
    matrix = max(
        flops / 2 * technology.multiply_add_energy_j[dtype]
        for dtype, flops in core.matrix_flops_per_cycle.items()
        if dtype in technology.multiply_add_energy_j
    )
    sram = (
        core.sram.read_bytes_per_cycle * technology.sram_read_energy_j_per_byte
        + core.sram.write_bytes_per_cycle * technology.sram_write_energy_j_per_byte
    )
    pitch_m = (core.width_m + core.height_m) / 2
    network = core.router.width_bytes * (
        technology.router_energy_j_per_byte + pitch_m * technology.wire_energy_j_per_byte_m
    )
    cycle_j = matrix + sram + network + core.control_energy_j_per_cycle
    return cycle_j * core.clock_hz + core.area_m2 * technology.leakage_w_per_m2


def power_w(part: object) -> float:
    """Nameplate power of a core, die, wafer or system, for `power(...)` in constraints."""
    from ..ir.hardware import Die, Wafer

    match part:
        case Core():
            return nameplate_w(part)
        case Die():
            return nameplate_w(part.core) * part.rows * part.columns
        case Wafer():
            return nameplate_w(part.die.core) * part.cores_in_use
        case Hardware():
            return nameplate_w(part.core) * part.cores
        case _:
            raise TypeError(f"no power of {type(part).__name__}")
