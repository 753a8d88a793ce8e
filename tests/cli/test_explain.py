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


def test_the_longest_kind_of_operator_is_named_with_its_share(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = run(capsys, "--model", config, "--region", "32x32", "--explain")
    text = made["explanation"][0]["text"]
    found = re.search(
        r"Of the time of a layer (\S+)% is its (\d+) all-reduce operators; "
        r"the longest of (\S+) over (.*) takes (\S+)%",
        text,
    )
    assert found is not None, text
    cycles = [each["cycles"] for each in made["operators"] if each["kind"] == "all_reduce"]
    whole = sum(each["cycles"] for each in made["operators"])
    assert int(found[2]) == len(cycles)
    assert float(found[1]) == pytest.approx(100 * sum(cycles) / whole, abs=0.5)
    assert float(found[5]) == pytest.approx(100 * max(cycles) / whole, abs=0.5)
    assert found[3].startswith("model.layers.*")
    assert found[4] in ("32 rows", "32 columns", "32 rows and 32 columns")


def test_what_does_not_fit_comes_with_what_was_found_to_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights that are pinned into SRAMs that are too few; every remedy named is run."""
    wide = TINY | {"hidden_size": 1024, "intermediate_size": 4096}
    (tmp_path / "config.json").write_text(json.dumps(wide))
    flags = ("--model", str(tmp_path), "--mapping", "streaming=no,pp=1", "--region", "4x4")
    assert main([*FLAGS, *flags, "--explain"]) == 1
    first, *others = json.loads(capsys.readouterr().out)["explanation"]
    assert first["text"].startswith("It does not fit: ")
    (remedy,) = [claim for claim in others if claim["text"].startswith("It fits with ")]
    pins = re.search(r"--region (\S+) --mapping ([^ ,]\S*?),? and", remedy["text"])
    assert pins is not None, remedy["text"]
    done = run(capsys, "--model", str(tmp_path), "--region", pins[1], "--mapping", pins[2])
    assert done["feasible"]
    assert done["latency_s"] == pytest.approx(remedy["latency_s"])
    (free,) = [claim for claim in others if claim["text"].startswith("With nothing pinned")]
    assert free["text"].endswith("and it fits.")
    assert run(capsys, "--model", str(tmp_path))["latency_s"] == pytest.approx(free["latency_s"])


def test_of_gpus_no_cores_links_are_spoken_of(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--hw", "a100", "--set", "cluster=1", "--phase", "decode", "--context", "64")
    assert main([*flags, "--quiet", "--json", "--model", config, "--explain"]) == 0
    made = json.loads(capsys.readouterr().out)
    text = " ".join(claim["text"] for claim in made["explanation"])
    assert "GPUs" in text
    assert not re.search("cores|hops|dies|wafers|SRAM", text)


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
