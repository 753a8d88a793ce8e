"""A graph's lower bound and its run: what may overlap, what shares links, what sums up."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wscc.backend.bound import RESOURCES, busy_cycles, graph_bound
from wscc.backend.cost import Costing, OpCost
from wscc.backend.fluid import GraphRun, bounded_run, graph_run
from wscc.ir.hardware import Hardware
from wscc.ir.mapped import MappedGraph, Sharding

ROWS, COLUMNS = ("yh", "yd"), ("xh", "xd")
CUTS = tuple(
    Sharding(axes)
    for axes in (((), ()), (ROWS, ()), ((), COLUMNS), (ROWS, COLUMNS), (COLUMNS, ROWS), ((), ROWS))
)
MakeGraph = Callable[[str, Mapping[str, Sharding]], MappedGraph]
Sizes = Mapping[str, int]


def op_line(name: str, kind: str, left: str, right: str, side: int) -> str:
    """One operator over square matrices, so that any can follow any."""
    type_ = f"float16[{side}, {side}]"
    operands, attributes = f"%{left}", ""
    if kind == "map":
        kind, attributes = "elementwise", 'indices = "ab->ab", expr = "silu(a)"'
    elif kind == "add":
        kind, operands = "elementwise", f"%{left}, %{right}"
        attributes = 'indices = "ab,ab->ab", expr = "a + b"'
    elif kind in ("matmul", "rotate", "reduce"):
        operands, attributes = f"%{left}, %{right}", 'indices = "ab,bc->ac"'
        if kind != "matmul":
            kind, attributes = "grid_matmul", f'{attributes}, form = "{kind}"'
    else:
        kind, _, along = kind.partition(" ")
        axes = {"rows": '"yh", "yd"', "columns": '"xh", "xd"', "inner": '"xd"'}[along]
        attributes = f"axes = [{axes}]"
        if kind == "all_reduce":
            attributes += ', function = "sum"'
    return f"%{name}: {type_} = {kind}({operands}) {{{attributes}}}"


KINDS = (
    *("map", "add", "matmul", "rotate", "reduce"),
    *("all_reduce rows", "all_reduce columns", "all_reduce inner"),
    *("reduce_scatter rows", "all_gather columns"),
)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[str, dict[str, Sharding]]:
    """Text and shardings of a random graph of a few operators."""
    side = draw(st.integers(1, 300))
    names = ["x", "y"]
    lines = [f"input %{name}: float16[{side}, {side}] = data {name}" for name in names]
    for at in range(draw(st.integers(1, 10))):
        kind, left, right = (
            draw(st.sampled_from(KINDS)),
            *(draw(st.sampled_from(names)) for _ in range(2)),
        )
        lines.append(op_line(f"v{at}", kind, left, right, side))
        names.append(f"v{at}")
    lines.append(f"output %{names[-1]} = data out")
    return "\n".join(lines), {name: draw(st.sampled_from(CUTS)) for name in names}


@st.composite
def meshes(draw: st.DrawFn) -> dict[str, int]:
    return {name: draw(st.integers(1, 12)) for name in ("yh", "yd", "xh", "xd")}


@pytest.fixture(scope="module")
def hardware(make_hardware: Callable[..., Hardware]) -> Hardware:
    return make_hardware()


def laid_to_operators(run: GraphRun) -> float:
    return sum(span.compute + span.software + span.network for span in run.spans)


SLOWLY = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=(HealthCheck.function_scoped_fixture, HealthCheck.too_slow),
)


@SLOWLY
@given(graphs(), meshes(), st.sampled_from((0.0, 5.0, 100.0)))
def test_no_run_is_faster_than_its_bound(
    make_graph: MakeGraph,
    make_hardware: Callable[..., Hardware],
    drawn: tuple[str, dict[str, Sharding]],
    sizes: dict[str, int],
    launch: float,
) -> None:
    """Launches that cost nothing let the most messages overlap."""
    mapped = make_graph(*drawn)
    costs = Costing(make_hardware(software={"launch_cycles": launch}), mapped, sizes).costs()
    bound, run = graph_bound(mapped, costs), graph_run(mapped, costs)
    slack = 1 + 1e-6
    assert float(bound.path) <= run.cycles * slack
    for resource, busy in bound.busy.items():
        assert float(busy) <= run.cycles * slack, resource
    assert float(bound.cycles) == max(float(x) for x in (bound.path, *bound.busy.values()))


@SLOWLY
@given(graphs(), meshes())
def test_the_cycles_of_a_run_are_laid_to_its_operators(
    make_graph: MakeGraph,
    hardware: Hardware,
    drawn: tuple[str, dict[str, Sharding]],
    sizes: dict[str, int],
) -> None:
    mapped = make_graph(*drawn)
    costs = Costing(hardware, mapped, sizes).costs()
    run = graph_run(mapped, costs)
    bounded = bounded_run(mapped, costs, graph_bound(mapped, costs))
    assert laid_to_operators(run) == pytest.approx(run.cycles)
    assert laid_to_operators(bounded) == pytest.approx(bounded.cycles)
    for span in (*run.spans, *bounded.spans):
        assert min(span.compute, span.software, span.network) >= 0
        assert span.start <= span.end <= run.cycles


@SLOWLY
@given(graphs(), st.lists(meshes(), min_size=1, max_size=5))
def test_many_meshes_at_once_cost_what_each_costs_alone(
    make_graph: MakeGraph,
    hardware: Hardware,
    drawn: tuple[str, dict[str, Sharding]],
    many: list[dict[str, int]],
) -> None:
    mapped = make_graph(*drawn)
    together = {name: np.array([sizes[name] for sizes in many]) for name in many[0]}
    costs = Costing(hardware, mapped, together).costs()
    bound = graph_bound(mapped, costs)
    for at, sizes in enumerate(many):
        alone = Costing(hardware, mapped, sizes).costs()
        for ours, theirs in zip(costs, alone, strict=True):
            assert figures(ours, at) == pytest.approx(figures(theirs, 0))
        own = graph_bound(mapped, alone)
        assert entry(bound.cycles, at) == pytest.approx(float(own.cycles))
        assert entry(bound.path, at) == pytest.approx(float(own.path))


FIGURES = (
    *("core_cycles", "launch_cycles", "network_cycles", "cycles"),
    *("columns_words", "rows_words", "ramp_words", "word_hops"),
)


def figures(cost: OpCost, at: int) -> list[float]:
    work = [cost.work.cycles, cost.work.multiply_adds, cost.work.vector_operations]
    return [entry(value, at) for value in (*(getattr(cost, name) for name in FIGURES), *work)]


def entry(value: Any, at: int) -> float:
    array = np.atleast_1d(np.asarray(value, dtype=float))
    return float(array[at if len(array) > 1 else 0])


def reduced(make_graph: MakeGraph, first: str, second: str, side: int = 400) -> MappedGraph:
    """Two values summed over the mesh, each along a direction; neither needs the other."""
    lines = [
        f"input %x: float16[{side}, {side}] = data x",
        f"input %y: float16[{side}, {side}] = data y",
        op_line("a", f"all_reduce {first}", "x", "", side),
        op_line("b", f"all_reduce {second}", "y", "", side),
        op_line("c", "add", "a", "b", side),
        "output %c = data c",
    ]
    return make_graph("\n".join(lines), {})


SQUARE: Sizes = {"yh": 1, "yd": 16, "xh": 1, "xd": 16}


def test_messages_on_the_same_links_slow_each_other_down(
    make_graph: MakeGraph, hardware: Hardware
) -> None:
    """By hand: the first flies alone while the second is launched, both share the links until it
    ends, and the second ends alone."""
    mapped = reduced(make_graph, "rows", "rows")
    first, second, add = Costing(hardware, mapped, SQUARE).costs()
    launch, cycles = float(first.launch_cycles), float(first.network_cycles)
    speed = cycles / (2 * float(first.rows_words))
    assert speed < 1
    shared = (cycles - launch) / speed
    expected = 2 * launch + shared + launch + float(add.cycles)
    run = graph_run(mapped, [first, second, add])
    assert run.cycles == pytest.approx(expected)
    assert run.cycles > 2 * launch + cycles + float(add.cycles)


def test_messages_in_different_directions_share_only_the_ramp_of_the_core_in_the_middle(
    make_graph: MakeGraph, hardware: Hardware
) -> None:
    """The core where both meet takes in twice its words in every phase, on one ramp."""
    mapped = reduced(make_graph, "rows", "columns")
    first, second, add = Costing(hardware, mapped, SQUARE).costs()
    launch, cycles = float(first.launch_cycles), float(first.network_cycles)
    speed = cycles / (2 * float(first.ramp_words))
    assert speed < 1
    expected = 2 * launch + (cycles - launch) / speed + launch + float(add.cycles)
    assert graph_run(mapped, [first, second, add]).cycles == pytest.approx(expected)


def test_small_messages_on_the_same_links_do_not_notice_each_other(
    make_graph: MakeGraph, hardware: Hardware
) -> None:
    mapped = reduced(make_graph, "rows", "rows", side=2)
    costs = Costing(hardware, mapped, SQUARE).costs()
    launches = float(costs[0].launch_cycles) + float(costs[1].launch_cycles)
    alone = launches + float(costs[1].network_cycles) + float(costs[2].cycles)
    assert graph_run(mapped, costs).cycles == pytest.approx(alone)


def test_without_anything_to_overlap_the_run_is_the_path(
    make_graph: MakeGraph, hardware: Hardware
) -> None:
    kinds = ("map", "all_reduce rows", "matmul", "rotate", "all_gather columns", "reduce", "map")
    lines = ["input %x: float16[60, 60] = data x"]
    for at, kind in enumerate(kinds):
        before = f"v{at - 1}" if at else "x"
        lines.append(op_line(f"v{at}", kind, before, before, 60))
    lines.append("output %v6 = data out")
    mapped = make_graph("\n".join(lines), {})
    costs = Costing(hardware, mapped, SQUARE).costs()
    bound, run = graph_bound(mapped, costs), graph_run(mapped, costs)
    assert run.cycles == pytest.approx(float(bound.path))
    assert run.cycles == pytest.approx(sum(float(cost.cycles) for cost in costs))
    bounded = bounded_run(mapped, costs, bound)
    for one, other in zip(run.spans, bounded.spans, strict=True):
        parts = (one.compute, one.software, one.network)
        assert parts == pytest.approx((other.compute, other.software, other.network))


def beside_a_message(make_graph: MakeGraph, kind: str) -> MappedGraph:
    """A message whose words nobody waits for until an independent product is done."""
    lines = [
        "input %x: float16[400, 400] = data x",
        "input %y: float16[400, 400] = data y",
        op_line("a", "all_reduce columns", "x", "", 400),
        op_line("b", kind, "y", "y", 400),
        op_line("c", "add", "a", "b", 400),
        "output %c = data c",
    ]
    cut = Sharding((ROWS, COLUMNS))
    return make_graph("\n".join(lines), {"y": cut, "b": cut})


def test_a_local_product_hides_a_message(make_graph: MakeGraph, hardware: Hardware) -> None:
    mapped = beside_a_message(make_graph, "map")
    costs = Costing(hardware, mapped, SQUARE).costs()
    assert 0 < float(costs[1].cycles) < float(costs[0].network_cycles)
    run = graph_run(mapped, costs)
    assert run.cycles == pytest.approx(float(costs[0].cycles) + float(costs[2].cycles))


def test_a_product_whose_tiles_travel_has_the_links_to_itself(
    make_graph: MakeGraph, hardware: Hardware
) -> None:
    mapped = beside_a_message(make_graph, "rotate")
    costs = Costing(hardware, mapped, SQUARE).costs()
    assert float(costs[1].columns_words) > 0
    run = graph_run(mapped, costs)
    assert run.cycles == pytest.approx(sum(float(cost.cycles) for cost in costs))


def test_long_runs_end(make_graph: MakeGraph, hardware: Hardware) -> None:
    """A message of a few cycles after a product of 1e12, where a double counts in 1e-4."""
    side = 20_000
    lines = [
        f"input %x: float16[{side}, {side}] = data x",
        "input %y: float16[3, 3] = data y",
        "input %z: float16[3, 3] = data z",
        op_line("p", "matmul", "x", "x", side),
        op_line("a", "all_reduce rows", "y", "", 3),
        op_line("b", "all_reduce columns", "z", "", 3),
        "output %p = data p",
    ]
    mapped = make_graph("\n".join(lines), {})
    product, *messages = Costing(hardware, mapped, SQUARE).costs()
    for launch in (100.0, 0.3):
        uneven = [
            replace(cost, launch_cycles=at * launch / 7, network_cycles=20 + at * launch / 7)
            for at, cost in enumerate(messages, start=1)
        ]
        run = graph_run(mapped, [product, *uneven])
        assert run.cycles == pytest.approx(float(product.cycles), rel=1e-9)


def test_a_resource_can_be_busier_than_the_longest_chain(
    make_graph: MakeGraph, hardware: Hardware
) -> None:
    """Many independent maps: no chain is long, and the core works on all of them."""
    lines = ["input %x: float16[50, 50] = data x"]
    lines += [op_line(f"v{at}", "map", "x", "", 50) for at in range(9)]
    lines.append("output %v8 = data out")
    mapped = make_graph("\n".join(lines), {})
    costs = Costing(hardware, mapped, SQUARE).costs()
    bound = graph_bound(mapped, costs)
    assert float(bound.cycles) == float(bound.busy["core"]) == 9 * float(bound.path)
    assert set(busy_cycles(costs)) == set(RESOURCES)
    assert graph_run(mapped, costs).cycles == float(bound.cycles)


def test_a_collective_runs_along_its_own_direction(
    make_graph: MakeGraph, hardware: Hardware
) -> None:
    mapped = reduced(make_graph, "rows", "columns")
    sizes = {"yh": 1, "yd": 3, "xh": 1, "xd": 30}
    rows, columns, _ = Costing(hardware, mapped, sizes).costs()
    assert float(rows.rows_words) > 0 == float(rows.columns_words)
    assert float(columns.columns_words) > 0 == float(columns.rows_words)
    assert float(rows.network_cycles) < float(columns.network_cycles)


def test_heads_apart_are_reduced_in_shorter_lines(
    make_graph: MakeGraph, hardware: Hardware
) -> None:
    mapped = reduced(make_graph, "inner", "columns", side=2)
    inner, whole, _ = Costing(hardware, mapped, {"yh": 1, "yd": 1, "xh": 5, "xd": 6}).costs()
    alone, _, _ = Costing(hardware, mapped, {"yh": 1, "yd": 1, "xh": 1, "xd": 6}).costs()
    assert float(inner.network_cycles) == float(alone.network_cycles)
    assert float(inner.network_cycles) < float(whole.network_cycles)
    assert float(inner.word_hops) == 5 * float(alone.word_hops)


@pytest.mark.parametrize("form", ["rotate", "reduce"])
def test_a_product_on_one_device_sends_nothing(
    make_graph: MakeGraph, hardware: Hardware, form: str
) -> None:
    costs = stepped(make_graph, hardware, form, {"yh": 1, "yd": 1, "xh": 1, "xd": 1})
    assert float(costs.cycles) == float(costs.work.cycles) + 100
    assert (float(costs.launch_cycles), float(costs.word_hops)) == (100, 0)


def stepped(make_graph: MakeGraph, hardware: Hardware, form: str, sizes: Sizes) -> OpCost:
    """Both operands cut over rows and columns; `reduce` contracts what lies over the columns."""
    indices = "ab,bc->ac" if form == "rotate" else "ab,cb->ac"
    text = f"""
      input %x: float16[24, 24] = data x
      input %y: float16[24, 24] = data y
      %p: float16[24, 24] = grid_matmul(%x, %y) {{indices = "{indices}", form = "{form}"}}
      output %p = data p
    """
    cut = Sharding((ROWS, COLUMNS))
    (cost,) = Costing(hardware, make_graph(text, {"x": cut, "y": cut, "p": cut}), sizes).costs()
    return cost


def test_tiles_take_as_many_steps_as_the_longer_side(
    make_graph: MakeGraph, hardware: Hardware
) -> None:
    """4 x 6 devices: 6 steps of a (6 x 4) by (4 x 4) product, 12 words of the left tile and 8 of
    the right one to the next device, a launch for each; before them the left tile makes 3 turns."""
    cost = stepped(make_graph, hardware, "rotate", {"yh": 1, "yd": 4, "xh": 1, "xd": 6})
    product = 4 * 4 * (10 + 2)
    exchange = 12 + 8 + 2 + 5
    assert float(cost.work.cycles) == 6 * product
    turn = 12 + 2 + 5
    assert float(cost.launch_cycles) == (6 + 6 + 3) * 100
    assert float(cost.network_cycles) == 6 * exchange + 3 * turn
    assert float(cost.cycles) == 15 * 100 + 3 * turn + 6 * max(product, exchange)
    assert (float(cost.columns_words), float(cost.rows_words)) == (9 * 12, 6 * 8)


def test_sums_run_along_the_row_even_where_no_tile_travels_down(
    make_graph: MakeGraph, hardware: Hardware
) -> None:
    """One row of 6 devices: a single step, whose 24 x 24 sums (288 words) pass from each to the
    next."""
    cost = stepped(make_graph, hardware, "reduce", {"yh": 1, "yd": 1, "xh": 1, "xd": 6})
    assert float(cost.launch_cycles) == 3 * 100
    assert float(cost.columns_words) == 24 * 24 * 2 / 4
    assert float(cost.rows_words) == 0
    assert float(cost.cycles) > float(cost.work.cycles) + 200
