"""Areas by component: the formulas, against published figures, never less for more, in batches."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wscc.backend.physics.area import (
    Area,
    core_area_m2,
    core_areas,
    die_areas,
    router_m2,
    sram_m2,
    total_m2,
    vector_m2,
    wafer_areas,
)
from wscc.ir.hardware import Core, Die, Router, Sram, Wafer
from wscc.ir.technology import Densities, Link, Technology

MakeCore = Callable[..., Core]
Shipped = Callable[[str], Technology]

THESEUS_SHRINK = 0.63
"""Theseus takes its 28 nm lengths at 14 nm times this, and the area of its logic times its cube."""

ROUTERS_MM2 = {
    32: 0.0083,
    64: 0.0118,
    128: 0.0187,
    256: 0.0325,
    512: 0.0602,
    1024: 0.1155,
    2048: 0.2261,
    4096: 0.4473,
}
"""Theseus' routers at 14 nm by bits a cycle, of 4 virtual channels of 4 flits."""


def test_a_core_is_its_units_cells_ports_and_crossbar(core: Core) -> None:
    areas = {name: area.m2 for name, area in core_areas(core).items()}
    assert areas == pytest.approx(
        {
            "matrix": 1500e-12,  # one 32-bit unit; the four of 16 bits take 1200 um2
            "vector": 0.0,
            "sram": (48 * 1024 * 0.4 + 24 * 50) * 1e-12,
            "router": (4 * 40 + 160) * 1e-12,
        },
    )


def test_the_vector_unit_takes_what_it_needs_beyond_the_array(make_core: MakeCore) -> None:
    wide = make_core(vector_elements_per_cycle={"float32": 3.0})
    assert vector_m2(wide) == pytest.approx(2 * 1500e-12)


def test_a_dtype_without_a_density_shares_the_array_of_the_others(make_core: MakeCore) -> None:
    also_bf16 = make_core(matrix_flops_per_cycle={"float16": 8.0, "bfloat16": 800.0})
    assert core_areas(also_bf16)["matrix"].m2 == pytest.approx(4 * 300e-12)


def test_a_stated_area_wins_over_the_computed_one(make_core: MakeCore) -> None:
    stated = make_core(declared_area_m2={"sram": 1e-9, "other": 17e-9})
    areas = core_areas(stated)
    assert {name for name, area in areas.items() if area.stated} == {"sram", "other"}
    assert areas["sram"].m2 == 1e-9
    assert core_area_m2(stated) == pytest.approx(total_m2(areas))


def test_a_core_that_lacks_a_density_has_no_area_until_it_states_one(make_core: MakeCore) -> None:
    bare = make_core().technology
    technology = replace(bare, densities=replace(bare.densities, router_m2_per_byte=None))
    assert core_area_m2(make_core(technology=technology)) is None
    assert core_area_m2(make_core(technology=technology, declared_area_m2={"router": 1e-9}))


def test_a_die_is_its_cores_interfaces_and_stated_areas(tile: Die, stitched: Link) -> None:
    link = replace(stitched, phy_depth_m=1e-3, edge_bytes_per_s_per_m=1e15)
    die = replace(tile, declared_area_m2={"io": 5e-6})
    areas = die_areas(die, link, (15e-3, 26e-3))
    both_ways = 2 * 4 * 1.1e9 / 1e15
    assert areas["cores"].m2 == pytest.approx(15e-3 * 26e-3)
    assert areas["interfaces"].m2 == pytest.approx(2 * (66 + 154) * both_ways * 1e-3)
    assert areas["io"] == Area(5e-6, stated=True)


def test_without_an_edge_density_an_interface_takes_the_whole_edge(
    tile: Die, stitched: Link
) -> None:
    areas = die_areas(tile, replace(stitched, phy_depth_m=1e-3), (15e-3, 26e-3))
    assert areas["interfaces"].m2 == pytest.approx(2 * (15 + 26) * 1e-6)


