"""Bytes in the fullest core of a mesh: weights, caches, and activations at their peak; in training
also gradients, the optimizer's states and what the forward pass saves.

Figures may be arrays over many meshes (extents.py).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache, reduce

import numpy as np

from ..ir.graph import Graph, Op, Role
from ..ir.kinds import indices_of
from ..ir.mapped import MappedGraph
from .dram_traffic import cache_piece, stored_bytes, weight_piece
from .extents import Number, Sizes, block_bytes, block_shape
from .query_blocks import QueryBlocks

IN_PLACE = frozenset({"elementwise", "mask", "all_reduce", "shard", "rotary"})
"""Operators whose result may take the place of an operand that nobody reads again."""


KEPT: tuple[Role, ...] = ("saved", "gradient", "weight", "state")
"""Roles of what a graph yields that has a place of its own from then on."""


@dataclass(frozen=True)
class GraphMemory:
    """Bytes of one core for one graph: `activations` while it runs, the hidden states that come
    and go included; everything else for each repetition of it."""

    weights: Number
    cache: Number
    activations: Number
    gradients: Number = 0.0
    states: Number = 0.0
    saved: Number = 0.0
    borrowed: Number = 0.0
    """Weights that another graph holds, if it is in the same stage."""
    largest_weight: Number = 0.0
    """Of experts a single one, as `largest_gradient`: they come and go one after the other."""
    largest_gradient: Number = 0.0
    weight_piece: Number = 0.0
    """Of weights in DRAM what is used at a time, as `cache_piece` of caches (dram_traffic.py)."""
    cache_piece: Number = 0.0
    expert_weights: Number = 0.0
    """Of `weights` those that replicas divide by expert, as `expert_gradients` of `gradients` and
    `expert_states` of `states`."""
    expert_gradients: Number = 0.0
    expert_states: Number = 0.0

    def of(self, which: np.ndarray) -> "GraphMemory":
        """The memory on some of many meshes, by their numbers."""
        figures = (np.asarray(getattr(self, field.name)) for field in fields(self))
        return GraphMemory(*(each[which] if each.ndim else each for each in figures))


@dataclass(frozen=True)
class Keeping:
    """What of a step stays in the cores of a stage from one run of a graph to the next; figures
    of one plan, or arrays over many."""

    microbatches: Number = 1
    """Each has caches of its own, which stay."""
    trains: bool = False
    in_flight: Number = 1.0
    """Micro-batches whose saved values wait for their backward pass."""
    replicas: Number = 1
    zero: Number = 0
    """What replicas divide among them (`Strategy.zero`)."""
    streaming: Number = 0
    """1 where weights and gradients come and go and states stay off the wafer."""
    weights_in_dram: Number = 0
    """1 where weights, gradients and states do not stay in SRAM but in the nearest DRAM."""
    cache_in_dram: Number = 0
    experts: Number = 1
    """Replicas that divide the experts among them, so that fewer have any one of these."""

    def weights(self, memory: GraphMemory) -> Number:
        return self._whole(3, memory.weights, memory.expert_weights) * self._share(3)

    def borrowed(self, memory: GraphMemory) -> Number:
        return memory.borrowed * self._share(3)

    def gradients(self, memory: GraphMemory) -> Number:
        return self._whole(2, memory.gradients, memory.expert_gradients) * self._share(2)

    def states(self, memory: GraphMemory) -> Number:
        return self._whole(1, memory.states, memory.expert_states) * self._share(1)

    def saved(self, memory: GraphMemory) -> Number:
        return self.in_flight * memory.saved

    def caches(self, memory: GraphMemory) -> Number:
        return self.microbatches * memory.cache * (1 - np.asarray(self.cache_in_dram))

    def held(self, memory: GraphMemory) -> Number:
        """All that stays."""
        trained = self.gradients(memory) + self.states(memory) + self.saved(memory)
        return self.weights(memory) + self.caches(memory) + trained

    def buffers(self, memory: GraphMemory) -> Number:
        """What comes and goes while a graph runs. Streamed, one weight is used while the next one
        comes, and gradients leave likewise; where replicas divide them, the weights of the graph
        and of the next one are gathered, and the gradients that it makes are summed whole."""
        streaming = np.asarray(self.streaming)
        weights, gradients = ((self._parts(zero) > 1) & (streaming == 0) for zero in (3, 2))
        divided = 2 * memory.weights * weights + memory.gradients * gradients
        pieces = memory.weight_piece + memory.largest_gradient
        in_dram = self.weights_in_dram * pieces + self.cache_in_dram * memory.cache_piece
        streamed = streaming * (memory.largest_weight + memory.largest_gradient)
        return divided + 2 * (streamed + in_dram)

    def dram(self, memory: GraphMemory) -> Number:
        """All that stays in a core's share of DRAM; `borrowed` weights apart."""
        weights, gradients, states = (
            self._whole(zero, each, of_experts) / self._parts(zero)
            for each, of_experts, zero in (
                (memory.weights, memory.expert_weights, 3),
                (memory.gradients, memory.expert_gradients, 2),
                (memory.states, memory.expert_states, 1),
            )
        )
        cache = self.cache_in_dram * (self.microbatches * memory.cache)
        return self.weights_in_dram * (weights + gradients + states) + cache

    def _share(self, zero: int) -> Number:
        """The part that stays of what replicas divide from a level of ZeRO on."""
        away = np.maximum(self.streaming, self.weights_in_dram)
        return (1 - away) / self._parts(zero)

    def _whole(self, zero: int, all_: Number, of_experts: Number) -> Number:
        """Bytes of which each of all replicas has a part, if they divide them: what has to do with
        experts counts as often as fewer replicas have it."""
        divided = np.asarray(self.zero) >= zero
        return all_ + of_experts * (np.asarray(self.experts) - 1) * divided

    def _parts(self, zero: int) -> Number:
        return np.where(np.asarray(self.zero) >= zero, self.replicas, 1)


