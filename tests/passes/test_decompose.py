"""Decomposing: norms and attention in products, reductions and maps, with the same values."""

import pytest
import torch
from wscc.ir.graph import Graph, Model
from wscc.ir.interpreter import run_model
from wscc.ir.text import parse_graph, print_graph
from wscc.passes.decompose import Decompose

NORM = (
    "%y: float32[batch, 3, 8] = norm({}) {{indices = {}, over = {}, epsilon = 0.1, function = {}}}"
)
ATTENTION = "%y: float32[batch, {}, 6, 5] = attention(%q, %k, %v) {{scale = 0.25, causal = {}}}"
EXTRA = ATTENTION.replace("{}, 6", "3, 6").replace("%v", "%v, {}")

GRAPHS = {
    "rms_norm": NORM.format("%x, %w", '"bse,e->bse"', '"e"', '"rms"'),
    "layer_norm": NORM.format("%x, %w, %u", '"bse,e,e->bse"', '"e"', '"layer"'),
    "norm_without_weight": NORM.format("%x", '"bse->bse"', '"e"', '"layer"'),
    "norm_over_the_middle": NORM.format("%x", '"bse->bse"', '"s"', '"rms"'),
    "attention": ATTENTION.format(3, "true"),
    "attention_both_ways": ATTENTION.format(3, "false"),
    "attention_with_window": ATTENTION.format(3, "true").replace("}", ", window = 2}"),
    "attention_in_chunks": ATTENTION.format(3, "true").replace("}", ", chunk = 5}"),
    "attention_with_cap": ATTENTION.format(3, "true").replace("}", ", softcap = 0.5}"),
    "attention_with_mask": EXTRA.format("%hst", 'true, extras = ["mask"], mask = "hst"'),
    "attention_with_all": EXTRA.format(
        "%bt, %h, %chosen",
        'true, extras = ["mask", "sinks", "indices"], mask = "bt", softcap = 2.0, window = 6',
    ),
    "attention_over_two_widths": EXTRA.format(
        "%mq, %mk", 'true, extras = ["more_query", "more_key"]'
    ),
    "attention_with_common_keys": EXTRA.format(
        "%h, %mq, %mc", 'true, extras = ["sinks", "more_query", "more_key"]'
    ),
    "softmax": '%y: float32[batch, 3, 8] = softmax(%x) {indices = "bse->bse", over = "e"}',
    "log_softmax": '%y: float32[8, batch, 3] = softmax(%x) {indices = "bse->ebs", over = "s", log = true}',  # noqa: E501
    "norm_that_transposes": NORM.replace("3, 8", "8, 3").format(
        "%x, %w", '"bse,e->bes"', '"e"', '"layer"'
    ),
}


EXTRAS = {
    "hst": "float32[6, 3, 7]",
    "bt": "float32[batch, 7]",
    "h": "float32[6]",
    "chosen": "int64[batch, 3, 4]",
    "mq": "float32[batch, 6, 3, 2]",
    "mk": "float32[batch, 2, 7, 2]",
    "mc": "float32[batch, 1, 7, 2]",
}
"""What attention may have after queries, keys and values."""


def graph_of(line: str) -> Graph:
    inputs = "".join(
        f"input %{name}: {type_} = data {name}\n  "
        for name, type_ in EXTRAS.items()
        if f"%{name}" in line
    )
    graph = parse_graph(
        f"""graph main {{
  input %x: float32[batch, 3, 8] = data x
  input %w: float32[8] = weight w
  input %u: float32[8] = weight u
  input %q: float32[batch, 6, 3, 4] = data q
  input %k: float32[batch, 2, 7, 4] = data k
  input %v: float32[batch, 2, 7, 5] = data v
  {inputs}{line}
  output %y = data y
}}"""
    )
    graph.verify()
    return graph


def run(graph: Graph) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    bound = graph.bind({"batch": 2})
    shapes = {i.source: [int(str(d)) for d in i.type.shape] for i in bound.inputs}
    state = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    if "chosen" in state:
        # Four keys, among them one that no mask hides.
        state["chosen"] = torch.tensor([2, 3, 4, 0]).expand(2, 3, 4)
    return run_model(Model("m", "prefill", "float32", {"main": bound}), state)["y"]


@pytest.mark.parametrize("name", GRAPHS)
def test_the_parts_compute_what_the_whole_computes(name: str) -> None:
    graph = graph_of(GRAPHS[name])
    parts = Decompose().run(graph)
    parts.verify()
    assert not {op.kind for op in parts.ops} & {"norm", "attention", "softmax"}
    torch.testing.assert_close(run(parts), run(graph))


@pytest.mark.parametrize("name", ["rms_norm", "layer_norm", "attention_with_window"])
def test_the_parts_are_these(name: str, golden: object) -> None:
    assert callable(golden)
    golden(f"decompose_{name}.txt", print_graph(Decompose().run(graph_of(GRAPHS[name]))))


def one_query(window: str) -> Graph:
    line = ATTENTION.format(1, "true").replace("}", f"{window}}}")
    whole = print_graph(graph_of("%y: float32[batch, 3, 8] = shard(%x)"))
    text = whole.replace("[batch, 6, 3, 4]", "[batch, 6, 1, 4]")
    return parse_graph(text.replace("%y: float32[batch, 3, 8] = shard(%x)", line))


def test_one_query_at_the_end_needs_no_mask() -> None:
    graph = one_query("")
    parts = Decompose().run(graph)
    assert "mask" not in {op.kind for op in parts.ops}
    torch.testing.assert_close(run(parts), run(graph))


def test_one_query_with_a_window_needs_a_mask() -> None:
    graph = one_query(", window = 3")
    parts = Decompose().run(graph)
    assert "mask" in {op.kind for op in parts.ops}
    torch.testing.assert_close(run(parts), run(graph))


def test_parts_keep_the_module_path_and_the_name_of_the_result() -> None:
    graph = graph_of(GRAPHS["rms_norm"] + " @model.norm")
    parts = Decompose().run(graph)
    assert {op.path for op in parts.ops} == {"model.norm"}
    assert parts.ops[-1].result == "y"


def test_other_operators_stay_as_they_are() -> None:
    graph = graph_of(
        '%y: float32[batch, 3, 8] = elementwise(%x) {indices = "bse->bse", expr = "-a"}'
    )
    assert Decompose().run(graph) == graph
