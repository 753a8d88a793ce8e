"""Every operator kind against a direct torch computation, and FLOPs against closed forms."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from wscc.ir.dims import bind
from wscc.ir.errors import VerificationError
from wscc.ir.graph import Graph, Op, TensorType
from wscc.ir.interpreter import run_op
from wscc.ir.kinds import KINDS, graph_flops, indices_of, verify_op
from wscc.ir.operators import (
    attention,
    collectives,
    linear,
    lookup,
    normalization,
    pointwise,
    positions,
    selection,
    views,
)
from wscc.ir.text import parse_graph, print_graph

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
    "few": "int64[2, 2]",
    "flat2": "float32[2, 2]",
    "scalar": "float32[]",
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
        limit = 4 if value.name == "few" else 11
        integers = torch.randint(0, limit, sizes, generator=generator)
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
        '%z: float32[4, 2, 2] = slice(%x) '
        '{indices = "bse->ebs", along = "s", start = 1, stop = 3}',
        lambda v: v["x"][:, 1:3].permute(2, 0, 1),
    ),
    (
        '%z: float32[4, 2, 3] = softmax(%x) {indices = "bse->ebs", over = "s"}',
        lambda v: v["x"].softmax(1).permute(2, 0, 1),
    ),
    (
        '%z: float32[2, 3, 4] = softmax(%x) {indices = "bse->bse", over = "e", log = true}',
        lambda v: v["x"].log_softmax(-1),
    ),
    (
        '%z: float32[2, 4, 3] = cumsum(%x) {indices = "bse->bes", over = "s"}',
        lambda v: v["x"].cumsum(1).transpose(1, 2),
    ),
    (
        '%z: int64[2, 3] = cumsum(%ids) {indices = "bs->bs", over = "s", reverse = true}',
        lambda v: v["ids"].flip(1).cumsum(1).flip(1),
    ),
    (
        '%z: float32[2, 2, 4], %i: int64[4, 2, 2] = topk(%x) '
        '{indices = "bse->bke,ekb", over = "s", largest = true, sorted = true}',
        lambda v: v["x"].topk(2, 1)[0],
    ),
    (
        '%z: float32[2, 3, 2] = gather(%x, %few) {indices = "bse,bk->bsk", along = "e"}',
        lambda v: v["x"].gather(2, v["few"][:, None].expand(2, 3, 2)),
    ),
    (
        '%z: float32[2, 2, 2, 3] = gather(%x, %few) {indices = "bse,tk->kbts", along = "e"}',
        lambda v: v["x"][:, :, v["few"]].permute(3, 0, 2, 1),
    ),
    (
        '%z: float32[2, 3, 4] = scatter(%x, %few, %flat2) '
        '{indices = "bse,bk,bk->bse", along = "e", function = "add"}',
        lambda v: v["x"].scatter_add(
            2, v["few"][:, None].expand(2, 3, 2), v["flat2"][:, None].expand(2, 3, 2)
        ),
    ),
    (
        '%z: float32[3, 2, 4] = scatter(%x, %few, %scalar) '
        '{indices = "bse,bk,->sbe", along = "e", function = "set"}',
        lambda v: (
            v["x"]
            .scatter(2, v["few"][:, None].expand(2, 3, 2), v["scalar"].item())
            .transpose(0, 1)
        ),
    ),
    (
        '%z: int32[5] = iota() {indices = "->s", start = 3, step = -2}',
        lambda v: torch.arange(3, -7, -2, dtype=torch.int32),
    ),
    (
        '%z: float32[2, 6, 4] = pad(%x) '
        '{indices = "bse->bse", along = "s", before = 2, after = 1, value = 0.5}',
        lambda v: functional.pad(v["x"], (0, 0, 2, 1), value=0.5),
    ),
    (
        '%z: float32[2, 4, 3] = flip(%x) {indices = "bse->bes", along = "s"}',
        lambda v: v["x"].flip(1).transpose(1, 2),
    ),
    (
        '%z: bool[2, 3] = elementwise() {indices = "->bs", expr = "1 > 2 or inf > 0"}',
        lambda v: torch.ones(2, 3, dtype=torch.bool),
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


COMPARED = (
    attention,
    collectives,
    linear,
    lookup,
    normalization,
    pointwise,
    positions,
    selection,
    views,
)
"""The groups of kinds that are compared here; others have a test file of their own."""


def test_every_kind_is_compared_with_torch() -> None:
    compared = {graph_of(line).ops[0].kind for line, _ in CASES}
    kinds = {kind.name for group in COMPARED for kind in group.KINDS}
    assert compared == {kind for kind in kinds if not kind.endswith("_grad")} - {"repeat"}


def test_the_second_result_of_a_choice_says_where_the_elements_are() -> None:
    line = next(line for line, _ in CASES if "topk" in line)
    (op,) = graph_of(line).ops
    x = values()["x"]
    assert torch.equal(run_op(op, [x])[1], x.topk(2, 1)[1].permute(2, 1, 0))


def test_choosing_everything_is_a_stable_sort_and_choosing_one_takes_the_first() -> None:
    op = parse_graph("""graph g {
  input %x: float32[4] = data x
  %y: float32[4], %i: int64[4] = topk(%x) {indices = "e->k,k", over = "e", largest = true, sorted = true}
}""").ops[0]  # noqa: E501
    x = torch.tensor([1.0, 3.0, 1.0, 3.0])
    assert run_op(op, [x])[1].tolist() == [1, 3, 0, 2]
    one = replace(op, types=(TensorType("float32", (1,)), TensorType("int64", (1,))))
    assert run_op(one, [x])[1].tolist() == [1]


def test_a_choice_of_more_than_there_is_is_all() -> None:
    op = parse_graph("""graph g {
  input %x: float32[2] = data x
  %y: float32[5], %i: int64[5] = topk(%x) {indices = "e->k,k", over = "e", largest = false, sorted = true}
}""").ops[0]  # noqa: E501
    assert run_op(op, [torch.tensor([2.0, 1.0])])[0].tolist() == [1, 2]


def test_sizes_in_attributes_and_expressions_are_bound_with_the_graph() -> None:
    graph = parse_graph("""graph g {
  input %x: float32[batch, sequence] = data x
  %i: int64[sequence] = iota() {indices = "->s", start = context, step = 1}
  %y: float32[batch, 1] = slice(%x) {indices = "bs->bs", along = "s", start = sequence - 1, stop = sequence}
  %z: float32[batch, 1] = elementwise(%y) {indices = "bs->bs", expr = "a / (sequence + 1)"}
}""")  # noqa: E501
    graph.verify()
    assert parse_graph(print_graph(graph)) == graph
    bound = graph.bind({"batch": 2, "sequence": 3, "context": 5})
    bound.verify()
    positions, last, scaled = bound.ops
    assert run_op(positions, [])[0].tolist() == [5, 6, 7]
    x = torch.arange(6.0).reshape(2, 3)
    (end,) = run_op(last, [x])
    assert end.tolist() == [[2], [5]]
    assert run_op(scaled, [end])[0].tolist() == [[0.5], [1.25]]


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
