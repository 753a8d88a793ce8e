"""The WSE-2 as `specs/wse2.wsc` describes it, against cycles measured on one.

One layer of LLaMA3-8B, and a product of a vector and a matrix, both of WaferLLM's kernels
(arXiv 2502.04563); `wscc validate` prints these and other rows.
"""

from pathlib import Path

import pytest
import wscc
from wscc.ir.hardware import Hardware
from wscc.ir.program import Phase

EXAMPLES = Path(__file__).parents[2] / "examples" / "waferllm"

MEASURED: dict[tuple[Phase, int, int], float] = {
    ("prefill", 480, 4320): 6_928_929,
    ("prefill", 720, 4320): 5_085_511,
    ("decode", 420, 4200): 12_732,
    ("decode", 660, 4620): 15_323,
}
"""Cycles of a layer by phase, side of the square of cores, and tokens as the kernels pad them."""


@pytest.fixture(scope="module")
def predicted(wse2: Hardware) -> dict[tuple[Phase, int], float]:
    found: dict[tuple[Phase, int], float] = {}
    for phase, side, tokens in MEASURED:
        model = wscc.load_model(
            EXAMPLES / f"llama3-8b-{side}.json",
            phase=phase,
            sequence=tokens,
            context=tokens,
            layers=1,
        )
        program = wscc.compile(model, wse2, region=f"{side}x{side}")
        found[phase, side] = wscc.evaluate(program).cycles_per_layer or 0.0
    return found


def test_layers_take_the_cycles_that_were_measured(
    predicted: dict[tuple[Phase, int], float],
) -> None:
    for (phase, side, _), cycles in MEASURED.items():
        assert predicted[phase, side] == pytest.approx(cycles, rel=0.15)


def test_decode_slows_down_with_more_cores_as_much_as_was_measured(
    predicted: dict[tuple[Phase, int], float],
) -> None:
    ratio = predicted["decode", 660] / predicted["decode", 420]
    assert ratio == pytest.approx(15_323 / 12_732, rel=0.08)


def test_a_product_with_a_vector_takes_the_cycles_that_were_measured(wse2: Hardware) -> None:
    result = wscc.op("matmul", wse2, dtype="float16", m=1, k=16384, n=16384)
    assert result.latency_s * 1.1e9 == pytest.approx(1320, rel=0.25)
