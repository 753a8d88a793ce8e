"""Strategies of every kind, alone and mixed, run on virtual devices: prompts, single tokens, and
training steps of several replicas and micro-batches."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import wscc
from wscc.cli.pipeline import LoadedModel
from wscc.ir.graph import Phase
from wscc.ir.hardware import Hardware
from wscc.ir.program import Program
from wscc.ir.virtual_replicas import Held, Replicas
from wscc.ir.virtual_training import Trained
from wscc.passes.verify import Verification, verify

Case = dict[str, Any]
"""Fields of a strategy as `make` takes them."""

Make = Callable[..., tuple[LoadedModel, Program]]
Train = Callable[..., Trained]


def verified(make: Make, name: str, phase: Phase, case: Case) -> Verification:
    model, program = make(name, phase, **case)
    return verify(model.model, program)


# Inference

INFERENCE: dict[str, Case] = {
    "one row": {"layout": "matvec", "region": (1, 4), "head_groups": 2, "sequences": 2},
    "one column": {"layout": "matvec", "region": (6, 1)},
    "uneven": {"layout": "matvec", "region": (3, 2), "head_groups": 2, "sequences": 3},
    "more devices than heads, experts and tokens": {"layout": "matvec", "region": (7, 3)},
    "replicas": {"layout": "matvec", "region": (2, 2), "dp": 2},
    "micro-batches": {"layout": "matvec", "region": (2, 1), "dp": 2, "microbatches": 2},
    "two stages": {"layout": "matvec", "ends": (1,)},
    "three stages": {"layout": "matvec", "region": (2, 3), "ends": (2, 3), "sequences": 2},
    "chunks": {
        "layout": "matvec",
        "region": (1, 2),
        "ends": (1, 2, 3),
        "interleave": 2,
        "microbatches": 2,
    },
    "all": {
        "layout": "matvec",
        "region": (3, 2),
        "head_groups": 2,
        "ends": (1, 2, 3),
        "interleave": 2,
        "dp": 2,
        "microbatches": 2,
    },
}
PREFILL: dict[str, Case] = {
    "tiles that travel": {"layout": "matmul", "region": (2, 3)},
    "tiles, uneven": {"layout": "matmul", "region": (3, 4), "head_groups": 2, "sequences": 3},
    "tiles, more devices than tokens": {"layout": "matmul", "region": (7, 3)},
    "tokens split": {"layout": "sequence", "region": (1, 4), "head_groups": 2},
    "tiles and all else": {
        "layout": "matmul",
        "region": (3, 2),
        "head_groups": 2,
        "ends": (1, 2, 3),
        "interleave": 2,
        "dp": 2,
        "microbatches": 2,
    },
}


@pytest.mark.parametrize("name", ["tied", "grouped", "experts"])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_every_strategy_of_inference_computes_what_the_model_does(
    make: Make, name: str, phase: Phase
) -> None:
    for told, case in (INFERENCE | (PREFILL if phase == "prefill" else {})).items():
        found = verified(make, name, phase, case)
        assert found.equal, (told, found.fault, found.different)
        assert {"logits", "cache.0.key", "cache.1.value"} <= {o.output for o in found.outputs}
        assert found.steps == case.get("dp", 1) * case.get("microbatches", 1)


# Training

TENSOR: dict[str, Case] = {
    "one device": {"sequences": 2},
    "tiles that travel": {"layout": "matmul", "region": (2, 3), "head_groups": 2, "sequences": 2},
    "tiles on one row": {"layout": "matmul", "region": (1, 3)},
    "tiles on one column, more devices than tokens": {"layout": "matmul", "region": (7, 1)},
    "features split": {"layout": "matvec", "region": (1, 3)},
    "more devices than groups of heads": {"layout": "matvec", "region": (1, 4), "head_groups": 2},
    "tokens split": {"layout": "sequence", "region": (1, 4)},
}
OTHERS: dict[str, Case] = {
    "two stages": {"ends": (2,)},
    "three stages, uneven": {"ends": (1, 2)},
    "chunks": {"ends": (1, 2, 3), "interleave": 2, "microbatches": 2},
    "replicas": {"dp": 3},
    "micro-batches": {"microbatches": 3},
    "run once more": {"recompute": "full", "sequences": 2},
    "states divided": {"dp": 2, "zero": 1},
    "gradients divided": {"dp": 3, "zero": 2, "microbatches": 2},
    "weights divided": {"dp": 2, "zero": 3},
    "weights streamed": {"streaming": True, "microbatches": 2},
}
MIXED: dict[str, Case] = {
    "replicas of pipelines": {
        "layout": "matvec",
        "region": (1, 2),
        "head_groups": 2,
        "ends": (2,),
        "dp": 2,
        "microbatches": 2,
    },
    "tokens split, chunks, states divided": {
        "layout": "sequence",
        "region": (1, 2),
        "head_groups": 1,
        "ends": (1, 2, 3),
        "interleave": 2,
        "dp": 2,
        "microbatches": 2,
        "zero": 1,
    },
    "tiles, chunks, gradients divided, run once more": {
        "layout": "matmul",
        "region": (2, 3),
        "head_groups": 2,
        "ends": (1, 2, 3),
        "interleave": 2,
        "dp": 2,
        "microbatches": 2,
        "zero": 2,
        "recompute": "full",
    },
    "tiles, stages, weights divided": {
        "layout": "matmul",
        "region": (3, 2),
        "head_groups": 1,
        "ends": (1, 2),
        "dp": 3,
        "zero": 3,
    },
    "weights streamed, states divided": {
        "layout": "sequence",
        "region": (1, 3),
        "ends": (1,),
        "dp": 2,
        "zero": 1,
        "streaming": True,
    },
}


@pytest.mark.parametrize(
    ("name", "cases"),
    [
        ("tied", TENSOR | OTHERS),
        ("tied", MIXED),
        ("grouped", TENSOR | MIXED),
        ("experts", MIXED),
    ],
    ids=["tied-alone", "tied-mixed", "grouped", "experts"],
)
def test_every_strategy_of_training_does_the_step_of_the_whole_batch(
    make: Make, name: str, cases: dict[str, Case]
) -> None:
    for told, case in cases.items():
        found = verified(make, name, "train", case)
        assert found.equal, (told, found.fault, found.different)
        names = {o.output for o in found.outputs}
        gradients = {n.removesuffix(".gradient") for n in names if n.endswith(".gradient")}
        assert {"loss", "step"} | gradients | {f"{n}.moment2" for n in gradients} <= names
        assert len(gradients) > 10
        assert found.steps == case.get("dp", 1) * case.get("microbatches", 1)
        assert ("transfer" in found.collectives) == ("ends" in case)


@pytest.mark.parametrize(
    ("zero", "ran"),
    [
        (0, {"replicas.all_reduce"}),
        (1, {"replicas.all_reduce", "replicas.all_gather"}),
        (2, {"replicas.reduce_scatter", "replicas.all_gather"}),
        (3, {"replicas.reduce_scatter", "replicas.all_gather"}),
    ],
)
def test_replicas_hold_their_part_alone_of_what_they_divide(
    make: Make, train: Train, zero: int, ran: set[str]
) -> None:
    model, program = make("tied", "train", region=(1, 2), dp=3, zero=zero)
    replicas = Replicas(3)
    step = train(model, program, replicas)
    assert set(replicas.ran) == ran
    mapping = dataclasses.replace(program.mapping, zero=0)
    whole = elements(train(model, dataclasses.replace(program, mapping=mapping)).held[0])
    for held in step.held:
        for role, least in (("state", 1), ("gradient", 2), ("weight", 3)):
            own = elements(held)[role]
            if zero < least:
                assert own == whole[role]
            else:
                assert whole[role] / 3 <= own < whole[role] / 2.5


def elements(held: Held) -> Counter[str]:
    """How many numbers a replica holds on all devices, by role; padding counts."""
    found: Counter[str] = Counter()
    for kept in (held.blocks, held.parts, held.off_wafer):
        for key, shards in kept.items():
            found[key.role] += sum(block.numel() for block in shards.values())
    return found


# Compiled

COMPILED: tuple[tuple[str, Phase, str, str, int], ...] = (
    ("tied", "train", "2x3", "dp=2,pp=2,interleave=2,microbatch=1,zero=1", 4),
    ("grouped", "train", "2x2", "dp=2,pp=3,microbatch=1,zero=3,recompute=full,streaming=yes", 4),
    ("grouped", "train", "3x2", "dp=1,pp=1,microbatch=2,recompute=none,streaming=no", 2),
    ("experts", "decode", "3x2", "dp=2,pp=2,microbatch=1", 2),
    ("experts", "prefill", "2x2", "dp=4,ep=2,pp=2,microbatch=1", 4),
    ("experts", "train", "2x1", "dp=4,ep=4,pp=1,microbatch=1,zero=2,recompute=full", 4),
)


@pytest.mark.parametrize(("name", "phase", "region", "pins", "batch"), COMPILED)
def test_what_is_pinned_is_compiled_and_right(
    load: Callable[[str, Phase], LoadedModel],
    wse2: Hardware,
    name: str,
    phase: Phase,
    region: str,
    pins: str,
    batch: int,
) -> None:
    model = load(name, phase)
    workload = dataclasses.replace(model.workload, batch=batch)
    model = dataclasses.replace(model, workload=workload)
    program = wscc.compile(model, wse2, pins, region)
    found = wscc.verify(model, program)
    assert found.equal, (found.fault, found.different)
    for pin in pins.split(","):
        what, _, value = pin.partition("=")
        known = getattr(program.mapping, what)
        assert str(known) == {"yes": "True", "no": "False"}.get(value, value)
