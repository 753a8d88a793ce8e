"""What one operator costs on the busiest core and link; how that is found is in cost.py."""

from dataclasses import dataclass, fields, replace

import numpy as np

from ..ir.graph import Op
from .core import CoreWork
from .extents import Number
from .kernels import times


@dataclass(frozen=True)
class OpCost:
    """One operator on the busiest core and link.

    `core_cycles` keep the core busy (arithmetic and `launch_cycles` of software); `network_cycles`
    follow the launches and leave the core free; `cycles` is the whole at zero load. Words are of
    the router's width through the busiest east-west link, north-south link and ramp (its busier
    direction).
    """

    op: Op
    core_cycles: Number
    launch_cycles: Number
    network_cycles: Number
    cycles: Number
    work: CoreWork
    columns_words: Number = 0.0
    rows_words: Number = 0.0
    ramp_words: Number = 0.0
    word_hops: Number = 0.0
    """Words times hops over the whole mesh."""
    link_energy_j: Number = 0.0
    """Of what the whole mesh sends through switches."""
    host_cycles: Number = 0.0
    """That a host works to launch it, while the core may be at work on what came before."""

    @property
    def stepped(self) -> bool:
        """Whether its messages are under way while the core works on what came before."""
        return self.op.kind == "grid_matmul"

    def times(self, count: Number) -> "OpCost":
        """The operator run several times."""
        figures = {
            field.name: getattr(self, field.name) * np.asarray(count)
            for field in fields(self)
            if field.name not in ("op", "work")
        }
        return replace(self, work=times(self.work, count), **figures)
