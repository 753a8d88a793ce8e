"""The verifier of the mapped program: shardings, calls and rectangles must fit together."""

import dataclasses

import pytest
from wscc.frontend.hardware import load_hardware
from wscc.ir.errors import VerificationError
from wscc.ir.graph import Op
from wscc.ir.mapped import Axis, MappedGraph, Mesh, Sharding, replicated
from wscc.ir.program import Placement, Program, Rectangle, Stage, Strategy, Workload
from wscc.ir.text import parse_graph

MESH = Mesh((Axis("y", 2, "rows"), Axis("x", 3, "columns")))
ROW = Sharding((("y",), ("x",)))

FIRST = parse_graph(
    """graph first {
  input %ids: float32[4, 6] = data ids
  %h: float32[4, 6] = elementwise(%ids) {indices = "be->be", expr = "-a"}
  output %h = carried h
}"""
)
LAST = parse_graph(
    """graph last {
  input %h: float32[4, 6] = carried h
  %s: float32[4] = reduce(%h) {indices = "be->b", function = "sum", expr = "a"}
  %t: float32[4] = all_reduce(%s) {axes = ["x"], function = "sum"}
  output %t = data logits
}"""
)
GRAPHS = {
    "first": MappedGraph(FIRST, {"ids": ROW, "h": ROW}),
    "last": MappedGraph(
        LAST, {"h": ROW, "s": Sharding((("y",),), ("x",)), "t": Sharding((("y",),))}
    ),
}


def call(body: str, operands: tuple[str, ...], results: tuple[str, ...]) -> Op:
    types = (FIRST.types["h"],) * len(results)
    return Op("repeat", operands, results, types, {"body": body, "first": 0, "count": 1})


@pytest.fixture(scope="module")
def program() -> Program:
    return Program(
        model="m",
        parameters=0,
        layers=0,
        flops=0,
        workload=Workload("decode", 4, 1, 0, "float32"),
        hardware=load_hardware("wse2").bind(),
        mapping=Strategy(1, 2, (2, 3), "matvec", 1, 4),
        mesh=MESH,
        graphs=GRAPHS,
        stages=(
            Stage((call("first", (), ("h",)),), places=(Rectangle(0, 0, 2, 3),)),
            Stage((call("last", ("h",), ()),), places=(Rectangle(2, 0, 2, 3),)),
        ),
    )


def with_last(program: Program, **shardings: Sharding) -> Program:
    last = program.graphs["last"]
    mapped = MappedGraph(last.graph, {**last.shardings, **shardings})
    return dataclasses.replace(program, graphs={**program.graphs, "last": mapped})


def with_stage(program: Program, at: int, **changes: object) -> Program:
    stages = list(program.stages)
    stages[at] = dataclasses.replace(stages[at], **changes)
    return program.with_stages(stages)


def test_a_valid_program_passes(program: Program) -> None:
    program.verify()


def test_overlapping_rectangles_are_refused(program: Program) -> None:
    wrong = with_stage(program, 1, places=(Rectangle(1, 2, 2, 3),))
    with pytest.raises(VerificationError, match=r"rectangles .*row=0.* and .*row=1.* overlap"):
        wrong.verify()


def test_rectangles_that_only_touch_are_allowed(program: Program) -> None:
    with_stage(program, 1, places=(Rectangle(0, 3, 2, 3),)).verify()


def test_a_rectangle_smaller_than_the_mesh_is_refused(program: Program) -> None:
    wrong = with_stage(program, 1, places=(Rectangle(2, 0, 3, 2),))
    with pytest.raises(VerificationError, match="is smaller than mesh y:rows=2 x:columns=3"):
        wrong.verify()


def test_every_value_needs_a_sharding(program: Program) -> None:
    last = program.graphs["last"]
    some = {name: sharding for name, sharding in last.shardings.items() if name != "s"}
    graphs = {**program.graphs, "last": MappedGraph(last.graph, some)}
    with pytest.raises(VerificationError, match="graph last: %s has no sharding"):
        dataclasses.replace(program, graphs=graphs).verify()


def test_a_sharding_has_one_entry_for_each_dimension(program: Program) -> None:
    with pytest.raises(VerificationError, match=r"graph last: %h: sharding on \(-\) for float32"):
        with_last(program, h=replicated(1)).verify()


