"""What cores do for operators that are neither products nor maps."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wscc.backend.core import product_work
from wscc.backend.cost import Costing
from wscc.backend.extents import Sizes
from wscc.ir.hardware import Hardware
from wscc.ir.mapped import MappedGraph, Sharding
from wscc.ir.operators.load import experts_touched

MESH: Sizes = {"yh": 1, "yd": 1, "xh": 1, "xd": 1}

CHOSEN = """input %x: float16[{tokens}, 64] = data x
input %index: int64[{tokens}, 2] = data index
input %w: float16[8, 32, 64] = weight w
%y: float16[{tokens}, 2, 32] = chosen_matmul(%x, %index, %w) {{indices = "th,tk,efh->tkf", expert = "e", total = 8}}
output %y = data y"""  # noqa: E501

SCAN = """input %q: float16[256, 4, 16] = data q
input %k: float16[256, 4, 16] = data k
input %v: float16[256, 4, 16] = data v
%y: float16[256, 4, 16] = scan(%q, %k, %v) {{indices = "shn,shn,shp->shp", parts = "query key value", sequence = "s"{more}}}
output %y = data y"""  # noqa: E501

MakeGraph = Callable[[str, dict[str, Sharding]], MappedGraph]


def costs(hardware: Hardware, mapped: MappedGraph, sizes: Sizes = MESH) -> list[Any]:
    return Costing(hardware, mapped, sizes).costs()


@pytest.mark.parametrize("tokens", [1, 4, 64])
def test_energy_counts_the_choices_and_time_the_experts_that_they_touch(
    tokens: int, wse2: Hardware, make_graph: MakeGraph
) -> None:
    (cost,) = costs(wse2, make_graph(CHOSEN.format(tokens=tokens), {}))
    assert float(cost.work.multiply_adds) == pytest.approx(tokens * 2 * 32 * 64)
    touched = experts_touched(tokens, 2, 8)
    least = touched * 32 * 64 / (wse2.core.matrix_flops_per_cycle["float16"] / 2)
    assert float(cost.cycles) >= least


def test_a_token_takes_the_time_of_the_experts_that_it_chose(
    wse2: Hardware, make_graph: MakeGraph
) -> None:
    (cost,) = costs(wse2, make_graph(CHOSEN.format(tokens=1), {}))
    start = wse2.core.software.launch_cycles
    assert float(cost.cycles) == pytest.approx(
        start + 2 * float(product_work(wse2.core, "float16", 1, 32, 64).cycles)
    )


def test_a_core_with_one_of_many_experts_waits_for_the_one_that_is_chosen(
    wse2: Hardware, make_graph: MakeGraph
) -> None:
    """Time does not fall below one expert's, energy does."""
    mapped = make_graph(CHOSEN.format(tokens=1), {"w": Sharding((("xd",), (), ()))})
    (cost,) = costs(wse2, mapped, {**MESH, "xd": 8})
    one = product_work(wse2.core, "float16", 1, 32, 64)
    start = wse2.core.software.launch_cycles
    assert float(cost.cycles) == pytest.approx(start + float(one.cycles))
    assert float(cost.work.multiply_adds) == pytest.approx(2 / 8 * float(one.multiply_adds))


def loaded_costs(
    load: list[int] | None, tokens: int, cores: int, wse2: Hardware, make_graph: MakeGraph
) -> Any:
    """The costs of the product with experts spread over some cores."""
    text = CHOSEN.format(tokens=tokens)
    if load is not None:
        text = text.replace("total = 8", f"total = 8, load = {load}")
    mapped = make_graph(text, {"w": Sharding((("xd",), (), ()))})
    return costs(wse2, mapped, {**MESH, "xd": cores})[0]


