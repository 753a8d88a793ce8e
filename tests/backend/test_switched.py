"""Collectives through switches: closed forms, limits that no network beats, and many at once."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wscc.backend.switched import (
    Exchange,
    Group,
    all_gather,
    all_reduce,
    all_to_all,
    energy_j,
    hand_over,
    point_to_point,
    reduce_scatter,
)
from wscc.frontend.hardware import load_hardware
from wscc.ir.hardware import Hardware

Collective = Callable[[Hardware, Group, float], Exchange]

COLLECTIVES: tuple[Collective, ...] = (all_reduce, reduce_scatter, all_gather, all_to_all)
GIB = 2.0**30
INSIDE, ADAPTERS = 300e9, 200e9
"""Bytes a second of an A100 into its node's switch, and of a node's eight adapters."""


def _ideal() -> Hardware:
    """Links that reach their whole bandwidth, without latency."""
    found = load_hardware("a100").bind({"cluster": 128})
    assert found.wafer.switch is not None
    assert found.link is not None
    assert found.switch is not None
    link = replace(found.wafer.link, sustained=1.0, latency_s=0.0)
    wafer = replace(found.wafer, link=link, switch=replace(found.wafer.switch, latency_s=0.0))
    between = replace(found.link, sustained=1.0, latency_s=0.0)
    return replace(found, wafer=wafer, link=between, switch=replace(found.switch, latency_s=0.0))


IDEAL = _ideal()
REAL = load_hardware("a100").bind({"cluster": 128})

members = st.sampled_from([2**n for n in range(1, 11)])
strides = st.sampled_from([1, 2, 4, 8, 16])


@pytest.mark.parametrize("collective", COLLECTIVES)
def test_one_device_exchanges_nothing(collective: Collective) -> None:
    alone = collective(REAL, Group(1), GIB)
    assert (alone.seconds, alone.link_bytes, alone.adapter_bytes) == (0, 0, 0)


@pytest.mark.parametrize("count", [2, 4, 8])
def test_a_node_sums_as_a_ring_over_its_switch(count: int) -> None:
    ring_s = 2 * (count - 1) / count * GIB / INSIDE
    assert float(all_reduce(IDEAL, Group(count), GIB).seconds) == pytest.approx(ring_s)
    half_s = float(reduce_scatter(IDEAL, Group(count), GIB).seconds)
    assert half_s == pytest.approx(ring_s / 2)


def test_sixteen_devices_of_two_nodes_have_all_their_adapters() -> None:
    took = float(all_reduce(IDEAL, Group(16), GIB).seconds)
    assert took == pytest.approx(2 * 15 / 16 * GIB / ADAPTERS)


def test_replicas_of_each_device_of_a_node_share_its_adapters() -> None:
    """Eight groups at once, each with one adapter."""
    took = float(all_reduce(IDEAL, Group(16, stride=8), GIB).seconds)
    assert took == pytest.approx(2 * 15 / 16 * GIB / (ADAPTERS / 8))


def test_replicas_side_by_side_in_a_node_have_more_adapters_each() -> None:
    """Of 16 replicas of pairs of devices, 4 lie in each of 4 nodes: two groups share a node."""
    took = float(all_reduce(IDEAL, Group(16, stride=2), GIB).seconds)
    assert took == pytest.approx(2 * 15 / 16 * GIB / (ADAPTERS / 2))


def test_a_small_sum_over_many_nodes_goes_over_trees() -> None:
    """A ring over 128 nodes would take 254 steps between nodes."""
    assert REAL.link is not None
    took = float(all_reduce(REAL, Group(128, stride=8), 8.0).seconds)
    assert took < 20 * 2.5 * REAL.link.latency_s


@given(members, strides, st.floats(1.0, 1e11))
def test_no_sum_is_faster_than_its_bytes_on_a_device(count: int, stride: int, size: float) -> None:
    took = float(all_reduce(REAL, Group(count, stride), size).seconds)
    assert took >= 2 * (count - 1) / count * size / INSIDE * (1 - 1e-12)


@given(members, strides, st.floats(1.0, 1e10), st.floats(1.0, 10.0))
def test_more_bytes_take_longer(count: int, stride: int, size: float, more: float) -> None:
    for collective in COLLECTIVES:
        less = float(collective(REAL, Group(count, stride), size).seconds)
        assert float(collective(REAL, Group(count, stride), more * size).seconds) >= less


@given(members, strides, st.floats(1.0, 1e10))
def test_a_sum_is_at_most_a_scatter_and_a_gather(count: int, stride: int, size: float) -> None:
    group = Group(count, stride)
    parts = (reduce_scatter(REAL, group, size), all_gather(REAL, group, size))
    both = sum(float(part.seconds) for part in parts)
    assert float(all_reduce(REAL, group, size).seconds) <= both * (1 + 1e-12)


@pytest.mark.parametrize("collective", COLLECTIVES)
def test_many_groups_at_once_are_the_groups_one_by_one(collective: Collective) -> None:
    counts = np.array([1, 2, 4, 8, 16, 64, 512])
    together = collective(REAL, Group(counts, 2), GIB)
    for at, count in enumerate(counts):
        alone = collective(REAL, Group(int(count), 2), GIB)
        assert np.asarray(together.seconds)[at] == pytest.approx(float(alone.seconds))
        assert np.asarray(together.link_bytes)[at] == pytest.approx(float(alone.link_bytes))
        assert np.asarray(together.adapter_bytes)[at] == pytest.approx(float(alone.adapter_bytes))


def test_all_to_all_in_a_node_is_bound_by_each_devices_link() -> None:
    took = float(all_to_all(IDEAL, Group(8), GIB).seconds)
    assert took == pytest.approx(7 / 8 * GIB / INSIDE)


def test_all_to_all_over_nodes_is_bound_by_the_adapters() -> None:
    took = float(all_to_all(IDEAL, Group(64), GIB).seconds)
    inside, outside = 7 / 64 * GIB / INSIDE, 8 * 56 / 64 * GIB / ADAPTERS
    assert took == pytest.approx(inside + outside)


def test_sending_to_another_node_takes_a_devices_share_of_the_adapters() -> None:
    near, far = (float(point_to_point(IDEAL, GIB, other).seconds) for other in (False, True))
    assert near == pytest.approx(GIB / INSIDE)
    assert far == pytest.approx(GIB / (ADAPTERS / 8))


def test_devices_that_hold_the_same_send_parts_of_it_to_another_node() -> None:
    """Each an eighth, through its own adapter; then the other node gathers."""
    took = float(hand_over(IDEAL, GIB, 8, far=True).seconds)
    assert took == pytest.approx(GIB / 8 / (ADAPTERS / 8) + 7 / 8 * GIB / INSIDE)
    alone = float(point_to_point(IDEAL, GIB, far=True).seconds)
    assert float(hand_over(IDEAL, GIB, 1, far=True).seconds) == pytest.approx(alone)


@given(st.sampled_from([1, 2, 4, 8]), st.booleans(), st.floats(1.0, 1e10))
def test_a_group_never_hands_over_faster_than_a_link(holders: int, far: bool, size: float) -> None:
    took = float(hand_over(REAL, size, holders, far).seconds)
    assert float(point_to_point(REAL, size, False).seconds) <= took * (1 + 1e-12)
    assert took <= float(point_to_point(REAL, size, far).seconds) * (1 + 1e-12)


def test_a_share_of_the_bandwidth_is_what_collectives_reach() -> None:
    link = replace(IDEAL.wafer.link, sustained=0.5)
    half = replace(IDEAL, wafer=replace(IDEAL.wafer, link=link))
    both = [float(all_gather(hardware, Group(8), GIB).seconds) for hardware in (half, IDEAL)]
    assert both[0] == pytest.approx(2 * both[1])


def test_bytes_between_nodes_take_the_energy_of_optics() -> None:
    inside = all_gather(IDEAL, Group(8), GIB)
    across = all_gather(IDEAL, Group(16), GIB)
    assert float(inside.link_bytes) == pytest.approx(7 * GIB)
    assert float(across.adapter_bytes) == pytest.approx(15 / 8 * GIB)
    lane_j, optics_j = 2 * 8 * 5e-12, 2 * 8 * 10e-12
    assert float(energy_j(IDEAL, inside)) == pytest.approx(7 * GIB * lane_j)
    both_j = 15 * GIB * lane_j + 15 / 8 * GIB * optics_j
    assert float(energy_j(IDEAL, across)) == pytest.approx(both_j)


def test_dies_of_a_mesh_do_not_meet_in_a_switch() -> None:
    with pytest.raises(ValueError, match="do not meet in a switch"):
        all_reduce(load_hardware("wse2").bind(), Group(8), GIB)
