"""Where rectangles of cores may lie: the islands of a system.

An island is a wafer. Where the dies of a node meet in a switch, and the nodes in another one, there
is one island: a single row of all dies, node by node, each a core.
"""

from dataclasses import dataclass

from .hardware import Hardware


@dataclass(frozen=True)
class Floor:
    """Equal islands, each a grid of cores; `node` cores of a switched one share a first switch."""

    islands: int
    rows: int
    columns: int
    node: int | None = None

    @property
    def switched(self) -> bool:
        """Whether cores meet in switches, so that places in a row mean no distance."""
        return self.node is not None


def floor_of(hardware: Hardware) -> Floor:
    """The islands of a system."""
    wafer = hardware.wafer
    if wafer.switch is None:
        return Floor(hardware.wafers, wafer.usable_rows, wafer.usable_columns)
    dies = wafer.rows * wafer.columns - len(wafer.dead_dies)
    return Floor(1, 1, hardware.wafers * dies, dies)
