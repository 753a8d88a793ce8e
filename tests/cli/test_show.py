import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wscc.cli import pipeline
from wscc.cli.main import main
from wscc.ir.text import parse_model

CONFIG = {
    "model_type": "llama",
    "hidden_size": 4,
    "intermediate_size": 8,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_hidden_layers": 2,
    "vocab_size": 10,
    "torch_dtype": "float32",
}

TRACE = """\
model "tiny" phase=prefill dtype=float32
graph layer0 {
  input %x: float32[batch, sequence, 4] = carried hidden
  input %w: float32[4, 4] = weight layers.*.up.weight
  %y: float32[batch, sequence, 4] = matmul(%x, %w) {indices = "bse,fe->bsf"} @layers.*.up
  %dead: float32[batch, sequence, 4] = elementwise(%x) {indices = "bse->bse", expr = "a * 2.0"}
  output %y = carried hidden
}
graph main {
  input %x: float32[batch, sequence, 4] = data x
  %y: float32[batch, sequence, 4] = repeat(%x) {body = "layer0", first = 0, count = 2} @layers.*
  output %y = data logits
}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config whose trace is ready made."""
    trace: Callable[..., Any] = lambda config, phase, sizes: parse_model(TRACE)  # noqa: E731
    monkeypatch.setattr(pipeline, "trace", trace)
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(CONFIG))
    return path


def test_the_text_is_a_table_behind_marks_and_a_graph_that_parses(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "--model", str(config), "--batch", "3", "--no-cache"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("# tiny, prefill, float32, batch 3, sequence 2048\n")
    assert "# total" in shown
    model = parse_model(shown)
    assert [op.kind for op in model.graphs["layer0"].ops] == ["matmul"]


def test_json_has_the_figures_of_the_sizes_asked_for(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--batch", "3", "--sequence", "5"]
    assert main(["show", "--model", str(config), *sizes, "--json", "--no-cache"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "wscc.model/1"
    assert report["parameters"] == 32
    assert report["flops"] == 3 * 5 * 16 * 2 * 2
    assert report["flops_formula"] == "64*batch*sequence"
    assert [part["name"] for part in report["by_graph"]] == ["main", "layer0"]


def test_the_folder_holds_text_figures_and_picture(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert main(["show", "--model", str(config), "-o", str(folder), "--no-cache"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "model.json",
        "model.svg",
        "model.txt",
    ]
    assert (folder / "model.svg").read_text().startswith("<svg ")


def test_a_folder_that_is_a_file_is_refused_before_tracing(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "--model", str(config), "-o", str(config)]) == 2
    assert "is a file, expected a folder" in capsys.readouterr().err
