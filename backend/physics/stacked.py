"""Memory on a die and beside it: the vias, interfaces and footprint that it takes of the die.

What it draws and costs is in power.py and cost.py; where its interfaces lie, in geometry.py.
"""

from ...ir.hardware import Die
from ...ir.technology import Memory, Technology

STACK_BYTES_PER_M2 = 36e9 / 121e-6
"""Of stacked DRAM's footprint: HBM3E of 12 layers, 36 GB on 11 x 11 mm (Micron, 2024)."""


def via_area_m2(memory: Memory, technology: Technology) -> float:
    """Of the die below a stacked memory: bandwidth over what a square metre of vias moves.

    That density counts the keep-out around the vias. Zero for memory of another kind, or whose
    bandwidth or technology says nothing of vias.
    """
    density = technology.densities.tsv_bytes_per_s_per_m2
    if memory.kind != "stacked" or memory.bandwidth_bytes_per_s is None or density is None:
        return 0.0
    return memory.bandwidth_bytes_per_s / density


def footprint_m2(memory: Memory) -> float:
    """Of the die that a stacked memory covers: capacity over STACK_BYTES_PER_M2; zero of others."""
    return memory.capacity_bytes / STACK_BYTES_PER_M2 if memory.kind == "stacked" else 0.0


def die_via_area_m2(die: Die) -> float:
    """Vias of all memories stacked on a die."""
    return sum(via_area_m2(memory, die.core.technology) for memory in die.memories)


def die_interface_area_m2(die: Die) -> float:
    """Interfaces of all memories of a die, as the spec states them."""
    return sum(memory.phy_area_m2 for memory in die.memories)


def die_interface_edge_m(die: Die) -> float:
    """Length of the die's outline that the interfaces of all its memories take."""
    return sum(memory.edge_m for memory in die.memories)


def die_footprint_m2(die: Die) -> float:
    """Of the die that its stacked memories cover, side by side."""
    return sum(footprint_m2(memory) for memory in die.memories)
