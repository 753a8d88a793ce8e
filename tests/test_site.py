"""The documents as a site: they build without a warning, and the tutorial does what it says."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from wscc.cli.main import main

ROOT = Path(__file__).parents[1]
TUTORIAL = ROOT / "docs" / "index.md"


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(site)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "load_model" in (site / "api" / "index.html").read_text()
    shown = [page.parent.name for page in site.rglob("index.html") if "```" in page.read_text()]
    assert shown == [], "a block that is not read as one"
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    assert {path.parent.name for path in site.glob("*/index.html")} >= pages


@pytest.fixture
def wafer(tmp_path: Path) -> str:
    """The spec that the tutorial has its reader write."""
    block = re.search(r"```wsc .*?\n(.*?)```", TUTORIAL.read_text(), re.DOTALL)
    assert block is not None
    (tmp_path / "my.wsc").write_text(block[1])
    return str(tmp_path / "my.wsc")


def test_the_wafer_of_the_tutorial_can_be_built(
    wafer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", wafer]) == 0
    assert main(["check", wafer, "--count"]) == 0
    assert "feasible" in capsys.readouterr().out


def test_the_wafer_of_the_tutorial_runs_a_model(
    wafer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "vocab_size": 256,
        "hidden_size": 128,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    (tmp_path / "config.json").write_text(json.dumps(tiny))
    flags = ["--model", str(tmp_path), "--phase", "decode", "--context", "64", "--json", "--quiet"]
    assert main(["--hw", wafer, *flags]) == 0
    assert json.loads(capsys.readouterr().out)["feasible"] is True
