"""Attention in blocks of queries: counted by hand, and against attention in one piece."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wscc.backend.cost import Costing
from wscc.backend.memory import graph_memory
from wscc.backend.query_blocks import QueryBlocks, scores_room
from wscc.ir.hardware import Hardware
from wscc.ir.mapped import MappedGraph, Sharding

MakeGraph = Callable[[str, Mapping[str, Sharding]], MappedGraph]
MakeHardware = Callable[..., Hardware]

ROWS, COLUMNS = ("yh", "yd"), ("xh", "xd")
MESH = {"yh": 1, "yd": 4, "xh": 1, "xd": 2}
TOKENS, WIDTH = 256, 8

ATTENTION = f"""
  input %q: float16[{TOKENS}, {WIDTH}] = carried q
  input %k: float16[{TOKENS}, {WIDTH}] = carried k
  input %v: float16[{TOKENS}, {WIDTH}] = carried v
  %scores: float16[{TOKENS}, {TOKENS}] = grid_matmul(%q, %k) {{indices = "sd,td->st", form = "reduce"}}
  %seen: float16[{TOKENS}, {TOKENS}] = mask(%scores) {{indices = "st->st", query = "s", key = "t"}}
  %raised: float16[{TOKENS}, {TOKENS}] = elementwise(%seen) {{indices = "st->st", expr = "exp(a)"}}
  %parts: float16[{TOKENS}] = reduce(%raised) {{indices = "st->s", function = "sum", expr = "a"}}
  %total: float16[{TOKENS}] = all_reduce(%parts) {{axes = ["xd"], function = "sum"}}
  %mixed: float16[{TOKENS}, {WIDTH}] = grid_matmul(%raised, %v) {{indices = "st,te->se", form = "rotate"}}
  %y: float16[{TOKENS}, {WIDTH}] = elementwise(%mixed, %total) {{indices = "se,s->se", expr = "a / b"}}
  output %y = carried y
"""  # noqa: E501
SQUARE = Sharding((ROWS, COLUMNS))
PLACES = {
    **dict.fromkeys(("q", "k", "v", "mixed", "y", "scores", "seen", "raised"), SQUARE),
    "parts": Sharding((ROWS,), ("xd",)),
    "total": Sharding((ROWS,)),
}
OWN = TOKENS // 4
"""Queries of a core."""
SCORES = 2 * OWN * (TOKENS // 2)
"""Bytes of all scores of a core."""
SCORED = ("scores", "seen", "raised", "parts", "mixed")
"""What is made block by block."""


@pytest.fixture
def mapped(make_graph: MakeGraph) -> MappedGraph:
    return make_graph(ATTENTION, PLACES)


def test_scores_that_fit_are_one_block(mapped: MappedGraph) -> None:
    blocks = QueryBlocks(mapped, MESH, 2.0 * SCORES)
    assert blocks.count == 1
    assert all(blocks.runs(op) is None for op in mapped.graph.ops)


def test_operators_on_scores_run_once_a_block(mapped: MappedGraph) -> None:
    """Two values of scores are there at once: what an operator reads and what it makes."""
    blocks = QueryBlocks(mapped, MESH, 2 * SCORES / 8)
    runs = {op.result: blocks.runs(op) for op in mapped.graph.ops}
    assert blocks.count == 8
    assert runs == {**dict.fromkeys(SCORED, 8), "total": None, "y": None}


@given(room=st.floats(1.0, 4.0 * SCORES))
def test_a_block_fits_or_is_a_single_query(make_graph: MakeGraph, room: float) -> None:
    blocks = QueryBlocks(make_graph(ATTENTION, PLACES), MESH, room)
    queries = np.ceil(OWN / blocks.count)
    assert queries == 1 or queries * 2 * SCORES / OWN <= room
    fewer = np.ceil(OWN / (blocks.count - 1)) if blocks.count > 1 else np.inf
    assert fewer * 2 * SCORES / OWN > room or blocks.count == 1


def test_a_core_holds_one_block_of_scores(mapped: MappedGraph) -> None:
    whole = graph_memory(mapped, MESH).activations
    halved = graph_memory(mapped, MESH, scores=SCORES).activations
    assert whole - halved == pytest.approx(SCORES)
    least = graph_memory(mapped, MESH, scores=1.0).activations
    assert least < whole - 1.9 * SCORES


def test_kernels_of_gpus_see_to_their_scores_themselves(mapped: MappedGraph) -> None:
    assert QueryBlocks(mapped, MESH, np.inf).count == 1


def test_blocks_cost_the_work_once_and_the_messages_of_keys_again(
    mapped: MappedGraph, make_hardware: MakeHardware
) -> None:
    roomy = make_hardware(sram={"capacity_bytes": 1e9})
    tight = make_hardware(sram={"capacity_bytes": 2048 + 2 * SCORES})
    blocks = int(np.asarray(QueryBlocks(mapped, MESH, scores_room(tight)).count))
    assert blocks > 1
    one, several = (
        {cost.op.result: cost for cost in Costing(hardware, mapped, MESH).costs()}
        for hardware in (roomy, tight)
    )
    for name in SCORED:
        assert several[name].work.multiply_adds == pytest.approx(one[name].work.multiply_adds)
        assert several[name].launch_cycles == pytest.approx(blocks * one[name].launch_cycles)
        assert several[name].cycles > one[name].cycles
    assert several["scores"].rows_words == pytest.approx(blocks * one["scores"].rows_words)
    for name in ("total", "y"):
        assert several[name].cycles == one[name].cycles


def test_many_meshes_have_blocks_of_their_own(
    mapped: MappedGraph, make_hardware: MakeHardware
) -> None:
    tight = make_hardware(sram={"capacity_bytes": 2048 + 2 * SCORES})
    rows = np.array([1, 2, 4, 64])
    together = Costing(tight, mapped, {**MESH, "yd": rows}).costs()
    for at, count in enumerate(rows):
        alone = Costing(tight, mapped, {**MESH, "yd": int(count)}).costs()
        for many, one in zip(together, alone, strict=True):
            assert np.broadcast_to(many.cycles, 4)[at] == pytest.approx(float(one.cycles))
