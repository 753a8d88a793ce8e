"""The figures that stand beside published ones add up."""

from dataclasses import replace

import pytest
from wscc.backend.physics import PHYSICS
from wscc.backend.physics.headline import die_power, fabric_bandwidth, headlines
from wscc.backend.physics.power import nameplate, power
from wscc.frontend.hardware import load_hardware
from wscc.ir.hardware import Hardware


@pytest.fixture(scope="module")
def dojo() -> Hardware:
    return replace(load_hardware("dojo"), physics=PHYSICS).bind()


def test_parts_of_a_die_without_a_size_add_up_to_its_outline(dojo: Hardware) -> None:
    assert headlines(dojo)["die_area"].value == pytest.approx(dojo.wafer.die.area_m2)


def test_parts_of_a_wafer_are_those_of_its_dies(dojo: Hardware) -> None:
    figures = headlines(dojo)
    assert figures["wafer_area"].value == pytest.approx(25 * figures["die_area"].value)
    assert figures["wafer_area"].stated == pytest.approx(figures["die_area"].stated)


def test_what_a_spec_states_of_an_area_is_told_apart(dojo: Hardware) -> None:
    figure, die = headlines(dojo)["core_area"], dojo.wafer.die
    stated = sum(die.core.declared_area_m2.values())
    assert figure.stated == pytest.approx(stated / die.core.area_m2)
    assert headlines(dojo)["cores"].stated == 0


def test_spare_cores_count_in_the_area_of_a_die(dojo: Hardware) -> None:
    die = replace(dojo.wafer.die, spare_columns=1)
    more = headlines(replace(dojo, wafer=replace(dojo.wafer, die=die)))["die_area"].value
    assert more - headlines(dojo)["die_area"].value == pytest.approx(18 * die.core.area_m2)


def test_an_area_of_which_a_part_is_not_known_is_left_out(dojo: Hardware) -> None:
    densities = replace(dojo.core.technology.densities, sram_cell_m2_per_byte=None)
    core = replace(dojo.core, technology=replace(dojo.core.technology, densities=densities))
    wafer = replace(dojo.wafer, die=replace(dojo.wafer.die, core=core))
    assert {"core_area", "die_area", "wafer_area"}.isdisjoint(headlines(replace(dojo, wafer=wafer)))


def test_a_fabric_is_the_sum_over_both_ends_of_all_links(dojo: Hardware) -> None:
    assert fabric_bandwidth(dojo.wafer) == pytest.approx(8850 * 4 * 2 * 64 * 2e9)


def test_dies_and_what_lies_beside_them_draw_what_their_wafer_does(dojo: Hardware) -> None:
    watts = nameplate(dojo.wafer)
    beside = sum(watts[name] for name in ("memory", "io", "stated", "regulator_loss"))
    assert 25 * die_power(dojo.wafer) + beside == pytest.approx(power(dojo.wafer))


def test_a_die_draws_for_its_cores_in_use_its_memory_and_its_links() -> None:
    node = replace(load_hardware("a100"), physics=PHYSICS).bind().wafer
    watts = nameplate(node)
    links = watts["die_to_die"] / 8
    assert die_power(node) == pytest.approx(power(node.die) + links)
