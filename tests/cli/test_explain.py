"""`--explain`: every claim holds when what it says is done."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import wscc
from wscc.backend.what_if import VARIANTS, what_if
from wscc.cli.main import main
from wscc.ir.program import Program

TINY = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "float16",
    "vocab_size": 256,
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
FLAGS = ("--hw", "wse2", "--phase", "decode", "--context", "64", "--quiet", "--json")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tiny") / "config.json"
    path.write_text(json.dumps(TINY))
    return str(path)


@pytest.fixture(scope="module")
def program(config: str) -> Program:
    model = wscc.load_model(config, phase="decode", context=64)
    return wscc.compile(model, wscc.load_hardware("wse2").bind(), region="32x32")


def run(capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    assert main([*FLAGS, *flags]) == 0
    return json.loads(capsys.readouterr().out)


def test_no_better_part_makes_a_program_slower(program: Program) -> None:
    before = wscc.evaluate(program).latency_s
    found = dict(what_if(program, "fluid"))
    assert len(found) >= 6
    for words, result in found.items():
        assert result.latency_s <= before * (1 + 1e-9), words


def test_a_variant_changes_nothing_but_what_it_says(program: Program) -> None:
    variants = {variant.words: variant.change for variant in VARIANTS}
    core = program.hardware.core
    wider = variants["links between cores twice as wide"](program.hardware).core
    router = replace(core.router, width_bytes=2 * core.router.width_bytes)
    assert wider == replace(core, router=router)


def test_claims_of_other_mappings_are_what_those_mappings_take(
    config: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A region that is pinned too large: the claim names a better one, which is run."""
    pinned = run(capsys, "--model", config, "--region", "400x400", "--explain")
    claims = {claim["text"]: claim for claim in pinned["explanation"]}
    (free,) = [text for text in claims if text.startswith("With nothing pinned")]
    found = re.search(r"regions of (\d+) x (\d+)", free)
    assert found is not None
    other = run(capsys, "--model", config, "--region", f"{found[1]}x{found[2]}")
    assert claims[free]["latency_s"] == pytest.approx(other["latency_s"])
    assert other["latency_s"] < pinned["latency_s"]
    less = re.search(r"([\d.]+)% less", free)
    assert less is not None
    share = 100 * (1 - other["latency_s"] / pinned["latency_s"])
    assert float(less[1]) == pytest.approx(share, rel=0.06)


def test_twice_the_batch_is_run(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--model", config, "--region", "32x32")
    once = run(capsys, *flags, "--explain")
    (claim,) = [c for c in once["explanation"] if "--batch 2" in c["text"]]
    twice = run(capsys, *flags, "--batch", "2")
    assert claim["latency_s"] == pytest.approx(twice["latency_s"])
    assert claim["tokens_per_s"] == pytest.approx(twice["tokens_per_s"])


def test_without_the_flag_nothing_is_explained(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "explanation" not in run(capsys, "--model", config, "--region", "32x32")
