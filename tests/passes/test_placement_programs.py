"""Place on whole programs: wafers, several wafers, clusters, and what the traffic is."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from wscc.frontend.hardware import load_hardware
from wscc.ir import dims
from wscc.ir.graph import Graph, Input, Op, TensorType
from wscc.ir.hardware import Hardware
from wscc.ir.program import Program, Stage
from wscc.ir.technology import Link
from wscc.passes.place import Place
from wscc.passes.placement_traffic import anchors_of, exchanges_of


@pytest.fixture
def make(
    make_program: Callable[..., Program], make_split: Any, make_tiny: Any
) -> Callable[..., Program]:
    """A tiny model cut into two stages, twice, on some hardware."""

    def program(hardware: Hardware, rows: int, columns: int, dp: int = 2) -> Program:
        split = make_split("matvec", rows, columns, 1, 2)
        made = make_program(make_tiny("llama").folded("decode"), split, 3)
        workload = dataclasses.replace(made.workload, batch=2 * 3 * dp)
        mapping = dataclasses.replace(made.mapping, dp=dp)
        return dataclasses.replace(made, hardware=hardware, workload=workload, mapping=mapping)

    return program


def wafers(count: int, hardware: Hardware) -> Hardware:
    between = Link("between", None, 1e-6, 0, 1e11)
    return dataclasses.replace(hardware, wafers=count, link=between)


def test_traffic_is_that_of_all_micro_batches_and_replicas(
    make: Callable[..., Program], wse2: Hardware
) -> None:
    program = make(wse2, 4, 4)
    (transfer,) = program.transfers
    found = exchanges_of(program)
    assert program.microbatches == 2
    assert [(e.first, e.second) for e in found] == [(0, 1), (2, 3)]
    assert {e.weight_bytes for e in found} == {2 * transfer.bytes}


def test_tokens_come_in_and_logits_go_out_by_the_ports(
    make: Callable[..., Program], wse2: Hardware
) -> None:
    anchors = anchors_of(make(wse2, 4, 4))
    assert {anchor.edge for anchor in anchors} == {"west"}
    weights = {anchor.rectangle: anchor.weight_bytes for anchor in anchors}
    logits = 3 * 53 * 4
    assert weights[1] == weights[3] >= 2 * logits


def test_programs_on_several_wafers_are_placed(
    make: Callable[..., Program], wse2: Hardware
) -> None:
    wafer = wse2.wafer
    program = Place().run(make(wafers(3, wse2), wafer.usable_rows, wafer.usable_columns, 1))
    assert [stage.places[0].island for stage in program.stages] == [0, 1]
    program.verify()
    shared = Place().run(make(wafers(3, wse2), 300, 300, 2))
    assert {place.island for stage in shared.stages for place in stage.places} == {0}
    assert shared.placement is not None
    assert shared.placement.objective > 0


def test_a_program_that_does_not_fit_stays_unplaced(
    make: Callable[..., Program], wse2: Hardware
) -> None:
    wafer = wse2.wafer
    program = Place().run(make(wse2, wafer.usable_rows, wafer.usable_columns))
    assert program.placement is None
    assert not any(stage.places for stage in program.stages)


def test_a_cluster_is_filled_by_replicas_then_stages(make: Callable[..., Program]) -> None:
    cluster = load_hardware("a100").bind()
    assert cluster.wafers > 1
    program = Place().run(make(cluster, 1, 4))
    assert [[place.column for place in stage.places] for stage in program.stages] == [
        [0, 4],
        [8, 12],
    ]
    handed = sum(e.weight_bytes for e in exchanges_of(program))
    assert program.placement is not None
    assert program.placement.objective == handed
    assert program.placement.hottest_bytes == handed
    assert program.placement.gap == 0


def test_a_cluster_has_room_for_its_devices_only(make: Callable[..., Program]) -> None:
    node = load_hardware("a100").bind()
    devices = node.wafers * 8
    assert Place().run(make(node, 1, devices // 4)).placement is not None
    assert Place().run(make(node, 1, devices // 4 + 1)).placement is None
    assert Place().run(make(node, 2, 2)).placement is None


def test_replicas_that_share_experts_exchange_what_falls_on_the_others(
    make: Callable[..., Program], wse2: Hardware
) -> None:
    program = make(wse2, 4, 4, dp=4)
    body = program.stages[0].calls[-1].text("body")
    mapped = program.graphs[body]
    sent = Op(
        "dispatch",
        ("index", "x"),
        ("x.sent",),
        (TensorType("float32", (6, 16)),),
        {
            "axes": ("e",), "indices": "ab,ac->ac", "chosen": "b", "experts": 8, "total": 8,
            "load": (4, 1, 1, 2, 2, 2, 2, 2),
        },
    )  # fmt: skip
    read = [
        Input("x", TensorType("float32", (6, 16)), "shared", "x"),
        Input("index", TensorType("int64", (6, 1)), "shared", "index"),
    ]
    graph = Graph(body, tuple(read), (sent,), ())
    program = dataclasses.replace(
        program,
        graphs={**program.graphs, body: dataclasses.replace(mapped, graph=graph)},
        mapping=dataclasses.replace(program.mapping, ep=2),
        stages=(Stage(program.stages[0].calls[-1:]), Stage(())),
        given=program.stages[0].calls[-1].operands,
    )
    assert {(e.first, e.second): e.weight_bytes for e in exchanges_of(program)} == {
        (0, 2): program.microbatches * 6 * 16 * 4,
        (4, 6): program.microbatches * 6 * 16 * 4,
    }


def test_streamed_weights_come_by_the_ports_of_their_memory(
    make: Callable[..., Program], wse2: Hardware
) -> None:
    program = make(wse2, 4, 4)
    streaming = dataclasses.replace(program.mapping, streaming=True)
    streamed = dataclasses.replace(program, mapping=streaming)
    more = Counter[int]()
    for anchor in anchors_of(streamed):
        more[anchor.rectangle] += int(anchor.weight_bytes)
    for anchor in anchors_of(program):
        more[anchor.rectangle] -= int(anchor.weight_bytes)
    weights = [
        sum(
            call.integer("count") * dims.size(given.type.bytes)
            for call in stage.calls
            for given in program.graphs[call.text("body")].graph.inputs
            if given.role == "weight"
        )
        for stage in program.stages
    ]
    assert [more[0], more[1]] == [program.microbatches * bytes_ for bytes_ in weights]


def test_replicas_that_hold_parts_of_weights_gather_the_others(
    make: Callable[..., Program], wse2: Hardware
) -> None:
    program = make(wse2, 4, 4)
    parted = dataclasses.replace(program.mapping, zero=3)
    more = exchanges_of(dataclasses.replace(program, mapping=parted))[2:]
    assert [(e.first, e.second) for e in more] == [(0, 2), (1, 3)]
    streaming = dataclasses.replace(program.mapping, streaming=True)
    streamed = anchors_of(dataclasses.replace(program, mapping=streaming))
    weights = streamed[-4].weight_bytes, streamed[-2].weight_bytes
    assert tuple(e.weight_bytes for e in more) == (weights[0] / 2, weights[1] / 2)
