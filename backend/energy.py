"""Joules of an operator on a whole mesh, by component.

Every figure is a count times an energy of the spec's technology. What the whole system draws
whatever it does, and what its regulators lose, is in physics/power.py and is added where the time
is known (evaluate.py).
"""

from ..ir.hardware import Hardware
from .core import compute_dtype
from .cost import OpCost


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
        "memory": float(work.memory_bytes) * _memory_energy_j_per_byte(hardware),
    }
    energy = {name: joules * devices for name, joules in per_core.items()}
    hops = hop_energy_j_per_word(hardware)
    moved = {name: float(cost.word_hops) * joules for name, joules in hops.items()}
    moved["die_to_die"] += float(cost.link_energy_j)
    return energy | moved


def _memory_energy_j_per_byte(hardware: Hardware) -> float:
    """Of the memories of a die, each taking a share of the bytes that its bandwidth is of all."""
    memories = hardware.wafer.die.memories
    total = sum(memory.bandwidth_bytes_per_s or 0.0 for memory in memories)
    joules = (m.energy_j_per_byte * (m.bandwidth_bytes_per_s or 0.0) for m in memories)
    return sum(joules) / total if total else 0.0
