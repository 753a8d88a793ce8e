"""Tokens between the replicas that divide experts: how many go, over which links, for how long."""

import dataclasses
from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wscc import load_hardware
from wscc.backend import links, switched
from wscc.backend.blocks import Blocks
from wscc.backend.exchange import Exchange, sent_bytes, shares
from wscc.backend.exchange_routes import routes_of
from wscc.backend.extents import block_bytes, copies, reached
from wscc.backend.network import Flows, fabric_of, link_loads
from wscc.ir.graph import Graph, Input, Op, TensorType
from wscc.ir.hardware import Hardware
from wscc.ir.mapped import MappedGraph, Routed, Sharding
from wscc.ir.program import Rectangle

COLUMNS = ("xh", "xd")
EXPERTS, CHOSEN, TOKENS, WIDTH = 8, 2, 64, 512


def dispatch(load: tuple[int, ...] | None = None) -> MappedGraph:
    """Tokens on their way to eight experts, their features cut over the columns."""
    attributes = {
        "axes": ("e",), "indices": "tk,td->td", "chosen": "k", "experts": EXPERTS,
        "total": EXPERTS, "load": load,
    }  # fmt: skip
    wide = TensorType("bfloat16", (TOKENS, WIDTH))
    sent = Op("dispatch", ("index", "x"), ("x.sent",), (wide,), attributes)
    inputs = (
        Input("index", TensorType("int64", (TOKENS, CHOSEN)), "carried", "index"),
        Input("x", wide, "carried", "x"),
    )
    graph = Graph("layer0", inputs, (sent,), ())
    whole, cut = Sharding(((), ())), Sharding(((), COLUMNS))
    there = dataclasses.replace(cut, routed=Routed(CHOSEN, EXPERTS))
    return MappedGraph(graph, {"index": whole, "x": cut, "x.sent": there})


def seconds(
    hardware: Hardware,
    ep: int,
    places: tuple[Rectangle, ...] = (),
    load: tuple[int, ...] | None = None,
    columns: int = 4,
) -> float:
    mapped = dispatch(load)
    sizes = {"e": ep, "yh": 1, "yd": 1, "xh": 1, "xd": columns}
    exchange = Exchange(hardware, Blocks(mapped, sizes), (places,) if places else ())
    return float(exchange.of(mapped.graph.ops[0]).seconds)


# How much is sent


def test_experts_that_are_alone_get_as_many_tokens_as_choose_them() -> None:
    assert reached(1 / EXPERTS, CHOSEN, EXPERTS) == pytest.approx(CHOSEN / EXPERTS)
    assert copies(Routed(CHOSEN, EXPERTS), EXPERTS) == pytest.approx(CHOSEN)
    assert copies(Routed(CHOSEN, EXPERTS), 1) == 1


@given(st.integers(1, 16), st.integers(2, 16))
def test_a_token_goes_to_no_more_replicas_than_there_are_or_than_it_chooses(
    chosen: int, replicas: int
) -> None:
    many = float(copies(Routed(chosen, 16), replicas))
    assert 1 - 1e-9 <= many <= min(chosen, replicas) + 1e-9


def test_what_one_has_for_each_choice_is_as_much_as_without_dividing() -> None:
    type_ = TensorType("bfloat16", (TOKENS, CHOSEN, WIDTH))
    there = Sharding(((), (), ()), routed=Routed(1, EXPERTS))
    assert block_bytes(type_, there, {"e": 4}) == block_bytes(type_, Sharding(there.axes), {})


def test_shares_are_those_of_equal_runs_and_of_the_load() -> None:
    (op,) = dispatch().graph.ops
    assert shares(op, 4) == (0.25, 0.25, 0.25, 0.25)
    assert shares(op, 3) == (0.375, 0.375, 0.25)
    assert shares(op, 16)[7:] == (0.125, *(0.0,) * 8)
    (loaded,) = dispatch((3, 1, 1, 1, 1, 1, 0, 0)).graph.ops
    assert shares(loaded, 2) == (0.75, 0.25)


def test_the_busiest_replica_gets_most_bytes() -> None:
    mapped = dispatch((3, 1, 1, 1, 1, 1, 0, 0))
    first, second = sent_bytes(mapped.graph, mapped.graph.ops[0], 2)
    assert first > second
    even = sent_bytes(dispatch().graph, dispatch().graph.ops[0], 2)
    assert even[0] == even[1] <= TOKENS * WIDTH * 2


