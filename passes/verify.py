"""Whether a mapped program computes what its model does: both are run on the same random values.

The program runs on virtual devices (ir/virtual.py), the model on none (ir/interpreter.py), both in
float32 whatever the dtype that they are compiled for. What is too large for that is said in
verify_size.py.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING

from ..ir.dims import Polynomial, size
from ..ir.errors import UserError, VerificationError
from ..ir.graph import Graph, Input, Model, Op, Output, TensorType
from ..ir.interpreter import run_model
from ..ir.kinds import kind_of
from ..ir.mapped import MappedGraph
from ..ir.program import Program, Workload
from ..ir.random_state import random_state
from ..ir.virtual import run_program
from .pieces import SHARED, Chain, chain_of

if TYPE_CHECKING:
    from torch import Tensor

    Values = Mapping[str, Tensor]

TOLERANCE = 1e-5
"""Of the largest error to the largest value of an output, in float32."""

NARROW = ("bfloat16", "float16")
"""Dtypes in whose place float32 is computed, which leaves rounding no room to hide a fault."""


@dataclass(frozen=True)
class Compared:
    """One output, as the program and as the model yields it.

    `relative_error` is the largest error over the largest value: single elements near zero say
    nothing. Infinite where an element is finite on one side alone, or none is.
    """

    output: str
    shape: tuple[int, ...]
    largest_value: float
    absolute_error: float
    relative_error: float


@dataclass(frozen=True)
class Verification:
    """What was run and compared; `fault` says why the program could not be run to its end."""

    tolerance: float
    seed: int
    outputs: tuple[Compared, ...]
    fault: str | None
    devices: int
    """Of all stages and replicas."""
    steps: int
    """Micro-batches of all replicas: the program runs once for each."""
    operators: int
    """Run in all stages and steps, each on all devices of its stage."""
    collectives: Mapping[str, int]
    """Those that see several devices, by kind, and transfers between stages, in all steps."""
    unsplit_s: float
    devices_s: float

    @property
    def different(self) -> tuple[Compared, ...]:
        """Outputs that differ by more than the tolerance."""
        return tuple(o for o in self.outputs if not o.relative_error <= self.tolerance)

    @property
    def equal(self) -> bool:
        """Whether all outputs are there and equal within the tolerance."""
        return self.fault is None and bool(self.outputs) and not self.different


def verify(
    model: Model, program: Program, seed: int = 0, tolerance: float = TOLERANCE
) -> Verification:
    """Run a program and the model that it was compiled from, and compare every output.

    A program of the first layers alone is compared with those; the hidden states that they are
    given are drawn too, and those that they yield compared. Raises UserError for a quantized
    model, whose rounding tells faults from noise no more, and for one that cannot be run on
    random values.
    """
    _check_kinds(model)
    unsplit, split = in_float32(model), float32_program(program)
    if program.given:
        unsplit, split = layers_of(unsplit, program), _yielding(split)
    batches = Batches(unsplit, program.workload, program.mapping.microbatch)
    state = random_state(unsplit, batches.sizes, seed)
    started = perf_counter()
    expected = _run_unsplit(unsplit.bind(batches.sizes), state)
    unsplit_s = perf_counter() - started
    fault, outputs = None, ()
    try:
        outputs = compare(expected, run_batches(split, batches, state))
    except (VerificationError, RuntimeError) as error:
        fault = str(error)
    return Verification(
        tolerance=tolerance,
        seed=seed,
        outputs=outputs,
        fault=fault,
        devices=program.mesh.devices * len(program.stages) * program.mapping.dp,
        steps=batches.count,
        operators=sum(_operators(program).values()) * batches.count,
        collectives=_collectives(program, batches.count),
        unsplit_s=unsplit_s,
        devices_s=perf_counter() - started - unsplit_s,
    )


def _check_kinds(model: Model) -> None:
    kinds = {op.kind for graph in model.graphs.values() for op in graph.ops}
    if model.phase == "train":
        raise UserError(f"{model.name}: training cannot be verified yet")
    if kinds & {"quantize", "dequantize"}:
        raise UserError(f"{model.name} is quantized: load it with a dtype to verify it")


def compare(expected: "Values", found: "Values") -> tuple[Compared, ...]:
    """Every output of a model beside that of its program, which may differ in shape by a view.

    Raises VerificationError where one has outputs that the other has not.
    """
    if expected.keys() != found.keys():
        odd = sorted(expected.keys() ^ found.keys())
        raise VerificationError(f"only one of program and model yields {', '.join(odd)}")
    return tuple(_compared(name, value, found[name]) for name, value in expected.items())


def _compared(name: str, expected: "Tensor", found: "Tensor") -> Compared:
    import torch

    shape, found = tuple(expected.shape), found.reshape(expected.shape).double()
    expected = expected.double()
    finite = expected.isfinite()
    largest = float(expected[finite].abs().max()) if finite.any() else 0.0
    alike = torch.equal(finite, found.isfinite()) and torch.allclose(
        expected[~finite], found[~finite], equal_nan=True
    )
    if not alike or (expected.numel() and not finite.any()):
        return Compared(name, shape, largest, float("inf"), float("inf"))
    error = float((expected - found)[finite].abs().max()) if finite.any() else 0.0
    scale = largest if largest or not error else error
    return Compared(name, shape, largest, error, error / (scale or 1.0))


# Batches


@dataclass(frozen=True)
class Batches:
    """How the sequences of a step are divided among replicas and micro-batches.

    A program is for one micro-batch; which dimension of a value counts sequences is read off the
    model's symbolic types.
    """

    model: Model
    workload: Workload
    microbatch: int

    @property
    def sizes(self) -> dict[str, int]:
        step = self.workload
        return {"batch": step.batch, "sequence": step.sequence, "context": step.context}

    @property
    def count(self) -> int:
        return -(-self.workload.batch // self.microbatch)

    def part(self, values: "Values", at: int) -> "Values":
        """What one micro-batch reads."""
        return {
            name: self._narrowed(value, self._sources[name], at) if name in self._sources else value
            for name, value in values.items()
        }

    def joined(self, parts: "list[Values]") -> "Values":
        """The outputs of the whole step, made of those of its micro-batches."""
        return {name: self._join(name, [part[name] for part in parts]) for name in parts[0]}

    @cached_property
    def _sources(self) -> dict[str, TensorType]:
        return self.model.sources("data") | self.model.sources("cache")

    @cached_property
    def _outputs(self) -> dict[str, TensorType]:
        return {
            output.source.replace("*", str(layer)): graph.types[output.name]
            for graph, first, count in ((self.model.main, 0, 1), *self.model.runs())
            for output in graph.outputs
            for layer in range(first, first + count)
        }

    def _narrowed(self, value: "Tensor", type_: TensorType, at: int) -> "Tensor":
        along = self._along(type_)
        if along is None:
            return value
        length = size(type_.bind(self.sizes | {"batch": self.microbatch}).shape[along])
        return value.narrow(along, at * length, length)

    def _join(self, name: str, parts: "list[Tensor]") -> "Tensor":
        import torch

        type_ = self._outputs.get(name)
        along = None if type_ is None else self._along(type_)
        if type_ is None or along is None:
            if not all(torch.allclose(part, parts[0]) for part in parts[1:]):
                raise VerificationError(f"{name} differs between micro-batches")
            return parts[0]
        bound = type_.bind(self.sizes | {"batch": self.microbatch})
        return torch.cat(
            [part.reshape([size(dim) for dim in bound.shape]) for part in parts], along
        )

    def _along(self, type_: TensorType) -> int | None:
        """The dimension that counts sequences; if it counts more, they vary slowest."""
        if self.count == 1:
            return None
        found = [
            at
            for at, dim in enumerate(type_.shape)
            if isinstance(dim, Polynomial) and any("batch" in term for term, _ in dim.terms)
        ]
        if len(found) > 1:
            raise UserError(
                f"a value of {type_} cannot be divided into micro-batches: pin "
                f"dp=1,microbatch={self.workload.batch}"
            )
        return found[0] if found else None


def run_batches(program: Program, batches: Batches, state: "Values") -> "Values":
    """The outputs of a whole step: the program run once for each of its micro-batches.

    Raises VerificationError for a program that breaks its own rules, before or while it runs.
    """
    program.verify()
    parts = [run_program(program, batches.part(state, at)) for at in range(batches.count)]
    return parts[0] if len(parts) == 1 else batches.joined([*parts])


def _run_unsplit(model: Model, state: "Values") -> "Values":
    try:
        return run_model(model, state)
    except (RuntimeError, IndexError) as error:
        raise UserError(f"{model.name} cannot be run on random values: {error}") from error


def _operators(program: Program) -> Counter[str]:
    """Operators that one micro-batch runs, by kind."""
    found: Counter[str] = Counter()
    for stage in program.stages:
        for call in stage.calls:
            for op in program.graphs[call.text("body")].graph.ops:
                found[op.kind] += call.integer("count")
    return found


def _collectives(program: Program, steps: int) -> dict[str, int]:
    several = {
        op.kind
        for mapped in program.graphs.values()
        for op in mapped.graph.ops
        if kind_of(op).collective
    }
    run = _operators(program)
    found = {kind: run[kind] * steps for kind in sorted(several)}
    sent = sum(len(transfer.values) for transfer in program.transfers)
    return found | ({"transfer": sent * steps} if sent else {})


# In float32


def in_float32(model: Model) -> Model:
    """The model with float32 in the place of narrower floats."""
    return model.map(_wide_graph)


def float32_program(program: Program) -> Program:
    """The program with float32 in the place of narrower floats."""
    graphs = {
        name: MappedGraph(_wide_graph(mapped.graph), mapped.shardings)
        for name, mapped in program.graphs.items()
    }
    stages = tuple(
        dataclasses.replace(stage, calls=tuple(_wide_op(call) for call in stage.calls))
        for stage in program.stages
    )
    return dataclasses.replace(program, graphs=graphs, stages=stages)


def _wide_graph(graph: Graph) -> Graph:
    inputs = tuple(dataclasses.replace(i, type=_wide_type(i.type)) for i in graph.inputs)
    return dataclasses.replace(graph, inputs=inputs, ops=tuple(_wide_op(op) for op in graph.ops))


def _wide_op(op: Op) -> Op:
    return dataclasses.replace(op, types=tuple(_wide_type(type_) for type_ in op.types))


def _wide_type(type_: TensorType) -> TensorType:
    return TensorType("float32", type_.shape) if type_.dtype in NARROW else type_


# Layers alone


def layers_of(model: Model, program: Program) -> Model:
    """The layers of a model that a program has, as a model that is given their hidden states."""
    chain = chain_of(model, with_head=False).first_layers(program.layers)
    shared = None if chain.shared is None else chain.graphs[SHARED]
    types = _given_types(chain)
    names = _paired(types, program)
    given = (Input(name, type_, "data", names[name]) for name, type_ in types.items())
    ends = tuple(Output(name, "data", end_name(at)) for at, name in enumerate(_unread(chain.calls)))
    main = Graph(
        "main",
        (*(shared.inputs if shared else ()), *given),
        (*(shared.ops if shared else ()), *chain.calls),
        ends,
    )
    graphs = {name: graph for name, graph in chain.graphs.items() if name != SHARED}
    return dataclasses.replace(model, graphs={**graphs, "main": main})


def _paired(types: Mapping[str, TensorType], program: Program) -> dict[str, str]:
    """What the program calls each value that the layers are given: the same, or that in its place.

    Raises UserError where the two do not fit.
    """
    if types.keys() == set(program.given):
        return {name: name for name in types}
    step = program.workload
    sizes = {"batch": program.mapping.microbatch, "sequence": step.sequence}
    bound = [type_.bind(sizes | {"context": step.context}) for type_ in types.values()]
    wanted = [size(_wide_type(type_).bytes) for type_ in bound]
    wide = float32_program(program)
    if wanted != [wide.value_bytes(name) for name in program.given]:
        raise UserError(f"{program.model}: its layers cannot be verified alone, without --layers")
    return dict(zip(types, program.given, strict=True))


def end_name(at: int) -> str:
    """What the `at`-th value that the last layers hand on is called."""
    return "hidden" if at == 0 else f"hidden.{at}"


def _given_types(chain: Chain) -> dict[str, TensorType]:
    found: dict[str, TensorType] = {}
    for call in chain.calls:
        graph = chain.graphs[call.text("body")]
        read = [i.type for i in graph.inputs if i.role in ("carried", "shared")]
        for name, type_ in zip(call.operands, read, strict=True):
            if name in chain.given:
                found.setdefault(name, type_)
    return found


def _unread(calls: tuple[Op, ...]) -> list[str]:
    """Results of calls that no call reads, in order."""
    read = {name for call in calls for name in call.operands}
    return [name for call in calls for name in call.results if name not in read]


def _yielding(program: Program) -> Program:
    """The program with what its last layers hand on among its outputs: of the layers that share
    a graph the last one's stays."""
    calls = tuple(call for stage in program.stages for call in stage.calls)
    ends = {name: end_name(at) for at, name in enumerate(_unread(calls))}
    graphs = dict(program.graphs)
    for call in calls:
        mapped = graphs[call.text("body")]
        handed = [o.name for o in mapped.graph.outputs if o.role in ("carried", "shared")]
        extra = tuple(
            Output(own, "data", ends[name])
            for own, name in zip(handed, call.results, strict=True)
            if name in ends
        )
        graph = dataclasses.replace(mapped.graph, outputs=(*mapped.graph.outputs, *extra))
        graphs[call.text("body")] = MappedGraph(graph, mapped.shardings)
    return dataclasses.replace(program, graphs=graphs)
