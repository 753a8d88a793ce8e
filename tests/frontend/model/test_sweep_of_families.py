"""Families that no other test covers, tiny: prefill, and decode against the caches of our own
prefill, yield the logits of one pass of Hugging Face over all tokens."""

import runpy
from pathlib import Path
from typing import Any

import pytest

SWEEP = Path(__file__).parents[3] / "benchmarks" / "sweep_families.py"
PHASES = ("prefill", "decode")

FAMILIES = (
    "camembert",
    "ctrl",
    "glm4",
    "gpt_bigcode",
    "granitemoe",
    "helium",
    "jetmoe",
    "jais2",
    "longcat_flash",
    "rwkv",
    "xlstm",
)


@pytest.fixture(scope="module")
def sweep() -> dict[str, Any]:
    """The names of the script."""
    return runpy.run_path(str(SWEEP))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_computes_what_hugging_face_computes(family: str, sweep: dict[str, Any]) -> None:
    words = list(sweep["_compared"](family, PHASES))
    assert [word.partition(" ")[0] for word in words] == ["ok", "ok"], words


def test_an_encoder_decoder_is_skipped_with_the_reason(sweep: dict[str, Any]) -> None:
    (word,) = sweep["_compared"]("bart", PHASES)
    assert word == "skipped: model_type 'bart' is an encoder-decoder model; built are decoders"


def test_the_table_of_families_is_put_between_its_marks(
    sweep: dict[str, Any], tmp_path: Path
) -> None:
    page = tmp_path / "models.md"
    page.write_text(f"before\n{sweep['BEGIN']}\nold\n{sweep['END']}\nafter\n")
    right = sweep["Outcome"]("llama", {"prefill": "ok 2e-07", "decode": "ok 3e-07"}, 1.0)
    refused = sweep["Outcome"]("rwkv", {"prefill": "refused: why", "decode": "not run"}, 1.0)
    sweep["write_table"](page, sweep["markdown"]([right, refused]))
    text = page.read_text()
    assert "| llama | 2e-07 | 3e-07 |" in text
    assert "| rwkv | prefill | refused: why |" in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