# Over the links of a wafer


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=6, unique=True)
)
def test_loads_of_links_are_those_of_all_cores_flows(corners: list[tuple[int, int]]) -> None:
    hardware = load_hardware("wse2").bind()
    rows, columns = 3, 5
    places = tuple(Rectangle(7 * a, 9 * b, rows, columns) for a, b in corners)
    words = tuple(float(10 + at) for at in range(len(places)))
    found = routes_of(hardware, places, words, rows, columns)
    row, column = np.divmod(np.arange(rows * columns), columns)
    ends = [
        (
            a.row + row,
            a.column + column,
            places[at].row + row,
            places[at].column + column,
            words[at],
        )
        for a, at in permutations_of(places)
    ]
    flows = Flows(
        *(np.concatenate([each[k] for each in ends]) for k in range(4)),
        bytes=np.concatenate([np.full(len(row), each[4]) for each in ends]),
        release_s=np.zeros(len(ends) * len(row)),
    )
    loads = link_loads(fabric_of(hardware.wafer), flows)
    most = max(
        float(load.max(initial=0.0))
        for load in (loads.eastward, loads.westward, loads.southward, loads.northward)
    )
    assert found.link_words == pytest.approx(most)


def permutations_of(places: tuple[Rectangle, ...]) -> list[tuple[Rectangle, int]]:
    return [(places[a], b) for a, b in permutations(range(len(places)), 2)]


def test_replicas_far_from_each_other_and_in_others_way_take_longer(wse2: Hardware) -> None:
    near = (Rectangle(0, 0, 1, 4), Rectangle(1, 0, 1, 4))
    far = (Rectangle(0, 0, 1, 4), Rectangle(600, 0, 1, 4))
    assert seconds(wse2, 2, near) < seconds(wse2, 2, far)
    in_line = tuple(Rectangle(0, 4 * at, 1, 4) for at in range(4))
    square = tuple(Rectangle(at // 2, 4 * (at % 2), 1, 4) for at in range(4))
    assert seconds(wse2, 4, square) < seconds(wse2, 4, in_line)


def test_a_group_as_compact_as_can_be_takes_no_longer_than_one_in_a_line(wse2: Hardware) -> None:
    for ep in (2, 4, 8):
        in_line = tuple(Rectangle(0, 4 * at, 1, 4) for at in range(ep))
        assert seconds(wse2, ep) <= seconds(wse2, ep, in_line) * (1 + 1e-9)


def test_an_uneven_load_takes_longer(wse2: Hardware) -> None:
    places = tuple(Rectangle(0, 4 * at, 1, 4) for at in range(4))
    skewed = (4, 4, 1, 1, 1, 1, 1, 1)
    assert seconds(wse2, 4, places, skewed) > seconds(wse2, 4, places)
    assert seconds(wse2, 1) == 0


# Between wafers and through switches


def test_wafers_apart_pass_what_leaves_over_their_link() -> None:
    hardware = load_hardware("wsc_llm").bind()
    if hardware.wafers < 2 or hardware.link is None:
        hardware = dataclasses.replace(
            load_hardware("wse2").bind(), wafers=4, link=load_hardware("a100").bind().link
        )
    both = [(0, 1, 1e9), (1, 0, 1e9)]
    passed = links.exchanged(hardware, both)
    assert float(passed.seconds) >= 1e9 / links.bytes_per_s(hardware)
    twice = links.exchanged(hardware, [(a, b, 2 * bytes_) for a, b, bytes_ in both])
    assert float(passed.seconds) < float(twice.seconds) < 2 * float(passed.seconds)
    assert float(twice.energy_j) == pytest.approx(2 * float(passed.energy_j))


def test_devices_of_a_node_exchange_in_pairs(bind: Callable[[str], Hardware]) -> None:
    hardware = bind("a100")
    mapped = dispatch()
    sizes = {"e": 4, "yh": 1, "yd": 1, "xh": 1, "xd": 1}
    found = Exchange(hardware, Blocks(mapped, sizes)).of(mapped.graph.ops[0])
    to_each = sent_bytes(mapped.graph, mapped.graph.ops[0], 4)[0]
    pairs = switched.all_to_all(hardware, switched.Group(4), 4 * to_each)
    assert found.seconds == pytest.approx(pairs.seconds)
    assert float(found.link_energy_j) == pytest.approx(
        float(switched.energy_j(hardware, pairs)) / 4
    )


@pytest.fixture
def bind() -> Callable[[str], Hardware]:
    return lambda name: load_hardware(name).bind()
