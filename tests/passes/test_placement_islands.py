"""Systems of several wafers and clusters: who lies where, and what crosses between islands."""

from collections import Counter, defaultdict
from dataclasses import replace
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wscc.ir.floor import Floor
from wscc.ir.hardware import Core, DeadCore, Die, EdgeIO, Hardware, Router, Software, Sram, Wafer
from wscc.ir.program import Rectangle
from wscc.ir.technology import Link, Switch, Technology
from wscc.passes.placement import PlacementError, count_fitting
from wscc.passes.placement_islands import Pipelines, allot, links, settle
from wscc.passes.placement_problem import Exchange
from wscc.passes.placement_rooms import rooms, row_of_groups

CORE = Core(
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
BETWEEN = Link("between", None, 1e-6, 0, 1e11)
SWITCH = Switch("switch", 64, 1e11, 1e-6)
WAFER = Wafer(
    name="test",
    die=Die("die", CORE, 4, 6, width_m=1e-2, height_m=1e-2),
    rows=2,
    columns=2,
    link=Link("stitched", 1.0, 1e-9, 0),
    width_m=0.2,
    height_m=0.2,
    usable_rows=8,
    usable_columns=12,
    cores_in_use=96,
    io=(EdgeIO("west", 2, 1e9),),
)


def system(wafers: int, link: Link | None = BETWEEN, wafer: Wafer = WAFER) -> Hardware:
    return Hardware("system", wafers, wafer, link=link)


def pipelines(
    hardware: Hardware,
    replicas: int,
    stages: int,
    size: tuple[int, int],
    gradient: float = 0,
    handed: tuple[float, ...] = (),
) -> Pipelines:
    """Each stage hands on to the next; replicas sum gradients in a ring."""
    weights = handed or (8.0,) * (stages - 1)
    chains = [
        Exchange(r * stages + s, r * stages + s + 1, weight)
        for r in range(replicas)
        for s, weight in enumerate(weights)
    ]
    rings = [
        Exchange(r * stages + s, (r + 1) % replicas * stages + s, gradient)
        for r in range(replicas if replicas > 2 else replicas - 1)
        for s in range(stages)
        if gradient
    ]
    return Pipelines(hardware, replicas, stages, size, (*chains, *rings))


def assert_disjoint(places: tuple[Rectangle, ...], hardware: Hardware) -> None:
    assert not any(a.overlaps(b) for a, b in combinations(places, 2))
    for at in places:
        assert 0 <= at.island < hardware.wafers
        assert at.row + at.rows <= hardware.wafer.usable_rows
        assert at.column + at.columns <= hardware.wafer.usable_columns


@given(
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(1, 7),
    st.sampled_from(((4, 6), (3, 4), (8, 5), (2, 12))),
    st.sampled_from((0.0, 1.0, 100.0)),
)
@settings(deadline=None, max_examples=25)
def test_everything_that_has_room_is_placed_once(
    wafers: int, replicas: int, stages: int, size: tuple[int, int], gradient: float
) -> None:
    hardware = system(wafers)
    wanted = pipelines(hardware, replicas, stages, size, gradient)
    if replicas * stages > rooms(hardware, *size):
        with pytest.raises(PlacementError):
            settle(wanted)
        return
    settled = settle(wanted)
    assert len(settled.rectangles) == replicas * stages
    assert_disjoint(settled.rectangles, hardware)
    assert settled.lower_bound <= settled.objective


def test_a_replica_that_fits_a_wafer_is_not_cut() -> None:
    islands = allot(pipelines(system(4), 6, 2, (4, 6), gradient=1.0))
    assert islands is not None
    assert all(a == b for a, b in zip(islands[::2], islands[1::2], strict=True))
    assert max(Counter(islands).values()) <= count_fitting(WAFER, 4, 6)


def test_a_long_pipeline_runs_from_wafer_to_neighbour() -> None:
    islands = allot(pipelines(system(4), 1, 14, (4, 6)))
    assert islands is not None
    assert islands == sorted(islands)
    assert {b - a for a, b in pairwise(islands)} == {0, 1}
    assert max(Counter(islands).values()) <= 4


def test_a_pipeline_is_cut_where_the_least_passes() -> None:
    handed = (9.0, 1.0, 9.0, 9.0, 9.0)
    islands = allot(pipelines(system(2), 1, 6, (4, 6), handed=handed))
    assert islands == [0, 0, 1, 1, 1, 1]


def test_replicas_that_sum_large_gradients_are_neighbours() -> None:
    islands = allot(pipelines(system(8), 4, 8, (4, 6), gradient=1e6))
    assert islands is not None
    hardware = system(8)
    columns = [islands[stage::8] for stage in range(8)]
    assert all(links(hardware, a, b) <= 1 for column in columns for a, b in pairwise(column))


def test_wafers_of_equal_content_look_alike() -> None:
    settled = settle(pipelines(system(6), 3, 8, (4, 6)))
    looks: dict[int, list[Rectangle]] = defaultdict(list)
    for at in settled.rectangles:
        looks[at.island].append(replace(at, island=0))
    assert len(looks) == 6
    assert looks[0] == looks[2] == looks[4]
    assert looks[1] == looks[3] == looks[5]


def test_what_leaves_a_wafer_stands_near_its_ports() -> None:
    settled = settle(pipelines(system(2), 1, 8, (2, 3)))
    before, after = settled.rectangles[3], settled.rectangles[4]
    assert (before.island, after.island) == (0, 0)
    cut = settle(pipelines(system(2), 1, 8, (4, 6))).rectangles
    assert (cut[3].island, cut[4].island) == (0, 1)
    assert cut[3].column == cut[4].column == 0


def test_wafers_that_nothing_joins_hold_whole_replicas_only() -> None:
    alone = system(4, link=None)
    settled = settle(pipelines(alone, 4, 4, (4, 6)))
    assert [at.island for at in settled.rectangles] == sorted([0, 1, 2, 3] * 4)
    for wanted in (pipelines(alone, 1, 6, (4, 6)), pipelines(alone, 4, 4, (4, 6), gradient=1.0)):
        with pytest.raises(PlacementError, match="links between wafers"):
            settle(wanted)


def test_the_way_between_wafers_is_around_the_ring_or_through_the_switch() -> None:
    ring = system(6)
    assert [links(ring, 0, at) for at in range(6)] == [0, 1, 2, 3, 2, 1]
    switched = replace(ring, switch=SWITCH)
    assert [links(switched, 2, at) for at in range(6)] == [1, 1, 0, 1, 1, 1]


def test_a_system_holds_what_its_wafers_do() -> None:
    mended = replace(WAFER, dead_cores=(DeadCore((0, 0), (1, 1)),))
    assert rooms(system(5), 4, 6) == 20
    assert rooms(system(5, wafer=mended), 4, 6) == 5 * count_fitting(mended, 4, 6) == 15


CLUSTER = Hardware("cluster", 4, replace(WAFER, die=replace(WAFER.die, rows=1, columns=1),
                   rows=2, columns=4, usable_rows=2, usable_columns=4, switch=SWITCH, board=True,
                   io=()), link=BETWEEN, switch=SWITCH)  # fmt: skip


def test_a_cluster_is_one_row_of_devices() -> None:
    assert rooms(CLUSTER, 1, 8) == 4
    assert rooms(CLUSTER, 1, 5) == 6
    assert rooms(CLUSTER, 2, 4) == 0


@given(st.integers(1, 12), st.integers(1, 20), st.integers(1, 40))
def test_groups_meet_as_few_nodes_as_there_is_room_for(node: int, size: int, count: int) -> None:
    floor = Floor(1, 1, 24 * node, node)
    groups = row_of_groups(floor, size, count)
    if count * size > floor.columns:
        assert groups is None
        return
    assert groups is not None
    assert all(a.column + size <= b.column for a, b in pairwise(groups))
    assert groups[-1].column + size <= floor.columns
    spanned = [(g.column + size - 1) // node - g.column // node + 1 for g in groups]
    least = -(-size // node)
    packed = [at * size for at in range(count)]
    assert set(spanned) == {least} or [g.column for g in groups] == packed


def test_groups_that_fill_nodes_stand_in_megatrons_order() -> None:
    groups = row_of_groups(Floor(1, 1, 64, 8), 4, 12)
    assert groups is not None
    assert [group.column for group in groups] == [4 * at for at in range(12)]


def test_a_group_that_does_not_divide_a_node_leaves_devices_idle() -> None:
    groups = row_of_groups(Floor(1, 1, 16, 8), 3, 4)
    assert groups is not None
    assert [group.column for group in groups] == [0, 3, 8, 11]
    crowded = row_of_groups(Floor(1, 1, 16, 8), 3, 5)
    assert crowded is not None
    assert [group.column for group in crowded] == [0, 3, 6, 9, 12]
