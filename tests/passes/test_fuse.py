"""What fusing finds, what it must leave alone, and that values stay what they were."""

import re
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from wscc.ir.graph import Graph, Model
from wscc.ir.interpreter import run_model
from wscc.ir.text import parse_graph, print_graph
from wscc.passes.fuse import Fuse


def graph_of(body: str) -> Graph:
    graph = parse_graph("graph main {\n" + body.strip() + "\n}")
    graph.verify()
    return graph


def fused_ops(graph: Graph) -> str:
    """The operators of the fused graph as text."""
    fused = Fuse().run(graph)
    fused.verify()
    assert fused.inputs == graph.inputs
    assert fused.outputs == graph.outputs
    lines = print_graph(fused).splitlines()
    return "\n".join(line.strip() for line in lines if " = " in line and "put %" not in line)


def values_of(graph: Graph, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return run_model(Model("m", "prefill", "float32", {"main": graph}), state)


def assert_same_values(graph: Graph) -> None:
    """The fused graph yields the same in float32, and cannot be fused further."""
    generator = torch.Generator().manual_seed(0)
    state = {
        value.source: torch.randn([int(str(d)) for d in value.type.shape], generator=generator).to(
            getattr(torch, value.type.dtype)
        )
        for value in graph.inputs
    }
    fused = Fuse().run(graph)
    before, after = values_of(graph, state), values_of(fused, state)
    for name, expected in before.items():
        torch.testing.assert_close(after[name], expected, rtol=1e-6, atol=1e-6)
    assert Fuse().run(fused) == fused


NORM = """
  input %x: float32[2, 3, 8] = data x
  input %w: float32[8] = weight w
  %sq: float32[2, 3, 8] = elementwise(%x) {indices = "bse->bse", expr = "square(a)"}
  %sum: float32[2, 3] = reduce(%sq) {indices = "bse->bs", function = "sum", expr = "a"}
  %mean: float32[2, 3] = elementwise(%sum) {indices = "bs->bs", expr = "a / 8"}
  %eps: float32[2, 3] = elementwise(%mean) {indices = "bs->bs", expr = "a + 1e-05"}
  %inv: float32[2, 3] = elementwise(%eps) {indices = "bs->bs", expr = "rsqrt(a)"}
  %scaled: float32[2, 3, 8] = elementwise(%x, %inv) {indices = "bse,bs->bse", expr = "a * b"}
  %y: float32[2, 3, 8] = elementwise(%w, %scaled) {indices = "e,bse->bse", expr = "a * b"} @m.norm
  output %y = data y
"""

NORM_BFLOAT16 = """
  input %h: bfloat16[2, 3, 8] = data x
  input %w: bfloat16[8] = weight w
  %x: float32[2, 3, 8] = elementwise(%h) {indices = "bse->bse", expr = "a"}
  %sq: float32[2, 3, 8] = elementwise(%x) {indices = "bse->bse", expr = "square(a)"}
  %sum: float32[2, 3] = reduce(%sq) {indices = "bse->bs", function = "sum", expr = "a"}
  %mean: float32[2, 3] = elementwise(%sum) {indices = "bs->bs", expr = "a / 8"}
  %eps: float32[2, 3] = elementwise(%mean) {indices = "bs->bs", expr = "a + 1e-06"}
  %inv: float32[2, 3] = elementwise(%eps) {indices = "bs->bs", expr = "rsqrt(a)"}
  %scaled: float32[2, 3, 8] = elementwise(%inv, %x) {indices = "bs,bse->bse", expr = "a * b"}
  %cast: bfloat16[2, 3, 8] = elementwise(%scaled) {indices = "bse->bse", expr = "a"}
  %y: bfloat16[2, 3, 8] = elementwise(%cast, %w) {indices = "bse,e->bse", expr = "a * b"}
  output %y = data y
"""


def test_a_root_mean_square_norm_is_one_operator() -> None:
    graph = graph_of(NORM)
    assert fused_ops(graph) == (
        '%y: float32[2, 3, 8] = norm(%x, %w) {indices = "bse,e->bse", function = "rms", '
        'over = "e", epsilon = 1e-05} @m.norm'
    )
    assert_same_values(graph)


def test_a_norm_is_found_through_casts_and_in_either_order_of_factors() -> None:
    assert fused_ops(graph_of(NORM_BFLOAT16)) == (
        '%y: bfloat16[2, 3, 8] = norm(%h, %w) {indices = "bse,e->bse", function = "rms", '
        'over = "e", epsilon = 1e-06}'
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"a / 8"', '"a / 7"'),
        ('"square(a)"', '"abs(a)"'),
        ('"rsqrt(a)"', '"sqrt(a)"'),
        ('"a + 1e-05"', '"a * 1e-05"'),
        ('function = "sum"', 'function = "max"'),
        ("elementwise(%x, %inv)", "elementwise(%sq, %inv)"),
    ],
)
def test_what_is_almost_a_norm_is_left_alone(old: str, new: str) -> None:
    graph = graph_of(NORM.replace(old, new))
    assert " norm(" not in fused_ops(graph)
    assert_same_values(graph)


