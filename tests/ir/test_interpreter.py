"""The interpreter: a model is run layer by layer, its state found by name."""

import pytest
import torch
from wscc.ir.errors import VerificationError
from wscc.ir.interpreter import run_model
from wscc.ir.text import parse_model

MODEL = parse_model(
    """model "m" phase=prefill dtype=float32
graph layer {
  input %h: float32[batch, 4] = carried h
  input %shift: float32[2, 2] = shared shift
  input %w: float32[4, 4] = weight layers.*.w
  %flat: float32[4] = reshape(%shift)
  %p: float32[batch, 4] = matmul(%h, %w) {indices = "be,fe->bf"}
  %y: float32[batch, 4] = elementwise(%p, %flat) {indices = "be,e->be", expr = "a + b"}
  output %p = cache cache.*.p
  output %y = carried h
}
graph main {
  input %x: float32[batch, 4] = data x
  input %shift: float32[2, 2] = weight shift
  %h: float32[batch, 4] = repeat(%x, %shift) {body = "layer", first = 1, count = 2}
  %s: float32[batch] = reduce(%h) {indices = "be->b", function = "sum", expr = "a"}
  output %s = data logits
}
"""
)


def state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"x": (3, 4), "shift": (4,), "layers.1.w": (4, 4), "layers.2.w": (16,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def test_layers_run_in_order_with_their_own_weights() -> None:
    given = state()
    outputs = run_model(MODEL.bind({"batch": 3}), given)
    first = given["x"] @ given["layers.1.w"].T
    second = (first + given["shift"]) @ given["layers.2.w"].reshape(4, 4).T
    assert list(outputs) == ["cache.1.p", "cache.2.p", "logits"]
    torch.testing.assert_close(outputs["cache.1.p"], first)
    torch.testing.assert_close(outputs["cache.2.p"], second)
    torch.testing.assert_close(outputs["logits"], (second + given["shift"]).sum(-1))


def test_a_source_that_the_state_lacks_is_named() -> None:
    given = state()
    del given["layers.2.w"]
    with pytest.raises(KeyError, match=r"layers\.2\.w"):
        run_model(MODEL.bind({"batch": 3}), given)


def test_an_unbound_model_cannot_run() -> None:
    with pytest.raises(ValueError, match="dimension batch is not bound"):
        run_model(MODEL, state())


def test_an_operator_of_an_unknown_kind_is_named() -> None:
    text = MODEL.bind({"batch": 3})
    broken = text.map(
        lambda graph: graph.with_ops(
            [*graph.ops[:-1], type(graph.ops[-1])("redcue", ("h",), ("s",), graph.ops[-1].types)]
        )
    )
    with pytest.raises(VerificationError, match="no operator kind 'redcue', did you mean 'reduce'"):
        run_model(broken, state())
