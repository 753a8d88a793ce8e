"""What a task asks of any hardware of a kind: its demand in every layout, and least energies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend.design_bound import energy_j
from ..backend.design_demand import Demand, demand_of
from ..ir.hardware import Hardware
from ..ir.mapped import MappedGraph
from ..passes.choose import Way
from ..passes.units import way_of
from .workloads import Task


@dataclass(frozen=True)
class Asked:
    """The FLOPs of a step, and what each layout asks for."""

    flops: int
    demands: Sequence[Demand]

    def least_energy_j(self, hardware: Hardware, latency: Any) -> Any:
        """Joules of a step at least, of one that takes no less than `latency` seconds."""
        return np.min([energy_j(demand, hardware, latency) for demand in self.demands], axis=0)


def asked_of(reference: Hardware, ways: Sequence[Way], task: Task) -> Asked:
    """What the ways of a task ask of hardware of the reference's kind."""
    return Asked(ways[0].flops, [_demand(reference, way, task) for way in ways])


def _demand(reference: Hardware, way: Way, task: Task) -> Demand:
    """What a way asks for: each call of its graphs, the optimizer's apart."""
    sizes = {"batch": 1} if way.symbolic else {"batch": task.batch}
    graphs = {
        name: MappedGraph(mapped.graph.bind(sizes), mapped.shardings)
        for name, mapped in way.graphs.items()
    }
    shared = [way.chain.shared] if way.chain.shared is not None else []
    calls = [(call.text("body"), call.integer("count")) for call in (*shared, *way.chain.calls)]
    updates = {name for name, mapped in graphs.items() if way_of(mapped.graph) == "update"}
    return demand_of(
        reference,
        graphs,
        [call for call in calls if call[0] not in updates],
        [call for call in calls if call[0] in updates],
        task.batch if way.symbolic else 1,
    )