def test_room_has_one_entry_for_each_dimension(program: Program) -> None:
    with pytest.raises(VerificationError, match=r"graph last: %h: sharding on \(y, x\) room 1"):
        with_last(program, h=dataclasses.replace(ROW, room=(1,))).verify()


@pytest.mark.parametrize(
    "sharding",
    [
        Sharding((("z",), ())),
        Sharding((("y",), ("y",))),
        Sharding((("y",), ()), ("y",)),
        Sharding(((), ()), ("z",)),
    ],
)
def test_an_axis_must_exist_and_is_used_once(program: Program, sharding: Sharding) -> None:
    with pytest.raises(VerificationError, match="does not fit mesh y:rows=2 x:columns=3"):
        with_last(program, h=sharding).verify()


def test_no_output_may_be_a_partial_result(program: Program) -> None:
    with pytest.raises(VerificationError, match="graph last: output %t is a partial result"):
        with_last(program, t=Sharding((("y",),), ("x",))).verify()


@pytest.mark.parametrize(
    ("shardings", "message"),
    [
        (
            {"s": Sharding((("y",),))},
            "graph last: reduce %s: the result is partial over ['x']",
        ),
        (
            {"s": Sharding((("y",),), ("x",), "max")},
            "graph last: all_reduce %t does not complete %s on (y) max(x)",
        ),
        (
            {"h": Sharding(((), ("x",)), ("y",))},
            "graph last: reduce %s reads %h, a partial result",
        ),
        (
            {"s": Sharding(((),), ("x",))},
            "graph last: reduce %s: index b is cut over ('y',) and () at once",
        ),
        (
            {"h": Sharding((("y",), ()))},
            "graph last: reduce %s: the result is partial over []",
        ),
    ],
)
def test_what_a_device_computes_alone_must_lie_on_it(
    program: Program, shardings: dict[str, Sharding], message: str
) -> None:
    with pytest.raises(VerificationError) as raised:
        with_last(program, **shardings).verify()
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (call("lst", ("h",), ()), "stage 1: call of lst: no such graph"),
        (
            call("last", ("g",), ()),
            "stage 1: call of last reads %g, which nothing before it makes",
        ),
        (call("last", (), ()), "stage 1: call of last: operands or results do not fit the graph"),
        (
            call("last", ("h", "h"), ()),
            "stage 1: call of last: operands or results do not fit the graph",
        ),
        (
            call("last", ("h",), ("g",)),
            "stage 1: call of last: operands or results do not fit the graph",
        ),
        (
            dataclasses.replace(call("first", (), ("g",)), types=(LAST.types["s"],)),
            "stage 1: call of first: operands or results do not fit the graph",
        ),
    ],
)
def test_a_call_must_fit_its_graph(program: Program, wrong: Op, message: str) -> None:
    with pytest.raises(VerificationError) as raised:
        with_stage(program, 1, calls=(wrong,)).verify()
    assert str(raised.value) == message


def test_what_crosses_stages_is_a_transfer_of_its_bytes(program: Program) -> None:
    (transfer,) = program.transfers
    assert (transfer.source, transfer.target, transfer.values) == (0, 1, ("h",))
    assert transfer.bytes == 4 * 6 * 4


def test_what_stays_in_a_stage_is_no_transfer(program: Program) -> None:
    calls = (*program.stages[0].calls, *program.stages[1].calls)
    assert program.with_stages([Stage(calls)]).transfers == ()


def test_a_last_micro_batch_may_be_smaller(program: Program) -> None:
    smaller = dataclasses.replace(program.mapping, microbatch=3)
    assert dataclasses.replace(program, mapping=smaller).microbatches == 2


def test_axes_across_both_directions_have_no_direction() -> None:
    assert MESH.direction(["y"]) == "rows"
    with pytest.raises(VerificationError, match=r"axes \['x', 'y'\] do not lie along one"):
        MESH.direction(["x", "y"])


def test_the_gap_of_a_placement_is_how_far_it_may_be_from_the_best() -> None:
    assert Placement(8.0, 6.0).gap == 0.25
    assert Placement(0.0, 0.0).gap == 0.0