def test_a_wafer_is_its_dies_and_what_lies_beside_them(wse: Wafer) -> None:
    areas = wafer_areas(wse)
    assert areas["tile"].m2 == pytest.approx(84 * 510e-6)
    assert total_m2(areas) == pytest.approx(0.215**2)


# Published figures.


def test_wse2_units_memory_and_router_take_0_021_of_its_0_038_mm2(
    make_core: MakeCore, shipped: Shipped
) -> None:
    """With the buffers of 4 channels of 4 flits for its 24 colours; without, 0.0186 mm2."""
    core = make_core(technology=shipped("n7"), router={"virtual_channels": 4, "buffer_flits": 4})
    assert core_area_m2(core) == pytest.approx(0.021e-6, rel=0.05)


def test_sram_at_7_nm_holds_24_megabits_a_square_millimetre(core: Core, shipped: Shipped) -> None:
    area = sram_m2(core.sram, shipped("n7").densities)
    assert area is not None
    assert 8 * core.sram.capacity_bytes / 1e6 / (area * 1e6) == pytest.approx(24, rel=0.05)


def test_sram_at_3_nm_without_ports_has_the_published_density(shipped: Shipped) -> None:
    """31.8 Mib/mm2 of N3E macros (WikiChip on IEDM 2022)."""
    area = sram_m2(Sram(2**17, 0.0, 0.0, 0.0), shipped("n3").densities)
    assert area == pytest.approx(1e-6 / 31.8, rel=0.01)


@pytest.mark.parametrize(
    ("kilobytes", "bits_per_cycle", "published_mm2"),
    [(48, 256, 0.044), (128, 512, 0.106), (512, 2048, 0.424)],
)
def test_sram_at_16_nm_agrees_with_theseus(
    kilobytes: int, bits_per_cycle: int, published_mm2: float, shipped: Shipped
) -> None:
    sram = Sram(kilobytes * 1024, 0.0, bits_per_cycle / 8, 0.0)
    area = sram_m2(sram, shipped("n16").densities)
    assert area == pytest.approx(published_mm2 * 1e-6, rel=0.07)


@pytest.mark.parametrize("bits", ROUTERS_MM2)
def test_routers_at_16_nm_agree_with_theseus(bits: int, shipped: Shipped) -> None:
    router = Router("wormhole", bits / 8, 1.0, 1.0, False, virtual_channels=4, buffer_flits=4)
    area = router_m2(router, shipped("n16").densities)
    assert area == pytest.approx(ROUTERS_MM2[bits] * 1e-6, rel=0.09)


def test_multiply_adds_are_those_of_theseus_at_16_nm_and_of_llmcompass_at_7_nm(
    shipped: Shipped,
) -> None:
    assert shipped("n16").densities.multiply_add_m2["float16"] == pytest.approx(2180e-12)
    n7 = shipped("n7").densities.multiply_add_m2
    assert n7["float16"] == pytest.approx(25.3e3 / 91e6 * 1e-6)
    assert n7["float32"] == pytest.approx(134e3 / 91e6 * 1e-6)


@pytest.mark.parametrize(("finer", "coarser"), [("n7", "n16"), ("n5", "n7"), ("n3", "n5")])
def test_no_component_grows_with_a_finer_process(
    finer: str, coarser: str, make_core: MakeCore, shipped: Shipped
) -> None:
    small = core_areas(make_core(technology=shipped(finer)))
    large = core_areas(make_core(technology=shipped(coarser)))
    assert all(small[name].m2 <= large[name].m2 for name in large)
    assert total_m2(small) < total_m2(large)


