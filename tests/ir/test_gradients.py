"""Gradients of operators, run, are what torch differentiates out of their references."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from wscc.ir.derivative import pull_back
from wscc.ir.dims import size
from wscc.ir.errors import UserError, VerificationError
from wscc.ir.expression import FUNCTIONS, evaluate
from wscc.ir.graph import Graph, Op, TensorType
from wscc.ir.interpreter import run_op
from wscc.ir.kinds import kind_of, verify_op
from wscc.ir.text import parse_graph
from wscc.passes.backward import Sweep

OPERATORS = {
    "matmul": """
      input %x: float64[2, 3, 4] = data x
      input %w: float64[5, 4] = data w
      %y: float64[2, 3, 5] = matmul(%x, %w) {indices = "bse,fe->bsf"}
    """,
    "matmul, letters that one operand sums alone": """
      input %x: float64[2, 3, 4] = data x
      input %w: float64[4, 5, 2] = data w
      %y: float64[2, 5] = matmul(%x, %w) {indices = "bse,efk->bf"}
    """,
    "matmul, grouped heads": """
      input %x: float64[2, 3, 2, 4] = data x
      input %w: float64[2, 3, 5] = data w
      %y: float64[2, 5, 2, 4] = matmul(%x, %w) {indices = "bgrd,bgt->btrd"}
    """,
    "elementwise": """
      input %x: float64[2, 3, 4] = data x
      input %y: float64[2, 3, 4] = data y
      %z: float64[2, 4, 3] = elementwise(%x, %y) {indices = "bse,bse->bes", expr = "silu(a) * b"}
    """,
    "elementwise, broadcast": """
      input %x: float64[4, 2, 3] = data x
      input %w: float64[4] = data w
      input %r: float64[2, 3] = data r
      %z: float64[2, 3, 4, 5] = elementwise(%x, %w, %r) \
        {indices = "ebs,e,bs->bsef", expr = "a * b / (c * c + 1)"}
    """,
    "elementwise, a dimension of one dropped": """
      input %x: float64[2, 1, 3] = data x
      input %y: float64[1, 4] = data y
      %z: float64[2, 3, 4] = elementwise(%x, %y) {indices = "bts,ue->bse", expr = "a * b"}
    """,
    "elementwise, the same operand twice": """
      input %x: float64[3] = data x
      %z: float64[3, 3] = elementwise(%x, %x) {indices = "a,b->ab", expr = "a * exp(b)"}
    """,
    "elementwise, a cast": """
      input %x: float32[3] = data x
      %z: float64[3] = elementwise(%x) {indices = "a->a", expr = "a"}
    """,
    "sum": """
      input %x: float64[2, 3, 4] = data x
      input %y: float64[4, 2] = data y
      %z: float64[3] = reduce(%x, %y) \
        {indices = "bse,eb->s", function = "sum", expr = "a * square(b)"}
    """,
    "sum over letters of other operands": """
      input %x: float64[2, 3] = data x
      input %y: float64[4] = data y
      %z: float64[2] = reduce(%x, %y) {indices = "bs,e->b", function = "sum", expr = "a + 2 * b"}
    """,
    "sum of everything": """
      input %x: float64[2, 3] = data x
      %z: float64[] = reduce(%x) {indices = "bs->", function = "sum", expr = "tanh(a)"}
    """,
    "maximum": """
      input %x: float64[2, 3] = data x
      input %y: float64[3] = data y
      %z: float64[2] = reduce(%x, %y) {indices = "bs,s->b", function = "max", expr = "a - b"}
    """,
    "rms norm": """
      input %x: float64[2, 3, 4] = data x
      input %w: float64[4] = data w
      %z: float64[2, 3, 4] = norm(%x, %w) \
        {indices = "bse,e->bse", function = "rms", over = "e", epsilon = 0.01}
    """,
    "layer norm": """
      input %x: float64[2, 3, 4] = data x
      input %w: float64[4] = data w
      input %b: float64[4] = data b
      %z: float64[3, 2, 4] = norm(%x, %w, %b) \
        {indices = "bse,e,e->sbe", function = "layer", over = "e", epsilon = 0.01}
    """,
    "norm without parameters": """
      input %x: float64[2, 4] = data x
      %z: float64[2, 4] = norm(%x) \
        {indices = "be->be", function = "layer", over = "e", epsilon = 0.01}
    """,
    "rotary": """
      input %x: float64[2, 3, 2, 2, 4] = data x
      input %cos: int64[2, 3, 2, 4] = data cos
      input %sin: int64[2, 3, 2, 4] = data sin
      %z: float64[2, 2, 3, 2, 4] = rotary(%x, %cos, %sin) \
        {indices = "bshpd,bspd,bspd->bhspd", pair = "p"}
    """,
    "rotary back": """
      input %x: float64[3, 2, 4] = data x
      input %cos: int64[3, 2, 4] = data cos
      input %sin: int64[3, 2, 4] = data sin
      %z: float64[3, 2, 4] = rotary(%x, %cos, %sin) \
        {indices = "spd,spd,spd->spd", pair = "p", inverse = true}
    """,
    "attention": """
      input %q: float64[2, 4, 3, 5] = data q
      input %k: float64[2, 2, 6, 5] = data k
      input %v: float64[2, 2, 6, 7] = data v
      %z: float64[2, 3, 4, 7] = attention(%q, %k, %v) {scale = 0.5, causal = true, window = 4}
    """,
    "attention with everything": """
      input %q: float64[2, 4, 3, 5] = data q
      input %k: float64[2, 2, 3, 5] = data k
      input %v: float64[2, 2, 3, 7] = data v
      input %m: float64[4, 3] = data m
      input %s: float64[4] = data s
      %z: float64[2, 3, 4, 7] = attention(%q, %k, %v, %m, %s) \
        {scale = 0.5, causal = true, softcap = 2.0, extras = ["mask", "sinks"], mask = "ht"}
    """,
    "mask": """
      input %x: float64[2, 3, 4] = data x
      %m: float64[2, 4, 3] = mask(%x) {indices = "bst->bts", query = "s", key = "t", window = 2}
      %z: float64[2, 4, 3] = elementwise(%m) {indices = "bts->bts", expr = "exp(a)"}
    """,
    "embedding": """
      input %ids: int64[2, 3] = data ids
      input %table: float64[4, 5] = data table
      %z: float64[3, 2, 4] = embedding(%ids, %table) {indices = "bs,ev->sbe", rows = "v"}
    """,
    "concat": """
      input %x: float64[2, 3, 4] = data x
      input %y: float64[2, 4, 2] = data y
      %z: float64[2, 5, 4] = concat(%x, %y) {indices = "bse,bes->bse", along = "s"}
    """,
    "concat of thin operands": """
      input %x: float64[2, 4] = data x
      input %y: float64[4, 2] = data y
      %z: float64[2, 2, 4] = concat(%x, %y) {indices = "be,eb->bse", along = "s"}
    """,
    "slice": """
      input %x: float64[2, 5, 4] = data x
      %z: float64[2, 4, 2] = slice(%x) {indices = "bse->bes", along = "s", start = 1, stop = 3}
    """,
    "views": """
      input %x: float64[2, 3, 4] = data x
      %y: float64[4, 2, 3] = transpose(%x) {order = [2, 0, 1]}
      %z: float64[8, 3] = reshape(%y)
    """,
    "cross entropy": """
      input %x: float64[2, 3, 4] = data x
      input %labels: int64[2, 3] = data labels
      %z: float64[] = cross_entropy(%x, %labels) \
        {indices = "bsv,bs->", classes = "v", along = "s", shift = 1, ignore = 2}
    """,
}


def graph_of(text: str) -> Graph:
    lines = re.sub(" +", " ", text).strip().split("\n")
    last = lines[-1].split(":")[0].strip()
    return parse_graph("graph g {\n" + "\n".join(lines) + f"\noutput {last} = data z\n}}\n")


def values_of(graph: Graph) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {value.name: random(value.type, generator) for value in graph.inputs}


def random(type_: TensorType, generator: torch.Generator) -> Tensor:
    shape = [size(dim) for dim in type_.shape]
    if type_.dtype == "int64":
        return torch.randint(0, 4, shape, generator=generator)
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
    return drawn.to(getattr(torch, type_.dtype))


def run(ops: tuple[Op, ...] | list[Op], values: dict[str, Tensor]) -> None:
    for op in ops:
        results = run_op(op, [values[name] for name in op.operands])
        values.update(zip(op.results, results, strict=True))


def differentiated(graph: Graph, values: dict[str, Tensor], given: Tensor) -> dict[str, Tensor]:
    """The gradients of the inputs that the graph's own backward operators compute."""
    inputs = {v.name for v in graph.inputs if v.type.dtype != "int64"}
    sweep = Sweep(graph, inputs | set(graph.producers))
    (output,) = graph.output_names
    sweep.give(output, sweep.declare("given", graph.types[output]))
    sweep.run(lambda op, given: ())
    gradients = {name: sweep.gradient(name) for name in inputs}
    every = {**values, "given": given}
    run(graph.ops, every)
    for op in sweep.ops:
        verify_op("g", op, tuple(sweep.type_of(name) for name in op.operands))
    run(sweep.ops, every)
    return {name: every[gradient] for name, gradient in gradients.items() if gradient}


