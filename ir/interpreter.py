"""The graph, run: one operator after the other over torch tensors. What a model means.

Inputs come from a state: parameters and buffers as Hugging Face names them, caches as
`cache.3.key`, model inputs by name. Each is viewed under the shape that the graph states. What the
forward pass saves, and gradients, a later graph reads from what has run before.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .dims import size
from .graph import Graph, Model, Op, Role
from .kinds import kind_of

if TYPE_CHECKING:
    from torch import Tensor

    State = Mapping[str, Tensor]
    Made = dict[tuple[Role, str], Tensor]
    """Outputs by role and source: a gradient is named like the weight that it is of."""


def run_model(model: Model, state: "State") -> dict[str, "Tensor"]:
    """The outputs of a bound model by source: `logits`, and caches such as `cache.3.key`.

    Of training: `loss`, `<parameter>.gradient`, and what parameters and states become, if the
    model updates them, under their names.

    Raises KeyError for a source that the state lacks, VerificationError for a broken op.
    """
    made: Made = {}
    _run(model.main, model, state, made, {}, 0)
    return {
        f"{source}.gradient" if role == "gradient" else source: value
        for (role, source), value in made.items()
        if role != "saved"
    }


def run_op(op: Op, operands: "Sequence[Tensor]") -> "Sequence[Tensor]":
    """The values of an operator's results.

    Raises VerificationError for an operator that has no value by itself.
    """
    value = kind_of(op).reference(op, operands)
    return value if isinstance(value, list | tuple) else (value,)


def _run(
    graph: Graph, model: Model, state: "State", made: "Made", given: "State", layer: int
) -> list["Tensor"]:
    """What one graph carries out, in order; its other outputs are added to `made`."""
    values = dict(given)
    for value in graph.inputs:
        if value.name not in values:
            source = value.source.replace("*", str(layer))
            passed_on = value.role in ("saved", "gradient")
            found = made[value.role, source] if passed_on else state[source]
            values[value.name] = _plain(found).reshape([size(dim) for dim in value.type.shape])
    for op in graph.ops:
        operands = [values[name] for name in op.operands]
        if op.kind == "repeat":
            results = _repeat(op, operands, model, state, made)
        else:
            results = run_op(op, operands)
        values.update(zip(op.results, results, strict=True))
    for output in graph.outputs:
        if output.role != "carried":
            made[output.role, output.source.replace("*", str(layer))] = values[output.name]
    return [values[output.name] for output in graph.outputs if output.role == "carried"]


def _plain(tensor: "Tensor") -> "Tensor":
    """A tensor as graphs hold it: complex numbers are a last dimension of two."""
    import torch

    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _repeat(
    op: Op, operands: list["Tensor"], model: Model, state: "State", made: "Made"
) -> list["Tensor"]:
    """What the last of the repeated layers carries out; their other outputs are added."""
    body = model.graphs[op.text("body")]
    names = [value.name for value in body.inputs if value.role in ("carried", "shared")]
    given = dict(zip(names, operands, strict=True))
    carried = [value.name for value in body.inputs if value.role == "carried"]
    first = op.integer("first")
    layers = range(first, first + op.integer("count"))
    for layer in reversed(layers) if op.attributes.get("reverse") else layers:
        given |= zip(carried, _run(body, model, state, made, given, layer), strict=True)
    return [given[name] for name in carried]