def test_the_routers_of_n16_are_the_fit_to_all_synthesized_ones(
    reference: Path, shipped: Shipped
) -> None:
    with (reference / "theseus_routers.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    width, channels, flits, area = (
        np.array([float(row[name]) for row in rows])
        for name in ("link_bit_per_cycle", "virtual_channels", "flits_per_vc", "area_um2")
    )
    area = area * THESEUS_SHRINK**3
    terms = np.array([width, width * (channels - 1) * flits, channels**1.5]).T
    fitted = np.linalg.lstsq(terms / area[:, None], np.ones(len(area)), rcond=None)[0]

    n16 = shipped("n16").densities
    per_bit = (n16.router_m2_per_byte or 0.0) / 8, n16.router_buffer_m2_per_byte / 8
    assert np.array([*per_bit, n16.router_base_m2]) * 1e12 == pytest.approx(fitted, rel=1e-3)

    router = Router("wormhole", width / 8, 1.0, 1.0, False, channels, flits)  # pyright: ignore
    error = np.abs(np.asarray(router_m2(router, n16)) * 1e12 / area - 1)
    assert error.mean() == pytest.approx(0.022, abs=0.001)
    assert np.sqrt((error**2).mean()) == pytest.approx(0.038, abs=0.001)
    assert error.max() == pytest.approx(0.23, abs=0.01)


def test_the_memory_of_n16_is_the_fit_to_all_compiled_macros(
    reference: Path, shipped: Shipped
) -> None:
    with (reference / "theseus_sram_macros.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    capacity, bandwidth, area = (
        np.array([float(row[name]) for row in rows])
        for name in ("capacity_KB", "bandwidth_bit_per_cycle", "area_um2")
    )
    sram = Sram(capacity * 1024, 0.0, bandwidth / 8, 0.0)  # pyright: ignore
    modelled = np.asarray(sram_m2(sram, shipped("n16").densities)) * 1e12
    error = np.abs(modelled / (area * THESEUS_SHRINK**2) - 1)
    assert error.mean() == pytest.approx(0.021, abs=0.001)
    assert error.max() == pytest.approx(0.157, abs=0.002)


# Properties.

POSITIVE = st.floats(1.0, 1e6)
MORE = st.floats(1.0, 100.0)
COUNT = st.integers(1, 64)


def _core(make_core: MakeCore, figures: Any) -> Core:
    """A core of lanes, vector lanes, bytes of SRAM, port and link, channels and flits."""
    lanes, vector, capacity, port, width, channels, flits = figures
    return make_core(
        matrix_flops_per_cycle={"float16": 2 * lanes, "float32": lanes / 4},
        vector_elements_per_cycle={"float16": vector},
        sram={"capacity_bytes": capacity, "read_bytes_per_cycle": port},
        router={"width_bytes": width, "virtual_channels": channels, "buffer_flits": flits},
    )


FIGURES = st.tuples(POSITIVE, POSITIVE, POSITIVE, POSITIVE, POSITIVE, COUNT, COUNT)


@settings(max_examples=100, deadline=None)
@given(figures=FIGURES, which=st.integers(0, 6), more=MORE)
def test_more_of_anything_never_makes_a_core_smaller(
    make_core: MakeCore, figures: tuple[float, ...], which: int, more: float
) -> None:
    larger = [f * more if at == which else f for at, f in enumerate(figures)]
    before, after = (core_area_m2(_core(make_core, each)) for each in (figures, larger))
    assert before is not None
    assert after is not None
    assert after >= before * (1 - 1e-12)


@settings(max_examples=30, deadline=None)
@given(points=st.lists(FIGURES, min_size=1, max_size=8))
def test_a_batch_of_cores_has_the_areas_of_each(
    make_core: MakeCore, points: list[tuple[float, ...]]
) -> None:
    batch = core_areas(_core(make_core, np.array(points).T))
    for at, point in enumerate(points):
        alone = core_areas(_core(make_core, point))
        assert {name: np.asarray(area.m2)[at] for name, area in batch.items()} == pytest.approx(
            {name: area.m2 for name, area in alone.items()}, rel=1e-12
        )


def test_without_densities_nothing_is_computed(make_core: MakeCore) -> None:
    bare = replace(make_core().technology, densities=Densities())
    assert core_areas(make_core(technology=bare)) == {}