LOADS = st.lists(st.integers(0, 1000), min_size=8, max_size=8).filter(
    lambda load: 0 < 2 * max(load) <= sum(load)
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much])
@given(LOADS, st.sampled_from([1, 3, 50, 400]), st.sampled_from([1, 2, 4, 8]))
def test_time_never_falls_as_the_load_gets_more_skewed(
    wse2: Hardware, make_graph: MakeGraph, load: list[int], tokens: int, cores: int
) -> None:
    """From the balanced load to some other, in steps; energy follows the average of all cores."""
    balanced = loaded_costs(None, tokens, cores, wse2, make_graph)
    before = float(balanced.cycles)
    for step in (0, 1, 2, 3, 4):
        mixed = [(4 - step) * sum(load) + step * 8 * part for part in load]
        cost = loaded_costs(mixed, tokens, cores, wse2, make_graph)
        if step == 0:
            assert float(cost.cycles) == before
        assert float(cost.cycles) >= before
        assert float(cost.work.multiply_adds) == pytest.approx(float(balanced.work.multiply_adds))
        before = float(cost.cycles)


def test_the_core_with_the_busiest_expert_sets_the_pace(
    wse2: Hardware, make_graph: MakeGraph
) -> None:
    """Every token takes the first expert: its core multiplies all of them, whoever has the rest."""
    cost = loaded_costs([7, 1, 1, 1, 1, 1, 1, 1], 400, 8, wse2, make_graph)
    one = product_work(wse2.core, "float16", 400, 32, 64)
    start = wse2.core.software.launch_cycles
    assert float(cost.cycles) == pytest.approx(start + float(one.cycles))
    balanced = loaded_costs(None, 400, 8, wse2, make_graph)
    assert 3 * float(balanced.cycles) < float(cost.cycles) < 4 * float(balanced.cycles)


def test_experts_without_weights_take_no_time_and_no_energy(
    wse2: Hardware, make_graph: MakeGraph
) -> None:
    def cost(total: str) -> Any:
        text = CHOSEN.format(tokens=64).replace("total = 8", total)
        return costs(wse2, make_graph(text, {}))[0]

    plain = cost("total = 8")
    busy = cost(f"total = 10, load = {[*[1] * 8, 0, 0]}")
    idle = cost(f"total = 10, load = {[*[1] * 8, 4, 4]}")
    assert float(busy.work.multiply_adds) == pytest.approx(float(plain.work.multiply_adds))
    assert float(idle.work.multiply_adds) == pytest.approx(float(plain.work.multiply_adds) / 2)
    assert float(idle.cycles) < float(busy.cycles)


def test_chunks_are_taken_only_where_they_are_faster(wse2: Hardware, make_graph: MakeGraph) -> None:
    serial = costs(wse2, make_graph(SCAN.format(more=""), {}))[0]
    for chunk in (1, 64):
        chunked = costs(wse2, make_graph(SCAN.format(more=f", chunk = {chunk}"), {}))[0]
        assert float(chunked.cycles) <= float(serial.cycles)


def test_a_collective_over_cores_that_lie_apart_shares_the_links_with_the_others(
    wse2: Hardware, make_graph: MakeGraph
) -> None:
    """Groups of every other core: each link carries the words of both."""
    text = """input %a: float16[512] = data a
%b: float16[512] = all_gather(%a) {axes = ["xh"]}
output %b = data b"""
    mapped = make_graph(text, {"a": Sharding((("xh",),))})
    near = costs(wse2, mapped, {"yh": 1, "yd": 1, "xh": 8, "xd": 1})[0]
    far = costs(wse2, mapped, {"yh": 1, "yd": 1, "xh": 8, "xd": 2})[0]
    alone = costs(wse2, mapped, {"yh": 1, "yd": 1, "xh": 1, "xd": 16})[0]
    assert float(far.columns_words) == 2 * float(near.columns_words)
    assert float(alone.cycles) == 0


def test_costs_of_many_meshes_are_those_of_each(wse2: Hardware, make_graph: MakeGraph) -> None:
    mapped = make_graph(CHOSEN.format(tokens=4), {"w": Sharding(((), ("xd",), ()))})
    columns = np.array([1, 2, 5, 32])
    many = costs(wse2, mapped, {**MESH, "xd": columns})[0]
    single = [float(costs(wse2, mapped, {**MESH, "xd": int(n)})[0].cycles) for n in columns]
    np.testing.assert_allclose(np.broadcast_to(many.cycles, columns.shape), single)