@pytest.mark.parametrize("text", OPERATORS.values(), ids=OPERATORS)
def test_a_gradient_is_what_torch_says(text: str) -> None:
    graph = graph_of(text)
    values = values_of(graph)
    leaves = {
        name: value.clone().requires_grad_(value.is_floating_point())
        for name, value in values.items()
    }
    run(graph.ops, leaves)
    result = leaves[graph.output_names[0]]
    given = torch.randn(result.shape, dtype=result.dtype)
    result.backward(given)
    theirs = {name: leaves[name].grad for name in values if leaves[name].requires_grad}
    ours = differentiated(graph, values, given)
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert ours[name].dtype == values[name].dtype
        torch.testing.assert_close(ours[name], gradient)


def test_equal_maxima_share_a_gradient() -> None:
    graph = graph_of(OPERATORS["maximum"])
    values = {"x": torch.tensor([[1.0, 3, 3], [2, 1, 0]]).double(), "y": torch.zeros(3).double()}
    ours = differentiated(graph, values, torch.tensor([1.0, 5.0]).double())
    assert ours["x"].tolist() == [[0, 0.5, 0.5], [5, 0, 0]]


def test_the_row_of_padding_takes_no_gradient() -> None:
    text = OPERATORS["embedding"].replace('rows = "v"', 'rows = "v", padding = 1')
    values = {"ids": torch.tensor([[0, 1, 1], [1, 3, 3]]), "table": torch.zeros(4, 5).double()}
    ours = differentiated(graph_of(text), values, torch.ones(3, 2, 4).double())
    assert ours["table"].sum(0).tolist() == [4, 0, 0, 8, 0]


