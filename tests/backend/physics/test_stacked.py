"""Memory on dies and beside them: what it takes of the die."""

from dataclasses import replace

import numpy as np
import pytest
from wscc.backend.physics.area import die_areas
from wscc.backend.physics.geometry import cores_outline_m, die_outline_m, limits
from wscc.backend.physics.stacked import (
    die_interface_edge_m,
    footprint_m2,
    via_area_m2,
)
from wscc.ir.hardware import Core, Die, Wafer
from wscc.ir.technology import Link, Memory

STACK = Memory("dram", "stacked", capacity_bytes=16e9, bandwidth_bytes_per_s=2e12)
HBM2E = Memory("hbm", "beside", 16e9, 460e9, count=1, edge_m=6e-3, phy_area_m2=10.45e-6)


def test_vias_take_bandwidth_over_their_density(core: Core) -> None:
    assert via_area_m2(STACK, core.technology) == pytest.approx(0.5e-6)


def test_memory_beside_a_die_takes_no_vias_and_no_footprint(core: Core) -> None:
    assert (via_area_m2(HBM2E, core.technology), footprint_m2(HBM2E)) == (0.0, 0.0)


def test_vias_take_nothing_where_the_technology_has_no_density(core: Core) -> None:
    densities = replace(core.technology.densities, tsv_bytes_per_s_per_m2=None)
    assert via_area_m2(STACK, replace(core.technology, densities=densities)) == 0.0


def test_36_gigabytes_cover_11_by_11_millimetres() -> None:
    assert footprint_m2(replace(STACK, capacity_bytes=36e9)) == pytest.approx(121e-6)


def test_a_die_grows_by_its_vias_and_interfaces(tile: Die, stitched: Link) -> None:
    with_memory = replace(tile, memories=(STACK, HBM2E))
    height, width = cores_outline_m(tile)
    assert die_outline_m(tile, stitched) == pytest.approx((height, width))
    grown = die_outline_m(with_memory, stitched)
    assert grown[0] * grown[1] == pytest.approx(height * width + 0.5e-6 + 10.45e-6)
    assert grown[0] - height == pytest.approx(grown[1] - width)


def test_six_hbm2e_interfaces_take_the_area_published_of_an_a100(tile: Die) -> None:
    """Its die has six sites, one unused: 58 mm2 by LLMCompass, ISCA 2024."""
    stacks = replace(HBM2E, count=6, phy_area_m2=6 * 10.45e-6, edge_m=6 * 6e-3)
    die = replace(tile, memories=(stacks,))
    area = die_areas(die, None, cores_outline_m(die))["memory_interfaces"].m2
    assert area == pytest.approx(58e-6, rel=0.10)
    assert die_interface_edge_m(die) == pytest.approx(36e-3)


def test_a_stack_larger_than_its_die_breaks_a_limit(wse: Wafer) -> None:
    def with_stack(capacity_bytes: float) -> Wafer:
        memory = replace(STACK, capacity_bytes=capacity_bytes)
        return replace(wse, die=replace(wse.die, memories=(memory,)))

    assert all(limit.holds for limit in limits(with_stack(100e9)))
    broken = [limit.text for limit in limits(with_stack(200e9)) if not limit.holds]
    assert broken == ["die tile: the footprint of the memory on it"]


def test_more_bandwidth_or_capacity_never_takes_less(core: Core) -> None:
    rates = np.linspace(0.25e12, 64e12, 50)
    memory = replace(STACK, bandwidth_bytes_per_s=rates, capacity_bytes=rates)
    assert np.all(np.diff(via_area_m2(memory, core.technology)) > 0)
    assert np.all(np.diff(footprint_m2(memory)) > 0)
