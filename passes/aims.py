"""Where values had best lie before anything is known of their operands: what passes between graphs,
what is summed up in something that has its place, and the gradients of weights."""

from collections.abc import Mapping
from typing import TypeVar

from ..ir import dims
from ..ir.graph import Graph, TensorType
from ..ir.kinds import indices_of
from ..ir.mapped import Sharding
from ..ir.program import Layout
from .axes import COLUMNS, ROWS, Axes

T = TypeVar("T")


def carried_sharding(layout: Layout, type_: TensorType) -> Sharding:
    """Where a value lies that passes between graphs: hidden states are cut along the dimension of
    most elements (the last of equals), in `matmul` the sequence over the rows, in `sequence` over
    the columns."""
    axes: list[Axes] = [()] * len(type_.shape)
    if layout != "matvec":
        tokens = [at for at, dim in enumerate(type_.shape) if dim == dims.symbol("sequence")]
        for at in tokens[:1]:
            axes[at] = ROWS if layout == "matmul" else COLUMNS
    sizes = {at: dim for at, dim in enumerate(type_.shape) if isinstance(dim, int)}
    if sizes:
        features = max(sizes, key=lambda at: (sizes[at], at))
        axes[features] = COLUMNS if layout == "matmul" else ROWS
    return Sharding(tuple(axes))


def summands(graph: Graph, known: Mapping[str, T]) -> dict[str, T]:
    """What is known of some values, for them and for what they are the sum of."""
    found = dict(known)
    for op in reversed(graph.ops):
        if op.kind == "elementwise" and op.result in found:
            indices = indices_of(op)
            alike = zip(op.operands, indices.operands, strict=True)
            for name in (name for name, letters in alike if letters == indices.result):
                found.setdefault(name, found[op.result])
    return found


def weights_of_gradients(graph: Graph) -> dict[str, str]:
    """For each gradient that a graph makes the weight that it reads too, if it does."""
    weights = {value.source: value.name for value in graph.inputs if value.role == "weight"}
    pairs = ((o.name, weights.get(o.source)) for o in graph.outputs if o.role == "gradient")
    return summands(graph, {name: weight for name, weight in pairs if weight is not None})
