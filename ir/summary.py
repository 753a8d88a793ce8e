"""What a model holds and does: parameters, work and bytes, by kind of layer and of operator."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from .dims import size
from .expert_load import expert_load_of
from .graph import Graph, Input, Model
from .kinds import graph_flops, kind_of

COMPUTED = "computed."
"""What the source of a buffer begins with that a model computes and no checkpoint holds."""

SCALED = ("dequantize", "quantize")
"""Operators whose other operands are scales and zero points, which are kept beside weights."""


@dataclass(frozen=True)
class GraphSummary:
    """One graph of a model, all its repetitions taken together.

    `operators` are those of one repetition. A weight that an earlier graph has is not counted
    again: a tied embedding, or a weight that the backward pass reads a second time.
    """

    name: str
    path: str
    layers: int
    operators: int
    parameters: int
    flops: int
    weight_bytes: int
    cache_bytes: int
    saved_bytes: int


@dataclass(frozen=True)
class KindSummary:
    """All operators of one kind: how many run in a step, and their FLOPs."""

    kind: str
    operators: int
    flops: int


@dataclass(frozen=True)
class ModelSummary:
    """A model at one batch, sequence and context.

    `buffers` are constants of the checkpoint that are no parameters, by name pattern, with their
    elements over all layers; `stored_bytes` are the bytes of weights and their scales by the dtype
    they are kept in; `expert_load` is the relative load of the experts, None where it is balanced.
    """

    graphs: tuple[GraphSummary, ...]
    kinds: tuple[KindSummary, ...]
    buffers: tuple[tuple[str, int], ...]
    stored_bytes: tuple[tuple[str, int], ...]
    expert_load: tuple[int, ...] | None = None

    @property
    def parameters(self) -> int:
        return sum(graph.parameters for graph in self.graphs)

    @property
    def flops(self) -> int:
        return sum(graph.flops for graph in self.graphs)

    @property
    def weight_bytes(self) -> int:
        return sum(graph.weight_bytes for graph in self.graphs)

    @property
    def cache_bytes(self) -> int:
        return sum(graph.cache_bytes for graph in self.graphs)

    @property
    def saved_bytes(self) -> int:
        return sum(graph.saved_bytes for graph in self.graphs)


def summarize(model: Model) -> ModelSummary:
    """Count everything; raises ValueError while a symbol is left in the model."""
    layers: dict[str, list[int]] = {"main": [0]}
    paths = {"main": ""}
    for op in model.main.ops:
        if op.kind == "repeat":
            first = op.integer("first")
            layers.setdefault(op.text("body"), []).extend(range(first, first + op.integer("count")))
            paths.setdefault(op.text("body"), op.path)
    seen: set[str] = set()
    graphs: list[GraphSummary] = []
    kinds: Counter[str] = Counter()
    work: Counter[str] = Counter()
    buffers: Counter[str] = Counter()
    stored: Counter[str] = Counter()
    for name, numbers in layers.items():
        graph = model.graphs[name]
        new = [(i, n) for i in graph.inputs if (n := _unseen(i, numbers, seen))]
        scales = {name for op in graph.ops if op.kind in SCALED for name in op.operands}
        for value, count in new:
            if value.role == "weight" or (value.role == "buffer" and value.name in scales):
                stored[value.type.dtype] += size(value.type.bytes) * count
            if value.role == "buffer" and not value.source.startswith(COMPUTED):
                buffers[value.source] += size(value.type.elements) * count
        graphs.append(_summary(graph, paths[name], len(numbers), new))
        for op in graph.ops:
            kinds[op.kind] += len(numbers)
            work[op.kind] += len(numbers) * size(kind_of(op).flops(op, graph.operand_types(op)))
    return ModelSummary(
        tuple(graphs),
        tuple(KindSummary(kind, count, work[kind]) for kind, count in kinds.most_common()),
        tuple(sorted(buffers.items())),
        tuple(sorted(stored.items())),
        expert_load_of(model),
    )


def _unseen(value: Input, layers: list[int], seen: set[str]) -> int:
    """For how many layers a value comes from a source that no graph before had."""
    if value.role not in ("weight", "buffer", "cache", "saved"):
        return 0
    sources = {value.source.replace("*", str(layer)) for layer in layers}
    new = sources - seen
    seen |= new
    return len(new)


def _summary(graph: Graph, path: str, layers: int, new: list[tuple[Input, int]]) -> GraphSummary:
    def total(role: str) -> int:
        return sum(size(value.type.bytes) * count for value, count in new if value.role == role)

    return GraphSummary(
        name=graph.name,
        path=path,
        layers=layers,
        operators=sum(op.kind != "repeat" for op in graph.ops),
        parameters=sum(size(v.type.elements) * n for v, n in new if v.role == "weight"),
        flops=size(graph_flops(graph)) * layers,
        weight_bytes=total("weight"),
        cache_bytes=total("cache"),
        saved_bytes=sum(_saved(graph)) * layers,
    )


def _saved(graph: Graph) -> Iterator[int]:
    for output in graph.outputs:
        if output.role == "saved":
            yield size(graph.types[output.name].bytes)
