"""Bytes in the fullest core of a mesh: weights, caches, and activations at their peak.

Figures may be arrays over many meshes (extents.py).
"""

from dataclasses import dataclass

import numpy as np

from ..ir.graph import Graph, Op
from ..ir.program import MappedGraph
from .extents import Number, Sizes, block_bytes

IN_PLACE = frozenset({"elementwise", "mask", "all_reduce", "shard", "rotary"})
"""Operators whose result may take the place of an operand that nobody reads again."""


@dataclass(frozen=True)
class GraphMemory:
    """Bytes of one core for one graph: `weights` and `cache` for each repetition of it,
    `activations` while it runs, the hidden states that come and go included."""

    weights: Number
    cache: Number
    activations: Number

    def held(self, microbatches: int) -> Number:
        """What stays between runs: the weights, and the caches of every micro-batch."""
        return self.weights + microbatches * self.cache


def graph_memory(mapped: MappedGraph, sizes: Sizes) -> GraphMemory:
    """The memory of one graph on a mesh or many."""
    graph = mapped.graph
    caches = {output.name for output in graph.outputs if output.role == "cache"}

    def held(name: str) -> Number:
        return block_bytes(graph.types[name], mapped.shardings[name], sizes)

    weights = sum((held(i.name) for i in graph.inputs if i.role in ("weight", "buffer")), start=0.0)
    grown = {name for op in graph.ops if set(op.results) & caches for name in op.operands}
    kept = caches | {i.name for i in graph.inputs if i.role == "cache" and i.name not in grown}
    cache = sum((held(name) for name in sorted(kept)), start=0.0)
    return GraphMemory(weights, cache, _peak(mapped, sizes, caches))


def _peak(mapped: MappedGraph, sizes: Sizes, caches: set[str]) -> Number:
    """The most bytes of activations that live at once, in the graph's order. The model's own
    inputs (token ids, positions) stream in as they are read and take no room."""
    graph = mapped.graph
    last = _last_uses(mapped)
    elsewhere = ("weight", "buffer", "cache", "data")
    outside = caches | {i.name for i in graph.inputs if i.role in elsewhere}

    def held(name: str) -> Number:
        if name in outside or _is_converted_as_read(graph, name):
            return 0.0
        if (source := _streamed_from(mapped, name)) is not None:
            return 2 * block_bytes(graph.types[source], mapped.shardings[source], sizes)
        counted = _streamed_into(mapped, name) or name
        return block_bytes(graph.types[counted], mapped.shardings[counted], sizes)

    live: Number = sum((held(value.name) for value in graph.inputs), start=0.0)
    peak = live
    for at, op in enumerate(graph.ops):
        made = sum((held(name) for name in op.results), start=0.0)
        freed = sum((held(n) for n in set(op.operands) if last[n] == at), start=0.0)
        reused = np.minimum(freed, made) if op.kind in IN_PLACE else 0.0
        peak = np.maximum(peak, live + made - reused + _buffers(mapped, op, sizes))
        live = live + made - freed
    return peak


def _last_uses(mapped: MappedGraph) -> dict[str, int]:
    """The place of the last operator that reads each value; after all for outputs."""
    graph = mapped.graph
    last = dict.fromkeys(graph.types, -1)
    for at, op in enumerate(graph.ops):
        last |= dict.fromkeys(op.operands, at)
    return last | dict.fromkeys(graph.output_names, len(graph.ops))


def _streamed_into(mapped: MappedGraph, name: str) -> str | None:
    """The result of the reduce-scatter that consumes a value as it is made, part by part."""
    readers = mapped.graph.consumers[name]
    if len(readers) == 1 and readers[0].kind == "reduce_scatter":
        return readers[0].result
    return None


def _streamed_from(mapped: MappedGraph, name: str) -> str | None:
    """The part of weights that a core keeps where the whole is gathered for experts: others' parts
    are used as they come, one being received while the one before is worked on."""
    made = mapped.graph.producers.get(name)
    readers = mapped.graph.consumers[name]
    if made is not None and made.kind == "all_gather" and len(readers) == 1:
        streamed = readers[0].kind == "chosen_matmul" and name == readers[0].operands[2]
        return made.operands[0] if streamed else None
    return None


def _is_converted_as_read(graph: Graph, name: str) -> bool:
    """Whether a value is a quantized weight in the dtype of its product: tile by tile, as the
    product reads it, so that it never lies in memory."""
    made = graph.producers.get(name)
    return made is not None and made.kind == "dequantize"


def _buffers(mapped: MappedGraph, op: Op, sizes: Sizes) -> Number:
    """Second buffers of the tiles that a stepped product receives while it works."""
    if op.kind != "grid_matmul":
        return 0.0
    types, shardings = mapped.graph.types, mapped.shardings
    return sum((block_bytes(types[n], shardings[n], sizes) for n in op.operands), start=0.0)
