"""Training: the loss, and the gradients of all parameters, from the graph of the forward pass.

Every layer graph gets a backward graph beside it; the main graph goes on, behind the loss, with
its own backward pass, in which repeats run from the last layer to the first. backward.py walks
over one graph; optimize.py adds what an optimizer makes of the gradients.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from ..ir.errors import UserError
from ..ir.expression import LETTERS
from ..ir.graph import Graph, Input, Model, Op, Output, TensorType
from ..ir.kinds import kind_of
from ..ir.operators.flow import is_floating
from .backward import Sweep, reached
from .fuse import without_dead

_ROW_MAJOR = ("reshape", "transpose")
"""Views: their operand is kept in their place, and they are made again."""


@dataclass(frozen=True)
class Differentiate:
    """Turn a model that yields logits into one that yields the loss and all gradients.

    A valid model of the forward pass in, without anything in a cache; a valid model of the phase
    `train` out, which computes:

    - `loss`: the mean over tokens of the cross-entropy of the logits of a token against the label
      one place on, in float32; labels equal to `ignore`, and the last token of a sequence, do not
      count. `labels` is a data input like `input_ids`. There is no dropout. What the model yields
      under `loss.` and a name (the loss of its prediction layers) is added.
    - of every parameter that the loss depends on an output of role `gradient`. A parameter that
      is used several times (tied, or shared by layers) has one, the sum.

    Values that no parameter leads to get no gradient. A layer graph has as outputs of role `saved`
    exactly what its backward graph reads of it and cannot read elsewhere (weights, buffers, data,
    shared values) or have as a view of something saved. The main graph lists what lives across the
    loss in the same way.

    Raises UserError for an operator that has no gradient.
    """

    ignore: int = -100
    name: str = "differentiate"

    def run(self, model: Model) -> Model:
        """The model of a training step, but for the update of the parameters."""
        forward = _with_loss(_without_caches(model), self.ignore)
        active = _activity(forward)
        layers = {n: _layer(g, active[n]) for n, g in forward.graphs.items() if n != "main"}
        main = _with_shared_weights(forward.main, layers)
        main = _differentiated(main, active["main"] | _weights(main), layers)
        graphs = {"main": main}
        for name, layer in layers.items():
            graphs |= {name: layer.forward, layer.backward.name: layer.backward}
        return Model(model.name, "train", model.dtype, graphs)


def _without_caches(model: Model) -> Model:
    """The model without what it keeps for later tokens, and with what its gradients read."""
    for graph in model.graphs.values():
        if any(value.role == "cache" for value in graph.inputs):
            raise UserError(f"{model.name}: a step against a filled cache cannot be trained")

    def change(graph: Graph) -> Graph:
        outputs = tuple(output for output in graph.outputs if output.role != "cache")
        ops = [
            op if op.kind == "repeat" else kind_of(op).saving(op, graph.operand_types(op))
            for op in graph.ops
        ]
        return without_dead(replace(graph, ops=tuple(ops), outputs=outputs))

    return model.map(change)


def _with_loss(model: Model, ignore: int) -> Model:
    """The model with `loss` in the place of `logits`."""
    main = model.main
    logits = next((o.name for o in main.outputs if o.source == "logits"), None)
    if logits is None:
        raise UserError(f"{model.name}: no logits, so no loss")
    (*tokens, _) = main.types[logits].shape
    named = (value for value in main.inputs if value.source == "labels")
    labels = next(named, Input("labels", TensorType("int64", tuple(tokens)), "data", "labels"))
    more = [o.name for o in main.outputs if o.source.startswith("loss.")]
    letters = "bs"[-len(tokens) :]
    loss = Op(
        "cross_entropy",
        (logits, labels.name),
        ("loss.main" if more else "loss",),
        (TensorType("float32", ()),),
        {
            "indices": f"{letters}v,{letters}->",
            "classes": "v",
            "along": "s",
            "shift": 1,
            "ignore": ignore,
        },
    )
    ops = [loss]
    if more:
        terms = (loss.result, *more)
        expr = " + ".join(LETTERS[: len(terms)])
        attributes = {"indices": f"{',' * len(more)}->", "expr": expr}
        ops.append(Op("elementwise", terms, ("loss",), loss.types, attributes))
    outputs = [Output("loss", "data", "loss") if o.source == "logits" else o for o in main.outputs]
    inputs = main.inputs if labels in main.inputs else (*main.inputs, labels)
    changed = replace(main, inputs=inputs, ops=(*main.ops, *ops), outputs=tuple(outputs))
    return replace(model, graphs={**model.graphs, "main": changed})


# What depends on parameters


def _weights(graph: Graph) -> set[str]:
    return {v.name for v in graph.inputs if v.role == "weight" and is_floating(v.type)}


def _given(graph: Graph) -> list[Input]:
    """The inputs of a layer graph that the operands of its repeats are, in order."""
    return [value for value in graph.inputs if value.role in ("carried", "shared")]


def _carried(graph: Graph) -> list[tuple[Input, str]]:
    """The values that a layer carries in, each with the name of what it carries out for it."""
    inputs = [value for value in graph.inputs if value.role == "carried"]
    outputs = [output.name for output in graph.outputs if output.role == "carried"]
    return [*zip(inputs, outputs, strict=True)]


def _activity(model: Model) -> dict[str, set[str]]:
    """The values of every graph that depend on parameters, in any repetition of the graph."""
    active = {name: _weights(graph) for name, graph in model.graphs.items()}

    def through(op: Op, found: Set[str]) -> Iterable[str]:
        body = model.graphs[op.text("body")]
        inside = active[body.name]
        operands = zip(_given(body), op.operands, strict=True)
        inside.update(value.name for value, operand in operands if operand in found)
        size = 0
        while size != len(inside):
            size = len(inside)
            inside.update(reached(body, inside, lambda op, found: ()))
            inside.update(value.name for value, out in _carried(body) if out in inside)
        results = zip(op.results, _carried(body), strict=True)
        return [result for result, (_, out) in results if out in inside]

    while True:
        before = {name: set(found) for name, found in active.items()}
        active["main"].update(reached(model.main, active["main"], through))
        if active == before:
            return active


# Layers


@dataclass(frozen=True)
class _Layer:
    """A layer graph that says what it saves, and the graph of its backward pass.

    The backward graph carries the gradients of the `carried` inputs, then the sums over the
    repetitions of the gradients of `summed` (shared values, weights that all layers have in
    common), and reads the shared inputs `reads`.
    """

    forward: Graph
    backward: Graph
    carried: tuple[Input, ...]
    summed: tuple[Input, ...]
    reads: tuple[Input, ...]


def _layer(graph: Graph, active: set[str]) -> _Layer:
    sweep = Sweep(graph, active)
    carried = [(value, out) for value, out in _carried(graph) if value.name in active]
    given = [sweep.declare(f"{out}.grad", value.type) for value, out in carried]
    for (_, out), gradient in zip(carried, given, strict=True):
        sweep.give(out, gradient)
    sweep.run(lambda op, given: ())
    parameters = {
        value: gradient
        for value in graph.inputs
        if value.role in ("weight", "shared") and (gradient := sweep.gradient(value.name))
    }
    summed = tuple(v for v in parameters if v.role == "shared" or "*" not in v.source)
    for value in summed:
        given.append(sweep.declare(f"{value.name}.grad_before", value.type))
        sweep.give(value.name, given[-1])
    passed_on = (*(value for value, _ in carried), *summed)
    inputs = tuple(
        Input(gradient, value.type, "carried", f"{value.source}.gradient")
        for value, gradient in zip(passed_on, given, strict=True)
    )
    outputs = (
        *(Output(sweep.total(v.name), "carried", f"{v.source}.gradient") for v in passed_on),
        *(Output(g, "gradient", v.source) for v, g in parameters.items() if v not in summed),
    )
    backward = Graph(f"{graph.name}.backward", inputs, tuple(sweep.ops), outputs)
    return _connected(graph, without_dead(backward), passed_on[: len(carried)], summed)


def _connected(
    graph: Graph, backward: Graph, carried: tuple[Input, ...], summed: tuple[Input, ...]
) -> _Layer:
    """A layer whose backward graph reads what it needs of the forward graph, which saves it."""
    reads, views = _read(graph, backward)
    saved = [name for name in reads if _is_saved(graph, name)]
    again = [value for value in graph.inputs if value.name in reads and value.name not in saved]
    from_forward = [Input(n, graph.types[n], "saved", f"saved.*.{n}") for n in saved]
    kept = [Output(name, "saved", f"saved.*.{name}") for name in saved]
    return _Layer(
        forward=replace(graph, outputs=(*graph.outputs, *kept)),
        backward=replace(
            backward,
            inputs=(*backward.inputs, *again, *from_forward),
            ops=(*views, *backward.ops),
        ),
        carried=carried,
        summed=summed,
        reads=tuple(value for value in again if value.role == "shared"),
    )


def _is_saved(graph: Graph, name: str) -> bool:
    """Whether a value must be kept to be read later: what a layer carries in, or computes."""
    role = next((value.role for value in graph.inputs if value.name == name), "carried")
    return role == "carried"


def _read(graph: Graph, later: Graph) -> tuple[list[str], list[Op]]:
    """The values of `graph` that a later graph needs, in order of `graph`, and the views of them
    that it makes of them again."""
    inside = {value.name for value in later.inputs} | set(later.producers)
    asked = [name for op in later.ops for name in op.operands if name not in inside]
    roots = {_whole(graph, name, frozenset()) for name in asked}
    roots = {_whole(graph, name, roots - {name}) for name in roots}
    needed, views = set(asked), list[Op]()
    for op in reversed(graph.ops):
        if op.result in needed and op.result not in roots:
            views.append(op)
            needed.update(op.operands)
    return [name for name in graph.types if name in roots], views[::-1]


def _whole(graph: Graph, name: str, kept: Set[str]) -> str:
    """The value that `name` is a view of; of a slice, if that is at hand or in `kept`."""
    op = graph.producers.get(name)
    if op is not None and op.kind in _ROW_MAJOR:
        return _whole(graph, op.operands[0], kept)
    if op is not None and op.kind == "slice":
        source = _whole(graph, op.operands[0], kept)
        return source if source in kept or not _is_saved(graph, source) else name
    return name


# The main graph


def _with_shared_weights(main: Graph, layers: Mapping[str, _Layer]) -> Graph:
    """The main graph with the weights that all repetitions of a layer have in common as inputs,
    so that their gradients have a place."""
    known = {(value.role, value.source) for value in main.inputs}
    added = {
        value.source: replace(value, name=value.source)
        for layer in layers.values()
        for value in layer.summed
        if value.role == "weight" and ("weight", value.source) not in known
    }
    return replace(main, inputs=(*main.inputs, *added.values()))


def _differentiated(main: Graph, active: set[str], layers: Mapping[str, _Layer]) -> Graph:
    """The main graph with its backward pass behind its forward pass."""
    sweep = Sweep(main, active)
    sweep.give("loss", sweep.constant(1, main.types["loss"], "loss.grad"))
    weights = {value.source: value.name for value in main.inputs if value.role == "weight"}

    def repeat(op: Op, given: Sequence[str | None]) -> Sequence[str | None]:
        _repeat_backward(sweep, layers[op.text("body")], op, given, weights)
        return [None] * len(op.operands)

    sweep.run(repeat)
    found = {source: sweep.gradient(name) for source, name in weights.items()}
    gradients = [Output(name, "gradient", source) for source, name in found.items() if name]
    outputs = (*main.outputs, *gradients)
    whole = without_dead(replace(main, ops=(*main.ops, *sweep.ops), outputs=outputs))
    later = Graph(main.name, (), tuple(op for op in whole.ops if op not in main.ops), outputs)
    saved = [name for name in _read(main, later)[0] if name in main.producers]
    kept = [Output(name, "saved", f"saved.{name}") for name in saved]
    return replace(whole, outputs=(*outputs, *kept))


def _repeat_backward(
    sweep: Sweep, layer: _Layer, op: Op, given: Sequence[str | None], weights: Mapping[str, str]
) -> None:
    """Add the backward pass of a repeat: the same layers from the last to the first."""
    body = layer.forward
    operands = {v.name: name for v, name in zip(_given(body), op.operands, strict=True)}
    after = {v.name: name for (v, _), name in zip(_carried(body), given, strict=True)}
    passed_on = (*layer.carried, *layer.summed)
    values = [operands.get(value.name) or weights[value.source] for value in passed_on]
    starts = [
        after.get(value.name) or sweep.constant(0, value.type, f"{name}.grad_start")
        for value, name in zip(passed_on, values, strict=True)
    ]
    made = sweep.add_several(
        "repeat",
        [*starts, *(operands[value.name] for value in layer.reads)],
        [value.type for value in passed_on],
        {
            "body": layer.backward.name,
            "first": op.integer("first"),
            "count": op.integer("count"),
            "reverse": True,
        },
        [f"{name}.grad" for name in values],
    )
    for name, gradient in zip(values, made, strict=True):
        if sweep.wants(name):
            sweep.give(name, gradient)
