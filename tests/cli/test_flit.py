"""A run whose network is simulated cycle by cycle, from the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
from wscc.backend.noc.simulate import STEPS_PER_S
from wscc.cli.main import main

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "dtype": "float16",
    "vocab_size": 500,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
}


@pytest.fixture
def flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("WSCC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    sizes = ["--phase", "prefill", "--sequence", "64", "--layers", "1"]
    sizes += ["--mapping", "tp=4x4,dp=1,pp=1"]
    return ["--hw", "theseus", "--model", str(tmp_path / "config.json"), *sizes, "--quiet"]


def test_a_run_at_flit_reports_as_others_do_and_keeps_to_its_budget(
    flags: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, dict[str, Any]] = {}
    for fidelity in ("bound", "fluid", "flit"):
        assert main([*flags, "--fidelity", fidelity, "--json"]) == 0
        found[fidelity] = json.loads(capsys.readouterr().out)
    flit = found["flit"]
    assert flit["fidelity"] == "flit"
    assert flit["latency_s"] >= found["bound"]["latency_s"]
    assert found["fluid"].keys() == flit.keys()
    assert any("cycle by cycle" in limit for limit in flit["limits"])

    monkeypatch.setitem(STEPS_PER_S, "flit", 1.0)
    assert main([*flags, "--fidelity", "flit", "--flit-budget", "7"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: fidelity flit: simulating ")
    assert shown.err.endswith("and the budget is 7 s: raise --flit-budget, or use fluid\n")
