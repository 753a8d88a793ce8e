"""The optimizer: what becomes of the parameters of a differentiated model.

The updates of a layer's parameters are a graph of their own, repeated over the layers, and not
the end of the layer's backward graph: with several micro-batches a step runs forward and backward
for each of them and updates once, and gradients are summed over devices in between.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from string import ascii_lowercase
from typing import Literal

from ..ir.errors import UserError
from ..ir.graph import Attribute, Graph, Input, Model, Op, Output, TensorType

Rule = Literal["adam", "sgd", "none"]

_MASTER = "float32"
"""The dtype of master weights and moments (Micikevicius et al., arXiv 1710.03740)."""


@dataclass(frozen=True)
class Optimize:
    """Add the update of every parameter that has a gradient.

    A valid model of the phase `train` with gradients as outputs in; the same with new parameters
    (role `weight`) and optimizer states (role `state`) as further outputs out.

    - `adam`: Adam with decoupled weight decay on all parameters, states `<parameter>.moment1` and
      `<parameter>.moment2` and the number of steps so far, `step`, of all parameters.
    - `sgd`: plain gradient descent.
    - `none`: the model as it is.

    States are float32. A parameter narrower than that has a float32 copy, `<parameter>.master`,
    which is updated in its place and rounded. With Adam a bfloat16 parameter thus takes 16 bytes:
    2 itself, 2 its gradient, 4 the copy, 8 the moments.

    The main graph updates its own parameters; those of a layer are updated by a graph
    `<layer>.update`, repeated over the layers behind the backward pass.
    """

    optimizer: Rule = "adam"
    rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    decay: float = 0.0
    name: str = "optimize"

    def run(self, model: Model) -> Model:
        """The model with its updates."""
        if self.optimizer == "none":
            return model
        if model.phase != "train":
            raise UserError(f"{model.name}: only a model with gradients has an optimizer")
        main, step = self._with_step(model.main)
        own = _Updates(self, step)
        for source, gradient in _gradients(main).items():
            own.add(_weights(main)[source], gradient, held=True)
        ops = [*main.ops, *own.ops]
        graphs = dict(model.graphs)
        for op in model.main.ops:
            if op.kind == "repeat" and op.attributes.get("reverse"):
                updates = self._layer(model, op.text("body"), step)
                if updates is not None:
                    graphs[updates.name] = updates
                    ops.append(_repeated(op, updates, step))
        graphs["main"] = replace(
            main,
            inputs=(*main.inputs, *own.inputs),
            ops=tuple(ops),
            outputs=(*main.outputs, *own.outputs),
        )
        return replace(model, graphs=graphs)

    @property
    def attributes(self) -> dict[str, Attribute]:
        """The numbers of the rule, as `update` states them."""
        numbers: dict[str, Attribute] = {"rule": self.optimizer, "rate": self.rate}
        if self.optimizer == "adam":
            numbers |= {"beta1": self.beta1, "beta2": self.beta2, "epsilon": self.epsilon}
        return {**numbers, "decay": self.decay}

    def _with_step(self, main: Graph) -> tuple[Graph, str]:
        """The main graph with the number of this step, and that number's name, if it is used."""
        if self.optimizer != "adam":
            return main, ""
        scalar = TensorType("int64", ())
        count = Op(
            "elementwise", ("step",), ("step.next",), (scalar,), {"indices": "->", "expr": "a + 1"}
        )
        with_step = replace(
            main,
            inputs=(*main.inputs, Input("step", scalar, "state", "step")),
            ops=(*main.ops, count),
            outputs=(*main.outputs, Output("step.next", "state", "step")),
        )
        return with_step, "step.next"

    def _layer(self, model: Model, backward: str, step: str) -> Graph | None:
        """The updates of the parameters of a layer, from the gradients of its backward graph."""
        updates = _Updates(self, step)
        if step:
            updates.inputs.append(Input(step, TensorType("int64", ()), "shared", step))
        name = backward.removesuffix(".backward")
        weights = _weights(model.graphs[name])
        for source in _gradients(model.graphs[backward]):
            weight = weights[source]
            gradient = Input(f"{weight.name}.grad", weight.type, "gradient", source)
            updates.inputs.append(gradient)
            updates.add(weight, gradient.name, held=False)
        if not updates.ops:
            return None
        graph = (tuple(updates.inputs), tuple(updates.ops), tuple(updates.outputs))
        return Graph(f"{name}.update", *graph)


def _repeated(backward: Op, updates: Graph, step: str) -> Op:
    attributes = {
        "body": updates.name,
        "first": backward.integer("first"),
        "count": backward.integer("count"),
    }
    return Op("repeat", (step,) if step else (), (), (), attributes, backward.path)


def _weights(graph: Graph) -> dict[str, Input]:
    return {value.source: value for value in graph.inputs if value.role == "weight"}


def _gradients(graph: Graph) -> dict[str, str]:
    """The gradients that a graph yields, by their parameters' sources."""
    return {output.source: output.name for output in graph.outputs if output.role == "gradient"}


@dataclass
class _Updates:
    """Updates of parameters, with what they read and yield."""

    optimizer: Optimize
    step: str
    inputs: list[Input] = field(default_factory=list[Input])
    ops: list[Op] = field(default_factory=list[Op])
    outputs: list[Output] = field(default_factory=list[Output])

    def add(self, weight: Input, gradient: str, held: bool) -> None:
        """Add one parameter's update; `held` says whether the weight is an input already."""
        wide = TensorType(_wide(weight.type.dtype), weight.type.shape)
        copied = wide != weight.type
        operands = [gradient]
        if copied:
            operands.append(self._state(weight, wide, "master"))
        else:
            if not held:
                self.inputs.append(weight)
            operands.append(weight.name)
        kept = ["moment1", "moment2"] if self.optimizer.optimizer == "adam" else []
        operands += [self._state(weight, wide, name) for name in kept]
        results = [f"{operand}.next" for operand in operands[1:]]
        letters = ascii_lowercase[: len(wide.shape)]
        indices = [letters] * len(operands) + ([""] if self.step else [])
        operands += [self.step] if self.step else []
        attributes: Mapping[str, Attribute] = {
            "indices": f"{','.join(indices)}->{','.join([letters] * len(results))}",
            **self.optimizer.attributes,
        }
        types = (wide,) * len(results)
        self.ops.append(Op("update", tuple(operands), tuple(results), types, attributes))
        for name, result in zip(kept, results[1:], strict=True):
            self.outputs.append(Output(result, "state", f"{weight.source}.{name}"))
        new = results[0]
        if copied:
            self.outputs.append(Output(new, "state", f"{weight.source}.master"))
            new = f"{weight.name}.next"
            cast = {"indices": f"{letters}->{letters}", "expr": "a"}
            self.ops.append(Op("elementwise", (results[0],), (new,), (weight.type,), cast))
        self.outputs.append(Output(new, "weight", weight.source))

    def _state(self, weight: Input, type_: TensorType, what: str) -> str:
        """The name of a new input that holds a state of a parameter."""
        name = f"{weight.name}.{what}"
        self.inputs.append(Input(name, type_, "state", f"{weight.source}.{what}"))
        return name


def _wide(dtype: str) -> str:
    return "float64" if dtype == "float64" else _MASTER
