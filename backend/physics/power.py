"""Static power, and power with everything busy at once, by component.

The second is the nameplate: every multiply-add unit in its most hungry dtype, all ports of the
SRAM, a word a cycle through every router and over a core's pitch, all links between dies in both
directions, all memories and ports. It is the load at which published powers are compared. Power of
a program is in evaluate.py. Watts; figures are floats, or arrays with one entry a design point.
"""

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any, TypeAlias

import numpy as np

from ...ir.errors import UserError
from ...ir.hardware import Core, Die, Hardware, Wafer
from ...ir.technology import Memory
from .area import core_areas, edge_bandwidths
from .capacity import core_counts
from .stacked import die_interface_area_m2

Figure: TypeAlias = Any
"""A float, or an array of them."""
Part: TypeAlias = Core | Die | Wafer | Hardware
Watts: TypeAlias = dict[str, Figure]

COMPONENTS: tuple[str, ...] = (
    "matrix",
    "vector",
    "sram",
    "control",
    "router",
    "wire",
    "die_to_die",
    "memory",
    "io",
    "leakage",
    "stated",
    "regulator_loss",
)
"""`io` is ports and links off the wafer; `stated` what the spec says of dies, wafers, switches."""


def power(part: Part) -> Figure:
    """Nameplate power of a core, die, wafer or system, for `power(...)` in constraints."""
    return sum(nameplate(part).values())


def power_density(part: Part) -> Figure:
    """Nameplate power over the part's outline, in W/m2; of a system, over all its wafers."""
    area = part.wafers * part.wafer.area_m2 if isinstance(part, Hardware) else part.area_m2
    return power(part) / area


def nameplate(part: Part) -> Watts:
    """Nameplate power by component, all of COMPONENTS. Raises UserError where a technology gives no
    energy of what a core's matrix unit computes."""
    match part:
        case Core():
            return _core(part)
        case Die():
            return _die(part)
        case Wafer():
            return _wafer(part)
        case Hardware():
            return _system(part)


# Static power.


def static_power(part: Part) -> Figure:
    """What leaks, whatever the part does: its cores in use, and the logic beside them."""
    match part:
        case Core():
            return core_leakage_w(part)
        case Die():
            cores = sum(count * core_leakage_w(core) for core, count in part.kinds)
            return cores + _beside_cores_w(part)
        case Wafer():
            cores = sum(count * core_leakage_w(core) for core, count in core_counts(part))
            return cores + sum(count * _beside_cores_w(die) for die, count in powered_dies(part))
        case Hardware():
            return part.wafers * static_power(part.wafer)


def core_leakage_w(core: Core) -> Figure:
    """A core's area times its technology's leakage; SRAM at its own where the technology has one.

    With two leakages, area that no component accounts for leaks as the lesser of them, so that more
    SRAM in a core of stated size never means less leakage.
    """
    technology = core.technology
    logic = technology.leakage_w_per_m2
    sram = technology.densities.sram_leakage_w_per_m2
    if sram is None:
        return core.area_m2 * logic
    areas = {name: area.m2 for name, area in core_areas(core).items()}
    of_sram = areas.pop("sram", 0.0)
    of_logic = sum(areas.values())
    rest = np.maximum(core.area_m2 - of_sram - of_logic, 0.0)
    return of_sram * sram + of_logic * logic + rest * np.minimum(sram, logic)


def _beside_cores_w(die: Die) -> Figure:
    """Of a die's declared logic and interfaces of memories."""
    area = die.declared_logic_m2 + die_interface_area_m2(die)
    return area * die.core.technology.leakage_w_per_m2


def powered_dies(wafer: Wafer) -> tuple[tuple[Die, Figure], ...]:
    """Every kind of die and how many are on; spare and dead ones spread evenly over the kinds."""
    dies = wafer.rows * wafer.columns
    on = 1.0 - np.maximum(wafer.spare_dies, len(wafer.dead_dies)) / dies
    return tuple((die, count * on) for die, count in wafer.kinds)


def standby(hardware: Hardware) -> Watts:
    """What a system draws whatever it does: leakage, the stated power of its memories, and what the
    regulators lose in supplying what stands on the wafers."""
    wafer = hardware.wafer
    leakage = static_power(wafer)
    on_dies = sum(count * _kept_w(die.memories) for die, count in powered_dies(wafer))
    watts = _all(
        leakage=leakage,
        memory=on_dies + _kept_w(wafer.memories),
        regulator_loss=(leakage + on_dies) * regulator_loss(wafer),
    )
    return _total([(hardware.wafers, watts)])


def regulator_loss(wafer: Wafer) -> Figure:
    """Watts lost in the regulators over watts that come out of them."""
    return 1.0 / wafer.regulator_efficiency - 1.0


def _kept_w(memories: tuple[Memory, ...]) -> Figure:
    return sum(memory.power_w for memory in memories)


# Nameplate.


def _core(core: Core) -> Watts:
    technology, router, clock = core.technology, core.router, core.clock_hz
    matrix_j, vector_j = _arithmetic_j(core)
    sram_j = (
        core.sram.read_bytes_per_cycle * technology.sram_read_energy_j_per_byte
        + core.sram.write_bytes_per_cycle * technology.sram_write_energy_j_per_byte
    )
    pitch_m = (core.width_m + core.height_m) / 2
    return _all(
        matrix=matrix_j * clock,
        vector=vector_j * clock,
        sram=sram_j * clock,
        control=core.control_energy_j_per_cycle * clock,
        router=router.width_bytes * technology.router_energy_j_per_byte * clock,
        wire=router.width_bytes * technology.wire_energy_j_per_byte_m * pitch_m * clock,
        leakage=core_leakage_w(core),
    )


