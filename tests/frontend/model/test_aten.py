"""Every rule of the table computes what ATen computes, on values seen through any view."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from wscc.frontend.model import lower_config, read_config
from wscc.frontend.model.aten import RULES, Call, Shown, UnsupportedError
from wscc.frontend.model.builder import GraphBuilder, View
from wscc.ir.errors import UserError
from wscc.ir.graph import Model, Op, TensorType
from wscc.ir.interpreter import run_model

WriteConfig = Callable[[Mapping[str, Any]], str]
Function = Callable[..., Tensor]


def type_of(tensor: Tensor) -> TensorType:
    return TensorType(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


class Lowered:
    """A graph that grows by ATen calls, beside the tensors that they should yield."""

    def __init__(self) -> None:
        self.graph = GraphBuilder("main")
        self.state: dict[str, Tensor] = {}
        self.expected: dict[View, Tensor] = {}

    def tensor(self, value: Tensor) -> Shown:
        name = f"x{len(self.state)}"
        self.state[name] = value
        type_ = type_of(value)
        return self.known(self.graph.add_input(name, type_, "data", name), value)

    def known(self, view: View, value: Tensor) -> Shown:
        self.expected[view] = value
        return Shown(view, type_of(value))

    def call(self, rule: str, function: Function, *arguments: Any, **named: Any) -> Shown:
        value = function(*(self.value(argument) for argument in arguments), **named)
        call = Call(self.graph, arguments, named, type_of(value), rule.split(".")[0])
        return self.known(RULES[rule](call), value)

    def value(self, argument: Any) -> Any:
        if isinstance(argument, list):
            return [self.value(item) for item in argument]
        return self.expected[argument.view] if isinstance(argument, Shown) else argument

    def check(self, shown: Shown) -> list[Op]:
        """Run the graph and compare; the operators that it came to."""
        from wscc.ir.graph import Output

        expected = self.expected[shown.view]
        name = self.graph.real(shown.view, shown.type.shape)
        self.graph.outputs.append(Output(name, "data", "y"))
        model = Model("m", "prefill", "float32", {"main": self.graph.graph()})
        model.verify()
        torch.testing.assert_close(run_model(model, self.state)["y"], expected)
        return list(model.main.ops)


def random(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.rand(shape, generator=generator) + 0.5


def views(lowered: Lowered) -> dict[str, Shown]:
    """The same shape (2, 3, 4) seen plainly, transposed, and broadcast."""
    turned = lowered.tensor(random(2, 4, 3))
    thin = lowered.tensor(random(2, 4))
    return {
        "plain": lowered.tensor(random(2, 3, 4)),
        "turned": lowered.call("transpose.int", torch.transpose, turned, 1, 2),
        "broadcast": lowered.call(
            "expand.default",
            Tensor.expand,
            lowered.call("unsqueeze.default", torch.unsqueeze, thin, 1),
            [2, 3, 4],
        ),
    }


UNARY: dict[str, Function] = {
    "abs.default": torch.abs,
    "cos.default": torch.cos,
    "exp.default": torch.exp,
    "neg.default": torch.neg,
    "reciprocal.default": torch.reciprocal,
    "relu.default": torch.relu,
    "rsqrt.default": torch.rsqrt,
    "sigmoid.default": torch.sigmoid,
    "silu.default": F.silu,
    "sin.default": torch.sin,
    "softplus.default": F.softplus,
    "sqrt.default": torch.sqrt,
    "square.default": torch.square,
    "tanh.default": torch.tanh,
}
BINARY: dict[str, Function] = {
    "add.Tensor": torch.add,
    "div.Tensor": torch.div,
    "maximum.default": torch.maximum,
    "minimum.default": torch.minimum,
    "mul.Scalar": torch.mul,
    "mul.Tensor": torch.mul,
    "sub.Tensor": torch.sub,
}


@pytest.mark.parametrize("rule", UNARY)
def test_functions_of_one_value(rule: str) -> None:
    lowered = Lowered()
    shown = lowered.call(rule, UNARY[rule], views(lowered)["turned"])
    assert [op.kind for op in lowered.check(shown)] == ["elementwise"]


@pytest.mark.parametrize("rule", BINARY)
@pytest.mark.parametrize("seen", ["plain", "turned", "broadcast"])
def test_functions_of_two_values_are_one_operator_through_any_view(rule: str, seen: str) -> None:
    lowered = Lowered()
    seen_values = views(lowered)
    shown = lowered.call(rule, BINARY[rule], seen_values["plain"], seen_values[seen])
    assert [op.kind for op in lowered.check(shown)] == ["elementwise"]


def test_numbers_are_part_of_the_expression() -> None:
    lowered = Lowered()
    x = lowered.tensor(random(2, 3))
    y = lowered.call("add.Tensor", torch.add, x, 1e-05)
    (op,) = lowered.check(lowered.call("mul.Tensor", torch.mul, y, 1.0))
    assert op.text("expr") == "a + 1e-05"


def test_a_dimension_of_one_broadcasts_under_a_letter_of_its_own() -> None:
    lowered = Lowered()
    a, b = lowered.tensor(random(2, 3, 4)), lowered.tensor(random(2, 3, 1))
    (op,) = lowered.check(lowered.call("mul.Tensor", torch.mul, a, b))
    assert op.text("indices") == "bse,bsz->bse"


def test_a_dimension_of_one_that_no_operand_has_is_left_to_the_view() -> None:
    lowered = Lowered()
    mean = lowered.call(
        "mean.dim",
        lambda x, over, keepdim: x.mean(over, keepdim=keepdim),
        lowered.tensor(random(2, 3, 4)),
        [-1],
        True,
    )
    root = lowered.call("rsqrt.default", torch.rsqrt, mean)
    product = lowered.call("mul.Tensor", torch.mul, lowered.tensor(random(2, 3, 5)), root)
    ops = lowered.check(product)
    assert [op.kind for op in ops] == ["reduce", *["elementwise"] * 3]
    assert ops[-1].text("indices") == "bse,bs->bse"


@pytest.mark.parametrize("seen", ["plain", "turned", "broadcast"])
@pytest.mark.parametrize("bias", [False, True])
def test_linear_is_a_matmul_and_its_bias_an_addition(seen: str, bias: bool) -> None:
    lowered = Lowered()
    weights = [lowered.tensor(random(5, 4))] + [lowered.tensor(random(5))] * bias
    lowered.check(lowered.call("linear.default", F.linear, views(lowered)[seen], *weights))


def test_a_product_of_column_and_row_is_elementwise() -> None:
    lowered = Lowered()
    column, row = lowered.tensor(random(2, 3, 1)), lowered.tensor(random(2, 1, 4))
    (op,) = lowered.check(lowered.call("matmul.default", torch.matmul, column, row))
    assert op.kind == "elementwise"


def test_a_batched_product_of_matrices() -> None:
    lowered = Lowered()
    a, b = views(lowered)["turned"], lowered.tensor(random(2, 4, 5))
    lowered.check(lowered.call("matmul.default", torch.matmul, a, b))


@pytest.mark.parametrize("seen", ["plain", "turned", "broadcast"])
@pytest.mark.parametrize("over", [[1], [-1], [0, 2]])
def test_a_mean_over_any_dimensions(seen: str, over: list[int]) -> None:
    lowered = Lowered()

    def mean(x: Tensor, over: list[int]) -> Tensor:
        return x.mean(over)

    lowered.check(lowered.call("mean.dim", mean, views(lowered)[seen], over))


@pytest.mark.parametrize("exponent", [2, 3, 0.5])
def test_a_power_is_a_square_or_a_power(exponent: float) -> None:
    lowered = Lowered()
    x = views(lowered)["plain"]
    (op,) = lowered.check(lowered.call("pow.Tensor_Scalar", torch.pow, x, exponent))
    assert op.text("expr") == ("square(a)" if exponent == 2 else f"a ** {exponent}")


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_both_forms_of_gelu(approximate: str) -> None:
    lowered = Lowered()
    x = lowered.tensor(random(2, 3))
    lowered.check(lowered.call("gelu.default", F.gelu, x, approximate=approximate))


@pytest.mark.parametrize("seen", ["plain", "turned", "broadcast"])
def test_views_of_views_are_made_real_where_they_must(seen: str) -> None:
    lowered = Lowered()
    x = views(lowered)[seen]
    x = lowered.call("permute.default", torch.permute, x, [2, 0, 1])
    x = lowered.call("unsqueeze.default", torch.unsqueeze, x, -1)
    x = lowered.call("slice.Tensor", lambda x, at, a, b: x[:, :, a:b], x, 2, 0, 9223372036854775807)
    x = lowered.call("squeeze.dim", torch.squeeze, x, 3)
    lowered.check(lowered.call("view.default", torch.reshape, x, [4, 6]))


@pytest.mark.parametrize("seen", ["plain", "turned"])
def test_parts_cut_out_and_joined_again(seen: str) -> None:
    lowered = Lowered()
    x = views(lowered)[seen]
    last = lowered.call("slice.Tensor", lambda x, at, a, b: x[..., a:b], x, -1, -2, 100)
    lowered.check(lowered.call("cat.default", torch.cat, [last, x, last], -1))


def test_rows_of_a_table() -> None:
    lowered = Lowered()
    table, ids = lowered.tensor(random(7, 4)), lowered.tensor(torch.tensor([[1, 6, 0], [2, 2, 5]]))

    def embedding(table: Tensor, ids: Tensor) -> Tensor:
        return F.embedding(ids, table)

    lowered.check(lowered.call("embedding.default", embedding, table, ids))


def test_a_cast_is_an_operator_only_where_the_dtype_changes() -> None:
    lowered = Lowered()
    x = lowered.tensor(random(2, 3))
    same = lowered.call("to.dtype", Tensor.to, x, torch.float32)
    assert same.view == x.view
    (op,) = lowered.check(lowered.call("to.dtype", Tensor.to, x, torch.bfloat16))
    assert (op.result, op.text("expr")) == ("x0.bfloat16", "a")


def refused(reason: str, rule: str, function: Function, *arguments: Any, **named: Any) -> None:
    lowered = Lowered()
    given = [lowered.tensor(x) if isinstance(x, Tensor) else x for x in arguments]
    with pytest.raises(UnsupportedError, match=reason):
        lowered.call(rule, function, *given, **named)


def test_uses_that_the_graph_has_no_form_for_are_refused() -> None:
    x, bits = random(2, 4), torch.tensor([1, 2])
    refused("the number nan", "mul.Tensor", torch.mul, x, float("nan"))
    refused("bits of integers", "bitwise_and.Tensor", torch.bitwise_and, bits, bits)
    refused("threshold = 3", "softplus.default", F.softplus, x, 1, 3)
    refused("mode reflect", "pad.default", F.pad, x, [1, 1], "reflect")
    refused("differences of differences", "diff.default", torch.diff, x, 2)
    refused("a norm of order 3", "linalg_vector_norm.default", torch.linalg.vector_norm, x, 3)
    refused("reduce = prod", "scatter_reduce.two", lambda x, *_: x, x, 0, bits, x, "prod")
    refused("repeats that differ", "repeat_interleave.self_Tensor", lambda *_: x, x, bits)


def test_what_has_a_size_that_depends_on_values_is_refused() -> None:
    x, mask = random(2, 4), torch.tensor([True, False])
    lowered = Lowered()
    index = [lowered.tensor(mask)]
    refused_call = lowered.tensor(x), index
    with pytest.raises(UnsupportedError, match="how much it selects is no size"):
        lowered.call("index.Tensor", lambda x, index: x[index[0]], *refused_call)
    assert "nonzero.default" not in RULES
    assert "masked_select.default" not in RULES


def test_complex_numbers_are_refused_where_no_rule_takes_them_apart() -> None:
    x = random(2, 3, 2)
    lowered = Lowered()
    given = lowered.tensor(x)
    number = Shown(given.view, TensorType("complex64", (2, 3)))
    lowered.expected[given.view] = torch.view_as_complex(x)
    with pytest.raises(UnsupportedError, match="complex numbers"):
        lowered.call("exp.default", torch.exp, number)
    with pytest.raises(UnsupportedError, match="real numbers"):
        lowered.call("real.default", lambda x: x.real, given)


def test_all_unsupported_operators_are_reported_in_one_message(
    write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("silu.default", "cos.default", "sin.default"):
        monkeypatch.delitem(RULES, name)
    config = read_config(write_config({"_name_or_path": "tiny"}))
    with pytest.raises(UserError) as caught:
        lower_config(config, "prefill")
    assert str(caught.value) == (
        "error: tiny: operators that are not built yet: "
        "aten.cos.default in model.rotary_emb; "
        "aten.sin.default in model.rotary_emb; "
        "aten.silu.default in model.layers.*.mlp.act_fn"
    )
