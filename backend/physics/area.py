"""Areas of cores, dies and wafers by component, in square metres: densities times what is there.

A component that the spec states is taken as stated. Outlines, and what fits in them, are in
geometry.py; vias and interfaces of memory in stacked.py. Figures are floats, or arrays of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np

from ...ir.hardware import Core, Die, Hardware, Router, Sram, Wafer
from ...ir.technology import Densities, Link
from .stacked import die_interface_area_m2, die_via_area_m2

COMPUTED: tuple[str, ...] = ("matrix", "vector", "sram", "router")
"""Components of a core that densities give; whatever else it has is stated."""

NEEDED: frozenset[str] = frozenset({"matrix", "sram", "router"})
"""Components without which a core's area is not known."""


@dataclass(frozen=True)
class Area:
    m2: float
    stated: bool
    """By the spec; else computed."""


def total_m2(areas: Mapping[str, Area]) -> float:
    """Of all components."""
    return sum(area.m2 for area in areas.values())


def _largest(figures: Iterable[float]) -> float | None:
    """Entry by entry; None of no figures."""
    listed = list(figures)
    return reduce(np.maximum, listed) if listed else None


def _units_m2(units: Mapping[str, float], densities: Densities) -> float | None:
    """Area of multiply-add units, given how many of each dtype work in one cycle.

    One array serves all dtypes, so the dtype that needs most counts. A dtype without a density
    shares the array of those with one; None where no dtype has one.
    """
    known = densities.multiply_add_m2
    return _largest(count * known[dtype] for dtype, count in units.items() if dtype in known)


def matrix_m2(core: Core) -> float | None:
    """The multiply-add array: multiply-adds a cycle, half the FLOPs, times the area of one."""
    multiply_adds = {dtype: flops / 2 for dtype, flops in core.matrix_flops_per_cycle.items()}
    return _units_m2(multiply_adds, core.technology.densities)


def vector_m2(core: Core) -> float | None:
    """What the vector unit needs beyond the array, whose lanes it shares: a multiply-add a result.

    On WSE one unit is both (Rocki et al., SC20: SIMD of 4 fused multiply-adds). A core with two
    units, as Dojo's or a GPU's, states the area of its `vector`.
    """
    densities = core.technology.densities
    array, vector = matrix_m2(core), _units_m2(core.vector_elements_per_cycle, densities)
    if array is None or vector is None:
        return None
    return np.maximum(vector - array, 0.0)


def sram_m2(sram: Sram, densities: Densities) -> float | None:
    """Cells over the share of a macro that is cells, and its ports by the bytes of a cycle.

    A least-squares fit of this form to 38 compiled macros, 32 KB to 2 MB and 128 to 65536 bits a
    cycle, is 2.1% off on average and 15.7% at worst (specs/n16.wsc).
    """
    if densities.sram_cell_m2_per_byte is None:
        return None
    cells = sram.capacity_bytes * densities.sram_cell_m2_per_byte / densities.sram_efficiency
    ports = sram.read_bytes_per_cycle + sram.write_bytes_per_cycle
    return cells + ports * densities.sram_port_m2_per_byte


def router_m2(router: Router, densities: Densities) -> float | None:
    """A router of five ports: `width (a + b (channels - 1) flits) + c channels^1.5`.

    `a` is the crossbar and one register a port, which a single virtual channel needs no buffer
    beyond; `b` the buffers of the other channels; `c` control, between the linear buffers' and
    the quadratic allocators' growth. Fitted by least squares of the relative error to 120
    synthesized routers, 32 to 16384 bits, 1 to 8 channels of 1 to 4 flits, it is 2.2% off on
    average, 3.8% root mean square, 23% at worst: 32 bits, 1 channel, 1 flit (specs/n16.wsc).
    """
    if densities.router_m2_per_byte is None:
        return None
    buffered = (router.virtual_channels - 1) * router.buffer_flits
    return (
        router.width_bytes * densities.router_m2_per_byte
        + router.width_bytes * buffered * densities.router_buffer_m2_per_byte
        + router.virtual_channels**1.5 * densities.router_base_m2
    )


