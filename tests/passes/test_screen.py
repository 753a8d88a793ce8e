"""The least bound of all strategies, found without bounding all of them."""

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
import wscc
from wscc.frontend.model import load_model
from wscc.ir.graph import Model, Phase
from wscc.ir.hardware import Hardware
from wscc.ir.pins import Pins
from wscc.ir.program import Workload
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
def test_it_is_what_ranking_all_of_them_finds(
    models: Mapping[Phase, Model], phase: Phase, kib: int
) -> None:
    workload = Workload(phase, batch=4, sequence=32, context=64, dtype="float16")
    compiler = Compiler(small_wafer(kib), workload)
    manager = PassManager()
    ways = compiler.ways(models[phase], manager)
    chooser: Chooser = compiler.chooser(ways, manager)
    program, bound_s = chooser.screened(Pins())
    ranked = [
        candidate
        for way in ways
        for candidate in Search(
            compiler.hardware, way.chain, way.graphs, way.layout, Pins(), phase == "train",
            way.recompute,
        ).ranked(4, [1, 2, 4], 256).candidates
    ]  # fmt: skip
    if ranked:
        best = min(ranked, key=lambda candidate: candidate.bound_s)
        assert bound_s == pytest.approx(best.bound_s, rel=1e-12)
        assert program.mapping.region == best.strategy.region
    assert not any(stage.places for stage in program.stages)
