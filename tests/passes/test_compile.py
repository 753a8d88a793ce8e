"""Compilation as a whole: pins, the choice, determinism, what was measured."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from wscc.backend.evaluate import evaluate
from wscc.frontend.hardware import load_hardware
from wscc.frontend.model import load_model
from wscc.ir.errors import UserError
from wscc.ir.graph import Model, Phase
from wscc.ir.hardware import Hardware
from wscc.ir.pins import Pins
from wscc.ir.program import Program, Workload
from wscc.ir.program_text import print_program
from wscc.passes.compile import PASSES, TRAINING_PASSES, Compiler, check_operators
from wscc.passes.decompose import Decompose
from wscc.passes.fold_views import FoldViews

MakeTiny = Callable[[str], Any]
EXAMPLES = Path(__file__).parents[2] / "examples"


@cache
def wafer_of(rows: int, columns: int, kib: float) -> Hardware:
    """A few of the WSE-2's cores, with so much memory for tensors."""
    spec = load_hardware("wse2").bind()
    core = spec.core
    sram = replace(core.sram, capacity_bytes=kib * 1024, reserved_bytes=0.0)
    die = replace(spec.wafer.die, core=replace(core, sram=sram))
    wafer = replace(spec.wafer, die=die, usable_rows=rows, usable_columns=columns)
    return replace(spec, wafer=wafer)


def compiled(
    model: Model,
    hardware: Hardware | None = None,
    batch: int = 1,
    layers: int | None = None,
    after: Callable[[str, str], None] | None = None,
    **pins: Any,
) -> Program:
    """A tiny model mapped onto 24 x 36 cores, or another wafer."""
    workload = Workload(model.phase, batch, 7, 7, "float32")
    wafer = hardware or wafer_of(24, 36, 16)
    return Compiler(wafer, workload, Pins(**pins), layers, after=after).compile(model)


@pytest.fixture(scope="module", params=("decode", "prefill"))
def model(request: pytest.FixtureRequest, make_tiny: MakeTiny) -> Model:
    return make_tiny("llama").unsplit(request.param)


@pytest.fixture(scope="module")
def decode(make_tiny: MakeTiny) -> Model:
    return make_tiny("llama").unsplit("decode")


@pytest.mark.parametrize(
    "pins",
    [
        {"dp": 2},
        {"pp": 3},
        {"region": (6, 9)},
        {"microbatch": 2},
        {"dp": 2, "pp": 2, "microbatch": 1, "region": (8, 8)},
    ],
)
def test_pins_are_respected(model: Model, pins: dict[str, Any]) -> None:
    program = compiled(model, batch=4, **pins)
    for name, value in pins.items():
        assert getattr(program.mapping, name) == value
    assert len(program.stages) == program.mapping.pp
    assert all(len(stage.places) == program.mapping.dp for stage in program.stages)
    program.verify()


