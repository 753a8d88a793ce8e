"""Optimistic figures: no evaluation of a design betters them."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wscc.dse.design import Design, columns_of
from wscc.dse.hardware_space import HardwareDesigns
from wscc.dse.mapped import MappedEvaluator
from wscc.dse.objective import read_objective
from wscc.dse.optimist import DesignOptimist
from wscc.dse.spec_texts import SpecTexts
from wscc.dse.workloads import Task
from wscc.frontend.model import read_config
from wscc.ir.errors import UserError

SPEC = """
wsc 1
use "n7.wsc" as n7
param lanes = 4      in pow2(1, 32)
param width = 32 bit/cycle in pow2(16, 128) bit/cycle
param hop   = 1 cycle in 1..3 cycle step 1 cycle
param issue = 1 cycle in 0..9 cycle step 3 cycle
param rows  = 4      in 2..6 step 2
param across = 2     in 1..3 step 1
param sram_size = 32 KiB in {2, 8, 32, 64} KiB
param joint = stitched in {stitched, separate}
param stack = off in {off, on}
software plain { issue = issue; launch = 5 cycle }
core pe {
  technology = n7
  software = plain
  clock = 1 GHz
  matrix { fp32 = lanes * 2 flop/cycle }
  vector { fp32 = lanes * 1 element/cycle }
  sram { capacity = sram_size; read = 16 B/cycle; write = 8 B/cycle }
  router { kind = circuit; width = width; hop = hop; ramp = 2 cycle; multicast = yes }
}
die tile {
  cores = rows x 4 of pe
  memory dram when stack == on { kind = stacked; capacity = 1 MiB; bandwidth = 10 GB/s }
}
link stitched { share = 1.0; latency = 1 cycle; energy = 0.2 pJ/bit }
link separate { share = 0.5; latency = 100 ns; energy = 1.25 pJ/bit; gap = 0.8 mm }
link between { bandwidth = 1 GB/s; latency = 1 us; energy = 10 pJ/bit }
wafer wse { size = 100 mm x 100 mm; dies = 2 x across of tile joined joint }
system { wafers = 2 of wse joined between; lifetime = 4 year; electricity = 0.08 USD/kWh }
"""
CONFIG = {
    "model_type": "llama", "torch_dtype": "float32", "vocab_size": 64, "hidden_size": 32,
    "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64,
}  # fmt: skip
FIGURES = ("latency_s", "energy_j", "tokens_per_s", "tokens_per_j", "usd_per_million_tokens", "mfu")
EXACT = ("cost_usd", "power_nameplate_w", "hardware.area_mm2", "hardware.cores")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("optimist")
    (folder / "space.wsc").write_text(SPEC)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


Optimists = dict[str, DesignOptimist]


@pytest.fixture(scope="module")
def optimists(folder: Path) -> Optimists:
    """By phase, and of decode and prefill together."""
    config, spec = read_config(str(folder)), SpecTexts.of(str(folder / "space.wsc"))
    tasks = {
        "decode": Task("decode", config, "decode", batch=4, context=16, weight=8.0),
        "prefill": Task("prefill", config, "prefill", batch=2, sequence=16),
        "train": Task("train", config, "train", batch=2, sequence=8),
    }
    space = HardwareDesigns(spec.load())
    several: dict[str, tuple[Task, ...]] = {name: (task,) for name, task in tasks.items()}
    several["both"] = tasks["decode"], tasks["prefill"]
    return {
        name: DesignOptimist(space, MappedEvaluator(spec, own, combine="weighted", cache=False))
        for name, own in several.items()
    }


def drawn(optimist: DesignOptimist, seed: int, count: int = 1) -> list[Design]:
    return optimist.designs.sample(count, np.random.default_rng(seed))


@pytest.mark.parametrize("phase", ["decode", "prefill", "train"])
@given(seed=st.integers(0, 10_000))
@settings(max_examples=5, deadline=None)
def test_no_evaluation_betters_them(optimists: Optimists, phase: str, seed: int) -> None:
    optimist = optimists[phase]
    (design,) = drawn(optimist, seed)
    outcome = optimist.evaluator.evaluate(design, "fluid")
    objectives = [read_objective(name) for name in (*FIGURES, *EXACT)]
    (losses,) = optimist.optimistic(columns_of([design], optimist.designs.names), objectives)
    if outcome.state == "done":
        reached = [each.sign * outcome.figures[each.figure] for each in objectives]
        assert (losses <= np.array(reached) + 1e-9 * np.abs(reached)).all()
        for name in EXACT:
            at = [each.figure for each in objectives].index(name)
            assert losses[at] == pytest.approx(outcome.figures[name])
    if not np.isfinite(losses).all():
        assert outcome.state == "infeasible"


def test_many_designs_have_the_figures_of_each_alone(optimists: Optimists) -> None:
    optimist = optimists["decode"]
    designs, names = drawn(optimist, 1, 60), optimist.designs.names
    objectives = [read_objective(name) for name in (*FIGURES, *EXACT)]
    many = optimist.optimistic(columns_of(designs, names), objectives)
    alone = [optimist.optimistic(columns_of([each], names), objectives)[0] for each in designs]
    np.testing.assert_allclose(many, np.array(alone), rtol=1e-9)


def test_they_are_within_an_order_of_what_is_reached(optimists: Optimists) -> None:
    optimist = optimists["decode"]
    designs = drawn(optimist, 3, 12)
    columns = columns_of(designs, optimist.designs.names)
    least = optimist.optimistic(columns, [read_objective("latency_s")])[:, 0]
    outcomes = [optimist.evaluator.evaluate(each, "bound") for each in designs]
    shares = [
        low / outcome.figures["latency_s"]
        for low, outcome in zip(least, outcomes, strict=True)
        if outcome.state == "done"
    ]
    assert len(shares) > 3
    assert min(shares) > 0.1


def test_weights_that_nothing_holds_are_hopeless(optimists: Optimists) -> None:
    optimist = optimists["decode"]
    small = Design.of(
        {
            "lanes": 4, "width": 4, "hop": 1, "issue": 0, "rows": 2, "across": 1,
            "sram_size": 2048, "joint": "stitched", "stack": "off",
        }
    )  # fmt: skip
    columns = columns_of([small], optimist.designs.names)
    assert optimist.optimistic(columns, [read_objective("latency_s")])[0, 0] == np.inf
    assert optimist.evaluator.evaluate(small, "bound").state == "infeasible"


def test_figures_of_a_mix_are_those_of_its_steps(optimists: Optimists) -> None:
    both, names = optimists["both"], optimists["both"].designs.names
    columns = columns_of(drawn(both, 7, 5), names)
    asked = ["latency_s", "decode/latency_s", "prefill/latency_s", "max:tokens_per_s"]
    mix, decode, prefill, rate = both.optimistic(columns, [read_objective(a) for a in asked]).T
    alone = optimists["decode"].optimistic(columns, [read_objective("latency_s")])[:, 0]
    np.testing.assert_allclose(decode, alone)
    finite = np.isfinite(mix)
    np.testing.assert_allclose(mix[finite], (8 * decode + prefill)[finite] / 9)
    np.testing.assert_allclose(-rate[finite], (8 * 4 + 2 * 16) / (9 * mix[finite]))


@pytest.mark.parametrize(
    ("objective", "instead"),
    [("power_w", "energy_j or power_nameplate_w"), ("power_peak_w", "power_nameplate_w")],
)
def test_average_power_has_none_and_says_what_has(
    optimists: Optimists, objective: str, instead: str
) -> None:
    optimist, asked = optimists["decode"], read_objective(objective)
    reason = optimist.proven(asked)
    assert reason is not None
    assert instead in reason
    with pytest.raises(UserError, match=instead):
        optimist.optimistic(columns_of(drawn(optimist, 0), optimist.designs.names), [asked])


def test_average_power_is_expected_though_nothing_bounds_it(optimists: Optimists) -> None:
    for optimist in optimists.values():
        columns = columns_of(drawn(optimist, 4, 6), optimist.designs.names)
        expected = optimist.expected(columns, ["power_w", "energy_j", "latency_s"])
        objectives = [read_objective("energy_j"), read_objective("latency_s")]
        least = optimist.optimistic(columns, objectives)
        assert expected is not None
        able = np.isfinite(least).all(axis=1)
        assert np.array_equal(np.isnan(expected).any(axis=1), ~able)
        assert expected[able, 1:] == pytest.approx(least[able])
        assert expected[able, 0] == pytest.approx(least[able, 0] / least[able, 1])
        assert optimist.expected(columns, ["noc.flows"]) is None


def test_the_wrong_way_has_none(optimists: Optimists) -> None:
    optimist = optimists["decode"]
    assert optimist.proven(read_objective("max:latency_s")) is not None
    assert optimist.proven(read_objective("min:latency_s")) is None
    assert optimist.proven(read_objective("max:cost_usd")) is None
