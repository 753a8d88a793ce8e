"""The network of a wafer: loads, zero-load times, the bound and the fluid model."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wscc.backend.network import (
    Fabric,
    Flows,
    bound_s,
    fabric_of,
    latency_s,
    link_loads,
    routes,
    whole_words,
    zero_load_s,
)
from wscc.backend.network_fluid import fair_rates, fluid
from wscc.backend.network_sharing import shared_links
from wscc.ir.hardware import Core, Die, Router, Software, Sram, Wafer
from wscc.ir.technology import Link, Technology

FABRIC = Fabric(
    rows=6,
    columns=8,
    die_rows=6,
    die_columns=8,
    word_bytes=4,
    link_bytes_per_s=4,
    hop_s=1,
    crossing_bytes_per_s=4,
    crossing_s=1,
    ramp_bytes_per_s=4,
    ramp_s=2,
)
"""One word a second: seconds are cycles."""

JOINED = replace(FABRIC, die_rows=3, die_columns=4, crossing_bytes_per_s=1, crossing_s=10)
"""Four dies; a link between two carries a word in four cycles."""


def flows_of(*rows: tuple[int, int, int, int, float, float]) -> Flows:
    """From (source row, source column, target row, target column, bytes, release)."""
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return Flows(*columns[:4], *(column.astype(float) for column in columns[4:]))


@st.composite
def fabrics(draw: st.DrawFn) -> Fabric:
    rate = st.sampled_from((1.0, 2.0, 4.0, 8.0))
    delay = st.sampled_from((0.0, 0.5, 1.0, 3.0))
    return Fabric(
        rows=draw(st.integers(1, 6)),
        columns=draw(st.integers(1, 6)),
        die_rows=draw(st.integers(1, 6)),
        die_columns=draw(st.integers(1, 6)),
        word_bytes=4,
        link_bytes_per_s=draw(rate),
        hop_s=draw(delay),
        crossing_bytes_per_s=draw(rate),
        crossing_s=draw(delay),
        ramp_bytes_per_s=draw(rate),
        ramp_s=draw(delay),
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[Fabric, Flows]:
    fabric = draw(fabrics())
    row, column = st.integers(0, fabric.rows - 1), st.integers(0, fabric.columns - 1)
    size = st.integers(0, 60).map(float)
    release = st.one_of(st.just(0.0), st.integers(0, 30).map(float))
    rows = draw(
        st.lists(st.tuples(row, column, row, column, size, release), min_size=1, max_size=25)
    )
    return fabric, flows_of(*rows)


def links_of(fabric: Fabric, flows: Flows, at: int) -> list[tuple[tuple[str, int, int], float]]:
    """The links and ramps that a flow passes, one by one, each with its bytes/s."""
    if not flows.travel[at]:
        return []
    row, column = int(flows.source_row[at]), int(flows.source_column[at])
    last_row, last_column = int(flows.target_row[at]), int(flows.target_column[at])
    passed = [(("injection", row, column), fabric.ramp_bytes_per_s)]

    def pass_link(name: str, index: int, die: int) -> None:
        crosses = (index + 1) % die == 0
        rate = fabric.crossing_bytes_per_s if crosses else fabric.link_bytes_per_s
        place = (row, index) if name in ("eastward", "westward") else (index, column)
        passed.append(((name, *place), rate))

    while column != last_column:
        step = 1 if last_column > column else -1
        name = "eastward" if step > 0 else "westward"
        pass_link(name, min(column, column + step), fabric.die_columns)
        column += step
    while row != last_row:
        step = 1 if last_row > row else -1
        name = "southward" if step > 0 else "northward"
        pass_link(name, min(row, row + step), fabric.die_rows)
        row += step
    return [*passed, (("ejection", row, column), fabric.ramp_bytes_per_s)]


def fair_by_filling(fabric: Fabric, flows: Flows) -> dict[int, float]:
    """Max-min fair rates by the textbook: all rates rise, a full link stops its flows."""
    users: dict[tuple[str, int, int], list[int]] = {}
    room: dict[tuple[str, int, int], float] = {}
    for at in np.flatnonzero(flows.travel).tolist():
        for link, rate in links_of(fabric, flows, at):
            users.setdefault(link, []).append(at)
            room[link] = rate
    rates: dict[int, float] = {}
    while open_links := {
        link: room[link] / len(waiting)
        for link, all_ in users.items()
        if (waiting := [at for at in all_ if at not in rates])
    }:
        full = min(open_links, key=lambda link: open_links[link])
        level = open_links[full]
        for at in [at for at in users[full] if at not in rates]:
            rates[at] = level
            for link, _ in links_of(fabric, flows, at):
                room[link] -= level
    return rates


def ends_by_one_clock(fabric: Fabric, flows: Flows) -> np.ndarray:
    """When each flow's fluid has run out: all rates anew at every release and end."""
    ends_s = flows.release_s.copy()
    left = whole_words(fabric, flows) * fabric.word_bytes
    open_ = flows.travel.copy()
    now_s = 0.0
    while open_.any():
        running = np.flatnonzero(open_ & (flows.release_s <= now_s))
        filled = fair_by_filling(fabric, flows[running])
        rates = np.array([filled[at] for at in range(len(running))])
        coming = flows.release_s[open_ & (flows.release_s > now_s)].min(initial=np.inf) - now_s
        step_s = min(coming, (left[running] / rates).min(initial=np.inf))
        now_s = now_s + step_s
        left[running] -= rates * step_s
        ended = running[left[running] <= 1e-9]
        ends_s[ended] = now_s
        open_[ended] = False
    return ends_s


