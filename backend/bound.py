"""The lower bound on a graph's time: the busiest resource, or the longest chain at zero load.

Never their sum. Resources are the core, the links of a row, the links of a column, the ramp and the
host. Figures may be arrays over many meshes (extents.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.mapped import MappedGraph
from .cost import OpCost
from .extents import Number

RESOURCES = ("core", "columns", "rows", "ramp", "host")
"""A core; links along a row (between columns); links along a column; core to router; what launches
kernels from outside."""


@dataclass(frozen=True)
class GraphBound:
    """Cycles of one run of a graph at least: `path` of dependencies and `busy` of resources."""

    path: Number
    busy: Mapping[str, Number]

    @property
    def cycles(self) -> Number:
        most = np.asarray(self.path)
        for busy in self.busy.values():
            most = np.maximum(most, busy)
        return most


def busy_cycles(costs: Sequence[OpCost]) -> dict[str, Number]:
    """Cycles that each resource works for the operators, however they are ordered."""
    return {
        "core": sum((cost.core_cycles for cost in costs), start=0.0),
        "columns": sum((cost.columns_words for cost in costs), start=0.0),
        "rows": sum((cost.rows_words for cost in costs), start=0.0),
        "ramp": sum((cost.ramp_words for cost in costs), start=0.0),
        "host": sum((cost.host_cycles for cost in costs), start=0.0),
    }


def graph_bound(mapped: MappedGraph, costs: Sequence[OpCost]) -> GraphBound:
    """The bound of one graph from the costs of its operators, in the graph's order."""
    finish: dict[str, Number] = {value.name: 0.0 for value in mapped.graph.inputs}
    for cost in costs:
        start: Number = 0.0
        for name in cost.op.operands:
            start = np.maximum(start, finish[name])
        finish |= dict.fromkeys(cost.op.results, start + cost.cycles)
    path: Number = 0.0
    for end in finish.values():
        path = np.maximum(path, end)
    return GraphBound(path, busy_cycles(costs))
