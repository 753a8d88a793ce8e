"""What the rectangles of a program send each other and to the ports of their wafer, in a step."""

from collections.abc import Iterator
from itertools import combinations
from math import prod
from typing import get_args

from ..ir import dims
from ..ir.graph import Graph, Input, Output, Role
from ..ir.hardware import Edge, Wafer
from ..ir.kinds import indices_of
from ..ir.operators.chosen import chosen_letters
from ..ir.program import Program, Stage, Way
from .placement_problem import Anchor, Exchange


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
    """In the ring of replicas: sums of gradients, of which 2 (n - 1) times the n-th part passes
    (Thakur et al., IJHPCA 2005, section 4.4), and weights, where each replica holds a part of them
    and gathers the others for every pass."""
    stages, replicas, mapping = len(program.stages), program.mapping.dp, program.mapping
    pairs = [(r, (r + 1) % replicas) for r in range(replicas if replicas > 2 else replicas - 1)]
    for at, stage in enumerate(program.stages):
        parts = 0 if mapping.streaming else 2 * _gradient_bytes(program, stage)
        if mapping.zero == 3:
            parts += _bytes_of(program, stage, {"weight"}, ("forward", "backward"))
        bytes_ = parts * (replicas - 1) / replicas
        if bytes_:
            yield from (Exchange(a * stages + at, b * stages + at, bytes_) for a, b in pairs)


def _gradient_bytes(program: Program, stage: Stage) -> int:
    """Bytes of the gradients that a stage makes; those that leave for another stage count here,
    where they arise."""
    return sum(
        call.integer("count") * dims.size(graph.types[output.name].bytes)
        for call in stage.calls
        for graph in [program.graphs[call.text("body")].graph]
        for output in graph.outputs
        if output.role == "gradient"
    )


def _to_experts(program: Program) -> Iterator[Exchange]:
    """Tokens to experts and back, inside each group of `ep` replicas in order; every replica of it
    holds an equal run of the experts, and gets what falls on these."""
    stages, ep = len(program.stages), program.mapping.ep
    for at, stage in enumerate(program.stages):
        drawn = [0.0] * ep
        for call in stage.calls:
            times = call.integer("count") * program.microbatches
            for share, bytes_ in _dispatched(program.graphs[call.text("body")].graph, ep):
                drawn = [all_ + s * times * bytes_ for all_, s in zip(drawn, share, strict=True)]
        for first in range(0, program.mapping.dp, ep) if any(drawn) else ():
            for a, b in combinations(range(min(ep, program.mapping.dp - first)), 2):
                ends = (first + a) * stages + at, (first + b) * stages + at
                yield Exchange(*ends, drawn[a] + drawn[b])


def _dispatched(graph: Graph, ep: int) -> Iterator[tuple[list[float], int]]:
    """Of every product with chosen experts: the share of its tokens that each of `ep` runs of
    experts gets, and the bytes of all tokens on the way there, or back."""
    for op in graph.ops if ep > 1 else ():
        if op.kind != "chosen_matmul":
            continue
        total = op.integer("total")
        load = op.integers("load") if op.attributes.get("load") else (1,) * total
        runs = [load[total * part // ep : total * (part + 1) // ep] for part in range(ep)]
        tokens, choice = indices_of(op).operands[:2]
        sizes = dict(zip(choice, graph.types[op.operands[1]].shape, strict=True))
        copies = prod(dims.size(sizes[x]) for x in chosen_letters(op) if x not in tokens)
        back = set(chosen_letters(op)) <= set(tokens)
        moved = op.type if back else graph.types[op.operands[0]]
        yield [sum(run) / sum(load) for run in runs], dims.size(moved.bytes) * copies


def anchors_of(program: Program) -> tuple[Anchor, ...]:
    """To the ports: the data that a stage's graphs read and yield (tokens, logits), and, where
    weights are streamed, these in every pass and their gradients, by the ports of the memory that
    holds them. Memory on or beside a die is near wherever a rectangle lies."""
    wafer = program.hardware.wafer
    ways: list[tuple[tuple[Edge, ...], set[Role]]] = [(port_edges(wafer), {"data"})]
    if program.mapping.streaming:
        ways.append((_memory_edges(wafer), {"weight", "gradient"}))
    stages = len(program.stages)
    return tuple(
        anchor(replica * stages + at, edges, bytes_)
        for edges, roles in ways
        if edges
        for at, stage in enumerate(program.stages)
        if (bytes_ := _bytes_of(program, stage, roles))
        for replica in range(program.mapping.dp)
    )


def _bytes_of(
    program: Program, stage: Stage, roles: set[Role], ways: tuple[Way, ...] = get_args(Way)
) -> int:
    """Bytes of values of some roles that a stage of one replica reads or yields in its calls of
    some ways."""
    total = 0
    for call in stage.calls:
        if program.way(call) not in ways:
            continue
        graph = program.graphs[call.text("body")].graph
        values: tuple[Input | Output, ...] = (*graph.inputs, *graph.outputs)
        moved = (dims.size(graph.types[v.name].bytes) for v in values if v.role in roles)
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
