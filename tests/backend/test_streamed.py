"""Products with streamed weights against cycles counted by hand.

The core of the WSE-2 with 10 cycles to issue: 4 float16 lanes, words of two float16 numbers.
"""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wscc.backend.streamed import Features, Flow, Streamed, streamed_product
from wscc.ir.graph import Graph
from wscc.ir.hardware import Hardware
from wscc.ir.mapped import MappedGraph

GRAPH = """
  input %x: float16[6, 8] = data x
  input %w: float32[8, 12] = weight w
  input %g: float16[6, 12] = data g
  %v: float16[8, 12] = elementwise(%w) {indices = "ab->ab", expr = "a"}
  %y: float16[6, 12] = matmul(%x, %v) {indices = "tk,kn->tn"}
  %d: float16[6, 8] = matmul(%g, %v) {indices = "tn,kn->tk"}
  %s: float16[6, 6] = matmul(%x, %d) {indices = "tk,uk->tu"}
  %e: float16[8, 12] = matmul(%x, %g) {indices = "tk,tn->kn"}
  output %y = data y
  output %s = data s
  output %e = gradient w
"""


@pytest.fixture(scope="module")
def graph(make_graph: Callable[..., MappedGraph]) -> Graph:
    """A weight's product, both its gradients, and a product of two values that stay."""
    return make_graph(GRAPH, {}).graph


@pytest.fixture(scope="module")
def ten(make_hardware: Callable[..., Hardware]) -> Hardware:
    return make_hardware()


def product(hardware: Hardware, sizes: Features, columns: int, gradient: bool = False) -> Streamed:
    return streamed_product(hardware, "float16", sizes, 5, columns, gradient)


def test_every_weight_starts_an_instruction_on_the_tokens_of_a_core(ten: Hardware) -> None:
    """4 columns hold 3 of 12 features each; for 8 features, three instructions on 6 tokens (2
    cycles of the lanes) and one to pass the sums on (3 words)."""
    found = product(ten, Features(6, 12, 8), columns=4)
    assert found.work.cycles == 8 * (3 * (10 + 2) + 10 + 3)
    assert (found.row_words, found.column_words) == (8 * 3, 8 * 3)
    assert found.work.multiply_adds == 8 * 3 * 6


def test_the_side_with_more_features_stays_in_the_columns(ten: Hardware) -> None:
    wide, narrow = (product(ten, Features(6, *sides), 4) for sides in ((4, 64), (64, 4)))
    assert wide.work.cycles == narrow.work.cycles == 4 * (16 * (10 + 2) + 10 + 3)


def test_a_gradient_is_made_of_inner_products_and_summed_down_the_columns(ten: Hardware) -> None:
    """Of 6 tokens 2 a cycle, and three sums to pass on."""
    forward, gradient = (product(ten, Features(6, 12, 8), 4, made) for made in (False, True))
    assert gradient.work.cycles - forward.work.cycles == 8 * (3 * 1 + 10 + 3)


@given(st.integers(1, 200), st.integers(1, 99), st.integers(1, 99), st.integers(1, 20))
def test_a_streamed_product_is_never_faster_than_its_lanes(
    ten: Hardware, tokens: int, first: int, second: int, columns: int
) -> None:
    cycles = product(ten, Features(tokens, first, second), columns).work.cycles
    assert cycles >= tokens * first * second / columns / 4


@given(st.integers(1, 200), st.integers(1, 99))
def test_longer_vectors_waste_less(ten: Hardware, tokens: int, first: int) -> None:
    one, two = (product(ten, Features(n * 4, first, 9), 3).work for n in (tokens, tokens + 1))
    assert two.cycles / two.multiply_adds <= one.cycles / one.multiply_adds


def test_weights_stream_and_so_do_the_gradients_made_of_them(graph: Graph) -> None:
    flow = Flow.of(graph)
    assert flow == Flow(frozenset({"w", "v"}), frozenset({"e"}))
    concerned = {op.result for op in graph.ops if op.kind == "matmul" and flow.concerns(op)}
    assert concerned == {"y", "d", "e"}


@pytest.mark.parametrize(("result", "sides"), [("y", (8, 12)), ("d", (12, 8)), ("e", (8, 12))])
def test_tokens_are_what_a_weight_does_not_have(
    graph: Graph, result: str, sides: tuple[int, int]
) -> None:
    op, block = graph.producers[result], {"t": 3.0, "k": 2.0, "n": 4.0}
    assert Features.of(op, graph, block, Flow.of(graph)) == Features(3.0, *sides)
