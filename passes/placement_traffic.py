"""What the rectangles of a program send each other and to the ports of their wafer, in a step."""

from collections.abc import Iterator
from itertools import combinations
from typing import get_args

import numpy as np

from ..backend.dram import dram_of
from ..backend.exchange import sent_bytes
from ..ir import dims
from ..ir.graph import Input, Output, Role
from ..ir.hardware import Edge, Wafer
from ..ir.mapped import MappedGraph
from ..ir.program import Program, Stage, Way
from .placement_problem import Anchor, Exchange

MOST_PAIRED = 16
"""Replicas that divide experts of which all pairs are drawn together by what they exchange."""


def exchanges_of(program: Program) -> tuple[Exchange, ...]:
    """Between rectangles, of which stage s of replica r is number r * stages + s: hand-overs of
    all micro-batches, parts of gradients, what goes around the replicas, and tokens on their way
    to experts that lie on another one."""
    stages, replicas = len(program.stages), program.mapping.dp
    handed = (
        Exchange(
            replica * stages + transfer.source,
            replica * stages + transfer.target,
            transfer.bytes * (1 if transfer.way == "update" else program.microbatches),
        )
        for replica in range(replicas)
        for transfer in program.transfers
    )
    return (*handed, *_around_replicas(program), *_to_experts(program))


def _around_replicas(program: Program) -> Iterator[Exchange]:
    """In the ring of replicas, or of those with the same experts: sums of gradients, of which
    2 (n - 1) times the n-th part passes (Thakur et al., IJHPCA 2005, section 4.4), and weights,
    where each replica holds a part of them and gathers the others for every pass."""
    stages, mapping = len(program.stages), program.mapping
    for rings in dict.fromkeys((1, mapping.ep)):
        replicas = mapping.dp // rings
        last = replicas if replicas > 2 else replicas - 1
        pairs = [
            (first + rings * at, first + rings * ((at + 1) % replicas))
            for first in range(rings)
            for at in range(last)
        ]
        for at, stage in enumerate(program.stages):
            of_experts = rings > 1
            parts = 0 if mapping.streaming else 2 * _gradient_bytes(program, stage, of_experts)
            if mapping.zero == 3:
                ways: tuple[Way, ...] = ("forward", "backward")
                parts += _bytes_of(program, stage, {"weight"}, ways, of_experts)
            bytes_ = parts * (replicas - 1) / replicas
            if bytes_:
                yield from (Exchange(a * stages + at, b * stages + at, bytes_) for a, b in pairs)


def _gradient_bytes(program: Program, stage: Stage, of_experts: bool) -> float:
    """Bytes of the gradients that a replica of a stage makes, of experts that it divides with
    others or of all else; those that leave for another stage count here, where they arise."""
    return sum(
        call.integer("count") * _own_bytes(program, mapped, output.name)
        for call in stage.calls
        for mapped in [program.graphs[call.text("body")]]
        for output in mapped.graph.outputs
        if output.role == "gradient" and mapped.over_replicas(output.name) == of_experts
    )


def _own_bytes(program: Program, mapped: MappedGraph, name: str) -> float:
    """Bytes that a replica has of a value."""
    parts = program.mapping.ep if mapped.over_replicas(name) else 1
    return dims.size(mapped.graph.types[name].bytes) / parts


def _to_experts(program: Program) -> Iterator[Exchange]:
    """Tokens to experts and what becomes of them back, inside each group of `ep` replicas in
    order; every replica of it holds an equal run of the experts, and gets what falls on these.
    Of groups of many, each sends as much to the two beside it."""
    stages, ep = len(program.stages), program.mapping.ep
    for at, stage in enumerate(program.stages):
        drawn = np.zeros(ep)
        for call in stage.calls:
            times = call.integer("count") * program.microbatches
            for op in program.graphs[call.text("body")].graph.ops:
                if op.kind in ("dispatch", "collect"):
                    graph = program.graphs[call.text("body")].graph
                    drawn += times * np.array(sent_bytes(graph, op, ep))
        for first in range(0, program.mapping.dp, ep) if drawn.any() else ():
            for a, b in combinations(range(ep), 2):
                ends = (first + a) * stages + at, (first + b) * stages + at
                if ep <= MOST_PAIRED:
                    yield Exchange(*ends, float(drawn[a] + drawn[b]))
                elif b - a in (1, ep - 1):
                    yield Exchange(*ends, float(drawn[a] + drawn[b]) * (ep - 1) / 2)


def anchors_of(program: Program) -> tuple[Anchor, ...]:
    """To the ports: the data that a stage's graphs read and yield (tokens, logits), and, where
    weights are streamed or lie behind the ports, these in every pass and their gradients, and
    caches that lie there, by the ports of the memory that holds them. Memory on or beside a die is
    near wherever a rectangle lies."""
    wafer = program.hardware.wafer
    ways: list[tuple[tuple[Edge, ...], set[Role]]] = [(port_edges(wafer), {"data"})]
    if program.mapping.streaming:
        ways.append((_memory_edges(wafer), {"weight", "gradient"}))
    elif roles := _roles_at_edges(program):
        ways.append((_memory_edges(wafer), roles))
    stages = len(program.stages)
    return tuple(
        anchor(replica * stages + at, edges, bytes_)
        for edges, roles in ways
        if edges
        for at, stage in enumerate(program.stages)
        if (bytes_ := _bytes_of(program, stage, roles))
        for replica in range(program.mapping.dp)
    )


def _roles_at_edges(program: Program) -> set[Role]:
    """Of what lies in DRAM behind the ports."""
    dram, mapping = dram_of(program.hardware), program.mapping
    if dram is None or dram.on_die:
        return set()
    roles: set[Role] = {"weight", "gradient", "state"} if mapping.weights == "dram" else set()
    return roles | ({"cache"} if mapping.cache == "dram" else set())


def _bytes_of(
    program: Program,
    stage: Stage,
    roles: set[Role],
    ways: tuple[Way, ...] = get_args(Way),
    of_experts: bool | None = None,
) -> float:
    """Bytes of values of some roles that a stage of one replica reads or yields in its calls of
    some ways; of experts that replicas divide, or of all else, if that is asked for."""
    total = 0.0
    for call in stage.calls:
        if program.way(call) not in ways:
            continue
        mapped = program.graphs[call.text("body")]
        values: tuple[Input | Output, ...] = (*mapped.graph.inputs, *mapped.graph.outputs)
        moved = (
            _own_bytes(program, mapped, v.name)
            for v in values
            if v.role in roles and of_experts in (None, mapped.over_replicas(v.name))
        )
        times = 1 if program.way(call) == "update" else program.microbatches
        total += times * call.integer("count") * sum(moved)
    return total


def _memory_edges(wafer: Wafer) -> tuple[Edge, ...]:
    """The edges behind whose ports the memory of the wafer lies; all ports where none says so."""
    edges = port_edges(wafer)
    behind = {memory.via for memory in wafer.memories}
    return tuple(edge for edge in edges if edge in behind) or edges


def port_edges(wafer: Wafer) -> tuple[Edge, ...]:
    """The edges of a wafer that have ports, in the order of the spec."""
    return tuple(dict.fromkeys(io.edge for io in wafer.io))


def anchor(rectangle: int, edges: tuple[Edge, ...], bytes_: float) -> Anchor:
    """Bytes between a rectangle and the nearest of some edges."""
    return Anchor(rectangle, edges[0], bytes_, edges[1:])
