"""Attention block by block of queries: no core ever holds more than a block of scores.

Rows of a softmax do not depend on each other. So a core whose scores would take too much room runs
all that comes between queries and their result for some of its queries, and then again for the
next ones; keys and values come past once for each block (as the outer loop of FlashAttention,
arXiv 2205.14135, algorithm 1, turned inside out). What is computed stays the same, and so does
the graph: only room and time follow the blocks. Kernels of GPUs see to their scores themselves.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..ir.graph import Graph, Op
from ..ir.hardware import Hardware
from ..ir.kinds import indices_of
from ..ir.mapped import MappedGraph, Sharding
from .extents import Number, Sizes, block_bytes, block_shape, ceil_div

QUERIES = "queries"
"""An axis in time: the queries of a core are cut over it into blocks."""
SCORES_SHARE = 0.25
"""Of a core's SRAM for scores at most: with more, fewer layers fit into a stage; with less, keys
come past more often. Chosen, not measured."""

_ROW_BY_ROW = frozenset({"elementwise", "grid_matmul", "mask", "matmul", "reduce", "scatter"})
"""Kinds of operators that work on the scores of some queries by themselves."""

Place = tuple[int, int]
"""Of scores the dimension of their queries and that of their keys."""
Letters = tuple[str, str]
"""Those of queries and keys in an operator."""


def scores_room(hardware: Hardware) -> float:
    """Bytes of a core that scores may take; without bound on a GPU."""
    if hardware.core.multiprocessors is not None:
        return np.inf
    return SCORES_SHARE * hardware.core_bytes


@dataclass(frozen=True)
class QueryBlocks:
    """The scores of a mapped graph on one mesh or many, and into how many blocks they are cut."""

    mapped: MappedGraph
    sizes: Sizes
    room: float
    """Bytes of a core for scores."""

    @cached_property
    def _scoring(self) -> tuple[dict[str, Place], dict[str, Letters]]:
        return ({}, {}) if np.isinf(self.room) else _scoring(self.mapped.graph)

    @property
    def _letters(self) -> Mapping[str, Letters]:
        """The letters of queries and keys in every operator that works on scores, by result."""
        return self._scoring[1]

    @cached_property
    def _inside(self) -> Mapping[str, int]:
        """Scores of which a core holds a block at a time, and which dimension its queries are."""
        graph, (places, letters) = self.mapped.graph, self._scoring
        outside = {*graph.output_names, *(value.name for value in graph.inputs)}
        for op in graph.ops if letters else ():
            if op.result not in letters:
                outside.update((*op.operands, *op.results))
        return {name: query for name, (query, _) in places.items() if name not in outside}

    @cached_property
    def count(self) -> Number:
        """Blocks of a core's queries: as few as fit, at most one for each query."""
        queries, most = np.asarray(1.0), np.asarray(0.0)
        for op in self.mapped.graph.ops if self._inside else ():
            names = [name for name in (*op.operands, *op.results) if name in self._inside]
            twice = [n for n in op.operands if n in self._inside and op.kind == "grid_matmul"]
            held = sum((self._bytes(name) for name in (*names, *twice)), start=0.0)
            most = np.maximum(most, held)
            for name in names:
                queries = np.maximum(queries, self._shape(name)[self._inside[name]])
        if not self._inside:
            return 1.0
        each = np.maximum(1.0, np.floor(queries / np.maximum(1.0, most / self.room)))
        return ceil_div(queries, each)

    def _shape(self, name: str) -> list[Number]:
        return block_shape(self.mapped.graph.types[name], self.mapped.shardings[name], self.sizes)

    def _bytes(self, name: str) -> Number:
        return block_bytes(self.mapped.graph.types[name], self.mapped.shardings[name], self.sizes)

    def runs(self, op: Op) -> Number | None:
        """How often an operator runs; None for one that runs once, for all queries."""
        if op.result not in self._letters or not np.any(np.asarray(self.count) > 1):
            return None
        return self.count

    @property
    def _cut_sizes(self) -> Sizes:
        return {**self.sizes, QUERIES: np.asarray(self.count)}

    def held(self) -> tuple[MappedGraph, Sizes]:
        """The graph with scores as a core holds them, and the sizes of the axes then."""
        if not self._inside:
            return self.mapped, self.sizes
        shardings = dict(self.mapped.shardings)
        for name, at in self._inside.items():
            shardings[name] = _cut(shardings[name], at)
        return MappedGraph(self.mapped.graph, shardings), self._cut_sizes

    def of(self, op: Op) -> tuple[MappedGraph, Sizes]:
        """The graph as an operator sees it that runs for one block."""
        query, _ = self._letters[op.result]
        indices = indices_of(op)
        letters = (*indices.operands, indices.result, *indices.others)
        shardings = dict(self.mapped.shardings)
        for own, name in zip(letters, (*op.operands, *op.results), strict=True):
            if query in own:
                shardings[name] = _cut(self.mapped.shardings[name], own.index(query))
        return MappedGraph(self.mapped.graph, shardings), self._cut_sizes


def _cut(sharding: Sharding, at: int) -> Sharding:
    """A sharding with one more dimension cut into blocks in time."""
    axes = [*sharding.axes]
    axes[at] = (*axes[at], QUERIES)
    return replace(sharding, axes=tuple(axes))


def _scoring(graph: Graph) -> tuple[dict[str, Place], dict[str, Letters]]:
    """Scores of attention, and the letters of queries and keys in all operators that work on them:
    from the mask that hides keys from queries, on to all that reads or makes what has both."""
    places: dict[str, Place] = {}
    found: dict[str, Letters] = {}
    waiting = [op for op in graph.ops if _named(op)]
    while waiting:
        op = waiting.pop()
        if op.result in found or op.kind not in _ROW_BY_ROW:
            continue
        indices = indices_of(op)
        letters = (*indices.operands, indices.result, *indices.others)
        rows = [*zip(letters, (*op.operands, *op.results), strict=True)]
        known = ((own[places[n][0]], own[places[n][1]]) for own, n in rows if n in places)
        query, key = _named(op) or next(known)
        found[op.result] = query, key
        for own, name in rows:
            if query in own and key in own and name not in places:
                places[name] = own.index(query), own.index(key)
                maker = graph.producers.get(name)
                waiting.extend([*graph.consumers[name], *([maker] if maker else [])])
    return places, found


def _named(op: Op) -> Letters | None:
    """The letters of queries and keys of a mask; None for one of a single query."""
    if op.kind != "mask" or "kernel" in op.attributes or not op.text("query"):
        return None
    return op.text("query"), op.text("key")
