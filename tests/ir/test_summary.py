"""What is counted of a small model that was worked out by hand."""

import pytest
from wscc.ir.summary import GraphSummary, summarize
from wscc.ir.text import parse_model

TEXT = """\
model "small" phase=decode dtype=bfloat16
graph layer0 {
  input %x: bfloat16[batch, 4] = carried hidden
  input %k: bfloat16[batch, context, 4] = cache cache.*.key
  input %c: float32[6] = buffer layers.*.gate.bias
  input %f: float32[2] = buffer computed.rotary.inv_freq
  input %w: float8_e4m3fn[4, 4] = weight layers.*.up.weight
  input %n: bfloat16[4] = weight norm.weight
  %y: bfloat16[batch, 4] = matmul(%x, %w) {indices = "be,fe->bf"} @layers.*.up
  output %y = carried hidden
}
graph main {
  input %ids: int64[batch] = data input_ids
  input %e: bfloat16[10, 4] = weight embed.weight
  %h: bfloat16[batch, 4] = embedding(%ids, %e) {indices = "b,ve->be", rows = "v"}
  %a: bfloat16[batch, 4] = repeat(%h) {body = "layer0", first = 0, count = 2} @layers.*
  %o: bfloat16[batch, 4] = repeat(%a) {body = "layer0", first = 2, count = 1} @layers.*
  %l: bfloat16[batch, 10] = matmul(%o, %e) {indices = "be,ve->bv"} @head
  output %l = data logits
}
"""


def test_every_figure_of_a_small_model_is_counted() -> None:
    summary = summarize(parse_model(TEXT).bind({"batch": 5, "context": 7}))
    assert summary.graphs == (
        GraphSummary("main", "", 1, 2, 40, 5 * 4 * 10 * 2, 80, 0, 0),
        GraphSummary("layer0", "layers.*", 3, 1, 3 * 16 + 4, 3 * 5 * 16 * 2, 56, 3 * 280, 0),
    )
    assert (summary.parameters, summary.flops) == (92, 880)
    assert summary.stored_bytes == (("bfloat16", 80 + 8), ("float8_e4m3fn", 48))
    assert [(kind.kind, kind.operators, kind.flops) for kind in summary.kinds] == [
        ("matmul", 4, 880),
        ("repeat", 2, 0),
        ("embedding", 1, 0),
    ]


def test_weights_of_all_layers_and_those_of_no_layer_are_told_apart() -> None:
    model = parse_model(TEXT)
    assert summarize(model.bind({"batch": 1, "context": 1})).parameters == model.parameters


def test_buffers_of_the_checkpoint_are_named_and_computed_ones_are_not() -> None:
    summary = summarize(parse_model(TEXT).bind({"batch": 1, "context": 1}))
    assert summary.buffers == (("layers.*.gate.bias", 18),)


def test_a_symbol_that_is_left_is_an_error() -> None:
    with pytest.raises(ValueError, match="batch"):
        summarize(parse_model(TEXT))
