"""Power by component: counts by hand, published figures, never less for more, in batches."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wscc.backend.physics.power import (
    COMPONENTS,
    joints_bytes_per_s,
    nameplate,
    power,
    power_density,
    standby,
    static_power,
)
from wscc.cli.pipeline import load_hardware
from wscc.ir.errors import UserError
from wscc.ir.hardware import Core, Die, EdgeIO, Hardware, Wafer
from wscc.ir.technology import Link, Memory, Switch

MakeCore = Callable[..., Core]

DYNAMIC = ("matrix", "vector", "sram", "control", "router", "wire")


def hungry(core: Core, **changes: Any) -> Core:
    """A core whose technology has round energies."""
    energies = {"float16": 0.5e-12, "float32": 2e-12}
    technology = replace(core.technology, multiply_add_energy_j=energies)
    return replace(core, technology=technology, **changes)


@pytest.fixture
def pe(core: Core) -> Core:
    return hungry(core, control_energy_j_per_cycle=3e-12)


@pytest.fixture
def wafer(wse: Wafer, pe: Core) -> Wafer:
    return replace(wse, die=replace(wse.die, core=pe))


@pytest.fixture(scope="module")
def wse2() -> Hardware:
    return load_hardware("wse2").bind()


# Published figures.


def test_the_nameplate_of_the_wse2_is_what_is_published(wse2: Hardware) -> None:
    """23 kW peak, and 30 mW a core at 1.1 GHz."""
    assert power(wse2) == pytest.approx(23e3, rel=0.15)
    assert power(wse2.core) == pytest.approx(30e-3, rel=0.01)
    cores = sum(nameplate(wse2)[name] for name in DYNAMIC)
    leakage = static_power(wse2.core)
    assert cores == pytest.approx(850_000 * (power(wse2.core) - leakage))


@pytest.mark.parametrize(("spec", "published_w"), [("wse1", 15e3), ("wse3", 23e3), ("dojo", 15e3)])
def test_other_wafers_come_within_a_fifth_of_what_is_published(
    spec: str, published_w: float
) -> None:
    """WSE-3: 15-23 kW, as the CS-3 is rated; Dojo's training tile with its regulators."""
    assert power(load_hardware(spec).bind()) == pytest.approx(published_w, rel=0.2)


def test_a_d1_die_draws_its_published_400_w() -> None:
    assert power(load_hardware("dojo").bind().wafer.die) == pytest.approx(400, rel=0.2)


def test_the_power_density_of_the_wse2_is_what_it_is_cooled_for(wse2: Hardware) -> None:
    """0.30-0.50 W/mm2 of wafer at 14 to 23 kW."""
    assert power_density(wse2) * 1e-6 == pytest.approx(0.5, rel=0.15)
    assert power_density(wse2.wafer) == pytest.approx(power_density(wse2))


def test_leakage_is_the_cores_area_times_a_density(wse2: Hardware) -> None:
    """0.05 W/mm2 over 850,000 cores of 228 x 170 um: 1.6 kW."""
    assert static_power(wse2) == pytest.approx(850_000 * 0.228 * 0.170 * 0.05)


# Counts by hand.


def test_a_core_is_busy_in_its_most_hungry_dtype(pe: Core) -> None:
    """4 multiply-adds of 0.5 pJ or 1 of 2 pJ; 24 B of 1 pJ; 4 B of 0.1 pJ, 1 nJ/m over 199 um."""
    cycle = {
        "matrix": 4 * 0.5e-12,
        "sram": 24e-12,
        "control": 3e-12,
        "router": 4 * 1e-13,
        "wire": 4 * 1e-9 * 199e-6,
    }
    expected = {name: joules * 1.1e9 for name, joules in cycle.items()}
    expected["leakage"] = 5e4 * 228e-6 * 170e-6
    found = nameplate(pe)
    assert tuple(found) == COMPONENTS
    assert {name: watts for name, watts in found.items() if watts} == pytest.approx(expected)
    assert power(pe) == pytest.approx(sum(expected.values()))
    wide = replace(pe, matrix_flops_per_cycle={"float16": 8.0, "float32": 4.0})
    assert nameplate(wide)["matrix"] == pytest.approx(2 * 2e-12 * 1.1e9)


def test_the_vector_unit_adds_what_the_array_does_not_do(pe: Core) -> None:
    assert nameplate(pe)["vector"] == 0
    wider = replace(pe, vector_elements_per_cycle={"float16": 6.0})
    assert nameplate(wider)["vector"] == pytest.approx(2 * 0.5e-12 * 1.1e9)
    apart = replace(pe, declared_area_m2={"vector": 1e-9})
    assert nameplate(apart)["vector"] == pytest.approx(4 * 0.5e-12 * 1.1e9)


