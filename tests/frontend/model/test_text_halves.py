"""Text halves of multimodal models that lie in other places than most."""

import runpy
from pathlib import Path
from typing import Any

import pytest

SWEEP = Path(__file__).parents[3] / "benchmarks" / "sweep_families.py"

FAMILIES = {
    "kosmos-2": "a module with a head of its own, in a model that asks for images",
    "phi4_multimodal": "a list of layers that is shorter than those of its towers",
    "qwen2_5_omni": "a part that speaks, in a config whose whole does not",
}


@pytest.fixture(scope="module")
def sweep() -> dict[str, Any]:
    """The names of the script."""
    return runpy.run_path(str(SWEEP))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_half_computes_what_hugging_face_computes(
    family: str, sweep: dict[str, Any]
) -> None:
    words = list(sweep["_compared"](family, ("prefill", "decode")))
    assert [word.partition(" ")[0] for word in words] == ["ok", "ok"], words


@pytest.mark.parametrize("family", ["idefics", "musicgen", "pi0"])
def test_a_model_of_other_inputs_is_refused_with_the_reason(
    family: str, sweep: dict[str, Any]
) -> None:
    from wscc.ir.errors import UserError

    with pytest.raises(UserError, match=f"model_type '{family}' is not built: its? "):
        sweep["_read"](family, {})
