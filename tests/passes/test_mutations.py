"""Broken programs are caught: by the verifier, or because the numbers come out wrong."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from wscc.ir.errors import VerificationError
from wscc.ir.graph import Graph, Op, Phase
from wscc.ir.mapped import MappedGraph, Sharding
from wscc.ir.program import Program
from wscc.ir.virtual import run_program
from wscc.passes.verify import compare

WAYS: tuple[tuple[Phase, str], ...] = (("decode", "matvec"), ("prefill", "matmul"))
WRONG = 1e-3
BATCH = 3


@dataclasses.dataclass(frozen=True)
class Sound:
    """A program that is right, what it reads and what it yields."""

    program: Program
    state: dict[str, Any]
    expected: dict[str, Any]

    def caught(self, broken: Program) -> bool:
        try:
            broken.verify()
            ours = run_program(broken, self.state)
        except (VerificationError, RuntimeError):
            return True
        return any(not o.relative_error <= WRONG for o in compare(self.expected, ours))


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: "-".join(way))
def sound(
    request: pytest.FixtureRequest,
    make_tiny: Callable[[str], Any],
    make_split: Any,
    make_program: Any,
) -> Sound:
    phase, layout = request.param
    tiny = make_tiny("qwen3")
    program = make_program(tiny.folded(phase), make_split(layout, 4, 4, 2), BATCH)
    return Sound(program, *tiny.state_and_expected(phase, BATCH))


def ops(program: Program, *kinds: str) -> Iterator[tuple[str, Op]]:
    """Every operator of some kinds that does something on this mesh, with its graph."""
    for name, mapped in program.graphs.items():
        yield from ((name, op) for op in mapped.graph.ops if op.kind in kinds)


def with_graph(program: Program, name: str, graph: Graph) -> Program:
    mapped = MappedGraph(graph, program.graphs[name].shardings)
    return dataclasses.replace(program, graphs={**program.graphs, name: mapped})


def with_op(program: Program, name: str, old: Op, new: Op) -> Program:
    graph = program.graphs[name].graph
    return with_graph(program, name, graph.with_ops([new if o is old else o for o in graph.ops]))


def without(program: Program, name: str, dropped: Op) -> Program:
    """The program in which readers of a collective's results read its operands."""
    graph = program.graphs[name].graph
    before = dict(zip(dropped.results, dropped.operands, strict=True))
    left = [
        dataclasses.replace(op, operands=tuple(before.get(n, n) for n in op.operands))
        for op in graph.ops
        if op is not dropped
    ]
    outputs = tuple(
        dataclasses.replace(output, name=before.get(output.name, output.name))
        for output in graph.outputs
    )
    return with_graph(program, name, dataclasses.replace(graph, ops=tuple(left), outputs=outputs))


def uncaught(sound: Sound, broken: Iterator[tuple[str, Program]]) -> list[str]:
    tried = [(name, sound.caught(program)) for name, program in broken]
    assert tried
    return [name for name, caught in tried if not caught]


def test_the_sound_program_is_not_caught(sound: Sound) -> None:
    assert not sound.caught(sound.program)


def test_every_dropped_collective_is_caught(sound: Sound) -> None:
    kinds = ("all_reduce", "reduce_scatter", "all_gather", "shard")
    assert not uncaught(
        sound,
        (
            (f"{name} {op.kind} {op.result}", without(sound.program, name, op))
            for name, op in ops(sound.program, *kinds)
        ),
    )


def test_every_sum_over_the_wrong_direction_is_caught(sound: Sound) -> None:
    mirror = {"yh": "xh", "yd": "xd", "xh": "yh", "xd": "yd"}

    def swapped(op: Op) -> Op:
        axes = op.attributes["axes"]
        assert isinstance(axes, tuple)
        other = tuple(mirror[str(axis)] for axis in axes)
        return dataclasses.replace(op, attributes={**op.attributes, "axes": other})

    assert not uncaught(
        sound,
        (
            (f"{name} {op.result}", with_op(sound.program, name, op, swapped(op)))
            for name, op in ops(sound.program, "all_reduce", "all_gather", "reduce_scatter")
        ),
    )


def test_every_maximum_in_place_of_a_sum_is_caught(sound: Sound) -> None:
    def maximum(op: Op) -> Op:
        return dataclasses.replace(op, attributes={**op.attributes, "function": "max"})

    assert not uncaught(
        sound,
        (
            (f"{name} {op.result}", with_op(sound.program, name, op, maximum(op)))
            for name, op in ops(sound.program, "all_reduce")
            if op.attributes["function"] == "sum"
        ),
    )


def test_every_tile_that_travels_the_wrong_way_is_caught(sound: Sound) -> None:
    def other(op: Op) -> Op:
        form = "reduce" if op.text("form") == "rotate" else "rotate"
        return dataclasses.replace(op, attributes={**op.attributes, "form": form})

    grid = [*ops(sound.program, "grid_matmul")]
    if not grid:
        pytest.skip("no tiles travel in this layout")
    assert not uncaught(
        sound,
        ((f"{name} {op.result}", with_op(sound.program, name, op, other(op))) for name, op in grid),
    )


def test_every_block_in_the_wrong_place_is_caught(sound: Sound) -> None:
    """The sharding of a product's result says another order of devices than its blocks have."""

    def shifted() -> Iterator[tuple[str, Program]]:
        for name, mapped in sound.program.graphs.items():
            for op in mapped.graph.ops:
                now = mapped.shardings[op.result]
                axes = tuple(cut[::-1] for cut in now.axes)
                if op.kind in ("matmul", "grid_matmul", "embedding") and axes != now.axes:
                    moved = Sharding(axes, now.partial, now.function)
                    shardings = {**mapped.shardings, op.result: moved}
                    graphs = {**sound.program.graphs, name: MappedGraph(mapped.graph, shardings)}
                    yield (
                        f"{name} {op.result}",
                        dataclasses.replace(sound.program, graphs=graphs),
                    )

    assert not uncaught(sound, shifted())


def test_a_cache_without_room_for_its_token_is_caught(sound: Sound) -> None:
    mapped = next(m for m in sound.program.graphs.values() if "layer" in m.graph.name)
    roomy = [name for name, sharding in mapped.shardings.items() if sharding.room]
    if not roomy:
        pytest.skip("no cache comes in")
    for name in roomy:
        tight = dataclasses.replace(mapped.shardings[name], room=())
        shardings = {**mapped.shardings, name: tight}
        graphs = {**sound.program.graphs, mapped.graph.name: MappedGraph(mapped.graph, shardings)}
        assert sound.caught(dataclasses.replace(sound.program, graphs=graphs)), name
