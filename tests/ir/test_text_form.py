"""Graphs and models as text: read back as they were printed, whatever their attributes hold."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wscc.ir.dims import symbol
from wscc.ir.graph import DTYPE_BYTES, ROLES, Graph, Input, Model, Op, Output, TensorType
from wscc.ir.text import parse_graph, parse_model, print_graph, print_model

NAMES = st.from_regex(r"[a-z_][a-z0-9_.]{0,6}", fullmatch=True)
SOURCES = st.from_regex(r"[a-z*.0-9_]{1,10}", fullmatch=True)
DIMS = st.integers(0, 99) | st.sampled_from(["batch", "sequence", "context"]).map(symbol).flatmap(
    lambda dim: st.sampled_from([dim, dim * 2, dim + 1, dim * dim - 3])
)
TYPES = st.builds(
    TensorType, st.sampled_from(sorted(DTYPE_BYTES)), st.lists(DIMS, max_size=3).map(tuple)
)
STRINGS = st.text(max_size=8) | st.text(alphabet='%={}[]",\\@ \n\u2028a->:', max_size=12)
ATTRIBUTES = st.dictionaries(
    st.from_regex(r"[a-z_]{1,6}", fullmatch=True),
    STRINGS
    | st.integers()
    | st.floats(allow_nan=False)
    | st.booleans()
    | st.none()
    | st.lists(st.integers(), max_size=3).map(tuple)
    | st.lists(STRINGS, max_size=3).map(tuple),
    max_size=4,
)


@st.composite
def ops(draw: st.DrawFn) -> Op:
    results = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    return Op(
        kind=draw(st.sampled_from(["matmul", "elementwise", "all_reduce"])),
        operands=tuple(draw(st.lists(NAMES, max_size=3))),
        results=tuple(results),
        types=tuple(draw(TYPES) for _ in results),
        attributes=draw(ATTRIBUTES),
        path=draw(st.just("") | SOURCES),
    )


INPUTS = st.builds(Input, NAMES, TYPES, st.sampled_from(ROLES), SOURCES)
OUTPUTS = st.builds(Output, NAMES, st.sampled_from(ROLES), SOURCES)
GRAPHS = st.builds(
    Graph,
    NAMES,
    st.lists(INPUTS, max_size=3).map(tuple),
    st.lists(ops(), max_size=4).map(tuple),
    st.lists(OUTPUTS, max_size=3).map(tuple),
)


@st.composite
def models(draw: st.DrawFn) -> Model:
    names = draw(st.lists(NAMES.filter(lambda name: name != "main"), max_size=2, unique=True))
    graphs = {
        name: Graph(name, graph.inputs, graph.ops, graph.outputs)
        for name in ("main", *names)
        for graph in [draw(GRAPHS)]
    }
    name = draw(STRINGS)
    return Model(name, draw(st.sampled_from(["prefill", "decode", "train"])), "bfloat16", graphs)


@settings(deadline=None, max_examples=60)
@given(GRAPHS)
def test_a_graph_is_read_back_as_it_was_printed(graph: Graph) -> None:
    assert parse_graph(print_graph(graph)) == graph


@settings(deadline=None, max_examples=60)
@given(models())
def test_a_model_is_read_back_as_it_was_printed(model: Model) -> None:
    assert parse_model(print_model(model)) == model


@settings(deadline=None, max_examples=60)
@given(GRAPHS)
def test_annotations_are_collected_by_value(graph: Graph) -> None:
    wanted = {name: f" on (y*x, -) max(y) room 0,{at}" for at, name in enumerate(graph.types)}
    notes: dict[str, str] = {}
    assert parse_graph(print_graph(graph, lambda name: wanted[name]), notes) == graph
    assert notes == wanted


def test_attributes_keep_their_types() -> None:
    op = Op("reduce", ("x",), ("y",), (TensorType("float32", ()),), {
        "a": 1, "b": 1.0, "c": True, "d": "1", "e": None, "f": (), "g": (1,), "h": ("1",),
    })  # fmt: skip
    (read,) = parse_graph(print_graph(Graph("g", (), (op,), ()))).ops
    for name, value in op.attributes.items():
        assert type(read.attributes[name]) is type(value), name


GRAPH = """graph g {
  input %x: float32[batch, 4] = data x
  %y: float32[4, batch] = transpose(%x) {order = [1, 0]} @m
  output %y = data y
}
"""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("graph g {", "graf g {"),
        ("graph g {", "graph g"),
        ("}\n", "\n"),
        ("input %x", "input x"),
        ("= data x", "= date x"),
        ("float32[batch, 4]", "float32[batch, 4"),
        ("float32[batch, 4]", "float32[width, 4]"),
        ("float32[batch, 4]", "float32[batch, 4 +]"),
        ("%y: float32[4, batch] =", "%y float32[4, batch] ="),
        ("%y: float32[4, batch] =", "y ="),
        ("transpose(%x)", "transpose %x"),
        ("{order = [1, 0]}", "{order = [1, 0}"),
        ("{order = [1, 0]}", "{order [1, 0]}"),
        ("{order = [1, 0]}", "{order = [1, 0] and}"),
        ("{order = [1, 0]}", "{order = yes}"),
        ("{order = [1, 0]}", '{order = "a}'),
        (" @m", " at m"),
        ("output %y", "output y"),
    ],
)
def test_a_line_that_does_not_fit_is_an_error(right: str, wrong: str) -> None:
    assert print_graph(parse_graph(GRAPH)) == GRAPH
    assert right in GRAPH
    with pytest.raises(ValueError, match=r"."):
        parse_graph(GRAPH.replace(right, wrong))


@pytest.mark.parametrize("text", ["", "\n", "graph g {", "}"])
def test_a_text_without_a_graph_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="not a graph"):
        parse_graph(text)


@pytest.mark.parametrize(
    "head", ["", "model m phase=decode dtype=float32", 'model "m" phase=sleep dtype=float32']
)
def test_a_model_starts_with_its_head_line(head: str) -> None:
    with pytest.raises(ValueError, match="not the first line of a model"):
        parse_model(head + "\n" + GRAPH)