def held_elsewhere(graphs: Mapping[str, Graph]) -> dict[str, frozenset[str]]:
    """For every graph the weights that it reads where another graph holds them: those that are
    trained have one place, whatever reads them.

    A layer's weights are held by the graph that runs it forward, others by one piece of the main
    graph, which runs once.
    """
    outputs = (output for graph in graphs.values() for output in graph.outputs)
    trained = {output.source for output in outputs if output.role in ("gradient", "weight")}
    holders: dict[str, str] = {}
    found: dict[str, frozenset[str]] = {}
    for name in sorted(graphs, key=lambda name: not name.startswith("main.")):
        graph = graphs[name]
        later = any(value.role == "gradient" for value in (*graph.inputs, *graph.outputs))
        weights = [v for v in graph.inputs if v.role == "weight" and v.source in trained]
        found[name] = frozenset(
            value.name
            for value in weights
            if (later if "*" in value.source else holders.setdefault(value.source, name) != name)
        )
    return found


def graph_memory(
    mapped: MappedGraph, sizes: Sizes, elsewhere: Collection[str] = (), scores: float = np.inf
) -> GraphMemory:
    """The memory of one graph on a mesh or many; weights that are `elsewhere` do not count, and
    attention goes in blocks of queries whose scores take no more bytes than `scores`, if it can."""
    graph = mapped.graph
    caches = {output.name for output in graph.outputs if output.role == "cache"}

    def bytes_of(names: Iterable[str]) -> Number:
        return sum((stored_bytes(mapped, name, sizes) for name in names), start=0.0)

    def largest(names: Iterable[str]) -> Number:
        each = (bytes_of([name]) / _experts_of(mapped, name, sizes) for name in names)
        return reduce(np.maximum, each, 0.0)

    def read(*roles: Role) -> list[str]:
        return [i.name for i in graph.inputs if i.role in roles and i.name not in elsewhere]

    lent = [i.name for i in graph.inputs if i.name in elsewhere and "*" not in i.source]

    scored = QueryBlocks(mapped, sizes, scores)
    grown = {name for op in graph.ops if set(op.results) & caches for name in op.operands}
    kept = caches | {name for name in read("cache") if name not in grown}
    made = {role: [o.name for o in graph.outputs if o.role == role] for role in KEPT}

    def of_experts(names: Iterable[str]) -> Number:
        return bytes_of(name for name in names if mapped.over_replicas(name))

    return GraphMemory(
        weights=bytes_of(read("weight", "buffer")),
        cache=bytes_of(sorted(kept)),
        activations=_peak(*scored.held(), caches | {n for own in made.values() for n in own}),
        gradients=bytes_of(made["gradient"]),
        states=bytes_of(read("state")),
        saved=bytes_of(made["saved"]),
        borrowed=bytes_of(lent),
        largest_weight=largest(read("weight")),
        largest_gradient=largest(made["gradient"]),
        weight_piece=weight_piece(mapped, sizes),
        cache_piece=cache_piece(mapped, sizes),
        expert_weights=of_experts(read("weight")),
        expert_gradients=of_experts(made["gradient"]),
        expert_states=of_experts(read("state")),
    )


