"""The graph, run: one operator after the other over torch tensors. What a model means.

Inputs come from a state: parameters and buffers as Hugging Face names them, caches as
`cache.3.key`, model inputs by name. Each is viewed under the shape that the graph states.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .dims import size
from .graph import Graph, Model, Op
from .kinds import kind_of

if TYPE_CHECKING:
    from torch import Tensor

    State = Mapping[str, Tensor]


def run_model(model: Model, state: "State") -> dict[str, "Tensor"]:
    """The outputs of a bound model by source: `logits`, and caches such as `cache.3.key`.

    Raises KeyError for a source that the state lacks, VerificationError for a broken op.
    """
    return _run(model.main, model, state, {}, 0)[1]


def run_op(op: Op, operands: "Sequence[Tensor]") -> "Sequence[Tensor]":
    """The values of an operator's results.

    Raises VerificationError for an operator that has no value by itself.
    """
    value = kind_of(op).reference(op, operands)
    return value if isinstance(value, list | tuple) else (value,)


def _run(
    graph: Graph, model: Model, state: "State", given: "State", layer: int
) -> tuple[dict[str, "Tensor"], dict[str, "Tensor"]]:
    """The carried values by their place, and the outputs by source, of one graph."""
    values = dict(given)
    outputs: dict[str, Tensor] = {}
    for value in graph.inputs:
        if value.name not in values:
            source = state[value.source.replace("*", str(layer))]
            values[value.name] = source.reshape([size(dim) for dim in value.type.shape])
    for op in graph.ops:
        operands = [values[name] for name in op.operands]
        if op.kind == "repeat":
            results = _repeat(op, operands, model, state, outputs)
        else:
            results = run_op(op, operands)
        values.update(zip(op.results, results, strict=True))
    carried = {o.name: values[o.name] for o in graph.outputs if o.role == "carried"}
    outputs |= {
        output.source.replace("*", str(layer)): values[output.name]
        for output in graph.outputs
        if output.role != "carried"
    }
    return carried, outputs


def _repeat(
    op: Op, operands: list["Tensor"], model: Model, state: "State", outputs: dict[str, "Tensor"]
) -> list["Tensor"]:
    """What the last of the repeated layers carries out; their other outputs are added."""
    body = model.graphs[op.text("body")]
    names = [value.name for value in body.inputs if value.role in ("carried", "shared")]
    given = dict(zip(names, operands, strict=True))
    carried_in = [value.name for value in body.inputs if value.role == "carried"]
    first = op.integer("first")
    for layer in range(first, first + op.integer("count")):
        carried, new = _run(body, model, state, given, layer)
        given |= dict(zip(carried_in, carried.values(), strict=True))
        outputs |= new
    return [given[name] for name in carried_in]
