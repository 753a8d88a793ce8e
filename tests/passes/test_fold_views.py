"""Folding views: no reshape or transpose is left, and every output keeps its elements."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from wscc.ir.dims import size
from wscc.ir.graph import Graph, Input, Model, Op, Output, TensorType
from wscc.ir.interpreter import run_model
from wscc.ir.kinds import indices_of
from wscc.ir.text import parse_graph, print_model
from wscc.passes.decompose import Decompose
from wscc.passes.fold_views import FoldViews

VIEWS = {"reshape", "transpose"}


def alone(graph: Graph) -> Model:
    return Model("m", "prefill", "float32", {"main": graph})


def run(model: Model, sizes: dict[str, int]) -> dict[str, torch.Tensor]:
    """Outputs for one state, which does not depend on how the graph views it."""
    bound = model.bind(sizes)
    generator = torch.Generator().manual_seed(0)
    state: dict[str, torch.Tensor] = {}
    for graph in bound.graphs.values():
        for value in sorted(graph.inputs, key=lambda value: value.source):
            shape = [size(dim) for dim in value.type.shape]
            if value.role in ("carried", "shared"):
                continue
            for layer in range(2):
                source = value.source.replace("*", str(layer))
                whole = value.type.dtype == "int64"
                state[source] = (
                    torch.randint(0, 50, shape, generator=generator)
                    if whole
                    else torch.randn(shape, generator=generator) * 0.3
                )
    return run_model(bound, state)


def assert_same(model: Model, folded: Model, sizes: dict[str, int]) -> None:
    folded.verify()
    assert not VIEWS & {op.kind for graph in folded.graphs.values() for op in graph.ops}
    before, after = run(model, sizes), run(folded, sizes)
    assert before.keys() == after.keys()
    for name, value in before.items():
        torch.testing.assert_close(after[name].reshape(value.shape), value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sizes", [{"batch": 1, "context": 5}, {"batch": 3, "context": 4}])
def test_a_decode_layer_folds(layer_model: Model, sizes: dict[str, int]) -> None:
    assert_same(layer_model, FoldViews().run(layer_model.map(Decompose().run)), sizes)


@pytest.mark.parametrize("sizes", [{"batch": 1, "sequence": 5}, {"batch": 3, "sequence": 1}])
def test_a_prefill_layer_folds(prompt_model: Model, sizes: dict[str, int]) -> None:
    assert_same(prompt_model, FoldViews().run(prompt_model.map(Decompose().run)), sizes)


def test_the_folded_decode_layer_reads_so(
    layer_model: Model, golden: Callable[[str, str], None]
) -> None:
    folded = FoldViews().run(layer_model.map(Decompose().run))
    golden("fold_views_decode.txt", print_model(folded))


def test_folding_twice_is_folding_once(layer_model: Model, prompt_model: Model) -> None:
    for model in (layer_model, prompt_model):
        folded = FoldViews().run(model.map(Decompose().run))
        assert FoldViews().run(folded) == folded


@st.composite
def chains(draw: st.DrawFn) -> Graph:
    """Products with square weights, and between them views that go one way and another."""
    shape = (2, 3, 4)
    inputs = [Input("x", TensorType("float32", shape), "data", "x")]
    ops: list[Op] = []
    name = "x"
    for step in range(draw(st.integers(1, 3))):
        for view in range(draw(st.integers(0, 2))):
            if draw(st.booleans()):
                order = tuple(draw(st.permutations(range(len(shape)))))
                shape = tuple(shape[at] for at in order)
                kind, attributes = "transpose", {"order": order}
            else:
                shape = draw(st.sampled_from(splits(shape)))
                kind, attributes = "reshape", {}
            result = f"v{step}.{view}"
            ops.append(Op(kind, (name,), (result,), (TensorType("float32", shape),), attributes))
            name = result
        width = shape[-1]
        weight = f"w{step}"
        inputs.append(Input(weight, TensorType("float32", (width, width)), "weight", weight))
        letters = "abcdefgh"[: len(shape) - 1]
        indices = f"{letters}y,zy->{letters}z"
        type_ = TensorType("float32", shape)
        ops.append(Op("matmul", (name, weight), (f"m{step}",), (type_,), {"indices": indices}))
        name = f"m{step}"
    return Graph("main", tuple(inputs), tuple(ops), (Output(name, "data", "y"),))


def splits(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Shapes in which two neighbours are one, or one dimension is two."""
    merged = [
        (*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :]) for at in range(len(shape) - 1)
    ]
    cut = [
        (*shape[:at], factor, whole // factor, *shape[at + 1 :])
        for at, whole in enumerate(shape)
        for factor in (1, 2, 3)
        if whole % factor == 0 and len(shape) < 6
    ]
    return [*merged, *cut]


@settings(deadline=None, max_examples=150)
@given(chains())
def test_any_views_between_products_fold(graph: Graph) -> None:
    graph.verify()
    model = alone(graph)
    assert_same(model, FoldViews().run(model), {})


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        (("%y: float32[4, 6] = reshape(%x)", "%z: float32[3, 8] = reshape(%y)"), 1),
        (("%z: float32[6, 4] = transpose(%x) {order = [1, 0]}",), 1),
        (("%y: float32[24] = reshape(%x)", "%z: float32[4, 6] = reshape(%y)"), 0),
    ],
)
def test_a_view_that_no_splitting_explains_stays_with_whole_dimensions(
    lines: tuple[str, ...], kept: int
) -> None:
    head = ("graph main {", "input %x: float32[4, 6] = data x")
    graph = parse_graph("\n".join((*head, *lines, "output %z = data z", "}")))
    graph.verify()
    folded = FoldViews().run(alone(graph))
    assert [op.kind for op in folded.main.ops] == ["view"] * kept
    assert_same(alone(graph), folded, {})