def wafer_of(share: float, latency_s: float) -> Wafer:
    core = Core(
        name="core",
        clock_hz=1e9,
        width_m=2e-4,
        height_m=2e-4,
        technology=Technology("n7", {}, 0, 0, 0, 0, 0),
        matrix_flops_per_cycle={},
        vector_elements_per_cycle={},
        function_cycles=1,
        sram=Sram(48 * 1024, 0, 16, 8),
        router=Router("circuit", 4, 1, 2, multicast=True),
        software=Software("none", 0, 0),
        control_energy_j_per_cycle=0,
    )
    die = Die("die", core, 66, 154, 0.017, 0.03)
    link = Link("joint", share, latency_s, 0)
    return Wafer("test", die, 12, 7, link, 0.215, 0.215, 750, 994, 850_000)


def test_fabric_has_a_word_a_cycle_and_less_between_dies() -> None:
    fabric = fabric_of(wafer_of(0.5, 1e-7))
    assert (fabric.rows, fabric.columns) == (792, 1078)
    assert fabric.link_bytes_per_s == fabric.ramp_bytes_per_s == 4e9
    assert (fabric.hop_s, fabric.ramp_s, fabric.crossing_s) == (1e-9, 2e-9, 1e-7)
    assert np.flatnonzero(fabric.along_rows() == 2e9).tolist() == [153, 307, 461, 615, 769, 923]
    assert np.flatnonzero(fabric.along_columns() == 2e9)[:2].tolist() == [65, 131]


@given(cases())
@settings(deadline=None)
def test_loads_are_those_of_routes_walked_link_by_link(case: tuple[Fabric, Flows]) -> None:
    fabric, flows = case
    loads = link_loads(fabric, flows)
    walked = {name: np.zeros_like(array) for name, array in vars(loads).items()}
    for at in range(len(flows)):
        for (name, row, column), _ in links_of(fabric, flows, at):
            walked[name][row, column] += flows.bytes[at]
    for name, array in walked.items():
        np.testing.assert_array_equal(getattr(loads, name), array)


@given(cases())
@settings(deadline=None)
def test_bytes_over_links_are_bytes_times_hops(case: tuple[Fabric, Flows]) -> None:
    fabric, flows = case
    loads = link_loads(fabric, flows)
    over_links = sum(
        array.sum() for array in (loads.eastward, loads.westward, loads.southward, loads.northward)
    )
    assert over_links == (flows.bytes * routes(fabric, flows).hops).sum()
    assert loads.injection.sum() == loads.ejection.sum() == flows.bytes[flows.travel].sum()


def test_zero_load_is_ramps_and_hops_and_a_word_a_cycle() -> None:
    flows = flows_of(
        (0, 0, 2, 3, 40, 0), (0, 0, 0, 1, 1, 0), (1, 1, 1, 1, 40, 0), (0, 0, 1, 0, 0, 0)
    )
    assert zero_load_s(FABRIC, flows).tolist() == [2 + 5 + 2 + 9, 2 + 1 + 2, 0, 0]


def test_zero_load_waits_for_the_slowest_link() -> None:
    flows = flows_of((0, 3, 0, 4, 40, 0), (0, 0, 3, 4, 40, 0))
    assert zero_load_s(JOINED, flows).tolist() == [2 + 10 + 2 + 9 * 4, 2 + 5 + 20 + 2 + 9 * 4]


@given(cases())
@settings(deadline=None, max_examples=300)
def test_no_flow_ends_before_its_zero_load_time_nor_all_before_the_bound(
    case: tuple[Fabric, Flows],
) -> None:
    fabric, flows = case
    finish_s = fluid(fabric, flows)
    assert (finish_s >= (flows.release_s + zero_load_s(fabric, flows)) * (1 - 1e-9)).all()
    assert finish_s.max() >= bound_s(fabric, flows) * (1 - 1e-9)


@given(cases())
@settings(deadline=None)
def test_a_flow_alone_takes_its_zero_load_time(case: tuple[Fabric, Flows]) -> None:
    fabric, flows = case
    for at in range(len(flows)):
        alone = flows[np.array([at])]
        expected = alone.release_s + zero_load_s(fabric, alone)
        np.testing.assert_allclose(fluid(fabric, alone), expected, rtol=1e-12)


