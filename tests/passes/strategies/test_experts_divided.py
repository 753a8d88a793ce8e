"""Replicas that divide the experts of a layer among them, run on virtual devices."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import wscc
from wscc.cli.pipeline import LoadedModel
from wscc.ir import virtual_experts
from wscc.ir.blocks import Devices, Shards
from wscc.ir.errors import UserError, VerificationError
from wscc.ir.expert_load import with_expert_load
from wscc.ir.graph import Op, Phase
from wscc.ir.hardware import Hardware
from wscc.ir.mapped import MappedGraph
from wscc.ir.program import Program
from wscc.ir.program_text import parse_program, print_program
from wscc.ir.virtual_replicas import Replicas
from wscc.ir.virtual_training import Trained
from wscc.passes.verify import Verification, verify

Case = dict[str, Any]
Make = Callable[..., tuple[LoadedModel, Program]]
Train = Callable[..., Trained]


def verified(make: Make, name: str, phase: Phase, case: Case) -> Verification:
    model, program = make(name, phase, **case)
    assert parse_program(print_program(program)) == program
    return verify(model.model, program)


INFERENCE: dict[str, Case] = {
    "each expert of five on one replica": {"layout": "matvec", "dp": 5, "ep": 5},
    "uneven runs of experts": {"layout": "matvec", "region": (2, 2), "dp": 3, "ep": 3},
    "more replicas than experts": {"layout": "matvec", "region": (1, 2), "dp": 6, "ep": 6},
    "groups, stages, micro-batches": {
        "layout": "matvec",
        "region": (3, 2),
        "head_groups": 2,
        "ends": (1, 2, 3),
        "interleave": 2,
        "dp": 4,
        "ep": 2,
        "microbatches": 2,
    },
}
PREFILL: dict[str, Case] = {
    "tiles that travel": {"region": (3, 4), "head_groups": 2, "sequences": 2, "dp": 3, "ep": 3},
    "tokens split": {"layout": "sequence", "region": (1, 4), "head_groups": 2, "dp": 2, "ep": 2},
}
TRAINING: dict[str, Case] = {
    "features split": {"layout": "matvec", "region": (1, 2), "dp": 2, "ep": 2, "sequences": 2},
    "tokens split, more replicas than experts": {
        "layout": "sequence",
        "region": (1, 2),
        "dp": 6,
        "ep": 6,
    },
    "chunks, states divided": {
        "layout": "sequence",
        "region": (1, 2),
        "ends": (1, 2, 3),
        "interleave": 2,
        "dp": 4,
        "ep": 2,
        "microbatches": 2,
        "zero": 1,
    },
    "tiles, gradients divided, run once more": {
        "region": (2, 2),
        "dp": 4,
        "ep": 2,
        "zero": 2,
        "recompute": "full",
        "microbatches": 2,
    },
    "stages, weights divided": {"region": (2, 1), "ends": (2,), "dp": 6, "ep": 3, "zero": 3},
}


@pytest.mark.parametrize(
    ("name", "phase", "cases"),
    [
        ("experts", "decode", INFERENCE),
        ("experts", "prefill", PREFILL),
        ("experts", "train", TRAINING),
        ("many experts", "decode", dict([*INFERENCE.items()][1:3])),
        ("shared experts", "decode", dict([*INFERENCE.items()][2:])),
        ("shared experts", "train", dict([*TRAINING.items()][2:3])),
    ],
)
def test_divided_experts_compute_what_the_model_does(
    make: Make, name: str, phase: Phase, cases: dict[str, Case]
) -> None:
    for told, case in cases.items():
        found = verified(make, name, phase, case)
        assert found.equal, (told, found.fault, found.different)
        assert {"dispatch", "collect"} <= found.collectives.keys()
        assert found.steps == case["dp"] * case.get("microbatches", 1)


@pytest.mark.parametrize("zero", [0, 3])
def test_a_replica_holds_its_experts_alone(make: Make, train: Train, zero: int) -> None:
    model, program = make("experts", "train", region=(1, 2), dp=4, ep=2, zero=zero)
    step = train(model, program)
    whole = {
        value.source.replace("*", "0"): value.type
        for value in program.graphs["layer0"].graph.inputs
        if value.role == "weight"
    }
    table = "model.layers.0.mlp.experts.down_proj"
    for at, held in enumerate(step.held):
        kept = held.parts if zero else held.blocks
        key = next(k for k in kept if k.role == "weight" and k.source == table)
        numbers = sum(block.numel() for block in kept[key].values())
        elements = [int(str(dim)) for dim in whole[table].shape]
        own = (3, 2)[at % 2] * elements[1] * elements[2]
        assert own <= numbers * (2 if zero else 1) <= own * 1.1
        assert {device[0] for device in kept[key]} == {at % 2}


# Searched


def batched(model: LoadedModel, batch: int) -> LoadedModel:
    return dataclasses.replace(model, workload=dataclasses.replace(model.workload, batch=batch))


def test_the_search_ranks_divided_experts_with_the_rest(
    load: Callable[[str, Phase], LoadedModel], wse2: Hardware
) -> None:
    found = wscc.compile(batched(load("experts", "decode"), 10), wse2, None, "2x2")
    assert {tried.mapping.ep for tried in found.tried} == {1, 5}
    assert all(tried.mapping.dp % tried.mapping.ep == 0 for tried in found.tried)
    whole = wscc.compile(batched(load("experts", "decode"), 10), wse2, "ep=1", "2x2")
    assert {tried.mapping.ep for tried in whole.tried} == {1}
    assert wscc.evaluate(found).latency_s <= wscc.evaluate(whole).latency_s


def test_the_replica_with_the_busiest_experts_sets_the_pace(
    load: Callable[[str, Phase], LoadedModel], wse2: Hardware
) -> None:
    model = batched(load("experts", "prefill"), 8)

    def step_s(load: tuple[int, ...], pins: str) -> float:
        loaded = dataclasses.replace(model, model=with_expert_load(model.model, load))
        return wscc.evaluate(wscc.compile(loaded, wse2, pins, "2x2")).latency_s

    skewed, even = (9, 9, 1, 1, 1), (1, 1, 1, 1, 1)
    assert step_s(skewed, "dp=2,ep=2,pp=1") > step_s(even, "dp=2,ep=2,pp=1")
    assert step_s(skewed, "dp=2,ep=1,pp=1") == step_s(even, "dp=2,ep=1,pp=1")


@pytest.mark.parametrize(
    ("name", "batch", "pins", "message"),
    [
        ("grouped", 4, "ep=2", "the model has no experts that tokens are routed to"),
        ("experts", 3, "ep=2", "a batch of 3 cannot be divided among a number of replicas that"),
        ("experts", 4, "dp=1,ep=2", "does not divide dp=1"),
        ("experts", 4, "ep=2,streaming=yes", "weights that are streamed are not divided"),
    ],
)
def test_experts_that_cannot_be_divided_so_are_refused_by_name(
    load: Callable[[str, Phase], LoadedModel],
    wse2: Hardware,
    name: str,
    batch: int,
    pins: str,
    message: str,
) -> None:
    with pytest.raises(UserError, match=f"--mapping ep=2.*{message}"):
        wscc.compile(batched(load(name, "decode"), batch), wse2, pins)


# Broken on purpose


Exchange = Callable[[Op, MappedGraph, Devices, list[Shards]], list[Shards]]


def to_the_next(exchange: Exchange) -> Exchange:
    """Every replica gets what another one should."""

    def broken(
        op: Op, mapped: MappedGraph, devices: Devices, operands: list[Shards]
    ) -> list[Shards]:
        places = devices.mesh.sizes["e"]
        return [
            {((d[0] + 1) % places, *d[1:]): block for d, block in shards.items()}
            for shards in exchange(op, mapped, devices, operands)
        ]

    return broken


def to_itself(exchange: Exchange) -> Exchange:
    """Tokens never leave their replica."""

    def broken(
        op: Op, mapped: MappedGraph, devices: Devices, operands: list[Shards]
    ) -> list[Shards]:
        return [
            {d: block if d[0] == devices.home else block * 0 for d, block in shards.items()}
            for shards in exchange(op, mapped, devices, operands)
        ]

    return broken


def from_the_first(exchange: Exchange) -> Exchange:
    """What one replica made is collected, not what all did."""

    def broken(
        op: Op, mapped: MappedGraph, devices: Devices, operands: list[Shards]
    ) -> list[Shards]:
        first, *made = operands
        alone = [{d: b if d[0] == 0 else b * 0 for d, b in shards.items()} for shards in made]
        return exchange(op, mapped, devices, [first, *alone])

    return broken


@pytest.mark.parametrize(
    ("kind", "how"),
    [("dispatch", to_the_next), ("dispatch", to_itself), ("collect", from_the_first)],
)
@pytest.mark.parametrize("phase", ["decode", "train"])
def test_tokens_that_go_astray_are_caught(
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    phase: Phase,
    kind: str,
    how: Callable[[Exchange], Exchange],
) -> None:
    model, program = make("experts", phase, layout="matvec", region=(1, 2), dp=2, ep=2)
    assert verify(model.model, program).equal
    broken = {**virtual_experts.EXCHANGES, kind: how(virtual_experts.EXCHANGES[kind])}
    monkeypatch.setattr("wscc.ir.virtual_ops.EXCHANGES", broken)
    assert not verify(model.model, program).equal


@pytest.mark.parametrize("phase", ["decode", "train"])
def test_an_exchange_that_is_left_out_is_refused(make: Make, phase: Phase) -> None:
    _, program = make("experts", phase, layout="matvec", region=(1, 2), dp=2, ep=2)
    left_out = 0
    for name, mapped in program.graphs.items():
        for op in mapped.graph.ops:
            if op.kind in ("dispatch", "collect"):
                left_out += 1
                with pytest.raises(
                    VerificationError, match=r"where the experts are|with the experts"
                ):
                    without(program, name, op).verify()
    assert left_out == {"decode": 2, "train": 5}[phase]


def without(program: Program, name: str, dropped: Op) -> Program:
    """The program with values as they are in the place of those that were sent."""
    mapped = program.graphs[name]
    before = dict(zip(dropped.results, dropped.operands[1:], strict=True))
    ops = [
        dataclasses.replace(op, operands=tuple(before.get(n, n) for n in op.operands))
        for op in mapped.graph.ops
        if op is not dropped
    ]
    graph = mapped.graph.with_ops(ops)
    return dataclasses.replace(
        program, graphs={**program.graphs, name: MappedGraph(graph, mapped.shardings)}
    )


class Apart(Replicas):
    """Of four replicas, the two that hold the same experts do not hear of each other."""

    def average(self, values: list[Shards]) -> list[Shards]:
        return values if self.count == 2 else super().average(values)


def test_gradients_of_experts_are_summed_over_all_that_hold_them(make: Make, train: Train) -> None:
    model, program = make("experts", "train", region=(1, 2), dp=4, ep=2)
    with pytest.raises(VerificationError, match="different values"):
        train(model, program, Apart(4))