def test_attention_and_its_gradient_count_three_times_the_forward_products() -> None:
    graph = graph_of(OPERATORS["attention"])
    sweep = Sweep(graph, set(graph.types))
    sweep.give("z", sweep.declare("given", graph.types["z"]))
    sweep.run(lambda op, given: ())
    (forward,), (backward,) = graph.ops, sweep.ops
    types = tuple(sweep.type_of(name) for name in backward.operands)
    assert kind_of(backward).flops(backward, types) == 2 * kind_of(forward).flops(
        forward, graph.operand_types(forward)
    )


def test_attention_yields_only_the_gradients_that_are_read() -> None:
    graph = graph_of(OPERATORS["attention with everything"])
    sweep = Sweep(graph, {"v", "s", "z"})
    sweep.give("z", sweep.declare("given", graph.types["z"]))
    sweep.run(lambda op, given: ())
    assert sweep.ops[-1].attributes["gives"] == ("value", "sinks")
    assert (sweep.gradient("q"), sweep.gradient("v")) == (None, "v.grad")


def test_an_operator_without_a_gradient_is_named() -> None:
    graph = graph_of("input %x: float64[3] = data x\n%y: float64[3] = shard(%x) @a.module")
    with pytest.raises(UserError, match=r"training through shard \(in a.module\) is not built"):
        differentiated(graph, values_of(graph), torch.ones(3))


BROKEN = {
    "no rule 'adan', only adam, sgd": """
      input %g: float32[3] = data g
      %w: float32[3] = update(%g, %g) {indices = "a,a->a", rule = "adan", rate = 0.1, decay = 0.0}
    """,
    "adam takes 5 operands and yields 3": """
      input %g: float32[3] = data g
      %w: float32[3] = update(%g, %g) {indices = "a,a->a", rule = "adam", rate = 0.1, decay = 0.0}
    """,
    "no numeric attribute 'decay'": """
      input %g: float32[3] = data g
      %w: float32[3] = update(%g, %g) {indices = "a,a->a", rule = "sgd", rate = 0.1}
    """,
    "labels cannot be shifted by -1": """
      input %x: float32[2, 3] = data x
      input %l: int64[2] = data l
      %z: float32[] = cross_entropy(%x, %l) \
        {indices = "sv,s->", classes = "v", along = "s", shift = -1, ignore = 0}
    """,
    "gives must be some of query, key, value": """
      input %q: float32[1, 1, 2, 3] = data q
      input %g: float32[1, 2, 1, 3] = data g
      %z: float32[1, 1, 2, 3] = attention_grad(%g, %q, %q, %q) {scale = 1.0, gives = ["sinks"]}
    """,
}