@pytest.mark.parametrize(
    ("pins", "message"),
    [
        (
            {"region": (25, 9)},
            "--region 25x9 is larger than the 24x36 cores of wafer wse that programs can use",
        ),
        (
            {"pp": 5},
            "--mapping pp=5: the model has only 4 pieces to put into stages (its layers, and what "
            "comes before and after them)",
        ),
        ({"layers": 3}, "--layers 3: the model has 2 layers"),
        (
            {"layers": 1, "pp": 2},
            "--mapping pp=2: the model has only 1 pieces to put into stages (its layers, and what "
            "comes before and after them)",
        ),
    ],
)
def test_impossible_pins_are_refused(decode: Model, pins: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        compiled(decode, **pins)
    assert str(error.value) == f"error: {message}"


def test_a_dtype_without_a_rate_is_refused(decode: Model) -> None:
    workload = Workload("decode", 1, 7, 7, "float64")
    with pytest.raises(UserError, match="error: core pe has no rate for float64, it has "):
        Compiler(wafer_of(24, 36, 16), workload).compile(decode)


def test_operators_that_no_rule_splits_are_all_named(layer_model: Model) -> None:
    folded = FoldViews().run(layer_model.map(Decompose().run))
    layer = folded.graphs["layer"]
    ops = [
        replace(op, kind="repeat") if op.path.endswith((".up", ".down")) else op for op in layer.ops
    ]
    odd = replace(folded, graphs={"layer": layer.with_ops(ops)})
    with pytest.raises(UserError) as error:
        check_operators(odd)
    assert str(error.value) == (
        "error: cannot be split over cores yet: "
        "operator repeat in layers.*.up, operator repeat in layers.*.down"
    )


def test_a_graph_of_fixed_sizes_is_mapped_for_its_batch_as_a_whole(layer_model: Model) -> None:
    fixed = layer_model.bind({"batch": 4, "sequence": 7, "context": 7})
    mapping = compiled(fixed, batch=4).mapping
    assert (mapping.dp, mapping.microbatch) == (1, 4)
    with pytest.raises(UserError, match="the graph of this model holds for its batch as a whole"):
        compiled(fixed, batch=4, dp=2)


def test_what_is_said_to_fit_fits(model: Model) -> None:
    for kib, batch in ((16, 1), (2, 1), (2, 4), (1.5, 1)):
        program = compiled(model, wafer_of(24, 36, kib), batch)
        chosen = next(t for t in program.tried if t.outcome.startswith("chosen"))
        assert chosen.mapping == program.mapping
        assert evaluate(program).feasible
        for stage in program.stages:
            assert stage.memory is not None
            assert stage.memory.total_bytes <= kib * 1024


def test_no_strategy_is_tried_twice(model: Model) -> None:
    program = compiled(model, batch=4)
    mappings = [tried.mapping for tried in program.tried]
    assert len(mappings) == len(set(mappings))
    evaluated = [tried for tried in program.tried if "evaluated" in tried.outcome]
    assert len(evaluated) > 1
    assert len({tried.outcome for tried in program.tried}) > 2


def test_no_pinned_strategy_is_faster_than_the_chosen_one(model: Model) -> None:
    """Every way to divide the batch and the layers, on a grid of regions."""
    hardware = wafer_of(12, 18, 16)
    batch = 2
    best = evaluate(compiled(model, hardware, batch)).latency_s
    regions = ((2, 2), (4, 4), (3, 9), (6, 6), (6, 9), (12, 9), (12, 18))
    for region, dp, pp in product(regions, (1, 2), (1, 2, 4)):
        program = compiled(model, hardware, batch, region=region, dp=dp, pp=pp)
        result = evaluate(program)
        if result.feasible:
            assert best <= result.latency_s * (1 + 1e-9), program.mapping


def test_the_same_input_gives_the_same_program(model: Model) -> None:
    one, other = (compiled(model, batch=4, pp=2, microbatch=1) for _ in range(2))
    assert print_program(one) == print_program(other)
    assert evaluate(one) == evaluate(other)


def test_tied_embeddings_are_one_parameter_stored_where_they_are_used(make_tiny: MakeTiny) -> None:
    model = make_tiny("llama-one-kv-head").unsplit("decode")
    table = 53 * 28
    program = compiled(model)
    assert program.parameters == model.parameters
    separate = evaluate(program).memory.weights_bytes
    assert separate == 4 * (model.parameters + table)
    split = compiled(model, pp=4, batch=4, dp=1, microbatch=1)
    assert evaluate(split).memory.weights_bytes == separate


def test_some_layers_alone_have_neither_embedding_nor_head(decode: Model) -> None:
    whole, one = compiled(decode), compiled(decode, layers=1)
    assert (whole.layers, one.layers) == (2, 1)
    bodies = {call.text("body") for stage in one.stages for call in stage.calls}
    assert not any(body.startswith("main.") for body in bodies)
    two = compiled(decode, layers=2, region=(4, 4))
    one = compiled(decode, layers=1, region=(4, 4))
    assert two.parameters == 2 * one.parameters
    assert evaluate(two).cycles_per_layer == evaluate(one).cycles_per_layer
    assert two.parameters < whole.parameters


def test_what_does_not_fit_says_what_would(decode: Model) -> None:
    program = compiled(decode, wafer_of(24, 36, 2), region=(2, 2))
    assert not evaluate(program).feasible
    (advice,) = program.advice
    assert advice.startswith("--region ")
    region = tuple(int(side) for side in advice.split()[1].split("x"))
    pins = dict(part.split("=") for part in advice.split()[3].split(","))
    again = compiled(
        decode, wafer_of(24, 36, 2), region=region, dp=int(pins["dp"]), pp=int(pins["pp"])
    )
    assert evaluate(again).feasible


def test_what_fits_nowhere_asks_for_more_memory(decode: Model) -> None:
    program = compiled(decode, wafer_of(4, 4, 0.25))
    result = evaluate(program)
    assert not result.feasible
    assert result.latency_s > 0
    assert program.advice[0].endswith("KiB of SRAM in each core")


def test_pins_that_leave_too_little_memory_still_get_room(decode: Model) -> None:
    hardware = wafer_of(8, 8, 0.25)
    cases: tuple[dict[str, Any], ...] = ({"pp": 3, "dp": 2}, {"pp": 4, "dp": 4}, {"dp": 4})
    for pins in cases:
        program = compiled(decode, hardware, batch=4, **pins)
        assert [e.resource for e in evaluate(program).infeasible] == ["core memory"]
        assert len(program.stages) == pins.get("pp", len(program.stages))
    unplaced = compiled(decode, hardware, batch=4, pp=3, region=(8, 8))
    assert "KiB" not in " ".join(unplaced.advice)


def test_replicas_that_do_not_fit_side_by_side_are_no_crash(decode: Model) -> None:
    for dp in (2, 4):
        program = compiled(decode, batch=4, dp=dp, region=(24, 30))
        result = evaluate(program)
        assert [entry.resource for entry in result.infeasible] == ["cores"]
        assert program.mapping.dp == dp


def test_every_pass_shows_what_it_made(model: Model) -> None:
    seen: dict[str, str] = {}
    compiled(model, region=(4, 4), after=seen.__setitem__)
    assert set(seen) == set(PASSES) - set(TRAINING_PASSES)
    assert "all_reduce" in seen["shard"]
    assert all(text.strip() for text in seen.values())


MEASURED: dict[str, tuple[Phase, int, int, float]] = {
    "480": ("prefill", 4320, 480, 6_928_929),
    "720": ("prefill", 4320, 720, 5_085_511),
    "420": ("decode", 4200, 420, 12_732),
    "660": ("decode", 4620, 660, 15_323),
}
"""Phase, tokens, side of the mesh, and cycles a layer at 1.1 GHz of WaferLLM, arXiv 2502.04563."""


@cache
def predicted(name: str) -> float:
    """Cycles of one layer as its kernels compute it."""
    phase, tokens, side, _ = MEASURED[name]
    model = load_model(str(EXAMPLES / "waferllm" / f"llama3-8b-{name}.json"), phase)[1]
    workload = Workload(phase, 1, tokens, tokens, "float16")
    compiler = Compiler(load_hardware("wse2").bind(), workload, Pins(region=(side, side)), 1)
    result = evaluate(compiler.compile(model))
    assert result.feasible
    return result.cycles_per_layer


@pytest.mark.parametrize("name", ["420", "660"])
def test_decode_is_predicted_within_a_fifth_of_what_was_measured(name: str) -> None:
    """No constant was fitted on these rows."""
    assert predicted(name) == pytest.approx(MEASURED[name][3], rel=0.20)


def test_decode_on_more_cores_is_slower_by_the_measured_ratio() -> None:
    ratio = MEASURED["660"][3] / MEASURED["420"][3]
    assert ratio == pytest.approx(1.203, abs=0.001)
    assert predicted("660") / predicted("420") == pytest.approx(ratio, rel=0.08)


@pytest.mark.parametrize("name", ["480", "720"])
def test_the_software_constants_reproduce_the_prefill_that_they_were_fitted_on(name: str) -> None:
    assert predicted(name) == pytest.approx(MEASURED[name][3], rel=0.01)
