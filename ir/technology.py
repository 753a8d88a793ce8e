"""What the hardware tree is made of: processes, memories, links and switches, in SI floats.

The tree itself is hardware.py. Every figure may be an array, one entry a design point, where a
batch of points of one space is bound at once; then so is all that physics computes from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

MemoryKind = Literal["stacked", "beside", "external"]
YieldModel = Literal["murphy", "negative_binomial"]


@dataclass(frozen=True)
class Densities:
    """Areas of a process, and what they leak; None where the technology gives none.

    A dtype is spelt as torch spells it (`float16`).
    """

    multiply_add_m2: Mapping[str, float] = field(default_factory=dict[str, float])
    """One fused multiply-add a cycle (two FLOPs), by dtype."""
    sram_cell_m2_per_byte: float | None = None
    sram_efficiency: float = 1.0
    """Share of a macro that is cells; the rest is its periphery."""
    sram_port_m2_per_byte: float = 0.0
    """Of a byte a cycle of read or write ports, beside the cells."""
    router_m2_per_byte: float | None = None
    """Of a byte a cycle of a link: crossbar, and one register a port."""
    router_buffer_m2_per_byte: float = 0.0
    """Of a byte a cycle of a link and a flit of buffers beyond one channel, all ports together."""
    router_base_m2: float = 0.0
    """Of a router's control, times its virtual channels to the power of 1.5."""
    tsv_bytes_per_s_per_m2: float | None = None
    """What stacked memory moves through an area of vias, keep-out included; None: takes none."""
    sram_leakage_w_per_m2: float | None = None
    """Of SRAM; None: as of logic."""


@dataclass(frozen=True)
class Defects:
    """How many defects a process leaves, and how their effect on yield is taken."""

    per_m2: float
    model: YieldModel = "murphy"
    clustering: float = 10.0
    """Of the negative binomial; without bound it is Poisson's."""


@dataclass(frozen=True)
class Technology:
    """Energies and densities of a process; a dtype is spelt as torch spells it (`float16`)."""

    name: str
    multiply_add_energy_j: Mapping[str, float]
    """One fused multiply-add (two FLOPs), by dtype."""
    sram_read_energy_j_per_byte: float
    sram_write_energy_j_per_byte: float
    router_energy_j_per_byte: float
    """Through one router: buffers, crossbar, control; the wire is apart."""
    wire_energy_j_per_byte_m: float
    """Joule for a byte over a metre."""
    leakage_w_per_m2: float
    """Of logic."""
    densities: Densities = field(default_factory=Densities)
    defects: Defects | None = None
    wafer_cost_usd: float | None = None
    """Of a processed wafer of 300 mm."""


@dataclass(frozen=True)
class Memory:
    """Memory apart from the cores' SRAM: `stacked` on a die, `beside` it, or `external`, behind the
    ports of an edge of the wafer (`via`)."""

    name: str
    kind: MemoryKind
    capacity_bytes: float
    """Of all `count` together, as are bandwidth, edge, areas, power and cost."""
    bandwidth_bytes_per_s: float | None = None
    """None: whatever the ports that it is behind carry."""
    energy_j_per_byte: float = 0.0
    latency_s: float = 0.0
    sustained: float = 1.0
    """Share of the bandwidth that programs reach."""
    via: str | None = None
    count: int = 1
    edge_m: float = 0.0
    """Of the die's outline that its interface takes."""
    phy_area_m2: float = 0.0
    """Of its interface on the die."""
    power_w: float = 0.0
    """Drawn whatever it does, refresh for instance."""
    cost_usd: float = 0.0


@dataclass(frozen=True)
class Link:
    """What joins two neighbouring dies, a die and a switch, or two wafers."""

    name: str
    share: float | None
    """Bandwidth across the joint over the bandwidth of the cores' own links; None where
    `bandwidth_bytes_per_s` says it."""
    latency_s: float
    """Of one crossing, in place of a hop inside the die."""
    energy_j_per_byte: float
    bandwidth_bytes_per_s: float | None = None
    """In one direction, of a die's whole edge; of a die or wafer, where it leads to a switch or to
    another wafer."""
    sustained: float = 1.0
    """Share of the bandwidth that collectives reach, where dies or nodes meet in a switch."""
    gap_m: float = 0.0
    """Between the two dies."""
    edge_bytes_per_s_per_m: float | None = None
    """What fits along a die's edge, both directions together; None: any bandwidth."""
    phy_depth_m: float = 0.0
    """How deep its interface reaches into the die, along the edge that it takes."""
    known_good: bool = False
    """Whether dies are tested before they are joined."""
    bonding_yield: float = 1.0
    """Of one die's bonding."""
    cost_usd: float = 0.0
    """Of joining one die or wafer."""


@dataclass(frozen=True)
class Switch:
    """What dies of a node, or wafers of a system, meet in, where they are not a mesh."""

    name: str
    ports: int
    bandwidth_bytes_per_s: float
    """Of a port, in one direction."""
    latency_s: float
    energy_j_per_byte: float = 0.0
    power_w: float = 0.0
    count: int = 1
    """Of switches side by side, each die on every one."""
    cost_usd: float = 0.0