def test_parts_of_a_norm_that_others_read_are_kept() -> None:
    graph = graph_of(NORM + "  output %mean = data mean")
    assert fused_ops(graph).splitlines() == [
        '%sq: float32[2, 3, 8] = elementwise(%x) {indices = "bse->bse", expr = "square(a)"}',
        '%sum: float32[2, 3] = reduce(%sq) {indices = "bse->bs", function = "sum", expr = "a"}',
        '%mean: float32[2, 3] = elementwise(%sum) {indices = "bs->bs", expr = "a / 8"}',
        '%y: float32[2, 3, 8] = norm(%x, %w) {indices = "bse,e->bse", function = "rms", '
        'over = "e", epsilon = 1e-05} @m.norm',
    ]
    assert_same_values(graph)


ROTARY = """
  input %q: float32[2, 3, 24] = data q
  input %cos: float32[2, 3, 6] = shared cos
  input %sin: float32[2, 3, 6] = shared sin
  %x: float32[2, 3, 4, 6] = reshape(%q)
  %straight: float32[2, 4, 3, 6] = elementwise(%x, %cos) {indices = "bshd,bsd->bhsd", expr = "a * b"}
  %first: float32[2, 3, 4, 3] = slice(%x) {indices = "bshd->bshd", along = "d", start = 0, stop = 3}
  %second: float32[2, 3, 4, 3] = slice(%x) {indices = "bshd->bshd", along = "d", start = 3, stop = 6}
  %minus: float32[2, 4, 3, 3] = elementwise(%second) {indices = "bshd->bhsd", expr = "-a"}
  %turned: float32[2, 4, 3, 6] = concat(%minus, %first) {indices = "bhsd,bshd->bhsd", along = "d"}
  %crossed: float32[2, 4, 3, 6] = elementwise(%turned, %sin) {indices = "bhsd,bsd->bhsd", expr = "a * b"}
  %y: float32[2, 4, 3, 6] = elementwise(%straight, %crossed) {indices = "bhsd,bhsd->bhsd", expr = "a + b"}
  output %y = data y
"""  # noqa: E501


def test_a_rotary_embedding_is_one_operator_between_views_of_pairs() -> None:
    graph = graph_of(ROTARY)
    assert fused_ops(graph).splitlines() == [
        "%x.pairs: float32[2, 3, 4, 2, 3] = reshape(%q)",
        "%cos.pairs: float32[2, 3, 2, 3] = reshape(%cos)",
        "%sin.pairs: float32[2, 3, 2, 3] = reshape(%sin)",
        "%y.pairs: float32[2, 4, 3, 2, 3] = rotary(%x.pairs, %cos.pairs, %sin.pairs) "
        '{indices = "bshpd,bspd,bspd->bhspd", pair = "p"}',
        "%y: float32[2, 4, 3, 6] = reshape(%y.pairs)",
    ]
    assert_same_values(graph)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("start = 0, stop = 3", "start = 1, stop = 4"),
        ("start = 3, stop = 6", "start = 2, stop = 5"),
        ('"-a"', '"abs(a)"'),
        ("concat(%minus, %first)", "concat(%minus, %second)"),
        ('"bhsd,bhsd->bhsd", expr = "a + b"', '"bhsd,bhsd->bhsd", expr = "a - b"'),
    ],
)
def test_what_is_almost_a_rotary_embedding_is_left_alone(old: str, new: str) -> None:
    graph = graph_of(ROTARY.replace(old, new))
    assert " rotary(" not in fused_ops(graph)
    assert_same_values(graph)