@given(cases())
@settings(deadline=None)
def test_rates_are_those_of_textbook_filling(case: tuple[Fabric, Flows]) -> None:
    fabric, flows = case
    sent = flows[flows.travel]
    expected = fair_by_filling(fabric, sent)
    limit = routes(fabric, sent).slowest_bytes_per_s
    sharing = shared_links(fabric, sent, np.ones(len(sent))).limiting(limit)
    bound = ~sharing.free
    rates = limit.copy()
    if bound.any():
        rates[bound] = fair_rates(sharing.of(bound), limit[bound], np.ones(bound.sum(), dtype=bool))
    np.testing.assert_allclose(rates, [expected[at] for at in range(len(sent))], rtol=1e-9)


@given(cases())
@settings(deadline=None)
def test_events_are_those_of_a_simulation_with_one_clock(case: tuple[Fabric, Flows]) -> None:
    fabric, flows = case
    expected = ends_by_one_clock(fabric, flows) + latency_s(fabric, flows)
    np.testing.assert_allclose(fluid(fabric, flows), expected, rtol=1e-7)


@given(cases(), st.integers(0, 99))
@settings(deadline=None)
def test_the_order_of_flows_does_not_matter(case: tuple[Fabric, Flows], seed: int) -> None:
    fabric, flows = case
    order = np.random.default_rng(seed).permutation(len(flows))
    np.testing.assert_allclose(fluid(fabric, flows[order]), fluid(fabric, flows)[order], rtol=1e-9)


@given(cases(), st.sampled_from((1e-9, 0.5, 3.0)))
@settings(deadline=None)
def test_a_network_that_is_slower_in_everything_takes_as_much_longer(
    case: tuple[Fabric, Flows], factor: float
) -> None:
    fabric, flows = case
    slower = replace(
        fabric,
        link_bytes_per_s=fabric.link_bytes_per_s / factor,
        crossing_bytes_per_s=fabric.crossing_bytes_per_s / factor,
        ramp_bytes_per_s=fabric.ramp_bytes_per_s / factor,
        hop_s=fabric.hop_s * factor,
        crossing_s=fabric.crossing_s * factor,
        ramp_s=fabric.ramp_s * factor,
    )
    later = replace(flows, release_s=flows.release_s * factor)
    np.testing.assert_allclose(fluid(slower, later), fluid(fabric, flows) * factor, rtol=1e-9)
    assert bound_s(slower, later) == pytest.approx(bound_s(fabric, flows) * factor)


@given(cases())
@settings(deadline=None)
def test_all_released_later_end_as_much_later(case: tuple[Fabric, Flows]) -> None:
    fabric, flows = case
    later = replace(flows, release_s=flows.release_s + 1000)
    np.testing.assert_allclose(fluid(fabric, later), fluid(fabric, flows) + 1000, rtol=1e-9)


def test_two_flows_over_one_link_share_it_until_the_shorter_ends() -> None:
    flows = flows_of((0, 0, 0, 4, 80, 0), (0, 1, 0, 5, 40, 0))
    # 10 words each in 20 cycles, then 10 words alone in 10; the head takes 2 + 4 + 2 less a word
    assert fluid(FABRIC, flows).tolist() == [30 + 7, 20 + 7]


def test_a_flow_released_later_takes_its_share_from_then_on() -> None:
    flows = flows_of((0, 0, 0, 4, 80, 0), (0, 1, 0, 5, 40, 6))
    # 6 words alone, then 10 of each in 20 cycles, then 4 alone
    assert fluid(FABRIC, flows).tolist() == [6 + 20 + 4 + 7, 26 + 7]


def test_what_one_flow_cannot_use_another_gets() -> None:
    # the first two share an ejection ramp, so that the third has its whole link but a half
    flows = flows_of(
        (0, 0, 0, 4, 40, 0), (0, 6, 0, 4, 40, 0), (1, 6, 0, 4, 40, 0), (0, 1, 0, 3, 40, 0)
    )
    assert fluid(FABRIC, flows)[3] == pytest.approx(15 + 2 + 2 + 2 - 1)


def test_equal_flows_share_alike() -> None:
    flows = flows_of(*[(0, 0, 3, 3, 20, 0)] * 4)
    assert fluid(FABRIC, flows).tolist() == [20 + 9] * 4


def test_no_flows_take_no_time() -> None:
    nothing = flows_of((0, 0, 1, 1, 4, 0))[np.array([], dtype=int)]
    assert fluid(FABRIC, nothing).tolist() == []
    assert bound_s(FABRIC, nothing) == 0
    assert link_loads(FABRIC, nothing).busy_s(FABRIC) == 0
