"""Wafers that pass bytes to each other, counted by hand: links of 100 bytes/s, 2 s away."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wscc.backend import links
from wscc.ir.hardware import Edge, EdgeIO, Hardware
from wscc.ir.program import Rectangle
from wscc.ir.technology import Link, Switch

MakeSystem = Callable[..., Hardware]
RATE, LATENCY = 100.0, 2.0


@pytest.fixture(scope="module")
def system(make_hardware: Callable[..., Hardware]) -> MakeSystem:
    """`system(4)`: wafers in a ring, or with a switch; with ports of some bytes/s on edges."""

    def make(
        wafers: int,
        ports: Mapping[Edge, float] | None = None,
        switch: Switch | None = None,
        rate: float = RATE,
    ) -> Hardware:
        io = tuple(EdgeIO(edge, 10, all_ / 10, 3.0) for edge, all_ in (ports or {}).items())
        plain = make_hardware(wafer={"io": io, "memories": ()})
        link = Link("fabric", None, LATENCY, 5.0, bandwidth_bytes_per_s=rate)
        return replace(plain, wafers=wafers, link=link, switch=switch)

    return make


def test_bytes_stream_over_as_many_links_as_the_shorter_way_has(system: MakeSystem) -> None:
    passed = links.passing(system(6), 1000.0, 1, np.array([2, 3, 4, 5, 0]))
    assert passed.seconds == pytest.approx(10.0 + LATENCY * np.array([1, 2, 3, 2, 1]))
    assert passed.energy_j == pytest.approx(1000.0 * 5.0 * np.array([1, 2, 3, 2, 1]))


def test_a_switch_is_as_far_from_all_wafers(system: MakeSystem) -> None:
    switch = Switch(
        "spine", ports=8, bandwidth_bytes_per_s=50.0, latency_s=1.0, energy_j_per_byte=2
    )
    passed = links.passing(system(6, switch=switch), 1000.0, 0, np.array([1, 3, 5]))
    assert passed.seconds == pytest.approx(1000.0 / 50.0 + 2 * LATENCY + 1.0)
    assert passed.energy_j == pytest.approx(1000.0 * (2 * 5.0 + 2.0))


def test_transfers_share_a_link(system: MakeSystem) -> None:
    alone, shared = (links.passing(system(2), 1000.0, 0, 1, sharing=k).seconds for k in (1, 4))
    assert alone == pytest.approx(12.0)
    assert shared == pytest.approx(42.0)


def test_what_stays_on_a_wafer_takes_no_link(system: MakeSystem) -> None:
    passed = links.passing(system(4), 1000.0, 2, 2)
    assert passed.seconds == passed.energy_j == 0.0


def test_no_link_is_faster_than_the_ports_behind_it(system: MakeSystem) -> None:
    """Two wafers are one another's only neighbour; of more each has two."""
    assert links.bytes_per_s(system(2, {"west": 80.0})) == pytest.approx(80.0)
    assert links.bytes_per_s(system(3, {"west": 80.0, "east": 40.0})) == pytest.approx(60.0)
    assert links.bytes_per_s(system(3, {"west": 800.0})) == RATE
    assert links.bytes_per_s(system(3)) == RATE
    switch = Switch("spine", ports=8, bandwidth_bytes_per_s=90.0, latency_s=1.0)
    assert links.bytes_per_s(system(3, switch=switch)) == 90.0
    assert links.bytes_per_s(system(3, {"west": 70.0}, switch)) == pytest.approx(70.0)


def test_bytes_pass_the_ports_of_both_wafers(system: MakeSystem) -> None:
    passed = links.passing(system(2, {"west": 1000.0}), 10.0, 0, 1)
    assert passed.energy_j == pytest.approx(10.0 * (3.0 + 5.0 + 3.0))


def test_wafers_without_links_pass_nothing(system: MakeSystem) -> None:
    with pytest.raises(ValueError, match="have no links"):
        links.passing(replace(system(2), link=None), 1.0, 0, 1)


@pytest.mark.parametrize("wafers", [2, 3, 5, 8])
def test_a_ring_of_all_wafers_sums_in_the_known_time(system: MakeSystem, wafers: int) -> None:
    """2 (n - 1) steps of an n-th of the bytes."""
    summed = links.all_reduce(system(wafers), 1000.0, wafers)
    steps = 2 * (wafers - 1)
    assert summed.seconds == pytest.approx(steps * (LATENCY + 1000.0 / wafers / RATE))
    assert summed.energy_j == pytest.approx(steps * 1000.0 * 5.0)