def core_areas(core: Core) -> dict[str, Area]:
    """Of a core by component: stated where the spec states it, else computed where densities give
    it, else absent."""
    densities = core.technology.densities
    computed = {
        "matrix": matrix_m2(core),
        "vector": vector_m2(core),
        "sram": sram_m2(core.sram, densities),
        "router": router_m2(core.router, densities),
    }
    areas = {name: Area(m2, False) for name, m2 in computed.items() if m2 is not None}
    return areas | _stated(core.declared_area_m2)


def core_area_m2(core: Core) -> float | None:
    """What a core's components add up to; None where one is neither stated nor computed."""
    areas = core_areas(core)
    return total_m2(areas) if areas.keys() >= NEEDED else None


def edge_bandwidths(die: Die, link: Link) -> tuple[float, float]:
    """Bytes/s in one direction over a north or south edge of a die, and over an east or west one.

    A share is of what the cores along that edge carry, those of the die's patches as the others.
    """
    if link.share is None:
        assert link.bandwidth_bytes_per_s is not None
        return link.bandwidth_bytes_per_s, link.bandwidth_bytes_per_s
    lane = link.share * die.core.router.width_bytes * die.core.clock_hz
    return die.columns * lane, die.rows * lane


def link_edges_m(die: Die, link: Link) -> tuple[float, float] | None:
    """Lengths that a link's interface takes of a north or south edge, and of an east or west one:
    both directions' bandwidth over its density. None where any bandwidth fits."""
    if link.edge_bytes_per_s_per_m is None:
        return None
    along, across = edge_bandwidths(die, link)
    return 2 * along / link.edge_bytes_per_s_per_m, 2 * across / link.edge_bytes_per_s_per_m


def interface_m2(
    die: Die, link: Link, cores_m: tuple[float, float], switched: bool = False
) -> float:
    """Of a link's interfaces: their depth times the edge they take, on the four edges of a die, or
    once where it leads to a switch.

    Without an edge density they take the whole edge of the cores, of `cores_m` height and width.
    """
    height_m, width_m = cores_m
    along, across = link_edges_m(die, link) or (width_m, height_m)
    taken = along if switched else 2 * (along + across)
    return taken * link.phy_depth_m


def die_areas(
    die: Die, link: Link | None, cores_m: tuple[float, float], switched: bool = False
) -> dict[str, Area]:
    """Of a die by component. Cores are the rectangle `cores_m` that encloses them, spare ones
    too; the rest lies around it."""
    computed = {"cores": cores_m[0] * cores_m[1]}
    if link is not None:
        computed["interfaces"] = interface_m2(die, link, cores_m, switched)
    if die.memories:
        computed["memory_interfaces"] = die_interface_area_m2(die)
        computed["vias"] = die_via_area_m2(die)
    areas = {name: Area(m2, False) for name, m2 in computed.items()}
    return areas | _stated(die.declared_area_m2)


def outline_m2(part: Core | Die | Wafer | Hardware) -> float:
    """Height times width; of a system, of all its wafers."""
    return part.wafers * part.wafer.area_m2 if isinstance(part, Hardware) else part.area_m2


def wafer_areas(wafer: Wafer) -> dict[str, Area]:
    """Of a wafer by component: dies of each kind, by name, and what lies between and around."""
    dies: dict[str, Area] = {}
    for die, count in wafer.kinds:
        before = dies[die.name].m2 if die.name in dies else 0.0
        dies[die.name] = Area(before + count * die.area_m2, False)
    return dies | {"beside_dies": Area(wafer.area_m2 - total_m2(dies), False)}


def _stated(areas: Mapping[str, float]) -> dict[str, Area]:
    return {name: Area(m2, True) for name, m2 in areas.items()}
