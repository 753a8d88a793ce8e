"""Every operator kind against a direct torch computation, and FLOPs against closed forms."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from wscc.ir.dims import bind
from wscc.ir.errors import VerificationError
from wscc.ir.graph import Graph, Op, TensorType
from wscc.ir.interpreter import run_op
from wscc.ir.kinds import KINDS, graph_flops, indices_of, verify_op
from wscc.ir.text import parse_graph

INPUTS = {
    "x": "float32[2, 3, 4]",
    "y": "float32[2, 3, 4]",
    "w": "float32[6, 4]",
    "v": "float32[4]",
    "u": "float32[4]",
    "one": "float32[2, 1, 4]",
    "flat": "float32[2, 4]",
    "pairs": "float32[2, 3, 5, 2, 4]",
    "angle": "float32[2, 3, 2, 4]",
    "q": "float32[2, 6, 3, 4]",
    "k": "float32[2, 2, 5, 4]",
    "values": "float32[2, 2, 5, 7]",
    "scores": "float32[2, 3, 5]",
    "ids": "int64[2, 3]",
    "table": "float32[11, 4]",
    "sideways": "float32[4, 11]",
}

Values = dict[str, Tensor]


def graph_of(line: str) -> Graph:
    inputs = [f"input %{name}: {type_} = data {name}" for name, type_ in INPUTS.items()]
    return parse_graph("\n".join(("graph g {", *inputs, line, "}")))


def values() -> Values:
    generator = torch.Generator().manual_seed(0)
    graph = graph_of("%z: float32[2, 3, 4] = all_gather(%x)")
    made: Values = {}
    for value in graph.inputs:
        shape = [bind(dim, {}) for dim in value.type.shape]
        sizes = [int(str(dim)) for dim in shape]
        integers = torch.randint(0, 11, sizes, generator=generator)
        floats = torch.randn(sizes, generator=generator)
        made[value.name] = integers if value.type.dtype == "int64" else floats
    return made


def run(line: str) -> Tensor:
    graph = graph_of(line)
    graph.verify()
    (op,) = graph.ops
    given = values()
    result = run_op(op, [given[name] for name in op.operands])[0]
    assert isinstance(result, Tensor)
    assert tuple(result.shape) == op.type.shape
    assert str(result.dtype) == f"torch.{op.type.dtype}"
    return result


def rms(x: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 0.1).sqrt()


def turned(v: Values) -> Tensor:
    """The half-rotated form of Hugging Face, with both halves of a head side by side."""
    x = v["pairs"].flatten(-2)
    half = torch.cat((-x[..., 4:], x[..., :4]), -1)
    cos, sin = v["angle"].flatten(-2)[:, :, None], v["angle"].flatten(-2)[:, :, None]
    return (x * cos + half * sin).reshape(2, 3, 5, 2, 4).permute(0, 2, 1, 3, 4)


def attended(v: Values, causal: bool, window: int | None = None) -> Tensor:
    key, value = (v[name].repeat_interleave(3, dim=1) for name in ("k", "values"))
    hidden = torch.zeros(3, 5, dtype=torch.bool)
    for query in range(3):
        for at in range(5):
            behind = query + 2 - at
            hidden[query, at] = causal and (behind < 0 or (window is not None and behind >= window))
    out = functional.scaled_dot_product_attention(v["q"], key, value, ~hidden, scale=0.5)
    return out.transpose(1, 2)


def masked(v: Values) -> Tensor:
    scores = v["scores"].clone()
    for query in range(3):
        for at in range(5):
            if not 0 <= query + 2 - at < 2:
                scores[:, query, at] = -torch.inf
    return scores


CASES: Sequence[tuple[str, Callable[[Values], Tensor]]] = (
    (
        '%z: float32[2, 3, 6] = matmul(%x, %w) {indices = "bse,fe->bsf"}',
        lambda v: functional.linear(v["x"], v["w"]),
    ),
    (
        '%z: float32[6, 2] = grid_matmul(%one, %w) {indices = "bse,fe->fb", form = "rotate"}',
        lambda v: (v["one"][:, 0] @ v["w"].T).T,
    ),
    (
        '%z: float32[3, 2, 4] = elementwise(%x, %v, %one) '
        '{indices = "bse,e,bie->sbe", expr = "a * b - c"}',
        lambda v: (v["x"] * v["v"] - v["one"]).transpose(0, 1),
    ),
    (
        '%z: bfloat16[2, 3, 4] = elementwise(%v) {indices = "e->bse", expr = "silu(a)"}',
        lambda v: functional.silu(v["v"]).bfloat16().expand(2, 3, 4),
    ),
    (
        '%z: float32[3] = reduce(%x) {indices = "bse->s", function = "sum", expr = "square(a)"}',
        lambda v: v["x"].square().sum((0, 2)),
    ),
    (
        '%z: float32[4, 2] = reduce(%x, %y) '
        '{indices = "bse,bse->eb", function = "max", expr = "a - b"}',
        lambda v: (v["x"] - v["y"]).amax(1).T,
    ),
    (
        '%z: float32[2, 3, 4] = norm(%x, %v) '
        '{indices = "bse,e->bse", function = "rms", over = "e", epsilon = 0.1}',
        lambda v: rms(v["x"]) * v["v"],
    ),
    (
        '%z: float32[2, 3, 4] = norm(%x, %v, %u) '
        '{indices = "bse,e,e->bse", function = "layer", over = "e", epsilon = 0.1}',
        lambda v: functional.layer_norm(v["x"], (4,), v["v"], v["u"], 0.1),
    ),
    (
        '%z: float32[2, 5, 3, 2, 4] = rotary(%pairs, %angle, %angle) '
        '{indices = "bshpd,bspd,bspd->bhspd", pair = "p"}',
        turned,
    ),
    (
        "%z: float32[2, 3, 6, 7] = attention(%q, %k, %values) {scale = 0.5, causal = true}",
        lambda v: attended(v, causal=True),
    ),
    (
        "%z: float32[2, 3, 6, 7] = attention(%q, %k, %values) "
        "{scale = 0.5, causal = true, window = 2}",
        lambda v: attended(v, causal=True, window=2),
    ),
    (
        "%z: float32[2, 3, 6, 7] = attention(%q, %k, %values) {scale = 0.5, causal = false}",
        lambda v: attended(v, causal=False),
    ),
    (
        '%z: float32[2, 3, 5] = mask(%scores) '
        '{indices = "bst->bst", query = "s", key = "t", window = 2}',
        masked,
    ),
    (
        '%z: float32[2, 3, 4] = embedding(%ids, %table) {indices = "bs,ve->bse", rows = "v"}',
        lambda v: functional.embedding(v["ids"], v["table"]),
    ),
    (
        '%z: float32[4, 2, 3] = embedding(%ids, %sideways) {indices = "bs,ev->ebs", rows = "v"}',
        lambda v: v["sideways"][:, v["ids"]],
    ),
    (
        '%z: float32[2, 5, 4] = concat(%x, %one, %flat) '
        '{indices = "bse,bse,be->bse", along = "s"}',
        lambda v: torch.cat((v["x"], v["one"], v["flat"][:, None]), 1),
    ),
    ("%z: float32[6, 4] = reshape(%x)", lambda v: v["x"].reshape(6, 4)),
    (
        "%z: float32[4, 2, 3] = transpose(%x) {order = [2, 0, 1]}",
        lambda v: v["x"].permute(2, 0, 1),
    ),
    (
        "%z: float32[2, 2, 4] = slice(%x) {dim = 1, start = 1, stop = 3}",
        lambda v: v["x"][:, 1:3],
    ),
    ("%z: float32[2, 3, 4] = shard(%x)", lambda v: v["x"]),
    ('%z: float32[2, 3, 4] = all_reduce(%x) {axes = ["x"], function = "sum"}', lambda v: v["x"]),
    ('%z: float32[2, 3, 4] = reduce_scatter(%x) {axes = ["x"]}', lambda v: v["x"]),
    ('%z: float32[2, 3, 4] = all_gather(%x) {axes = ["x"]}', lambda v: v["x"]),
)  # fmt: skip


@pytest.mark.parametrize(("line", "expected"), CASES, ids=[line for line, _ in CASES])
def test_a_kind_computes_what_torch_computes(
    line: str, expected: Callable[[Values], Tensor]
) -> None:
    torch.testing.assert_close(run(line), expected(values()))


def test_every_kind_is_compared_with_torch() -> None:
    compared = {graph_of(line).ops[0].kind for line, _ in CASES}
    assert compared == set(KINDS) - {"repeat"}


def test_the_maximum_over_nothing_is_minus_infinity() -> None:
    op = graph_of(
        '%z: float32[2] = reduce(%x) {indices = "bse->b", function = "max", expr = "a"}'
    ).ops[0]
    nothing = KINDS["reduce"].reference(op, [torch.zeros(2, 3, 0)])
    assert nothing.tolist() == [-torch.inf, -torch.inf]


def test_a_norm_computes_in_float32_inside() -> None:
    op = graph_of(
        "%z: bfloat16[2, 3, 4] = norm(%x) "
        '{indices = "bse->bse", function = "rms", over = "e", epsilon = 0.1}'
    ).ops[0]
    x = values()["x"].bfloat16()
    torch.testing.assert_close(KINDS["norm"].reference(op, [x]), rms(x.float()).bfloat16())


def test_a_repeat_has_no_value_apart_from_its_graph() -> None:
    op = Op("repeat", (), ("h",), (TensorType("float32", ()),), {"body": "b"})
    with pytest.raises(VerificationError, match="repeat %h has no value apart from its graph"):
        KINDS["repeat"].reference(op, [])


def test_a_matrix_product_counts_a_multiply_add_as_two() -> None:
    text = """graph g {
  input %x: float32[batch, sequence, 64] = data x
  input %w: float32[96, 64] = weight w
  %y: float32[batch, sequence, 96] = matmul(%x, %w) {indices = "bse,fe->bsf"}
}"""
    flops = graph_flops(parse_graph(text))
    assert str(flops) == f"{2 * 96 * 64}*batch*sequence"


def test_attention_counts_scores_and_weighted_values_over_all_pairs() -> None:
    text = """graph g {
  input %q: float32[batch, 8, 1, 16] = data q
  input %k: float32[batch, 2, context, 16] = data k
  input %v: float32[batch, 2, context, 12] = data v
  %y: float32[batch, 1, 8, 12] = attention(%q, %k, %v) {scale = 0.25, causal = true}
}"""
    graph = parse_graph(text)
    graph.verify()
    assert str(graph_flops(graph)) == f"{2 * 8 * (16 + 12)}*batch*context"


def test_only_products_and_attention_count_as_flops() -> None:
    counted = {graph_of(line).ops[0].kind for line, _ in CASES if graph_flops(graph_of(line)) != 0}
    assert counted == {"matmul", "grid_matmul", "attention"}


def test_a_letter_that_the_result_lacks_is_reduced() -> None:
    op = graph_of('%z: float32[2, 3, 6] = matmul(%x, %w) {indices = "bse,fe->bsf"}').ops[0]
    assert indices_of(op).reduced == {"e": "sum"}


def test_a_normalized_dimension_may_not_be_split() -> None:
    op = graph_of(CASES[6][0]).ops[0]
    assert indices_of(op).whole == {"e"}


def test_a_view_has_no_indices() -> None:
    op = graph_of("%z: float32[6, 4] = reshape(%x)").ops[0]
    with pytest.raises(VerificationError, match="reshape %z has no indices"):
        indices_of(op)


def test_an_op_states_as_many_types_as_results() -> None:
    op = Op("reshape", ("x",), ("y", "z"), (TensorType("float32", (4,)),))
    with pytest.raises(VerificationError, match="graph g: reshape %y: 2 results of 1 types"):
        verify_op("g", op, (TensorType("float32", (4,)),))
