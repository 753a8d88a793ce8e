"""Prediction layers in a graph: each in a graph of its own, named as checkpoints name them, and in
training their loss."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from ...ir.errors import VerificationError
from ...ir.graph import Graph, Input, Model, Op, Output, TensorType
from ...ir.summary import COMPUTED

PREDICTED = "logits.prediction"
"""The source of what the first prediction layer yields, less its number."""

LOSS = "loss.prediction"
"""The source of the prediction layers' loss in training."""

IGNORED = -100
"""The label of a token that does not count."""


@dataclass(frozen=True)
class PredictionLayers:
    """What is known of the prediction layers of a traced model.

    They lie at `paths`, and `first` is the number of the first where layers of the main model and
    they are counted together. `renames` are the published names of modules, the most special
    first. `weight` is that of their loss. The modules `plain` are never quantized: those that join
    a hidden state and an embedding, which checkpoints and serving engines keep as they are.
    """

    paths: tuple[str, ...]
    first: int
    renames: tuple[tuple[str, str], ...]
    weight: float
    plain: frozenset[str] = frozenset()

    def published(self, name: str) -> str:
        """What a checkpoint calls a module or a parameter."""
        computed = COMPUTED if name.startswith(COMPUTED) else ""
        bare = name.removeprefix(COMPUTED)
        for old, new in self.renames:
            if f"{bare}.".startswith(f"{old}."):
                return f"{computed}{new}{bare[len(old) :]}"
        return name


def with_prediction_layers(model: Model, layers: PredictionLayers) -> Model:
    """A traced model with every prediction layer in a graph of its own, which a repeat runs once.

    In training the logits of prediction layers become their loss: with D of them, the mean over
    tokens of the cross-entropy of layer k against the label k + 2 places on, summed over layers,
    times weight / D (DeepSeek-V3, arXiv 2412.19437, equations 24 and 25).
    """
    main = model.main
    graphs = dict(model.graphs)
    for at, path in enumerate(layers.paths):
        main, body = _outlined(main, path, f"prediction{at}", layers.first + at)
        graphs[body.name] = _named(body, layers, layers.first + at)
    graphs["main"] = _named(main, layers, None)
    if model.phase == "train":
        graphs["main"] = _with_loss(graphs["main"], layers)
    made = replace(model, graphs=graphs)
    made.verify()
    return made


# A graph for a layer


def _outlined(main: Graph, path: str, name: str, number: int) -> tuple[Graph, Graph]:
    """The main graph with a repeat in the place of the operators of a module, and their graph.

    Raises VerificationError where the module does not take one value from the layers before and
    yield one.
    """
    inside = _between(main, lambda op: f"{op.path}.".startswith(f"{path}."))
    own = [op for op in main.ops if op.result in inside]
    later = _after(main, {result for op in own for result in op.results})
    layers = {result for op in main.ops if op.kind == "repeat" for result in op.results}
    deep = layers | {result for op in _after(main, layers) for result in op.results}
    made = {result for op in own for result in op.results}
    given = [n for n in dict.fromkeys(n for op in own for n in op.operands) if n not in made]
    inputs = {value.name: value for value in main.inputs}
    carried = [value for value in given if value in deep]
    caches = [o for o in main.outputs if o.role == "cache" and o.name in made]
    read = {value for op in main.ops if op.result not in inside for value in op.operands}
    read |= {output.name for output in main.outputs if output not in caches}
    results = [value for value in main.types if value in made and value in read]
    if len(carried) != 1 or len(results) != 1:
        raise VerificationError(f"{path} takes {len(carried)} values and yields {len(results)}")

    def taken(value: str) -> Input:
        if value in inputs:
            return inputs[value]
        if value in carried:
            return Input(value, main.types[value], "carried", "hidden")
        return Input(value, main.types[value], "shared", value)

    roles = ("data", "carried", "shared", "cache", "buffer", "weight")
    taken_ = sorted((taken(value) for value in given), key=lambda value: roles.index(value.role))
    body = Graph(
        name, tuple(taken_), tuple(own), (Output(results[0], "carried", "hidden"), *caches)
    )
    shared = [value.name for value in taken_ if value.role == "shared"]
    call = Op(
        "repeat",
        (*carried, *shared),
        (results[0],),
        (main.types[results[0]],),
        {"body": name, "first": number, "count": 1},
        path,
    )
    before = [op for op in main.ops if op.result not in inside and op not in later]
    whole = replace(
        main,
        inputs=tuple(v for v in main.inputs if v.name not in given or v.name in read),
        ops=(*before, call, *(op for op in later if op.result not in inside)),
        outputs=tuple(output for output in main.outputs if output not in caches),
    )
    return whole, body


def _between(main: Graph, chosen: Callable[[Op], bool]) -> set[str]:
    """The first results of the operators that are chosen, and of those between two of them."""
    ops = [op for op in main.ops if chosen(op)]
    after = _after(main, {result for op in ops for result in op.results})
    needed = {value for op in ops for value in op.operands}
    between: set[str] = {op.result for op in ops}
    for op in reversed(after):
        if needed & set(op.results):
            between.add(op.result)
            needed.update(op.operands)
    return between


def _after(main: Graph, values: Iterable[str]) -> list[Op]:
    """The operators that depend on some values, in order."""
    reached = set(values)
    found: list[Op] = []
    for op in main.ops:
        if reached & set(op.operands):
            found.append(op)
            reached.update(op.results)
    return found


# Names


def _named(graph: Graph, layers: PredictionLayers, number: int | None) -> Graph:
    """A graph with the published names; those of the layer `number` have `*` in its place."""

    def name(text: str) -> str:
        found = layers.published(text)
        return found if number is None else found.replace(f".{number}.", ".*.", 1)

    return replace(
        graph,
        inputs=tuple(replace(value, source=name(value.source)) for value in graph.inputs),
        ops=tuple(replace(op, path=name(op.path)) for op in graph.ops),
        outputs=tuple(replace(output, source=name(output.source)) for output in graph.outputs),
    )


# Training


def _with_loss(main: Graph, layers: PredictionLayers) -> Graph:
    predicted = [o for o in main.outputs if o.source.startswith(f"{PREDICTED}.")]
    (*tokens, _) = main.types[predicted[0].name].shape
    labels = Input("labels", TensorType("int64", tuple(tokens)), "data", "labels")
    losses = [*_losses(predicted, labels)]
    scalar = losses[0].type
    added = " + ".join("abcdefghijklmnopqrstuvwxyz"[: len(losses)])
    total = Op(
        "elementwise",
        tuple(op.result for op in losses),
        (LOSS,),
        (scalar,),
        {
            "indices": f"{(len(losses) - 1) * chr(44)}->",
            "expr": f"({added}) * {layers.weight / len(losses)!r}",
        },
    )
    kept = [output for output in main.outputs if output not in predicted]
    return replace(
        main,
        inputs=(*main.inputs, labels),
        ops=(*main.ops, *losses, total),
        outputs=(*kept, Output(LOSS, "data", LOSS)),
    )


def _losses(predicted: Iterable[Output], labels: Input) -> Iterator[Op]:
    for at, output in enumerate(predicted):
        yield Op(
            "cross_entropy",
            (output.name, labels.name),
            (f"{LOSS}.{at}",),
            (TensorType("float32", ()),),
            {
                "indices": "bsv,bs->",
                "classes": "v",
                "along": "s",
                "shift": at + 2,
                "ignore": IGNORED,
            },
        )
