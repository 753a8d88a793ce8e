"""Designs evaluated by the compiler: a tiny model on tiny wafers."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from wscc.backend.evaluate import evaluate
from wscc.backend.physics import PHYSICS
from wscc.dse.design import Design
from wscc.dse.evaluator import PROVEN
from wscc.dse.hardware_space import HardwareDesigns
from wscc.dse.mapped import MappedEvaluator, figures_of
from wscc.dse.objective import DIRECTIONS
from wscc.dse.spec_texts import SpecTexts
from wscc.dse.workloads import Combine, Task
from wscc.frontend.hardware import load_hardware, source_files
from wscc.frontend.model import read_config
from wscc.frontend.model.traces import trace
from wscc.ir.errors import UserError
from wscc.passes.compile import Compiler

SPEC = """
wsc 1
use "n7.wsc" as n7
param lanes = 4      in pow2(1, 16)
param rows  = 4      in 2..6 step 2
param sram_size = 32 KiB in {1, 32, 64} KiB
param joint = stitched in {stitched, separate}
param limit = 1e9 W
core pe {
  technology = n7
  clock = 1 GHz
  matrix { fp32 = lanes * 2 flop/cycle }
  vector { fp32 = lanes * 1 element/cycle }
  sram { capacity = sram_size; read = 16 B/cycle; write = 8 B/cycle }
  router { kind = circuit; width = 32 bit/cycle; hop = 1 cycle; ramp = 2 cycle; multicast = yes }
}
die tile { cores = rows x 4 of pe }
link stitched { share = 1.0; latency = 1 cycle; energy = 0.2 pJ/bit }
link separate { share = 0.5; latency = 100 ns; energy = 1.25 pJ/bit; gap = 0.8 mm }
wafer wse { size = 100 mm x 100 mm; dies = 2 x 2 of tile joined joint }
system { wafers = 1 of wse; lifetime = 4 year; electricity = 0.08 USD/kWh }
constraint power(wse) <= limit
"""
CONFIG = {
    "model_type": "llama", "torch_dtype": "float32", "vocab_size": 64, "hidden_size": 32,
    "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mapped")
    (folder / "space.wsc").write_text(SPEC)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


@pytest.fixture(scope="module")
def decode(folder: Path) -> Task:
    return Task("decode", read_config(str(folder)), "decode", batch=4, context=16)


@pytest.fixture(scope="module")
def prefill(folder: Path) -> Task:
    return Task("prefill", read_config(str(folder)), "prefill", batch=4, sequence=16)


@pytest.fixture(scope="module")
def training(folder: Path) -> Task:
    return Task("training", read_config(str(folder)), "train", batch=2, sequence=8)


@pytest.fixture(scope="module")
def spec(folder: Path) -> SpecTexts:
    return SpecTexts.of(str(folder / "space.wsc"))


@pytest.fixture(scope="module")
def evaluator(spec: SpecTexts, decode: Task) -> MappedEvaluator:
    return MappedEvaluator(spec, (decode,), cache=False)


PROVEN_FIGURES = {
    *("latency_s", "tokens_per_s", "mfu", "energy_j", "usd_per_million_tokens"),
    *("tokens_per_j", "tokens_per_s_per_w"),
}
DESIGN = Design.of({"lanes": 4, "rows": 4, "sram_size": 64 * 1024, "joint": "stitched"})


def test_its_figures_are_those_of_the_report(
    evaluator: MappedEvaluator, folder: Path, decode: Task
) -> None:
    hardware = replace(load_hardware(folder / "space.wsc"), physics=PHYSICS).bind(
        dict(DESIGN.values)
    )
    sizes = {"batch": 4, "sequence": 2048, "context": 16}
    program = Compiler(hardware, decode.workload).compile(trace(decode.config, "decode", sizes))
    expected = evaluate(program)
    outcome = evaluator.evaluate(DESIGN, "fluid")
    assert outcome.state == "done"
    assert outcome.figures == figures_of(expected)
    assert outcome.figures["latency_s"] == expected.latency_s
    assert outcome.figures["memory.kv_bytes"] == expected.memory.kv_bytes
    assert outcome.figures["hardware.area_mm2"] == expected.hardware.area_mm2
    assert outcome.figures["breakdown.noc_s"] == expected.breakdown["noc_s"]
    assert outcome.figures["tokens_per_j"] == pytest.approx(
        expected.tokens_per_s / expected.power_w
    )
    assert outcome.seconds > 0


def test_both_rungs_have_the_same_finite_figures_but_of_places(
    evaluator: MappedEvaluator,
) -> None:
    bound, fluid = (evaluator.evaluate(DESIGN, name).figures for name in ("bound", "fluid"))
    assert fluid.keys() - bound.keys() == {"mapping.objective", "mapping.gap"}
    assert {name for name in bound if not name.startswith(PROVEN)} < fluid.keys()
    assert all(np.isfinite([*bound.values(), *fluid.values()]))


@pytest.mark.parametrize("phase", ["decode", "prefill", "training"])
def test_the_bound_of_a_design_is_no_more_than_what_it_takes(
    spec: SpecTexts, phase: str, request: pytest.FixtureRequest
) -> None:
    evaluator = MappedEvaluator(spec, (request.getfixturevalue(phase),), cache=False)
    designs = HardwareDesigns(spec.load()).sample(5, np.random.default_rng(5))
    rung = evaluator.rungs[0]
    assert set(rung.proven) == PROVEN_FIGURES
    for design in designs:
        bound, fluid = (evaluator.evaluate(design, name) for name in ("bound", "fluid"))
        assert bound.state == fluid.state
        if fluid.state == "done":
            for name, best in rung.proof(bound.figures).items():
                real = fluid.figures[name]
                sign = 1 if DIRECTIONS[name] == "min" else -1
                assert sign * best <= sign * real + 1e-9 * abs(real), name
            assert bound.figures["latency_s"] > 0.8 * fluid.figures["latency_s"]
            power_w = bound.figures["energy_j"] / bound.figures["latency_s"]
            assert bound.figures["power_w"] == pytest.approx(power_w)


def test_of_several_workloads_each_ones_figures_are_proven_and_times_of_mixes(
    spec: SpecTexts, decode: Task, training: Task
) -> None:
    def proven(combine: Combine) -> set[str]:
        return set(MappedEvaluator(spec, (decode, training), combine=combine).rungs[0].proven)

    named = {f"{name}/{figure}" for name in ("decode", "training") for figure in PROVEN_FIGURES}
    assert proven("separate") == named
    assert proven("worst") == proven("weighted") == named | {"latency_s", "tokens_per_s", "mfu"}


def test_what_runs_prove_of_fluid_they_do_not_prove_of_flit(
    evaluator: MappedEvaluator,
) -> None:
    assert all(not rung.proven for rung in replace(evaluator, top="flit").rungs)


def test_what_does_not_fit_is_infeasible_at_both_rungs_and_says_why(
    evaluator: MappedEvaluator,
) -> None:
    small = Design.of({**dict(DESIGN.values), "sram_size": 1024, "rows": 2})
    for fidelity in ("bound", "fluid"):
        outcome = evaluator.evaluate(small, fidelity)
        assert outcome.state == "infeasible"
        assert outcome.reason.startswith("core memory of fullest core")


def test_a_broken_constraint_is_infeasible_without_a_compilation(
    spec: SpecTexts, decode: Task
) -> None:
    evaluator = MappedEvaluator(spec, (decode,), (("limit", "1 mW"),))
    outcome = evaluator.evaluate(DESIGN, "fluid")
    assert (outcome.state, outcome.figures) == ("infeasible", {})
    assert outcome.reason == "constraints do not hold: power(wse) <= limit"


def test_a_value_outside_its_domain_is_infeasible(evaluator: MappedEvaluator) -> None:
    outcome = evaluator.evaluate(Design.of({**dict(DESIGN.values), "rows": 3}), "bound")
    assert outcome.state == "infeasible"
    assert "rows" in outcome.reason


def test_a_mistake_that_every_design_shows_is_found_before(spec: SpecTexts, decode: Task) -> None:
    wrong = replace(decode, config=replace(decode.config, dtype="float16"))
    with pytest.raises(UserError, match="core pe has no rate for float16"):
        MappedEvaluator(spec, (wrong,), cache=False).check()


def test_it_is_sent_small_and_says_the_same_where_its_files_are_not(
    evaluator: MappedEvaluator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = pickle.dumps(evaluator)
    assert len(sent) < 50_000
    monkeypatch.chdir(tmp_path)
    there: MappedEvaluator = pickle.loads(sent)
    assert there.version == evaluator.version
    assert there.evaluate(DESIGN, "bound").figures == evaluator.evaluate(DESIGN, "bound").figures


def test_its_version_follows_what_figures_rest_on(
    evaluator: MappedEvaluator, training: Task, folder: Path
) -> None:
    others = [
        replace(evaluator, tasks=(training,)),
        replace(evaluator, fixed=(("limit", "9 kW"),)),
        replace(evaluator, seed=1),
        replace(evaluator, spec=replace(evaluator.spec, files=(("space.wsc", SPEC + "\n"),))),
    ]
    assert len({each.version for each in (evaluator, *others)}) == 5
    assert replace(evaluator, top="bound").version == evaluator.version


def test_the_top_rung_is_last_and_costs_one(evaluator: MappedEvaluator) -> None:
    assert [rung.name for rung in evaluator.rungs] == ["bound", "fluid"]
    assert evaluator.rungs[-1].cost == 1.0
    assert [rung.name for rung in replace(evaluator, top="bound").rungs] == ["bound"]
    with pytest.raises(ValueError, match="no fidelity 'flit'"):
        evaluator.evaluate(DESIGN, "flit")


def test_several_workloads_are_judged_on_one_design(
    spec: SpecTexts, decode: Task, training: Task
) -> None:
    evaluator = MappedEvaluator(spec, (decode, training), cache=False)
    figures = evaluator.evaluate(DESIGN, "bound").figures
    assert figures["training/latency_s"] > figures["decode/latency_s"] > 0
    assert figures["hardware.cores"] == 64


def test_a_shipped_spec_is_sent_by_its_name() -> None:
    texts = SpecTexts.of("theseus")
    assert (texts.main, texts.files) == ("theseus", ())
    assert {name for name, _ in texts.shipped} == {path.name for path in source_files("theseus")}
    assert texts.load().name == "theseus"


def test_a_spec_that_uses_files_of_another_folder_is_sent_with_them(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "part.wsc").write_text("wsc 1\nlet lanes = 2\n")
    use = '\nuse "../b/part.wsc" as part\nparam lanes = part.lanes in pow2(1, 16)'
    text = SPEC.replace("\nparam lanes = 4      in pow2(1, 16)", use)
    (tmp_path / "a" / "space.wsc").write_text(text)
    texts = SpecTexts.of(str(tmp_path / "a" / "space.wsc"))
    assert [path for path, _ in texts.files] == ["a/space.wsc", "b/part.wsc"]
    assert texts.load().bind().core.matrix_flops_per_cycle["float32"] == 4
