"""Bytes in the fullest core, counted by hand."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from wscc.backend.memory import Keeping, graph_memory
from wscc.ir.mapped import MappedGraph, Sharding

ROWS, COLUMNS = ("yh", "yd"), ("xh", "xd")
ONE = {"yh": 1, "yd": 1, "xh": 1, "xd": 1}
MakeGraph = Callable[[str, Mapping[str, Sharding]], MappedGraph]

LAYER = """
  input %x: float16[8, 16] = carried x
  input %w: float16[16, 32] = weight w
  input %v: float16[32, 16] = weight v
  %y: float16[8, 32] = matmul(%x, %w) {{indices = "ab,bc->ac"}}
  %z: float16[8, 32] = elementwise(%y) {{indices = "ab->ab", expr = "silu(a)"}}
  %o: float16[8, 16] = matmul(%z, %v) {{indices = "ab,bc->ac"}}
  %s: float16[8, 16] = elementwise(%o, {added}) {{indices = "ab,ab->ab", expr = "a + b"}}
  output %s = carried x
"""
X, Y = 2 * 8 * 16, 2 * 8 * 32
"""Bytes of what comes in, and of what lies between the products."""


def test_a_map_takes_the_place_of_what_nobody_reads_again(make_graph: MakeGraph) -> None:
    """x, x + y, y (z in its place), z + o, o (s in its place): the most is x and y."""
    memory = graph_memory(make_graph(LAYER.format(added="%o"), {}), ONE)
    assert memory.activations == X + Y
    assert memory.weights == 2 * (2 * 16 * 32)
    assert memory.cache == 0


def test_a_residual_stays_until_it_is_added(make_graph: MakeGraph) -> None:
    """x lives on beside z and o."""
    memory = graph_memory(make_graph(LAYER.format(added="%x"), {}), ONE)
    assert memory.activations == X + Y + X


def test_the_fullest_core_holds_whole_elements(make_graph: MakeGraph) -> None:
    """16 over 3 rows is 6; 32 over 5 columns is 7."""
    shardings = {
        "x": Sharding(((), ROWS)),
        "w": Sharding((ROWS, COLUMNS)),
        "v": Sharding((COLUMNS, ROWS)),
        "y": Sharding(((), COLUMNS)),
        "z": Sharding(((), COLUMNS)),
        "o": Sharding(((), ROWS)),
        "s": Sharding(((), ROWS)),
    }
    mapped = make_graph(LAYER.format(added="%o"), shardings)
    memory = graph_memory(mapped, {"yh": 1, "yd": 3, "xh": 1, "xd": 5})
    assert memory.weights == 2 * (2 * 6 * 7)
    assert memory.activations == 2 * 8 * 6 + 2 * 8 * 7


def test_many_meshes_at_once_hold_what_each_holds_alone(make_graph: MakeGraph) -> None:
    mapped = make_graph(LAYER.format(added="%x"), {"w": Sharding((ROWS, COLUMNS))})
    rows, columns = np.array([1, 3, 16]), np.array([2, 5, 9])
    together = graph_memory(mapped, {**ONE, "yd": rows, "xd": columns})
    for at in range(3):
        alone = graph_memory(mapped, {**ONE, "yd": int(rows[at]), "xd": int(columns[at])})
        assert np.broadcast_to(together.weights, 3)[at] == alone.weights
        assert np.broadcast_to(together.activations, 3)[at] == alone.activations


CACHED = """
  input %old: float16[1, {context}, 8] = cache cache.*.key
  input %new: float16[1, 8] = carried x
  %all: float16[1, {grown}, 8] = concat(%old, %new) {{indices = "btd,bd->btd", along = "t"}}
  %x: float16[1, 8] = reduce(%all) {{indices = "btd->bd", expr = "a", function = "max"}}
  output %x = carried x
  output %all = cache cache.*.key
