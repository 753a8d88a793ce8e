"""The chain of pieces is cut into stages, so that no stage is longer than it must be."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..backend.workload import PieceCosts
from ..ir.graph import Op
from ..ir.program import CoreMemory, Stage
from .pieces import SHARED, Chain


@dataclass(frozen=True)
class Cut:
    """Cut a chain into `stages` contiguous parts: least excess of memory in any, then the least
    time of the longest."""

    pieces: Mapping[str, PieceCosts]
    usable_bytes: float
    stages: int
    microbatches: int = 1
    """Each has caches of its own, which stay in the core."""
    name: str = "cut"

    def run(self, chain: Chain) -> list[Stage]:
        """The stages in order, each with the memory of its fullest core."""
        items = [single for call in chain.calls for single in _singles(chain, call)]
        ends = self._ends(chain, items)
        starts = [0, *ends[:-1]]
        return [
            self._stage(chain, at, items[first:last])
            for at, (first, last) in enumerate(zip(starts, ends, strict=True))
        ]

    def _ends(self, chain: Chain, items: Sequence[Op]) -> list[int]:
        """Where each stage ends, by dynamic programming over the ends."""
        names = [item.text("body") for item in items]
        time = np.cumsum([0.0, *(float(self.pieces[n].bound.cycles) for n in names)])
        held = np.cumsum([0.0, *(self._held(n) for n in names)])
        excess = [self._excess(chain, names, first, held) for first in range(len(items))]
        best = np.full((self.stages + 1, len(items) + 1), np.inf)
        chosen = np.zeros((self.stages + 1, len(items) + 1), dtype=int)
        best[0, 0] = 0.0
        scale = 1.0 + time[-1]
        for stage in range(1, self.stages + 1):
            for last in range(stage, len(items) + 1):
                firsts = np.arange(stage - 1, last)
                costs = (
                    np.array([scale * excess[f][last] for f in firsts]) + time[last] - time[firsts]
                )
                totals = np.maximum(best[stage - 1, firsts], costs)
                at = int(np.argmin(totals))
                best[stage, last], chosen[stage, last] = totals[at], firsts[at]
        ends = [len(items)]
        for stage in range(self.stages, 1, -1):
            ends.append(int(chosen[stage, ends[-1]]))
        return ends[::-1]

    def _held(self, name: str) -> float:
        return float(self.pieces[name].memory.held(self.microbatches))

    def _excess(
        self, chain: Chain, names: Sequence[str], first: int, held: np.ndarray
    ) -> np.ndarray:
        """Bytes over the core's for stages that start at `first`, by their end."""
        active = [float(self.pieces[name].memory.activations) for name in names[first:]]
        peak = np.concatenate([np.zeros(first + 1), np.maximum.accumulate(active)])
        return np.maximum(0.0, held - held[first] + peak + self._shared(chain) - self.usable_bytes)

    def _shared(self, chain: Chain) -> float:
        return 0.0 if chain.shared is None else self._held(SHARED)

    def _stage(self, chain: Chain, at: int, items: Sequence[Op]) -> Stage:
        names = [item.text("body") for item in items]
        memories = [self.pieces[name].memory for name in names]
        shared = [] if chain.shared is None else [self.pieces[SHARED].memory]
        memory = CoreMemory(
            weights_bytes=int(sum(float(m.weights) for m in (*memories, *shared))),
            cache_bytes=int(self.microbatches * sum(float(m.cache) for m in memories)),
            activation_bytes=int(max(float(m.activations) for m in memories)),
            gradient_bytes=int(sum(float(m.gradients) for m in memories)),
            optimizer_bytes=int(sum(float(m.states) for m in memories)),
            saved_bytes=int(sum(float(m.saved) for m in memories)),
        )
        calls = _joined(items)
        if chain.shared is not None:
            calls = _with_shared(chain.shared, calls, at)
        return Stage(tuple(calls), memory)


def _singles(chain: Chain, call: Op) -> list[Op]:
    """A run of layers as calls of one layer each, values passing from one to the next."""
    count, first = call.integer("count"), call.integer("first")
    if count == 1:
        return [call]
    inputs = chain.graphs[call.text("body")].inputs
    roles = [value.role for value in inputs if value.role in ("carried", "shared")]
    carried = [at for at, role in enumerate(roles) if role == "carried"]
    singles: list[Op] = []
    before = list(call.operands)
    layers = range(first, first + count)
    layers = layers[::-1] if call.attributes.get("reverse") else layers
    for layer in layers:
        last = layer == layers[-1]
        after = call.results if last else tuple(f"{name}.{layer}" for name in call.results)
        singles.append(
            dataclasses.replace(
                call,
                operands=tuple(before),
                results=after,
                attributes={**call.attributes, "first": layer, "count": 1},
            )
        )
        for at, name in zip(carried, after, strict=True):
            before[at] = name
    return singles


def _joined(items: Sequence[Op]) -> list[Op]:
    """Neighbouring calls of one kind of layer as a run again."""
    calls: list[Op] = []
    for item in items:
        last = calls[-1] if calls else None
        body = item.text("body")
        follows = last is not None and last.text("body") == body
        if last is not None and follows and _next_layer(last) == item.integer("first"):
            count = last.integer("count") + 1
            first = min(last.integer("first"), item.integer("first"))
            attributes = {**last.attributes, "first": first, "count": count}
            calls[-1] = dataclasses.replace(last, results=item.results, attributes=attributes)
        else:
            calls.append(item)
    return calls


def _next_layer(call: Op) -> int:
    if call.attributes.get("reverse"):
        return call.integer("first") - 1
    return call.integer("first") + call.integer("count")


def _with_shared(shared: Op, calls: Sequence[Op], at: int) -> list[Op]:
    """A stage that makes the shared values itself, under names of its own."""
    if not any(set(shared.results) & set(call.operands) for call in calls):
        return list(calls)
    own = {name: f"{name}.stage{at}" for name in shared.results}
    renamed = [
        dataclasses.replace(call, operands=tuple(own.get(n, n) for n in call.operands))
        for call in calls
    ]
    return [dataclasses.replace(shared, results=tuple(own.values())), *renamed]