@pytest.mark.parametrize(("message", "text"), BROKEN.items(), ids=BROKEN)
def test_what_no_operator_of_training_may_be_is_named(message: str, text: str) -> None:
    with pytest.raises(VerificationError, match=message):
        graph_of(text).verify()


def test_a_gradient_of_another_type_than_its_value_is_refused() -> None:
    graph = graph_of(OPERATORS["matmul"])
    sweep = Sweep(graph, set(graph.types))
    wrong = sweep.declare("given", TensorType("float32", graph.types["y"].shape))
    with pytest.raises(VerificationError, match=r"the gradient of %y, float64.*, is float32"):
        sweep.give("y", wrong)


# Expressions


DERIVATIVES = {
    "a + b": {"a": "a", "b": "a"},
    "a - b": {"a": "a", "b": "-a"},
    "-a": {"a": "-a"},
    "a * b": {"a": "a * b", "b": "a * b"},
    "a / 24": {"a": "a / 24"},
    "a ** 2": {"a": "a * 2 * b"},
    "a ** 0.5": {"a": "a * 0.5 * b ** (-0.5)"},
    "exp(a - b)": {"a": "a * exp(b - c)", "b": "-(a * exp(b - c))"},
    "where(a > 0, b, 0)": {"b": "where(b > 0, a, 0)"},
    "floor(a) + a": {"a": "a"},
    "3 + context": {},
}


@pytest.mark.parametrize(("text", "expected"), DERIVATIVES.items(), ids=DERIVATIVES)
def test_derivatives_read_as_one_would_write_them(text: str, expected: dict[str, str]) -> None:
    assert {letter: back.expr for letter, back in pull_back(text).items()} == expected


SMOOTH = sorted(
    {name for name, function in FUNCTIONS.items() if function.operands == 1}
    - {"ceil", "floor", "round", "sign", "trunc"}
)

EXPRESSIONS = st.recursive(
    st.sampled_from(["a", "b", "c", "0.5", "2.0"]),
    lambda inner: (
        st.builds("{}({})".format, st.sampled_from(SMOOTH), inner)
        | st.builds("({} {} {})".format, inner, st.sampled_from("+-*/"), inner)
        | st.builds("{}({}, {})".format, st.sampled_from(["maximum", "minimum"]), inner, inner)
        | st.builds("where({} > {}, {}, {})".format, inner, inner, inner, inner)
        | st.builds("(-{})".format, inner)
        | st.builds("{} ** 3".format, st.sampled_from(["a", "b"]))
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=150)
@given(EXPRESSIONS)
def test_the_derivative_of_any_expression_is_what_torch_says(text: str) -> None:
    values = [
        torch.linspace(0.3, 1.7, 8, dtype=torch.float64).roll(shift).requires_grad_()
        for shift in (0, 3, 5)
    ]
    result = torch.as_tensor(evaluate(text, values), dtype=torch.float64).expand(8)
    upstream = torch.linspace(-1, 2, 8, dtype=torch.float64)
    pulled = pull_back(text)
    theirs: tuple[Tensor | None, ...] = (None, None, None)
    if result.requires_grad:
        theirs = torch.autograd.grad(result, values, upstream, allow_unused=True)
    for letter, value, gradient in zip("abc", values, theirs, strict=True):
        expected = torch.zeros(8, dtype=torch.float64) if gradient is None else gradient
        back = pulled.get(letter)
        with torch.no_grad():
            found = (
                evaluate(back.expr, [upstream, *(values[at] for at in back.reads)]) if back else 0
            )
        ours = torch.as_tensor(found, dtype=torch.float64).expand_as(value)
        usable = result.isfinite() & expected.isfinite() & (expected.abs() < 1e9)
        torch.testing.assert_close(ours[usable], expected[usable], rtol=1e-5, atol=1e-8)