"""


@pytest.mark.parametrize(("context", "tokens"), [(6, 2), (7, 2), (8, 3), (9, 3)])
def test_a_cache_is_held_once_with_room_for_the_new_token(
    make_graph: MakeGraph, context: int, tokens: int
) -> None:
    """Over 4 rows a core holds ceil((context + 1) / 4) tokens of 8 elements."""
    cut = ((), ROWS, ())
    shardings = {"old": Sharding(cut, room=(0, 1, 0)), "all": Sharding(cut)}
    mapped = make_graph(CACHED.format(context=context, grown=context + 1), shardings)
    memory = graph_memory(mapped, {**ONE, "yd": 4})
    assert memory.cache == 2 * tokens * 8
    assert memory.activations == 2 * 8


def test_a_cache_that_is_only_read_is_held_too(make_graph: MakeGraph) -> None:
    mapped = make_graph(
        """
        input %old: float16[1, 12, 8] = cache cache.*.key
        %x: float16[1, 8] = reduce(%old) {indices = "btd->bd", expr = "a", function = "max"}
        output %x = carried x
        """,
        {},
    )
    assert graph_memory(mapped, ONE).cache == 2 * 12 * 8


def test_every_micro_batch_keeps_a_cache_and_all_share_the_weights(make_graph: MakeGraph) -> None:
    mapped = make_graph(
        """
        input %old: float16[1, 12, 8] = cache cache.*.key
        input %w: float16[1, 8] = weight w
        %x: float16[1, 8] = reduce(%old) {indices = "btd->bd", expr = "a", function = "max"}
        %y: float16[1, 8] = elementwise(%x, %w) {indices = "bd,bd->bd", expr = "a * b"}
        output %y = carried x
        """,
        {},
    )
    memory = graph_memory(mapped, ONE)
    assert Keeping(1).held(memory) == 2 * 8 + 2 * 12 * 8
    assert Keeping(5).held(memory) == 2 * 8 + 5 * 2 * 12 * 8


def test_a_stepped_product_receives_its_next_tiles_beside_the_present_ones(
    make_graph: MakeGraph,
) -> None:
    text = """
      input %x: float16[6, 6] = carried x
      input %w: float16[6, 6] = weight w
      %o: float16[6, 6] = {kind}(%x, %w) {{indices = "ab,bc->ac"{form}}}
      output %o = carried x
    """
    local = make_graph(text.format(kind="matmul", form=""), {})
    form = ', form = "rotate"'
    stepped = make_graph(text.format(kind="grid_matmul", form=form), {})
    tile = 2 * 6 * 6
    assert graph_memory(local, ONE).activations == 2 * tile
    assert graph_memory(stepped, ONE).activations == 2 * tile + 2 * tile


def test_sums_that_are_scattered_as_they_arise_are_never_held_whole(make_graph: MakeGraph) -> None:
    mapped = make_graph(
        """
        input %x: float16[4, 6] = carried x
        input %w: float16[6, 40] = weight w
        %y: float16[4, 40] = matmul(%x, %w) {indices = "ab,bc->ac"}
        %o: float16[4, 40] = reduce_scatter(%y) {axes = ["yh", "yd"]}
        output %o = carried x
        """,
        {"o": Sharding(((), ROWS)), "y": Sharding(((), ()), partial=ROWS)},
    )
    part = 2 * 4 * 4
    memory = graph_memory(mapped, {**ONE, "yd": 10})
    assert memory.activations <= 2 * 4 * 6 + 2 * part


EXPERTS = """
  input %x: float16[8, 16] = carried x
  input %chosen: int64[8, 2] = carried chosen
  input %w: float16[4, 12, 16] = weight w
  %xs: float16[8, 16] = all_gather(%x) {axes = ["xd"]}
  %ws: float16[4, 12, 16] = all_gather(%w) {axes = ["yd"]}
  %y: float16[8, 2, 12] = chosen_matmul(%xs, %chosen, %ws) {indices = "th,tk,efh->tkf", expert = "e", total = 4}
  output %y = carried y
"""  # noqa: E501


def test_tokens_and_experts_come_part_by_part_to_where_they_are_multiplied(
    make_graph: MakeGraph,
) -> None:
    """Of the tokens what another core has of their features, and of the matrices a single expert's:
    one part is received while the one before is used."""
    shardings = {
        "x": Sharding((ROWS, COLUMNS)),
        "chosen": Sharding((ROWS, ())),
        "w": Sharding(((), COLUMNS, ROWS)),
        "xs": Sharding((ROWS, ())),
        "ws": Sharding(((), COLUMNS, ())),
        "y": Sharding((ROWS, (), COLUMNS)),
    }
    memory = graph_memory(make_graph(EXPERTS, shardings), {**ONE, "yd": 2, "xd": 2})
    tokens, expert, choices, made = 2 * 4 * 8, 2 * 6 * 8, 8 * 4 * 2, 2 * 4 * 2 * 6
    assert memory.activations == choices + made + 2 * (tokens + expert)
    assert memory.weights == 4 * expert
    assert memory.largest_weight == expert
