"""Models and programs in the form in which they are compared: in float32, and layers alone."""

import dataclasses
from collections.abc import Mapping, Sequence

from ..ir.dims import size
from ..ir.errors import UserError
from ..ir.graph import Graph, Input, Model, Op, Output, TensorType
from ..ir.mapped import MappedGraph
from ..ir.program import Program
from .pieces import SHARED, Chain, chain_of

NARROW = ("bfloat16", "float16")
"""Dtypes in whose place float32 is computed, which leaves rounding no room to hide a fault."""


def in_float32(model: Model) -> Model:
    """The model with float32 in the place of narrower floats."""
    return model.map(_wide_graph)


def in_float64(model: Model) -> Model:
    """The model with float64 in the place of all other floats."""
    return model.map(lambda graph: _wide_graph(graph, ("float32", *NARROW), "float64"))


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


def _wide_graph(graph: Graph, narrow: Sequence[str] = NARROW, wide: str = "float32") -> Graph:
    """The graph with one dtype in the place of others."""

    def changed(type_: TensorType) -> TensorType:
        return TensorType(wide, type_.shape) if type_.dtype in narrow else type_

    inputs = tuple(dataclasses.replace(i, type=changed(i.type)) for i in graph.inputs)
    ops = tuple(dataclasses.replace(op, types=tuple(map(changed, op.types))) for op in graph.ops)
    return dataclasses.replace(graph, inputs=inputs, ops=ops)


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


def yielding(program: Program) -> Program:
    """The program with what its last layers hand on among its outputs: of the layers that share
    a graph the last one's stays."""
    calls = tuple(
        call for visit in program.visits for call in visit.calls if call.text("body") != SHARED
    )
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
