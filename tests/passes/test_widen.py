"""Quantized products on hardware that cannot compute in the narrow dtype."""

import pytest
import torch
from wscc.ir.graph import Model
from wscc.ir.interpreter import run_model
from wscc.ir.text import parse_model
from wscc.passes.widen import Widen

TEXT = """\
model "m" phase=prefill dtype=float32
graph main {
  input %x: float32[3, 4] = data x
  input %w: float8_e4m3fn[5, 4] = weight up.weight
  input %s: float32[1, 1] = buffer up.weight_scale_inv
  %wide: float32[5, 4] = dequantize(%w, %s) {indices = "fe,FE->fe", stored = "float8_e4m3fn", \
blocks = ["F = 8 f", "E = 8 e"]}
  %q: float8_e4m3fn[3, 4], %a: float32[3, 1] = quantize(%x) {indices = "be->be,bE", \
stored = "float8_e4m3fn", blocks = ["E = 4 e"]}
  %r: float32[3, 4] = dequantize(%q, %a) {indices = "be,bE->be", stored = "float8_e4m3fn", \
blocks = ["E = 4 e"]}
  %y: float32[3, 5] = matmul(%r, %wide) {indices = "be,fe->bf", compute = "float8_e4m3fn"}
  output %y = data y
}
"""


@pytest.fixture
def model() -> Model:
    model = parse_model(TEXT)
    model.verify()
    return model


def test_a_dtype_that_the_hardware_has_is_kept(model: Model) -> None:
    assert Widen(frozenset({"float8_e4m3fn"})).run(model) == model


def test_activations_are_not_rounded_where_the_product_runs_wider(model: Model) -> None:
    wide = Widen(frozenset({"float32"})).run(model)
    wide.verify()
    assert [op.kind for op in wide.main.ops] == ["dequantize", "matmul"]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, generator=generator)
    weight = torch.randn(5, 4, generator=generator).to(torch.float8_e4m3fn)
    scale = torch.full((1, 1), 0.5)
    state = {"x": x, "up.weight": weight, "up.weight_scale_inv": scale}
    exact = x @ (weight.float() * 0.5).T
    torch.testing.assert_close(run_model(wide, state)["y"], exact)
    rounded = run_model(model, state)["y"]
    assert 1e-4 < (rounded - exact).norm() / exact.norm() < 0.1