def test_a_unit_without_an_energy_is_named(core: Core) -> None:
    with pytest.raises(UserError, match=r"technology round gives no energy .* core pe: float16"):
        power(core)


def test_sram_leaks_at_its_own_rate(core: Core) -> None:
    """Of 0.03876 mm2 SRAM is 0.02086, logic 0.00182; what nothing accounts for leaks as SRAM."""
    densities = replace(core.technology.densities, sram_leakage_w_per_m2=2e4)
    apart = replace(core, technology=replace(core.technology, densities=densities))
    logic = (1500 + 320) * 1e-12
    assert static_power(core) == pytest.approx(5e4 * core.area_m2)
    assert static_power(apart) == pytest.approx(5e4 * logic + 2e4 * (core.area_m2 - logic))


def test_a_die_leaks_beside_its_cores_too_but_not_where_it_is_blank(pe: Core) -> None:
    phy = Memory("hbm", "beside", 1e9, phy_area_m2=10e-6)
    areas = {"io": 20e-6, "blank": 100e-6}
    die = Die("d", pe, 2, 3, 1e-3, 1e-3, memories=(phy,), declared_area_m2=areas, spare_rows=1)
    assert static_power(die) == pytest.approx(6 * static_power(pe) + 30e-6 * 5e4)


def test_links_between_dies_are_counted_in_both_directions(wafer: Wafer) -> None:
    """11 x 7 joints of 154 columns, 12 x 6 of 66 rows, 4 B a cycle at 1.1 GHz each way."""
    lanes = 11 * 7 * 154 + 12 * 6 * 66
    moved = 2 * lanes * 4 * 1.1e9
    assert joints_bytes_per_s(wafer) == pytest.approx(moved)
    assert nameplate(wafer)["die_to_die"] == pytest.approx(moved * 1e-12)


def test_regulators_lose_a_share_of_what_is_behind_them(wafer: Wafer) -> None:
    host = Memory("host", "external", 1e12, energy_j_per_byte=1e-9, via="west", power_w=50.0)
    west = EdgeIO("west", 12, 12.5e9, energy_j_per_byte=2e-9)
    plain = replace(wafer, io=(west,), memories=(host,), power_w=100.0)
    parts = nameplate(plain)
    assert parts["io"] == pytest.approx(300.0)
    assert parts["memory"] == pytest.approx(150e9 * 1e-9 + 50.0)
    assert parts["stated"] == 100.0
    regulated = nameplate(replace(plain, regulator_efficiency=0.8))
    behind = sum(parts.values()) - parts["memory"]
    assert regulated["regulator_loss"] == pytest.approx(behind / 4)
    assert {**regulated, "regulator_loss": 0.0} == pytest.approx(parts)


def test_memory_of_a_die_draws_its_bandwidth_and_what_is_stated(pe: Core) -> None:
    dram = Memory("dram", "stacked", 16e9, 1e12, energy_j_per_byte=8e-12, power_w=2.0)
    die = Die("d", pe, 1, 1, 1e-3, 1e-3, memories=(dram,), power_w=7.0)
    assert nameplate(die)["memory"] == pytest.approx(10.0)
    assert nameplate(die)["stated"] == 7.0


def test_a_node_meets_in_its_switch(wafer: Wafer) -> None:
    """8 dies of 300 GB/s a direction, 6 switches of 50 GB/s a port."""
    nvlink = Link("nvlink", None, 1e-6, 4e-12, bandwidth_bytes_per_s=300e9, known_good=True)
    switch = Switch("nvswitch", 8, 50e9, 1e-7, energy_j_per_byte=1e-12, power_w=40.0, count=6)
    node = replace(wafer, rows=1, columns=8, link=nvlink, switch=switch, board=True)
    parts = nameplate(node)
    assert parts["die_to_die"] == pytest.approx(8 * 300e9 * (2 * 4e-12 + 1e-12))
    assert parts["stated"] == pytest.approx(240.0)
    narrow = replace(node, switch=replace(switch, count=3))
    assert joints_bytes_per_s(narrow) == pytest.approx(8 * 150e9 * 2)