FUSED = """graph main {{
  input %x: float32[batch, 6] = data x
  input %w: float32[{total}, 6] = weight w
  %y: float32[batch, {total}] = matmul(%x, %w) {{indices = "be,fe->bf"}}
  %a: float32[batch, {first}] = slice(%y) {{indices = "bf->bf", along = "f", start = 0, stop = {first}}}
  %b: float32[batch, {second}] = slice(%y) {{indices = "bf->bf", along = "f", start = {first}, stop = {total}}}
  %heads: float32[batch, 2, {half}] = reshape(%a)
  output %heads = data heads
  output %b = data b
}}"""  # noqa: E501


@pytest.mark.parametrize(("first", "second", "whole"), [(16, 16, 2), (32, 16, 3), (6, 4, 10)])
def test_slices_of_a_fused_product_keep_only_the_number_of_the_part_whole(
    first: int, second: int, whole: int
) -> None:
    graph = parse_graph(
        FUSED.format(first=first, second=second, total=first + second, half=first // 2)
    )
    graph.verify()
    folded = FoldViews().run(alone(graph))
    taken = next(op for op in folded.main.ops if op.kind == "slice")
    letters = indices_of(taken).operands[0]
    shape = folded.main.types[taken.operands[0]].shape
    assert shape[letters.index(taken.text("along"))] == whole
    assert_same(alone(graph), folded, {"batch": 2})


SINGLED_OUT = """graph main {
  input %x: float32[batch, 12] = data x
  input %one: float32[batch, 1] = data one
  input %w: float32[12, 12] = weight w
  %y: float32[batch, 12] = matmul(%x, %w) {indices = "be,fe->bf"}
  %heads: float32[batch, 3, 4] = reshape(%y)
  %best: float32[batch, 2], %which: int64[batch, 2] = topk(%y) {indices = "be->bk,bk", over = "e", largest = true, sorted = true}
  %first: float32[batch, 1], %at: int64[batch, 1] = topk(%y) {indices = "be->bk,bk", over = "e", largest = true, sorted = true}
  %sums: float32[batch, 12] = cumsum(%y) {indices = "be->be", over = "e"}
  %sum: float32[batch, 1] = cumsum(%one) {indices = "be->be", over = "e"}
  %padded: float32[batch, 3] = pad(%one) {indices = "be->be", along = "e", before = 0, after = 2, value = 1.0}
  %found: float32[batch, 1] = gather(%y, %at) {indices = "be,bk->bk", along = "e"}
  %last: float32[batch, 1] = slice(%y) {indices = "be->be", along = "e", start = 11, stop = 12}
  output %heads = data heads
  output %best = data best
  output %which = data which
  output %first = data first
  output %sums = data sums
  output %sum = data sum
  output %padded = data padded
  output %found = data found
  output %last = data last
}"""  # noqa: E501


def test_dimensions_that_operators_single_out_are_neither_split_nor_lost() -> None:
    model = alone(parse_graph(SINGLED_OUT))
    model.main.verify()
    assert_same(model, FoldViews().run(model), {"batch": 3})


def test_symbols_are_split_like_numbers() -> None:
    graph = parse_graph(
        """graph main {
  input %x: float32[batch, sequence, 12] = data x
  input %w: float32[5, 12] = weight w
  %flat: float32[batch*sequence, 12] = reshape(%x)
  %y: float32[batch*sequence, 5] = matmul(%flat, %w) {indices = "be,fe->bf"}
  %z: float32[batch, sequence, 5] = reshape(%y)
  output %z = data z
}"""
    )
    model = alone(graph)
    folded = FoldViews().run(model)
    assert [str(op.type) for op in folded.main.ops] == ["float32[batch, sequence, 5]"]
    assert_same(model, folded, {"batch": 2, "sequence": 3})


def test_a_window_over_a_single_query_is_kept(layer_model: Model) -> None:
    layer = layer_model.graphs["layer"]
    ops = [
        Op(op.kind, op.operands, op.results, op.types, {**op.attributes, "window": 3}, op.path)
        if op.kind == "attention"
        else op
        for op in layer.ops
    ]
    windowed = Model("m", "decode", "float32", {**layer_model.graphs, "layer": layer.with_ops(ops)})
    folded = FoldViews().run(windowed.map(Decompose().run))
    assert_same(windowed, folded, {"batch": 2, "context": 6})
