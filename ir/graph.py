"""The model graph: operators over typed values, independent of any hardware.

There is one `Op` node type; what a kind means is declared in kinds.py. A `Model` is a main graph
whose `repeat` operators stand for runs of equal layers, each layer kind being one sub-graph.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

from . import dims, expression
from .dims import Dim
from .errors import VerificationError

if TYPE_CHECKING:
    import networkx

Attribute = str | int | float | bool | None | Dim | tuple[int, ...] | tuple[str, ...]

DTYPE_BITS = {
    "bool": 8,
    "uint1": 1,
    "uint2": 2,
    "uint3": 3,
    "int2": 2,
    "int4": 4,
    "uint4": 4,
    "float4_e2m1": 4,
    "nf4": 4,
    "fp4": 4,
    "int8": 8,
    "uint8": 8,
    "float8_e4m3fn": 8,
    "float8_e5m2": 8,
    "float8_e8m0fnu": 8,
    "float16": 16,
    "bfloat16": 16,
    "int32": 32,
    "float32": 32,
    "int64": 64,
    "float64": 64,
}
"""Bits of an element in memory, where elements smaller than a byte are packed."""

DTYPE_BYTES = {name: bits // 8 if bits % 8 == 0 else bits / 8 for name, bits in DTYPE_BITS.items()}
"""Bytes of an element, a fraction where it is smaller than a byte."""


@dataclass(frozen=True)
class TensorType:
    """A dtype as torch spells it (`bfloat16`) and a shape of dimensions."""

    dtype: str
    shape: tuple[Dim, ...]

    @property
    def elements(self) -> Dim:
        return dims.product(self.shape)

    @property
    def bytes(self) -> Dim:
        """Whole bytes: each term of a symbolic size is rounded up by itself."""
        return dims.ceil_div(self.elements * DTYPE_BITS[self.dtype], 8)

    def bind(self, sizes: Mapping[str, int]) -> "TensorType":
        return TensorType(self.dtype, tuple(dims.bind(dim, sizes) for dim in self.shape))

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(str(dim) for dim in self.shape)}]"


Role = Literal[
    "data", "weight", "buffer", "cache", "carried", "shared", "saved", "gradient", "state"
]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class Input:
    """A value that comes from outside the graph.

    `source` names it there: a parameter or buffer as Hugging Face names it, with `*` for the
    layer's index inside a repeated graph; a cache (`cache.*.key`); a model input (`input_ids`).
    The shape may be any row-major view of the source. `carried` values pass from one repetition
    to the next; `shared` ones are the same for all. In training a `saved` value
    (`saved.*.<value>`) is one of the forward pass that the backward pass reads, a `gradient` is
    named like its parameter, and a `state` is the optimizer's (`<parameter>.moment1`, `step`).
    """

    name: str
    type: TensorType
    role: Role
    source: str


@dataclass(frozen=True)
class Output:
    """A value that the graph yields: `carried`, `data` (logits), `cache` (what it becomes); in
    training also `saved`, `gradient`, and what a `weight` or `state` becomes."""

    name: str
    role: Role
    source: str


@dataclass(frozen=True)
class Op:
    """One operator: a kind, operands and results by name, attributes, the module it came from."""

    kind: str
    operands: tuple[str, ...]
    results: tuple[str, ...]
    types: tuple[TensorType, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict[str, Attribute])
    path: str = ""

    @property
    def result(self) -> str:
        """The first result; a repeat that yields none is called by its body and first layer."""
        return self.results[0] if self.results else f"{self.text('body')}.{self.integer('first')}"

    @property
    def type(self) -> TensorType:
        return self.types[0]

    def text(self, name: str) -> str:
        """The string attribute `name`; raises VerificationError if it is missing or no string."""
        value = self.attributes.get(name)
        if not isinstance(value, str):
            raise VerificationError(f"no text attribute {name!r}")
        return value

    def integer(self, name: str) -> int:
        """The integer attribute `name`; raises VerificationError if missing or no integer."""
        value = self.attributes.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise VerificationError(f"no integer attribute {name!r}")
        return value

    def number(self, name: str) -> float:
        """The numeric attribute `name`; raises VerificationError if missing or no number."""
        value = self.attributes.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise VerificationError(f"no numeric attribute {name!r}")
        return value

    def dim(self, name: str) -> Dim:
        """The attribute `name`, a dimension; raises VerificationError if missing or none."""
        value = self.attributes.get(name)
        if not isinstance(value, int | dims.Polynomial) or isinstance(value, bool):
            raise VerificationError(f"no dimension {name!r}")
        return value

    def integers(self, name: str) -> tuple[int, ...]:
        """The attribute `name`, a list of integers; raises VerificationError otherwise."""
        value = self.attributes.get(name)
        if not isinstance(value, tuple) or any(isinstance(item, str) for item in value):
            raise VerificationError(f"no list attribute {name!r}")
        return tuple(int(item) for item in value)

    def bind(self, sizes: Mapping[str, int]) -> "Op":
        """The operator with the symbols in its types and attributes replaced by numbers."""
        return dataclasses.replace(
            self,
            types=tuple(type_.bind(sizes) for type_ in self.types),
            attributes={
                name: _bound(name, value, sizes) for name, value in self.attributes.items()
            },
        )


def _bound(name: str, value: Attribute, sizes: Mapping[str, int]) -> Attribute:
    if name == "expr" and isinstance(value, str):
        return expression.bind(value, sizes)
    return dims.bind(value, sizes) if isinstance(value, dims.Polynomial) else value


@dataclass(frozen=True)
class Graph:
    """Operators in topological order between named inputs and outputs."""

    name: str
    inputs: tuple[Input, ...]
    ops: tuple[Op, ...]
    outputs: tuple[Output, ...]

    @cached_property
    def types(self) -> dict[str, TensorType]:
        """The type of every value."""
        types = {value.name: value.type for value in self.inputs}
        for op in self.ops:
            types.update(zip(op.results, op.types, strict=True))
        return types

    @cached_property
    def producers(self) -> dict[str, Op]:
        return {name: op for op in self.ops for name in op.results}

    @cached_property
    def consumers(self) -> dict[str, tuple[Op, ...]]:
        """The operators that read each value, in order."""
        found: dict[str, list[Op]] = {name: [] for name in self.types}
        for op in self.ops:
            for name in dict.fromkeys(op.operands):
                found[name].append(op)
        return {name: tuple(ops) for name, ops in found.items()}

    @cached_property
    def dag(self) -> "networkx.DiGraph[str]":
        """Operators as a networkx graph: nodes by first result (and inputs by name), an edge for
        every use."""
        import networkx

        dag: networkx.DiGraph[str] = networkx.DiGraph()
        dag.add_nodes_from((value.name, {"input": value}) for value in self.inputs)
        for op in self.ops:
            dag.add_node(op.result, op=op)
            for name in op.operands:
                producer = self.producers.get(name)
                dag.add_edge(producer.result if producer else name, op.result, value=name)
        return dag

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(output.name for output in self.outputs)

    def operand_types(self, op: Op) -> tuple[TensorType, ...]:
        return tuple(self.types[name] for name in op.operands)

    @property
    def saved_bytes(self) -> Dim:
        """Bytes of what the graph keeps for the backward pass: its outputs of role `saved`.

        For a layer this is what one repetition keeps from when it runs forward until it runs
        backward; for the main graph, what lives across the loss.
        """
        return sum((self.types[o.name].bytes for o in self.outputs if o.role == "saved"), start=0)

    def with_ops(self, ops: list[Op]) -> "Graph":
        """This graph with other operators between the same inputs and outputs."""
        return dataclasses.replace(self, ops=tuple(ops))

    def bind(self, sizes: Mapping[str, int]) -> "Graph":
        """The graph with its symbols replaced by numbers."""
        return dataclasses.replace(
            self,
            inputs=tuple(dataclasses.replace(i, type=i.type.bind(sizes)) for i in self.inputs),
            ops=tuple(op.bind(sizes) for op in self.ops),
        )

    def verify(self) -> None:
        """Raise VerificationError unless names are unique, defined before use and well typed."""
        from .kinds import verify_op

        defined: dict[str, TensorType] = {}
        for value in self.inputs:
            self._define(defined, value.name, value.type, "input")
        for op in self.ops:
            missing = [name for name in op.operands if name not in defined]
            if missing:
                raise VerificationError(
                    f"graph {self.name}: {op.kind} %{op.result} reads %{missing[0]}, "
                    "which nothing before it defines"
                )
            verify_op(self.name, op, tuple(defined[name] for name in op.operands))
            for name, type_ in zip(op.results, op.types, strict=True):
                self._define(defined, name, type_, op.kind)
        for output in self.outputs:
            if output.name not in defined:
                raise VerificationError(f"graph {self.name}: output %{output.name} is not defined")

    def _define(
        self, defined: dict[str, TensorType], name: str, type_: TensorType, by: str
    ) -> None:
        if name in defined:
            raise VerificationError(f"graph {self.name}: {by} defines %{name} a second time")
        defined[name] = type_


def forward_bodies(calls: Iterable[Op]) -> dict[str, str]:
    """For every graph that `repeat` operators call the one that runs its layers forward: in
    training a layer's backward pass and update follow graphs of their own. Pieces of the main
    graph (`shared`, `main.0`) are no layers."""
    pieces = ("main.", "shared")
    calls = [call for call in calls if not call.text("body").startswith(pieces)]
    forward = {
        call.integer("first"): call.text("body")
        for call in calls
        if call.results and not call.attributes.get("reverse")
    }
    bodies = {call.text("body"): call.integer("first") for call in calls}
    made = set(forward.values())
    return {body: body if body in made else forward.get(at, body) for body, at in bodies.items()}


Phase = Literal["prefill", "decode", "train"]

Part = Literal["text", "all"]
"""Of a multimodal model: the language model alone, or everything."""


@dataclass(frozen=True)
class Model:
    """A whole model: `graphs["main"]` and one graph for every kind of repeated layer."""

    name: str
    phase: Phase
    dtype: str
    graphs: Mapping[str, Graph]

    @property
    def main(self) -> Graph:
        return self.graphs["main"]

    def runs(self) -> Iterator[tuple[Graph, int, int]]:
        """Every run of repeated layers in order: (its graph, first layer, number of layers)."""
        for op in self.main.ops:
            if op.kind == "repeat":
                yield self.graphs[op.text("body")], op.integer("first"), op.integer("count")

    @property
    def symbolic(self) -> bool:
        """Whether batch, sequence or context is still a symbol in some shape."""
        types = (value.type for graph in self.graphs.values() for value in graph.inputs)
        return any(not isinstance(dim, int) for type_ in types for dim in type_.shape)

    @property
    def layers(self) -> int:
        """Repetitions of layers in the forward pass."""
        return sum(
            op.integer("count")
            for op in self.main.ops
            if op.kind == "repeat" and op.results and not op.attributes.get("reverse")
        )

    @property
    def saved_bytes(self) -> Dim:
        """Bytes that live between forward and backward pass at most, all layers: what
        `Graph.saved_bytes` says of each."""
        return self.total(lambda graph: graph.saved_bytes)

    def total(self, measure: Callable[[Graph], Dim]) -> Dim:
        """The sum of `measure` over the main graph and every repetition of every layer."""
        return measure(self.main) + sum(
            (measure(body) * count for body, _, count in self.runs()), start=0
        )

    @property
    def parameters(self) -> int:
        """Parameters of the model; a weight used twice (tied) counts once."""
        return sum(dims.size(type_.elements) for type_ in self.sources("weight").values())

    def sources(self, role: Role) -> dict[str, TensorType]:
        """All inputs of a role by source, those of every layer, each once."""
        found: dict[str, TensorType] = {}
        for graph, first, count in ((self.main, 0, 1), *self.runs()):
            for value in graph.inputs:
                if value.role == role:
                    for layer in range(first, first + count):
                        found[value.source.replace("*", str(layer))] = value.type
        return found

    @property
    def flops(self) -> Dim:
        """Multiply-adds counted as two, of matrix products and attention, all layers."""
        from .kinds import graph_flops

        return self.total(graph_flops)

    def bind(self, sizes: Mapping[str, int]) -> "Model":
        """The model for one batch, sequence and context."""
        return self.map(lambda graph: graph.bind(sizes))

    def map(self, change: Callable[[Graph], Graph]) -> "Model":
        """The model with every graph changed."""
        graphs = {name: change(graph) for name, graph in self.graphs.items()}
        return dataclasses.replace(self, graphs=graphs)

    def verify(self) -> None:
        """Raise VerificationError unless every graph is valid and every repeat fits its body."""
        for name, graph in self.graphs.items():
            if name != graph.name:
                raise VerificationError(f"graph {graph.name} is filed under {name}")
            graph.verify()
        for op in self.main.ops:
            if op.kind == "repeat":
                self._verify_repeat(op)
        self._verify_saved()

    def _verify_saved(self) -> None:
        """Raise VerificationError where a graph reads what no graph saves."""
        saved = {
            (output.source, graph.types[output.name])
            for graph in self.graphs.values()
            for output in graph.outputs
            if output.role == "saved"
        }
        for graph in self.graphs.values():
            for value in graph.inputs:
                if value.role == "saved" and (value.source, value.type) not in saved:
                    raise VerificationError(
                        f"graph {graph.name}: nothing saves {value.source} as {value.type}"
                    )

    def _verify_repeat(self, op: Op) -> None:
        body = self.graphs.get(op.text("body"))
        if body is None:
            raise VerificationError(f"repeat %{op.result}: no graph called {op.text('body')}")
        inputs = [i.type for i in body.inputs if i.role in ("carried", "shared")]
        if inputs != [self.main.types[name] for name in op.operands]:
            raise VerificationError(f"repeat %{op.result}: operands do not fit graph {body.name}")
        carried = [i.type for i in body.inputs if i.role == "carried"]
        results = [body.types[o.name] for o in body.outputs if o.role == "carried"]
        if not (carried == results == list(op.types)):
            raise VerificationError(
                f"repeat %{op.result}: what graph {body.name} carries in, carries out and yields "
                "differs"
            )