@pytest.mark.parametrize(("wafers", "links"), [(1, 0), (2, 1), (3, 3), (4, 4)])
def test_wafers_are_linked_in_a_ring(wafer: Wafer, wafers: int, links: int) -> None:
    fabric = Link("fabric", None, 1e-6, 1e-11, bandwidth_bytes_per_s=1e12)
    system = Hardware("s", wafers, wafer, link=fabric)
    assert nameplate(system)["io"] == pytest.approx(links * 2 * 1e12 * 1e-11)
    assert power(replace(system, link=None)) == pytest.approx(wafers * power(wafer))


def test_wafers_that_meet_in_a_switch_have_a_link_each(wafer: Wafer) -> None:
    fabric = Link("fabric", None, 1e-6, 1e-11, bandwidth_bytes_per_s=1e12)
    switch = Switch("ib", 64, 1e12, 1e-6, energy_j_per_byte=2e-12, power_w=500.0)
    system = Hardware("s", 2, wafer, link=fabric, switch=switch)
    assert nameplate(system)["io"] == pytest.approx(2 * 1e12 * (2 * 1e-11 + 2e-12))
    assert nameplate(system)["stated"] == 500.0


def test_spare_and_dead_dies_are_off(wafer: Wafer) -> None:
    die = replace(wafer.die, power_w=10.0)
    spare = replace(wafer, die=die, spare_dies=7)
    assert nameplate(spare)["stated"] == pytest.approx(770.0)
    assert nameplate(replace(spare, dead_dies=tuple((0, c) for c in range(7))))["stated"] == (
        pytest.approx(770.0)
    )


def test_standby_is_part_of_the_nameplate(wafer: Wafer) -> None:
    dram = Memory("dram", "stacked", 16e9, 1e12, energy_j_per_byte=8e-12, power_w=2.0)
    die = replace(wafer.die, memories=(dram,))
    system = Hardware("s", 2, replace(wafer, die=die, regulator_efficiency=0.9))
    always, most = standby(system), nameplate(system)
    assert always["leakage"] == pytest.approx(static_power(system)) == most["leakage"]
    assert always["memory"] == pytest.approx(2 * 84 * 2.0)
    assert always["regulator_loss"] == pytest.approx(
        (always["leakage"] + always["memory"]) * (1 / 0.9 - 1)
    )
    assert all(always[name] <= most[name] for name in COMPONENTS)


# Properties.


@settings(max_examples=60, deadline=None)
@given(
    st.floats(1.0, 4.0), st.floats(1.0, 4.0), st.floats(1.0, 4.0), st.floats(1e3, 1e5),
    st.booleans(),
)  # fmt: skip
def test_larger_parts_never_leak_less(
    core: Core, sram: float, link: float, array: float, leakage: float, apart: bool
) -> None:
    """In a core of stated size, and in one that grows with its parts."""
    densities = replace(core.technology.densities, sram_leakage_w_per_m2=leakage if apart else None)
    least = replace(hungry(core), technology=replace(core.technology, densities=densities))
    flops = {dtype: array * each for dtype, each in core.matrix_flops_per_cycle.items()}
    more_sram = replace(core.sram, capacity_bytes=sram * core.sram.capacity_bytes)
    wider = replace(core.router, width_bytes=link * core.router.width_bytes)
    for change in ({"sram": more_sram}, {"router": wider}, {"matrix_flops_per_cycle": flops}):
        larger = replace(least, **change)
        assert static_power(larger) >= static_power(least) * (1 - 1e-12)


def test_a_batch_has_the_power_of_its_points(wafer: Wafer) -> None:
    random = np.random.default_rng(0)
    lanes, capacity, width, wafers = (random.uniform(1, 8, 20) for _ in range(4))

    def of(lanes: Any, capacity: Any, width: Any, wafers: Any) -> Hardware:
        core = replace(
            wafer.die.core,
            matrix_flops_per_cycle={"float16": 2 * lanes, "float32": 2.0},
            sram=replace(wafer.die.core.sram, capacity_bytes=1e4 * capacity),
            router=replace(wafer.die.core.router, width_bytes=width),
        )
        fabric = Link("fabric", None, 1e-6, 1e-11, bandwidth_bytes_per_s=1e12)
        made = replace(wafer, die=replace(wafer.die, core=core), regulator_efficiency=0.9)
        return Hardware("s", wafers, made, link=fabric)

    points = list(zip(lanes, capacity, width, np.floor(wafers), strict=True))
    batch = of(*(np.array(column) for column in zip(*points, strict=True)))
    assert power(batch) == pytest.approx([float(power(of(*point))) for point in points])
    assert static_power(batch) == pytest.approx([float(static_power(of(*p))) for p in points])
