"""Layers are run forward once more in the backward pass, so that only their inputs are kept."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..ir.graph import Graph, Input, Model, Op, Output, forward_bodies
from .fuse import without_dead


@dataclass(frozen=True)
class Recompute:
    """Keep of every layer what it carries in, and compute the rest again (Chen et al., arXiv
    1604.06174).

    A valid model of a training step in, the same step out. The backward graph of a layer begins
    with what it needs of the forward graph; that saves only `carried` inputs. With `whole` it
    begins with all of it, what nothing reads included, as checkpoints of PyTorch do.
    """

    whole: bool = False
    name: str = "recompute"

    def run(self, model: Model) -> Model:
        """The model whose backward graphs begin with forward ones."""
        calls = [op for op in model.main.ops if op.kind == "repeat"]
        bodies = forward_bodies(calls)
        graphs = dict(model.graphs)
        for call in calls:
            name = call.text("body")
            if call.attributes.get("reverse"):
                forward, backward = model.graphs[bodies[name]], model.graphs[name]
                run = _kept(forward) if self.whole else forward
                graphs[name] = _with_forward(run, backward)
                graphs[forward.name] = _saving(forward, graphs[name])
        graphs["main"] = model.main.with_ops(
            [_with_operands(op, calls, bodies, graphs) for op in model.main.ops]
        )
        return replace(model, graphs=graphs)


def _kept(forward: Graph) -> Graph:
    """The forward graph whose carried results are made though nothing reads them."""
    carried = {output.name for output in forward.outputs if output.role == "carried"}
    ops = [
        replace(op, attributes={**op.attributes, "kept": True})
        if not carried.isdisjoint(op.results)
        else op
        for op in forward.ops
    ]
    return forward.with_ops(ops)


def _with_forward(forward: Graph, backward: Graph) -> Graph:
    """The backward graph, computing once more what the forward graph has saved for it."""
    made = forward.producers
    own = [op for op in backward.ops if op.result not in made]
    read = {value.name for value in backward.inputs}
    kept = [value for value in backward.inputs if value.name not in made]
    more = [_as_saved(value) for value in forward.inputs if value.name not in read]
    ops = (*forward.ops, *own)
    whole = without_dead(Graph(backward.name, (*kept, *more), ops, backward.outputs))
    used = {name for op in whole.ops for name in op.operands} | set(whole.output_names)
    inputs = (v for v in whole.inputs if v.role == "carried" or v.name in used)
    return replace(whole, inputs=tuple(inputs))


def _as_saved(value: Input) -> Input:
    """An input of the forward pass as the backward pass reads it."""
    if value.role != "carried":
        return value
    return replace(value, role="saved", source=f"saved.*.{value.name}")


def _saving(forward: Graph, backward: Graph) -> Graph:
    """The forward graph that saves what the backward graph reads of it."""
    outputs = (output for output in forward.outputs if output.role != "saved")
    saved = (value for value in backward.inputs if value.role == "saved")
    kept = (Output(value.name, "saved", value.source) for value in saved)
    return replace(forward, outputs=(*outputs, *kept))


def _with_operands(
    op: Op, calls: Sequence[Op], bodies: dict[str, str], graphs: dict[str, Graph]
) -> Op:
    """A repeat of a backward graph with the shared values that it reads now."""
    if op.kind != "repeat" or not op.attributes.get("reverse"):
        return op
    body = graphs[op.text("body")]
    forward = graphs[bodies[body.name]]
    before = next(
        call
        for call in calls
        if call.text("body") == forward.name and call.integer("first") == op.integer("first")
    )
    given = [value.name for value in forward.inputs if value.role in ("carried", "shared")]
    known = dict(zip(given, before.operands, strict=True))
    carried = sum(value.role == "carried" for value in body.inputs)
    shared = [known[value.name] for value in body.inputs if value.role == "shared"]
    return replace(op, operands=(*op.operands[:carried], *shared))
