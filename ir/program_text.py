"""Text form of a mapped program, its hardware included, and the parser that reads it back."""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .graph import Op
from .hardware import Hardware
from .mapped import Axis, MappedGraph, Mesh, Routed, Sharding
from .program import CoreMemory, Placement, Program, Rectangle, Stage, Strategy, Tried, Workload
from .text import parse_graph, parse_op, print_graph, print_op
from .tree import parse_tree, print_tree

_HEAD = "program"
_SHARDING = re.compile(
    r" on \(([^)]*)\)(?: (sum|max)\(([^)]*)\))?(?: room ([\d,]+))?(?: routed (\d+)/(\d+))?"
)


def print_mapped(mapped: MappedGraph) -> str:
    """A graph with the sharding of every value behind its type."""
    return print_graph(mapped.graph, lambda name: str(mapped.shardings[name]))


def print_program(program: Program) -> str:
    """The program as text that `parse_program` reads back."""
    return "".join(_blocks(program))


def _blocks(program: Program) -> Iterator[str]:
    fields = {
        "model": program.model,
        "parameters": program.parameters,
        "layers": program.layers,
        "flops": program.flops,
        "advice": program.advice,
        "dropped": dict(program.dropped),
        "given": program.given,
    }
    yield f"{_HEAD} {json.dumps(fields)}\n"
    yield f"mesh {program.mesh}\n"
    yield print_tree(program.workload)
    yield print_tree(program.mapping)
    if program.placement is not None:
        yield print_tree(program.placement)
    for tried in program.tried:
        yield print_tree(tried)
    yield print_tree(program.hardware)
    for mapped in program.graphs.values():
        yield print_mapped(mapped)
    for stage in program.stages:
        yield print_stage(stage)


def print_stage(stage: Stage) -> str:
    """A stage: where it lies, what it holds, and its calls."""
    places = [dataclasses.astuple(place) for place in stage.places]
    memory = None if stage.memory is None else dataclasses.astuple(stage.memory)
    calls = "".join(f"  {print_op(call)}\n" for call in stage.calls)
    return f"stage {json.dumps({'places': places, 'memory': memory})} {{\n{calls}}}\n"


def parse_program(text: str) -> Program:
    """Read what `print_program` wrote; raises ValueError for anything else."""
    head, mesh, *rest = text.splitlines()
    if not head.startswith(f"{_HEAD} ") or not mesh.startswith("mesh "):
        raise ValueError(f"not a program: {head!r}")
    found: dict[str, list[list[str]]] = {}
    block: list[str] = []
    for line in rest:
        block.append(line)
        if line == "}":
            found.setdefault(block[0].split(" ", 1)[0], []).append(block)
            block = []
    if block:
        raise ValueError(f"a block does not end: {block[0]!r}")

    def trees(cls: Any) -> list[Any]:
        return [parse_tree(cls, "\n".join(lines)) for lines in found.get(cls.__name__, [])]

    fields = json.loads(head.removeprefix(_HEAD))
    return Program(
        **fields | {name: tuple(fields[name]) for name in ("advice", "given")},
        mesh=_mesh(mesh),
        workload=trees(Workload)[0],
        mapping=trees(Strategy)[0],
        placement=next(iter(trees(Placement)), None),
        tried=tuple(trees(Tried)),
        hardware=trees(Hardware)[0],
        graphs=_graphs(found.get("graph", [])),
        stages=tuple(_parse_stage(lines) for lines in found.get("stage", [])),
    )


def _mesh(line: str) -> Mesh:
    axes: list[Axis] = []
    for part in line.split()[1:]:
        match = re.fullmatch(r"(\w+):(rows|columns|replicas)=(\d+)", part)
        if match is None:
            raise ValueError(f"not an axis of a mesh: {part!r}")
        axes.append(Axis(match[1], int(match[3]), match[2]))  # pyright: ignore[reportArgumentType]
    return Mesh(tuple(axes))


def _graphs(blocks: list[list[str]]) -> Mapping[str, MappedGraph]:
    graphs: dict[str, MappedGraph] = {}
    for lines in blocks:
        notes: dict[str, str] = {}
        graph = parse_graph("\n".join(lines), notes)
        shardings = {name: _sharding(note) for name, note in notes.items()}
        graphs[graph.name] = MappedGraph(graph, shardings)
    return graphs


def _sharding(note: str) -> Sharding:
    match = _SHARDING.fullmatch(note)
    if match is None:
        raise ValueError(f"not a sharding: {note!r}")
    axes = tuple(
        () if part == "-" else tuple(part.split("*")) for part in match[1].split(", ") if part
    )
    partial = tuple(match[3].split("*")) if match[3] else ()
    room = tuple(int(part) for part in match[4].split(",")) if match[4] else ()
    routed = Routed(int(match[5]), int(match[6])) if match[5] else None
    return Sharding(axes, partial, match[2] or "sum", room, routed)


def _parse_stage(lines: list[str]) -> Stage:
    fields = json.loads(lines[0].removeprefix("stage ").removesuffix(" {"))
    memory = None if fields["memory"] is None else CoreMemory(*fields["memory"])
    calls: list[Op] = [parse_op(line.strip()) for line in lines[1:-1]]
    places = tuple(Rectangle(*place) for place in fields["places"])
    return Stage(tuple(calls), memory, places)
