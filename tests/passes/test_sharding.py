"""Places and collectives: what the two layouts do to a layer, and what always holds."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping

import pytest
from wscc.ir.errors import VerificationError
from wscc.ir.graph import Model
from wscc.ir.mapped import MappedGraph, Sharding
from wscc.ir.text import parse_graph, print_graph
from wscc.passes.combine import Combine
from wscc.passes.decompose import Decompose
from wscc.passes.fold_views import FoldViews
from wscc.passes.lay_out import LayOut, mesh_of
from wscc.passes.pieces import chain_of
from wscc.passes.shard import Layout, Shard

Golden = Callable[[str, str], None]

ROWS, COLUMNS = ("yh", "yd"), ("xh", "xd")
WAYS: tuple[tuple[str, Layout], ...] = (
    ("decode", "matvec"),
    ("prefill", "matvec"),
    ("prefill", "matmul"),
)


def laid_out(model: Model, layout: Layout) -> dict[str, MappedGraph]:
    return LayOut(layout).run(chain_of(FoldViews().run(model.map(Decompose().run))))


@pytest.fixture
def models(layer_model: Model, prompt_model: Model) -> Mapping[str, Model]:
    return {"decode": layer_model, "prefill": prompt_model}


def text_of(mapped: MappedGraph) -> str:
    return print_graph(mapped.graph, lambda name: str(mapped.shardings[name]))


@pytest.mark.parametrize(("phase", "layout"), WAYS)
def test_the_laid_out_pieces_read_so(
    models: Mapping[str, Model], phase: str, layout: Layout, golden: Golden
) -> None:
    mapped = laid_out(models[phase], layout)
    text = "\n".join(text_of(mapped[name]) for name in sorted(mapped))
    golden(f"lay_out_{layout}_{phase}.txt", text)


@pytest.mark.parametrize(("phase", "layout"), WAYS)
def test_every_graph_is_valid_and_no_output_is_partial(
    models: Mapping[str, Model], phase: str, layout: Layout
) -> None:
    for mapped in laid_out(models[phase], layout).values():
        mapped.verify(mesh_of(4, 4, 2, layout))
        assert not [o for o in mapped.graph.output_names if mapped.shardings[o].partial]


@pytest.mark.parametrize(("phase", "layout"), WAYS)
def test_what_is_carried_lies_in_one_place_in_all_graphs(
    models: Mapping[str, Model], phase: str, layout: Layout
) -> None:
    places = {
        mapped.shardings[value.name]
        for mapped in laid_out(models[phase], layout).values()
        for value in (*mapped.graph.inputs, *mapped.graph.outputs)
        if value.role == "carried"
    }
    assert len(places) == 1


@pytest.mark.parametrize(("phase", "layout"), WAYS)
def test_only_collectives_read_partial_results(
    models: Mapping[str, Model], phase: str, layout: Layout
) -> None:
    for mapped in laid_out(models[phase], layout).values():
        for op in mapped.graph.ops:
            if op.kind not in ("all_reduce", "reduce_scatter"):
                partial = [name for name in op.operands if mapped.shardings[name].partial]
                assert not partial, op.result


@pytest.mark.parametrize(("phase", "layout"), WAYS)
def test_shared_values_are_made_where_the_layers_want_them(
    models: Mapping[str, Model], phase: str, layout: Layout
) -> None:
    mapped = laid_out(models[phase], layout)
    made = {o.source: mapped["shared"].shardings[o.name] for o in mapped["shared"].graph.outputs}
    layer = mapped["layer"]
    wanted = {i.source: layer.shardings[i.name] for i in layer.graph.inputs if i.role == "shared"}
    assert made == wanted


def test_a_decode_layer_needs_nine_all_reduces_and_no_other_collective(
    layer_model: Model,
) -> None:
    """Two norms, queries with keys and values, scores, the softmax's maximum, its sum with the
    mixed values, and the three other products."""
    layer = laid_out(layer_model, "matvec")["layer"].graph
    kinds = Counter(op.kind for op in layer.ops)
    assert kinds["all_reduce"] == 9
    assert not {"all_gather", "reduce_scatter", "grid_matmul"} & set(kinds)
    widths = Counter(len(op.operands) for op in layer.ops if op.kind == "all_reduce")
    assert widths == {1: 7, 2: 1, 3: 1}


def test_a_prompt_on_a_mesh_multiplies_by_travelling_tiles(prompt_model: Model) -> None:
    layer = laid_out(prompt_model, "matmul")["layer"].graph
    forms = [op.text("form") for op in layer.ops if op.kind == "grid_matmul"]
    assert sorted(set(forms)) == ["reduce", "rotate"]
    assert "matmul" not in {op.kind for op in layer.ops}


def test_a_cache_has_room_for_the_token_that_comes(layer_model: Model) -> None:
    layer = laid_out(layer_model, "matvec")["layer"]
    for value in layer.graph.inputs:
        if value.role == "cache":
            assert sum(layer.shardings[value.name].room) == 1
            appended = next(op for op in layer.graph.ops if value.name in op.operands)
            after = layer.shardings[appended.result]
            assert after.axes == layer.shardings[value.name].axes
            assert not after.room


def test_a_product_with_a_weight_flips_the_direction(layer_model: Model) -> None:
    layer = laid_out(layer_model, "matvec")["layer"]
    assert layer.shardings["up"] == Sharding(((), COLUMNS), partial=ROWS)
    assert layer.shardings["down"] == Sharding(((), ROWS), partial=COLUMNS)
    assert layer.shardings["up.weight"] == Sharding((COLUMNS, ROWS))
    assert layer.shardings["down.weight"] == Sharding((ROWS, COLUMNS))


def test_sharding_needs_views_folded(layer_model: Model) -> None:
    decomposed = layer_model.graphs["layer"]
    with pytest.raises(VerificationError, match=r"reshape %\S+ has no indices"):
        Shard("matvec").run(Decompose().run(decomposed))


def test_layers_of_several_kinds_find_shared_values_where_the_first_wants_them(
    layer_model: Model,
) -> None:
    chain = chain_of(FoldViews().run(layer_model.map(Decompose().run)))
    odd = parse_graph(
        """graph odd {
  input %hidden: float32[batch, 32] = carried hidden
  input %cos: float32[batch, 2, 4] = shared cos
  input %sin: float32[batch, 2, 4] = shared sin
  %s: float32[batch] = reduce(%sin) {indices = "bpd->b", function = "sum", expr = "a"}
  %z: float32[batch, 32] = elementwise(%hidden, %s) {indices = "be,b->be", expr = "a + b"}
  output %z = carried hidden
}"""
    )
    call = next(call for call in chain.calls if call.text("body") == "layer")
    second = dataclasses.replace(call, attributes={**call.attributes, "body": "odd"})
    both = dataclasses.replace(
        chain,
        graphs={**chain.graphs, "odd": odd},
        calls=(*chain.calls[:2], second, *chain.calls[2:]),
    )
    mapped = LayOut("matvec").run(both)
    assert any(mapped["layer"].shardings["sin"].axes)
    assert mapped["odd"].shardings["sin"] == mapped["layer"].shardings["sin"]
    mapped["odd"].verify(mesh_of(4, 4, 2, "matvec"))


REDUCES = parse_graph(
    """graph g {
  input %a: float32[4] = data a
  input %b: float32[4] = data b
  %a.sum: float32[4] = all_reduce(%a) {axes = ["y"], function = "sum"}
  %c: float32[4] = elementwise(%a.sum) {indices = "e->e", expr = "-a"}
  %b.sum: float32[4] = all_reduce(%b) {axes = ["y"], function = "sum"}
  %b.max: float32[4] = all_reduce(%b) {axes = ["y"], function = "max"}
  %b.row: float32[4] = all_reduce(%b) {axes = ["x"], function = "sum"}
  %c.sum: float32[4] = all_reduce(%c) {axes = ["y"], function = "sum"}
  output %c.sum = data c
}"""
)


def test_all_reduces_that_wait_together_go_as_one_message() -> None:
    combined = Combine().run(MappedGraph(REDUCES, {})).graph
    combined.verify()
    messages = [op.results for op in combined.ops if op.kind == "all_reduce"]
    assert messages[0] == ("a.sum", "b.sum")
    assert sorted(messages[1:]) == [("b.max",), ("b.row",), ("c.sum",)]


def test_combining_keeps_every_value_and_its_type() -> None:
    combined = Combine().run(MappedGraph(REDUCES, {})).graph
    assert combined.types == REDUCES.types
    assert Combine().run(MappedGraph(combined, {})).graph == combined


def test_a_mesh_fills_the_region_but_for_what_grouping_leaves_over() -> None:
    assert str(mesh_of(5, 7, 2, "matvec")) == "yh:rows=1 yd:rows=5 xh:columns=2 xd:columns=3"
    assert str(mesh_of(5, 7, 2, "matmul")) == "yh:rows=2 yd:rows=2 xh:columns=2 xd:columns=3"


def test_more_head_groups_than_columns_are_refused() -> None:
    with pytest.raises(VerificationError, match="2 head groups on 4 x 1 cores"):
        mesh_of(4, 1, 2, "matvec")