def test_some_wafers_of_a_ring_close_it_over_the_shorter_way(system: MakeSystem) -> None:
    """The last of three sends back over two links; of seven out of eight over the one between."""
    few, most = (links.all_reduce(system(8), 0.0, n).seconds for n in (3, 7))
    assert few == pytest.approx(4 * 2 * LATENCY)
    assert most == pytest.approx(12 * 2 * LATENCY)


def test_one_wafer_sums_nothing(system: MakeSystem) -> None:
    alone = links.all_reduce(system(4), 1000.0, np.array([1, 2]))
    assert np.asarray(alone.seconds)[0] == np.asarray(alone.energy_j)[0] == 0.0
    assert np.asarray(alone.seconds)[1] > 0.0


def test_sums_share_the_links(system: MakeSystem) -> None:
    once, thrice = (links.all_reduce(system(4), 1000.0, 4, sharing=k).seconds for k in (1, 3))
    assert thrice - once == pytest.approx(2 * 6 * 250.0 / RATE)


def test_transfers_that_meet_on_a_link_share_it(system: MakeSystem) -> None:
    """0 to 2 goes over 1; 1 to 2 meets it; 2 to 1 is the other direction."""
    source, target = np.array([0, 1, 2, 3]), np.array([2, 2, 1, 3])
    assert links.shared_by(system(8), source, target).tolist() == [2, 2, 1, 1]
    switch = Switch("spine", ports=8, bandwidth_bytes_per_s=50.0, latency_s=1.0)
    out, into = np.array([0, 0, 3]), np.array([1, 2, 2])
    assert links.shared_by(system(8, switch=switch), out, into).tolist() == [2, 2, 2]


@given(wafers=st.integers(2, 9), source=st.integers(0, 8), target=st.integers(0, 8))
def test_the_way_back_is_as_long(system: MakeSystem, wafers: int, source: int, target: int) -> None:
    ring, here, there = system(wafers), source % wafers, target % wafers
    assert links.hops(ring, here, there) == links.hops(ring, there, here) <= wafers / 2
    both = np.array([here, there]), np.array([there, here])
    expected = 2 if 2 * links.hops(ring, here, there) == wafers > 2 else 1
    assert (links.shared_by(ring, *both) <= expected).all()


@pytest.mark.parametrize(
    ("edge", "hops"), [("north", 10), ("west", 200), ("south", 739), ("east", 793)]
)
def test_a_stage_is_as_far_from_the_ports_as_its_middle(
    system: MakeSystem, edge: Edge, hops: int
) -> None:
    """On 750 x 994 cores a hop, or a border of dies, is a cycle, and a ramp two."""
    place = Rectangle(row=8, column=198, rows=5, columns=5)
    assert links.way_out_s(system(2, {edge: 80.0}), place) * 1.1e9 == pytest.approx(2 + hops)
    nearest = links.way_out_s(system(2, {"west": 80.0, edge: 80.0}), place) * 1.1e9
    assert nearest == pytest.approx(2 + min(200, hops))
    assert links.way_out_s(system(2), place) == 0.0


def test_borders_of_dies_delay_the_way_out(make_hardware: Callable[..., Hardware]) -> None:
    slow = make_hardware(link={"latency_s": 1e-6})
    place = Rectangle(row=100, column=310, rows=1, columns=1)
    assert links.way_out_s(slow, place) == pytest.approx(2e-6 + (310 - 2 + 2) / 1.1e9)


def test_a_small_stage_fills_no_port(system: MakeSystem) -> None:
    """Five rows of 4.4 GB/s."""
    place = Rectangle(row=8, column=198, rows=5, columns=7)
    fast = system(2, {"west": 1e15}, rate=1e15)
    assert links.lines_bytes_per_s(fast, place) == pytest.approx(5 * 4.4e9)
    way_s = links.way_out_s(fast, place)
    passed = links.passing(fast, 5 * 4.4e9, 0, 1, places=(place, place))
    assert passed.seconds == pytest.approx(1.0 + LATENCY + 2 * way_s)