def test_the_second_rotary_embedding_shares_the_views_of_the_first() -> None:
    given = [line for line in ROTARY.strip().splitlines() if "put %" not in line]
    inputs = [line for line in ROTARY.strip().splitlines() if "input %" in line]
    again = re.sub(r"%(?!q\b|cos\b|sin\b)(\w+)", r"%\g<1>2", "\n".join(given))
    outputs = "  output %y = data y\n  output %y2 = data y2"
    graph = graph_of("\n".join([*inputs, *given, again, outputs]))
    text = fused_ops(graph)
    assert text.count(" rotary(") == 2
    assert text.count("reshape(%cos)") == text.count("reshape(%sin)") == 1
    assert_same_values(graph)


def test_a_chain_of_elementwise_operators_is_one() -> None:
    graph = graph_of("""
  input %gate: float32[2, 3, 8] = data gate
  input %up: float32[2, 3, 8] = data up
  %act: float32[2, 3, 8] = elementwise(%gate) {indices = "bse->bse", expr = "silu(a)"}
  %half: float32[2, 3, 8] = elementwise(%act, %up) {indices = "bse,bse->bse", expr = "a + b"}
  %y: float32[2, 3, 8] = elementwise(%up, %half) {indices = "bse,bse->bse", expr = "a * b"} @m.mlp
  output %y = data y
""")
    assert fused_ops(graph) == (
        '%y: float32[2, 3, 8] = elementwise(%up, %gate) {indices = "bse,bse->bse", '
        'expr = "a * (silu(b) + a)"} @m.mlp'
    )
    assert_same_values(graph)


def test_letters_are_renamed_where_a_chain_turns_or_broadcasts() -> None:
    graph = graph_of("""
  input %x: float32[3, 2, 1] = data x
  input %b: float32[2] = data b
  input %c: float32[3, 2] = data c
  %p: float32[2, 3] = elementwise(%x, %b) {indices = "shz,h->hs", expr = "a - b"}
  %y: float32[3, 2] = elementwise(%p, %c) {indices = "es,se->se", expr = "a * b"}
  output %y = data y
""")
    assert fused_ops(graph) == (
        '%y: float32[3, 2] = elementwise(%x, %b, %c) {indices = "sez,e,se->se", '
        'expr = "(a - b) * c"}'
    )
    assert_same_values(graph)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            """
  input %x: float32[2, 3] = data x
  %p: float32[2, 3] = elementwise(%x) {indices = "bs->bs", expr = "exp(a)"}
  %y: float32[2, 3] = elementwise(%p) {indices = "bs->bs", expr = "a + 1"}
  output %y = data y
  output %p = data p
""",
            id="the inner value is an output",
        ),
        pytest.param(
            """
  input %x: float32[2, 3] = data x
  %p: float32[2, 3] = elementwise(%x) {indices = "bs->bs", expr = "exp(a)"}
  %y: float32[2, 3] = elementwise(%p, %p) {indices = "bs,bs->bs", expr = "a * b"}
  output %y = data y
""",
            id="the inner value is read twice",
        ),
        pytest.param(
            """
  input %x: float32[2] = data x
  input %z: float32[2, 3] = data z
  %p: float32[2] = elementwise(%x) {indices = "b->b", expr = "exp(a)"}
  %y: float32[2, 3] = elementwise(%p, %z) {indices = "b,bs->bs", expr = "a * b"}
  output %y = data y
""",
            id="the inner value is broadcast",
        ),
        pytest.param(
            """
  input %x: float32[2, 3] = data x
  %p: bfloat16[2, 3] = elementwise(%x) {indices = "bs->bs", expr = "exp(a)"}
  %y: float32[2, 3] = elementwise(%p) {indices = "bs->bs", expr = "a * 3"}
  output %y = data y
""",
            id="the inner value is rounded",
        ),
    ],
)
def test_a_chain_is_kept_where_joining_would_repeat_work_or_change_values(body: str) -> None:
    graph = graph_of(body)
    assert Fuse().run(graph) == graph
    assert_same_values(graph)


def test_what_nothing_reads_is_gone() -> None:
    graph = graph_of("""
  input %x: float32[2, 3] = data x
  %p: float32[2, 3] = elementwise(%x) {indices = "bs->bs", expr = "exp(a)"}
  %q: float32[2, 3] = elementwise(%p) {indices = "bs->bs", expr = "exp(a)"}
  %y: float32[6] = reshape(%x)
  output %y = data y
""")
    assert fused_ops(graph) == "%y: float32[6] = reshape(%x)"
