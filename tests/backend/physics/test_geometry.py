"""Outlines, what fits where, bisection and capacities: by hand, published, as properties."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wscc.backend.physics import PHYSICS
from wscc.backend.physics.area import core_area_m2, die_areas, total_m2
from wscc.backend.physics.geometry import (
    core_outline_m,
    cores_outline_m,
    die_outline_m,
    dies_outline_m,
    limits,
)
from wscc.ir.hardware import (
    Constraint,
    Core,
    CorePatch,
    Die,
    DiePatch,
    EdgeIO,
    Hardware,
    Wafer,
)
from wscc.ir.technology import Densities, Link, Memory, Switch

MakeCore = Callable[..., Core]

UCIE_STANDARD = 224e9 / 1e-3
"""Bytes/s along a metre of edge, both directions."""


def of(function: str, part: Any) -> Any:
    return PHYSICS.functions[function].compute(part)


def broken(wafer: Wafer) -> list[str]:
    return [limit.text for limit in limits(wafer) if not limit.holds]


# Outlines.


def test_a_core_without_a_size_is_a_square_of_its_area(core: Core) -> None:
    height, width = core_outline_m(core) or (0.0, 0.0)
    assert height == width
    assert height * width == pytest.approx(core_area_m2(core))


def test_a_core_without_densities_has_no_outline(make_core: MakeCore) -> None:
    bare = replace(make_core().technology, densities=Densities())
    assert core_outline_m(make_core(technology=bare)) is None


def test_a_die_has_room_for_its_spare_cores(tile: Die, stitched: Link) -> None:
    spare = replace(tile, columns=152, spare_columns=2, spare_rows=1)
    assert die_outline_m(spare, stitched) == pytest.approx((67 * 228e-6, 154 * 170e-6))


def test_a_die_grows_by_one_margin_on_all_sides(tile: Die, stitched: Link) -> None:
    die = replace(tile, declared_area_m2={"io": 100e-6})
    height, width = die_outline_m(die, stitched)
    assert height - 66 * 228e-6 == pytest.approx(width - 154 * 170e-6)
    assert height * width == pytest.approx(66 * 154 * 228e-6 * 170e-6 + 100e-6)


def test_rows_are_as_high_and_columns_as_wide_as_their_largest_core(
    make_core: MakeCore, tile: Die
) -> None:
    big = make_core(height_m=1e-3, width_m=0.5e-3)
    die = replace(tile, patches=(CorePatch(big, 4, 10, 2, 3), CorePatch(big, 5, 20, 2, 1)))
    assert cores_outline_m(die) == pytest.approx(
        (63 * 228e-6 + 3 * 1e-3, 150 * 170e-6 + 4 * 0.5e-3)
    )


def test_rows_of_small_cores_alone_are_low(make_core: MakeCore, tile: Die) -> None:
    small = make_core(height_m=100e-6, width_m=170e-6)
    die = replace(tile, patches=(CorePatch(small, 0, 0, 6, 154),))
    assert cores_outline_m(die)[0] == pytest.approx(60 * 228e-6 + 6 * 100e-6)


def test_dies_of_another_size_make_room_for_themselves(wse: Wafer) -> None:
    decode = replace(wse.die, name="decode", height_m=20e-3)
    wafer = replace(
        wse, patches=(DiePatch(decode, 8, 0, 4, 7),), link=replace(wse.link, gap_m=1e-3)
    )
    assert dies_outline_m(wafer) == pytest.approx((8 * 17e-3 + 4 * 20e-3 + 11e-3, 7 * 30e-3 + 6e-3))


# Limits.


def test_a_published_wafer_breaks_no_limit(wse: Wafer) -> None:
    assert limits(wse)
    assert all(limit.implied for limit in limits(wse))
    assert broken(wse) == []


def test_limits_say_what_is_needed_of_what_is_there(wse: Wafer) -> None:
    texts = [limit.text for limit in limits(wse)]
    assert "die tile: the height of its cores" in texts
    assert "wafer wse: the height of its dies and gaps" in texts


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rows": 75}, ["die tile: the height of its cores"]),
        ({"spare_columns": 23}, ["die tile: the width of its cores"]),
        (
            {"declared_area_m2": {"other": 150e-6}},
            ["die tile: the area of its parts"],
        ),
    ],
)
def test_what_a_die_cannot_hold_breaks_a_limit(
    change: dict[str, Any], said: list[str], wse: Wafer
) -> None:
    assert broken(replace(wse, die=replace(wse.die, **change))) == said


def test_a_core_smaller_than_its_parts_breaks_a_limit(make_core: MakeCore, wse: Wafer) -> None:
    crowded = replace(wse.die, core=make_core(sram={"capacity_bytes": 128 * 1024.0}))
    assert broken(replace(wse, die=crowded)) == ["core pe: the area of its parts"]


def test_a_die_larger_than_a_reticle_breaks_a_limit_either_way_round(wse: Wafer) -> None:
    def wafer(height_m: float, width_m: float) -> Wafer:
        die = replace(wse.die, columns=150, height_m=height_m, width_m=width_m)
        return replace(wse, rows=5, die=die)

    assert broken(wafer(33e-3, 26.2e-3)) == ["die tile: its shorter side in a reticle"]
    assert broken(wafer(33e-3, 26e-3)) == []
    assert broken(replace(wafer(20e-3, 35e-3), columns=6)) == [
        "die tile: its longer side in a reticle"
    ]


def test_gaps_between_dies_count_on_the_wafer(wse: Wafer) -> None:
    assert broken(replace(wse, link=replace(wse.link, gap_m=1.1e-3))) == [
        "wafer wse: the height of its dies and gaps",
        "wafer wse: the width of its dies and gaps",
    ]


def test_a_wafer_larger_than_300_mm_yields_breaks_a_limit(wse: Wafer) -> None:
    assert broken(replace(wse, width_m=0.25)) == ["wafer wse: its diagonal on a round wafer"]


def test_a_board_has_no_wafer_to_fit(wse: Wafer) -> None:
    assert broken(replace(wse, width_m=0.0, height_m=0.0, board=True)) == []


def test_links_must_fit_the_edges_of_their_dies(wse: Wafer) -> None:
    """Both directions count: 66 rows of 4.4 GB/s a cycle each way, over 224 GB/s/mm."""
    link = replace(wse.link, edge_bytes_per_s_per_m=UCIE_STANDARD)
    assert broken(replace(wse, link=link)) == []
    fast = replace(link, share=None, bandwidth_bytes_per_s=2e12)
    assert broken(replace(wse, link=fast)) == [
        "die tile: link stitched along its east and west edges"
    ]


def test_memories_and_links_share_the_outline_of_a_die(wse: Wafer) -> None:
    link = replace(
        wse.link, edge_bytes_per_s_per_m=UCIE_STANDARD, share=None, bandwidth_bytes_per_s=1.5e12
    )
    hbm = Memory("hbm", "beside", 80e9, 2e12, count=5, edge_m=45e-3)
    wafer = replace(wse, link=link, die=replace(wse.die, memories=(hbm,)))
    assert broken(wafer) == [
        "die tile: its interfaces along its outline",
    ]


def test_dies_in_a_row_have_no_links_north_and_south(wse: Wafer) -> None:
    link = replace(wse.link, share=None, bandwidth_bytes_per_s=1.8e12, edge_bytes_per_s_per_m=2e14)
    tall = replace(wse.die, height_m=30e-3, width_m=17e-3, rows=100, columns=90)
    assert broken(replace(wse, rows=7, columns=1, die=tall, link=link))
    assert not broken(replace(wse, rows=1, columns=12, die=tall, link=link))


def test_a_die_of_a_node_has_one_link_to_its_switch(wse: Wafer) -> None:
    link = replace(wse.link, share=None, bandwidth_bytes_per_s=5e12, edge_bytes_per_s_per_m=2e14)
    switch = Switch("nv", ports=8, bandwidth_bytes_per_s=1e12, latency_s=1e-6)
    assert not broken(replace(wse, board=True, switch=switch, link=link))
    assert broken(replace(wse, board=True, link=link))


def test_the_parts_of_an_a100_fill_its_die(make_core: MakeCore, stitched: Link) -> None:
    """826 mm2; the parts are those of LLMCompass, ISCA 2024."""
    published = {
        "network": 76.44,
        "l2": 119.31,
        "hbm_phy": 58.0,
        "memory_control": 31.77,
        "link_phy": 20.95,
        "other": 40.0,
    }
    side = (476.25e-6 / 128) ** 0.5
    multiprocessor = make_core(width_m=side, height_m=side)
    stated = {name: mm2 * 1e-6 for name, mm2 in published.items()}
    die = Die("a100", multiprocessor, 8, 16, 33e-3, 25.03e-3, declared_area_m2=stated)
    assert total_m2(die_areas(die, None, cores_outline_m(die))) == pytest.approx(826e-6, rel=0.01)
    height, width = die_outline_m(die, stitched)
    assert height * width == pytest.approx(826e-6, rel=0.01)


# What parts hold and move.


def test_functions_of_wse2_are_the_published_figures(wse: Wafer) -> None:
    system = Hardware("wse2", 1, wse)
    for part in (wse, system):
        assert of("cores", part) == 850_000
        assert of("peak", part) == pytest.approx(7.5e15, rel=0.01)
        assert of("sram", part) == pytest.approx(850_000 * 48 * 1024)
        assert of("sram_bandwidth", part) == pytest.approx(20e15, rel=0.15)
        assert of("area", part) == pytest.approx(46_225e-6)
    assert of("area", wse.die) == pytest.approx(510e-6)


def test_bisection_of_wse2_is_3_3_terabytes_a_second_not_the_sum_of_links(wse: Wafer) -> None:
    assert of("bisection", wse) == pytest.approx(750 * 4 * 1.1e9)
    assert of("bisection", wse.die) == pytest.approx(66 * 4 * 1.1e9)


def test_a_cut_between_dies_carries_what_the_joint_does(wse: Wafer) -> None:
    def bisection(**link: Any) -> float:
        return of("bisection", replace(wse, link=replace(wse.link, **link)))

    assert bisection(share=0.5) == pytest.approx(0.5 * 750 * 4 * 1.1e9)
    slow = bisection(share=None, bandwidth_bytes_per_s=100e9)
    assert slow == pytest.approx(7 * 100e9 * 994 / 1078)
    assert bisection(share=None, bandwidth_bytes_per_s=1e15) == bisection(share=1.0)


def test_a_wafer_of_one_die_has_no_joint(wse: Wafer) -> None:
    one = replace(wse, rows=1, columns=1, usable_rows=66, usable_columns=154)
    slow = replace(one, link=replace(wse.link, share=0.1))
    assert of("bisection", slow) == of("bisection", wse.die)


def test_half_of_a_node_talks_to_the_other_half_through_its_switch(wse: Wafer) -> None:
    link = replace(wse.link, share=None, bandwidth_bytes_per_s=300e9)
    switch = Switch("nv", ports=8, bandwidth_bytes_per_s=50e9, latency_s=1e-6, count=6)
    node = replace(wse, rows=1, columns=8, switch=switch, link=link, board=True)
    assert of("bisection", node) == pytest.approx(4 * 300e9)
    fewer = replace(node, switch=replace(switch, count=2))
    assert of("bisection", fewer) == pytest.approx(4 * 100e9)


def test_memory_counts_on_dies_and_behind_ports(wse: Wafer) -> None:
    stack = Memory("dram", "stacked", 16e9, 1e12)
    host = Memory("host", "external", 1.5e12, via="west")
    wafer = replace(
        wse,
        die=replace(wse.die, memories=(stack,)),
        memories=(host,),
        io=(EdgeIO("west", 12, 12.5e9), EdgeIO("east", 12, 12.5e9)),
    )
    assert of("dram", wafer) == pytest.approx(84 * 16e9 + 1.5e12)
    assert of("dram_bandwidth", wafer) == pytest.approx(84 * 1e12 + 150e9)
    assert of("dram_bandwidth", Hardware("two", 2, wafer)) == 2 * of("dram_bandwidth", wafer)
    fast = replace(host, bandwidth_bytes_per_s=1e12)
    assert of("dram_bandwidth", replace(wafer, memories=(fast,))) == of("dram_bandwidth", wafer)


def test_kinds_of_core_add_up(make_core: MakeCore, tile: Die) -> None:
    wide = make_core(matrix_flops_per_cycle={"float16": 64.0}, sram={"capacity_bytes": 1e6})
    die = replace(tile, patches=(CorePatch(wide, 0, 0, 2, 10),))
    assert of("peak", die) == pytest.approx(1.1e9 * (8 * (66 * 154 - 20) + 64 * 20))
    assert of("sram", die) == pytest.approx(48 * 1024 * (66 * 154 - 20) + 20e6)


# Properties.

LENGTH = st.floats(50e-6, 1e-3)
SMALL = st.integers(1, 40)
DIE = st.tuples(
    SMALL,
    SMALL,
    LENGTH,
    LENGTH,
    st.floats(0.0, 200e-6),
    st.floats(0.0, 5e-3),
    st.floats(0.01, 1.0),
    st.floats(0.0, 20e12),
    st.integers(0, 30),
    st.integers(1, 10),
)


def _die(make_core: MakeCore, link: Link, figures: Any) -> tuple[Die, Link]:
    """A die of rows, columns, height and width of a core, other area, depth of interfaces and
    share of links, bandwidth of stacked memory, first row and rows of a patch of larger cores."""
    rows, columns, height, width, other, depth, share, bandwidth, first, high = figures
    patch = CorePatch(make_core(height_m=height * 2, width_m=width), first, 0, high, 1)
    die = Die(
        "tile",
        make_core(height_m=height, width_m=width),
        rows + 40,
        columns,
        0.0,
        0.0,
        patches=(patch,),
        memories=(Memory("dram", "stacked", 1e9, bandwidth),),
        declared_area_m2={"other": other},
    )
    return die, replace(link, share=share, phy_depth_m=depth, edge_bytes_per_s_per_m=1e15)


@settings(max_examples=100, deadline=None)
@given(figures=DIE, which=st.integers(0, 7), more=st.integers(1, 5))
def test_more_of_anything_never_makes_a_die_smaller(
    make_core: MakeCore, stitched: Link, figures: tuple[float, ...], which: int, more: int
) -> None:
    larger = [f * more if at == which else f for at, f in enumerate(figures)]
    before, after = (
        np.prod(die_outline_m(*_die(make_core, stitched, each))) for each in (figures, larger)
    )
    assert after >= before * (1 - 1e-12)


@settings(max_examples=30, deadline=None)
@given(points=st.lists(DIE, min_size=1, max_size=6))
def test_a_batch_of_dies_has_the_outline_limits_and_figures_of_each(
    make_core: MakeCore, stitched: Link, wse: Wafer, points: list[tuple[float, ...]]
) -> None:
    def results(figures: Any) -> list[Any]:
        die, link = _die(make_core, stitched, figures)
        height, width = die_outline_m(die, link)
        die = replace(die, height_m=height, width_m=width)
        needed = 12 * die.rows, 7 * die.columns
        wafer = replace(wse, die=die, link=link, usable_rows=needed[0], usable_columns=needed[1])
        checked: tuple[Constraint, ...] = limits(wafer)
        values = [side for limit in checked for side in (limit.left, limit.right)]
        names = ("bisection", "peak", "sram_bandwidth", "dram_bandwidth", "area")
        return [height, width, *values, *(of(name, wafer) for name in names)]

    together = results(np.array(points).T)
    for at, point in enumerate(points):
        alone = [float(value) for value in results(point)]
        batch = [float(np.broadcast_to(value, len(points))[at]) for value in together]
        assert batch == pytest.approx(alone, rel=1e-9)


def test_constraints_may_call_all_functions_and_get_plain_numbers(wse: Wafer) -> None:
    names = "area power static_power yield cost cores sram dram peak bisection"
    assert {*names.split(), "sram_bandwidth", "dram_bandwidth"} <= set(PHYSICS.functions)
    parts = {"core": wse.die.core, "die": wse.die, "wafer": wse, "system": Hardware("s", 1, wse)}
    for name in ("area", "cores", "sram", "sram_bandwidth", "peak", "bisection", "dram"):
        for kind in PHYSICS.functions[name].of:
            assert type(of(name, parts[kind])) in (int, float)
    for side in (figure for limit in limits(wse) for figure in (limit.left, limit.right)):
        assert type(side) in (int, float)
