"""A load of the experts as a user gives it, and on the operators of a graph."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wscc.ir.errors import UserError
from wscc.ir.expert_load import expert_load_of, relative_load, with_expert_load
from wscc.ir.graph import Model
from wscc.ir.summary import summarize
from wscc.ir.text import parse_model, print_model

MODEL = """\
model "tiny" phase=prefill dtype=float32
graph layer0 {
  input %x: float32[6, 4] = carried hidden
  input %i: int64[6, 2] = shared i
  input %s: float32[6, 2] = shared s
  input %up: float32[3, 2, 5, 4] = weight layers.*.up
  input %down: float32[3, 4, 5] = weight layers.*.down
  %y: float32[6, 4] = experts(%x, %i, %s, %up, %down) {indices = "th,tk,tk,ecfh,eof->to", expr = "silu(a) * b", expert = "e", pair = "c", total = 3, inner = 5} @layers.*.experts
  output %y = carried hidden
}
graph main {
  input %x: float32[6, 4] = data x
  input %i: int64[6, 2] = data i
  input %s: float32[6, 2] = data s
  %y: float32[6, 4] = repeat(%x, %i, %s) {body = "layer0", first = 0, count = 2} @layers.*
  output %y = data logits
}
"""  # noqa: E501


def model() -> Model:
    found = parse_model(MODEL)
    found.verify()
    return found


def test_whole_numbers_stay_as_they_are() -> None:
    assert relative_load([3, 0, 1.0]) == (3, 0, 1)


@given(st.lists(st.floats(0, 1e300), min_size=1, max_size=12).filter(any))
def test_other_numbers_keep_their_proportions(values: list[float]) -> None:
    load = relative_load(values)
    largest = max(values)
    for mine, given_ in zip(load, values, strict=True):
        assert mine / max(load) == pytest.approx(given_ / largest, abs=1e-9)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "no list of numbers"),
        ("1,2", "no list of numbers"),
        ({"a": 1}, "no list of numbers"),
        ([1, "2"], "'2', of expert 1, is no number"),
        ([True], "True, of expert 0, is no number"),
        ([float("nan")], "is no number"),
        ([float("inf")], "is more than 1e\\+300"),
        ([10**400], "is more than 1e\\+300"),
        ([1, -0.5], "-0.5, of expert 1, is negative"),
        ([0, 0.0], "all are zero"),
    ],
)
def test_what_is_no_load_is_refused(values: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        relative_load(values)


def test_a_load_reaches_every_layer_of_experts_and_the_text_form() -> None:
    loaded = with_expert_load(model(), (5, 1, 0))
    loaded.verify()
    assert parse_model(print_model(loaded)) == loaded
    assert expert_load_of(loaded) == (5, 1, 0)
    assert expert_load_of(model()) is None
    assert summarize(loaded).expert_load == (5, 1, 0)


def test_a_load_of_all_experts_changes_no_flops() -> None:
    assert with_expert_load(model(), (5, 1, 0)).flops == model().flops


def test_a_load_of_other_experts_is_refused() -> None:
    with pytest.raises(UserError, match="2 numbers, but tiny has 3 experts"):
        with_expert_load(model(), (1, 1))


def test_a_model_without_experts_takes_no_load() -> None:
    dense = parse_model(MODEL)
    body = dense.graphs["layer0"]
    dense = dense.map(lambda graph: graph.with_ops([]) if graph.name == body.name else graph)
    with pytest.raises(UserError, match="tiny has no experts"):
        with_expert_load(dense, (1, 1, 1))