def _peak(mapped: MappedGraph, sizes: Sizes, placed: set[str]) -> Number:
    """The most bytes of activations that live at once, in the graph's order, without those that
    have a place of their own. The model's own inputs (token ids, positions) stream in as they are
    read and take no room."""
    graph = mapped.graph
    last = _last_uses(mapped)
    elsewhere = ("weight", "buffer", "cache", *KEPT)
    outside = placed | {i.name for i in graph.inputs if i.role in elsewhere} | _data(graph)

    @cache
    def held(name: str) -> Number:
        if name in outside or _is_converted_as_read(graph, name) or _is_inside(graph, name):
            return 0.0
        if _streamed_from(mapped, name) is not None:
            return 0.0
        counted = _streamed_into(mapped, name) or name
        if counted in outside:
            return 0.0
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
    looked_up = name in mapped.graph.producers and mapped.graph.producers[name].kind == "embedding"
    if looked_up and len(readers) == 1 and readers[0].kind == "elementwise":
        return _streamed_into(mapped, readers[0].result)
    return None


def _data(graph: Graph) -> set[str]:
    """The model's inputs, and parts of them that are only moved (labels one place on)."""
    found = {value.name for value in graph.inputs if value.role == "data"}
    for op in graph.ops:
        if op.kind in ("slice", "pad", "shard") and op.operands[0] in found:
            found.add(op.result)
    return found


_STREAMED = {
    "chosen_matmul": (0, 2),
    "chosen_matmul_grad": (0, 2),
    "embedding_grad": (0,),
    "shard": (0,),
}
"""Kinds that take operands part by part as they come, and which."""


def _streamed_from(mapped: MappedGraph, name: str) -> str | None:
    """The part that a core keeps where the whole is gathered for operators that take it part by
    part: others' parts are used as they come, one being received while the one before is worked
    on."""
    made = mapped.graph.producers.get(name)
    readers = mapped.graph.consumers[name]
    if made is not None and made.kind == "all_gather":
        streamed = all(
            name in (op.operands[at] for at in _STREAMED.get(op.kind, ())) for op in readers
        )
        return made.operands[0] if streamed and readers else None
    return None


def _is_converted_as_read(graph: Graph, name: str) -> bool:
    """Whether a value is a quantized weight in the dtype of its product: tile by tile, as the
    product reads it, so that it never lies in memory."""
    made = graph.producers.get(name)
    return made is not None and made.kind == "dequantize"


def _is_inside(graph: Graph, name: str) -> bool:
    """Whether a value never leaves the kernel that it is made in."""
    made, readers = graph.producers.get(name), graph.consumers[name]
    kernel = None if made is None else made.attributes.get("kernel")
    inside = all(reader.attributes.get("kernel") == kernel for reader in readers)
    return kernel is not None and inside and name not in graph.output_names


def _buffers(mapped: MappedGraph, op: Op, sizes: Sizes) -> Number:
    """Second buffers of the tiles that a stepped product receives while it works, and both buffers
    of parts that come to where they are taken as they come."""
    read = dict.fromkeys(op.operands)
    parts = (name for name in read if _streamed_from(mapped, name) is not None)
    streamed = sum((2 * _part_bytes(mapped, op, name, sizes) for name in parts), start=0.0)
    if op.kind != "grid_matmul" or "kernel" in op.attributes:
        return streamed
    types, shardings = mapped.graph.types, mapped.shardings
    return sum((block_bytes(types[n], shardings[n], sizes) for n in op.operands), start=0.0)


def _part_bytes(mapped: MappedGraph, op: Op, name: str, sizes: Sizes) -> Number:
    """Bytes of what comes at a time of an operand that is taken part by part: what another core
    has of it, of the matrices of experts one after the other."""
    source = _streamed_from(mapped, name)
    assert source is not None
    type_, sharding = mapped.graph.types[source], mapped.shardings[source]
    whole = block_bytes(type_, sharding, sizes)
    if op.kind != "chosen_matmul" or name != op.operands[2]:
        return whole
    at = indices_of(op).operands[2].index(op.text("expert"))
    return whole / block_shape(type_, sharding, sizes)[at]


_ON_THE_WAY = frozenset({"all_gather", "dequantize", "elementwise", "reduce_scatter"})
"""Kinds between a weight or gradient and its product that take it part by part."""


def _experts_of(mapped: MappedGraph, name: str, sizes: Sizes) -> Number:
    """How many experts' matrices the block of a weight, or of its gradient, is made of; 1 where
    other operators have to do with it."""
    made, readers = mapped.graph.producers.get(name), mapped.graph.consumers[name]
    near = readers if made is None else [made]
    while len(near) == 1 and near[0].kind in _ON_THE_WAY:
        (op,) = near
        above = mapped.graph.producers.get(op.operands[0])
        near = mapped.graph.consumers[op.result] if made is None else [above] if above else []
    if not near or {op.kind for op in near} - {"chosen_matmul", "chosen_matmul_grad"}:
        return 1.0
    indices = indices_of(near[0])
    letters = indices.operands[2] if made is None else indices.result
    at = letters.index(near[0].text("expert"))
    return block_shape(mapped.graph.types[name], mapped.shardings[name], sizes)[at]
