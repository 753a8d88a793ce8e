"""The main graph as a chain of calls: nothing is lost, nothing is computed twice."""

from wscc.ir.graph import Model
from wscc.passes.decompose import Decompose
from wscc.passes.fold_views import FoldViews
from wscc.passes.pieces import SHARED, Chain, chain_of


def chain(model: Model, with_head: bool = True) -> Chain:
    return chain_of(FoldViews().run(model.map(Decompose().run)), with_head)


def test_a_model_is_what_comes_before_its_layers_and_after(layer_model: Model) -> None:
    pieces = chain(layer_model)
    assert [call.text("body") for call in pieces.calls] == ["main.0", "layer", "main.2"]
    assert pieces.shared is not None
    assert pieces.shared.text("body") == SHARED


def test_values_pass_from_call_to_call(layer_model: Model) -> None:
    pieces = chain(layer_model)
    assert pieces.shared is not None
    known = set(pieces.shared.results)
    for call in pieces.calls:
        assert known.issuperset(call.operands)
        known.update(call.results)


def test_every_piece_is_a_valid_graph_of_its_own(layer_model: Model) -> None:
    for name, graph in chain(layer_model).graphs.items():
        graph.verify()
        assert graph.name == name


def test_what_the_layers_share_is_made_in_a_piece_of_its_own(layer_model: Model) -> None:
    pieces = chain(layer_model)
    shared = pieces.graphs[SHARED]
    assert shared.output_names == ("cos", "sin")
    assert {value.role for value in shared.inputs} == {"data"}
    first = pieces.graphs["main.0"]
    assert not {op.result for op in shared.ops} & {op.result for op in first.ops}


def test_every_operator_of_the_main_graph_is_in_one_piece(layer_model: Model) -> None:
    folded = FoldViews().run(layer_model.map(Decompose().run))
    pieces = chain(layer_model)
    placed = [op for name in ("shared", "main.0", "main.2") for op in pieces.graphs[name].ops]
    ordinary = [op for op in folded.main.ops if op.kind != "repeat"]
    assert sorted(op.result for op in placed) == sorted(op.result for op in ordinary)


def test_without_the_head_only_the_layers_are_left(layer_model: Model) -> None:
    pieces = chain(layer_model, with_head=False)
    assert [call.text("body") for call in pieces.calls] == ["layer"]
    assert pieces.shared is not None


def test_calls_keep_which_layers_they_run(layer_model: Model) -> None:
    (layers,) = chain(layer_model, with_head=False).calls
    assert (layers.integer("first"), layers.integer("count")) == (0, 2)
