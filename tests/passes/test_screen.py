"""The least bound of all strategies, found without bounding all of them."""

import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import wscc
from hypothesis import given
from hypothesis import strategies as st
from wscc.backend.schedule import Pipeline, timeline
from wscc.frontend.model import load_model
from wscc.ir.graph import Model, Phase
from wscc.ir.hardware import Hardware
from wscc.ir.pins import Pins
from wscc.ir.program import Workload
from wscc.passes.bounded import least_through
from wscc.passes.choose import Chooser
from wscc.passes.compile import Compiler
from wscc.passes.manager import PassManager
from wscc.passes.strategy import Search

CONFIG = {
    "model_type": "llama", "torch_dtype": "float16", "vocab_size": 500, "hidden_size": 256,
    "intermediate_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8,
    "num_key_value_heads": 4, "head_dim": 32, "max_position_embeddings": 256,
}  # fmt: skip
PHASES: tuple[Phase, ...] = ("decode", "prefill", "train")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[Phase, Model]:
    path = tmp_path_factory.mktemp("screen") / "config.json"
    path.write_text(json.dumps(CONFIG))
    return {phase: load_model(str(path), phase)[1] for phase in PHASES}


def small_wafer(kib: int) -> Hardware:
    """16 reticles of Theseus' space, of 8 x 8 cores with so much SRAM."""
    hardware = wscc.load_hardware("theseus").bind(capacity=f"{kib} KiB", rows=8, columns=8, gpus=1)
    wafer = replace(
        hardware.wafer, rows=4, columns=4, usable_rows=32, usable_columns=32, cores_in_use=1024
    )
    return replace(hardware, wafers=1, link=None, wafer=wafer)


@pytest.mark.parametrize(
    ("phase", "kib"), [("decode", 32), ("decode", 2048), ("prefill", 64), ("train", 64)]
)
def test_no_strategy_is_faster_by_runs_of_its_graphs(
    models: Mapping[Phase, Model], phase: Phase, kib: int
) -> None:
    workload = Workload(phase, batch=4, sequence=32, context=64, dtype="float16")
    compiler = Compiler(small_wafer(kib), workload)
    manager = PassManager()
    ways = compiler.ways(models[phase], manager)
    chooser: Chooser = compiler.chooser(ways, manager)
    program, least_s = chooser.screened(Pins())
    strategies = [
        candidate.strategy
        for way in ways
        for candidate in Search(
            compiler.hardware, way.chain, way.graphs, way.layout, Pins(), phase == "train",
            way.recompute,
        ).ranked(4, [1, 2, 4], 20).candidates
    ]  # fmt: skip
    if strategies:
        times = [float(chooser.timed([strategy]).least_s[0]) for strategy in strategies]
        assert 0.9 * min(times) < least_s <= min(times) * (1 + 1e-12)
        assert float(chooser.timed([program.mapping]).least_s[0]) >= least_s
    assert not any(stage.places for stage in program.stages)


@pytest.mark.parametrize("phase", PHASES)
def test_where_few_are_timed_by_runs_the_others_count_with_their_bounds(
    models: Mapping[Phase, Model], phase: Phase, monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = Workload(phase, batch=4, sequence=32, context=64, dtype="float16")
    compiler = Compiler(small_wafer(2048), workload)
    ways = compiler.ways(models[phase], PassManager())
    _, exact_s = compiler.chooser(ways, PassManager()).screened(Pins())
    monkeypatch.setattr("wscc.passes.choose.MOST_TIMED", 0)
    _, rough_s = compiler.chooser(ways, PassManager()).screened(Pins())
    assert 0.7 * exact_s < rough_s <= exact_s


shares = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=8)


@given(work=shares, backward=st.floats(0.1, 0.9), hop=st.floats(0, 0.5), count=st.integers(1, 12))
def test_no_cut_into_stages_is_faster(
    work: list[float], backward: float, hop: float, count: int
) -> None:
    each = np.array(work)[:, None]
    links = np.full_like(each, hop)
    pipeline = Pipeline(each * (1 - backward), each * backward, links, links, count)
    least = least_through(len(work), count, float(each.mean()), 2 * hop)
    assert float(least) <= timeline(pipeline).makespan_s * (1 + 1e-9)


def test_equal_stages_come_close_to_what_no_cut_betters() -> None:
    each, links = np.ones((8, 1)), np.zeros((8, 1))
    taken = timeline(Pipeline(each / 3, each * 2 / 3, links, links, 64)).makespan_s
    assert 0.94 * taken < float(least_through(8, 64, 1.0, 0.0)) < taken