def _arithmetic_j(core: Core) -> tuple[Figure, Figure]:
    """Joules a cycle of the matrix unit, and of the vector unit beyond it.

    They are one unit, the lanes of the multiply-adds, unless the core states the area of its
    `vector` (as in area.py).
    """
    matrix = _hungriest_j(core, {k: flops / 2 for k, flops in core.matrix_flops_per_cycle.items()})
    if not core.vector_elements_per_cycle:
        return matrix, 0.0
    vector = _hungriest_j(core, core.vector_elements_per_cycle)
    shared = 0.0 if "vector" in core.declared_area_m2 else matrix
    return matrix, np.maximum(vector - shared, 0.0)


def _hungriest_j(core: Core, rates: Mapping[str, Figure]) -> Figure:
    """Of one cycle, in the dtype that takes most; `rates` are multiply-adds a cycle."""
    energies = core.technology.multiply_add_energy_j
    known = [rate * energies[dtype] for dtype, rate in rates.items() if dtype in energies]
    if not known:
        raise UserError(
            f"technology {core.technology.name} gives no energy of a multiply_add in any dtype of "
            f"core {core.name}: {', '.join(rates)}"
        )
    return reduce(np.maximum, known)


def _die(die: Die) -> Watts:
    cores = _total((count, _core(core)) for core, count in die.kinds)
    return _sum(cores, _beside_cores(die))


def _beside_cores(die: Die) -> Watts:
    return _all(
        memory=sum(_memory_w(memory, memory.bandwidth_bytes_per_s) for memory in die.memories),
        leakage=_beside_cores_w(die),
        stated=die.power_w,
    )


def _wafer(wafer: Wafer) -> Watts:
    regulated = _sum(
        _total((count, _core(core)) for core, count in core_counts(wafer)),
        _total((count, _beside_cores(die)) for die, count in powered_dies(wafer)),
        _all(
            die_to_die=joints_bytes_per_s(wafer) * wafer.link.energy_j_per_byte,
            io=sum(io.ports * io.bandwidth_bytes_per_s * io.energy_j_per_byte for io in wafer.io),
            stated=wafer.power_w,
        ),
    )
    loss = sum(regulated.values()) * regulator_loss(wafer)
    return _sum(regulated, _all(regulator_loss=loss), _beside_regulators(wafer))


def _beside_regulators(wafer: Wafer) -> Watts:
    """External memory, and the switch that a node's dies meet in."""
    memory = sum(_memory_w(memory, _behind_ports(wafer, memory)) for memory in wafer.memories)
    switch = wafer.switch
    if switch is None:
        return _all(memory=memory)
    moved = joints_bytes_per_s(wafer) / 2
    return _all(
        memory=memory,
        die_to_die=moved * switch.energy_j_per_byte,
        stated=switch.count * switch.power_w,
    )


def joints_bytes_per_s(wafer: Wafer) -> Figure:
    """Bytes/s over all joints of dies in both directions; where they meet in a switch, over the
    link of every die, or a port of every switch where that is less."""
    along, across = edge_bandwidths(wafer.die, wafer.link)
    if wafer.switch is not None:
        ports = wafer.switch.count * wafer.switch.bandwidth_bytes_per_s
        return 2 * wafer.rows * wafer.columns * np.minimum(along, ports)
    stacked, abreast = (wafer.rows - 1) * wafer.columns, wafer.rows * (wafer.columns - 1)
    return 2 * (stacked * along + abreast * across)


def _system(hardware: Hardware) -> Watts:
    wafers = _total([(hardware.wafers, _wafer(hardware.wafer))])
    link, switch = hardware.link, hardware.switch
    if link is None:
        return wafers
    assert link.bandwidth_bytes_per_s is not None, "a share of no core's link"
    moved = 2 * _links_of_wafers(hardware) * link.bandwidth_bytes_per_s
    between = _all(io=moved * link.energy_j_per_byte)
    if switch is not None:
        through = _all(
            io=moved / 2 * switch.energy_j_per_byte, stated=switch.count * switch.power_w
        )
        between = _sum(between, through)
    return _sum(wafers, between)


def _links_of_wafers(hardware: Hardware) -> Figure:
    """One a wafer to a switch, or in a ring; two wafers need but one, and one needs none."""
    wafers = hardware.wafers
    return wafers if hardware.switch is not None else np.where(wafers > 2, wafers, wafers - 1)[()]


def _memory_w(memory: Memory, bandwidth: Figure | None) -> Figure:
    moved = 0.0 if bandwidth is None else bandwidth
    return moved * memory.energy_j_per_byte + memory.power_w


def _behind_ports(wafer: Wafer, memory: Memory) -> Figure:
    """What the ports in front of an external memory let through."""
    ports = [io.ports * io.bandwidth_bytes_per_s for io in wafer.io if io.edge == memory.via]
    if not ports:
        return memory.bandwidth_bytes_per_s
    if memory.bandwidth_bytes_per_s is None:
        return sum(ports)
    return np.minimum(sum(ports), memory.bandwidth_bytes_per_s)


# Components.


def _all(**watts: Figure) -> Watts:
    return {name: watts.get(name, 0.0) for name in COMPONENTS}


def _sum(*parts: Watts) -> Watts:
    return {name: sum(part[name] for part in parts) for name in COMPONENTS}


def _total(parts: Iterable[tuple[Figure, Watts]]) -> Watts:
    return _sum(*({name: count * w for name, w in watts.items()} for count, watts in parts))
