"""Spaces of hardware: the same designs from the cube, from the list and from the spec."""

from pathlib import Path

import numpy as np
import pytest
import wscc
from hypothesis import given, settings
from hypothesis import strategies as st
from wscc.dse.design import Design, designs_of
from wscc.dse.hardware_space import HardwareDesigns
from wscc.ir.errors import UserError

SPEC = """
wsc 1
use "n7.wsc" as n7
param lanes = 4      in pow2(1, 16)
param rows  = 8      in 4..16 step 4
param clock = 1 GHz  in 0.5..2 GHz
param dies  = rows   in 1..rows step 1
param stack = off    in {off, on}
param depth = 4      in {1, 4, 2} when stack == on
core pe {
  technology = n7
  clock = clock
  matrix { fp16 = lanes * 2 flop/cycle }
  sram { capacity = 48 KiB; read = 16 B/cycle; write = 8 B/cycle }
  router { kind = circuit; width = 32 bit/cycle; hop = 1 cycle; ramp = 2 cycle; multicast = yes }
}
die tile {
  cores = rows x 8 of pe
  memory dram when stack == on { kind = stacked; capacity = depth * 1 MiB; bandwidth = 1 TB/s }
}
link stitched { share = 1.0; latency = 1 cycle; energy = 0.2 pJ/bit }
wafer wse { size = 100 mm x 100 mm; dies = dies x 2 of tile joined stitched }
constraint lanes * rows <= 128
"""
STEPPED = SPEC.replace("in 0.5..2 GHz", "in 0.5..2 GHz step 0.5 GHz")


def space_of(folder: Path, text: str = STEPPED, **fixed: str) -> HardwareDesigns:
    path = folder / "space.wsc"
    path.write_text(text)
    return HardwareDesigns(wscc.load_hardware(path), fixed)


@pytest.fixture(scope="module")
def designs(tmp_path_factory: pytest.TempPathFactory) -> HardwareDesigns:
    return space_of(tmp_path_factory.mktemp("space"))


@pytest.fixture(scope="module")
def listed(designs: HardwareDesigns) -> list[Design]:
    return [each for columns in designs.all() for each in designs_of(columns)]


def test_the_list_is_what_a_loop_over_all_values_finds(listed: list[Design]) -> None:
    expected = sum(
        rows * 4 * (1 + 3) for lanes in (1, 2, 4, 8, 16) for rows in (4, 8, 12, 16)
        if lanes * rows <= 128
    )  # fmt: skip
    assert len(listed) == len(set(listed)) == expected


def test_every_listed_design_can_be_bound_and_holds_its_constraints(
    designs: HardwareDesigns, listed: list[Design]
) -> None:
    for design in listed[::97]:
        hardware = designs.bind(design)
        assert all(line.holds for line in hardware.constraints)
        assert hardware.wafer.rows == design["dies"]


def test_the_cube_covers_all_designs_and_gives_nothing_else(
    designs: HardwareDesigns, listed: list[Design]
) -> None:
    points = designs.to_unit(listed)
    assert points.min() > 0
    assert points.max() < 1
    assert designs.from_unit(points) == listed
    drawn = designs.from_unit(np.random.default_rng(1).random((4000, len(designs.names))))
    assert {each for each in drawn if each is not None} <= set(listed)


@given(st.lists(st.floats(0.0, 1.0), min_size=6, max_size=6))
@settings(max_examples=30, deadline=None)
def test_the_middle_of_a_design_stands_for_it(designs: HardwareDesigns, point: list[float]) -> None:
    (design,) = designs.from_unit(np.array([point]))
    if design is not None:
        assert designs.from_unit(designs.to_unit([design])) == [design]


def test_an_interval_without_a_step_is_taken_as_it_is(tmp_path: Path) -> None:
    designs = space_of(tmp_path, SPEC)
    drawn = designs.sample(50, np.random.default_rng(0))
    clocks = np.array([float(each["clock"]) for each in drawn])
    assert len(np.unique(clocks)) == 50
    assert ((clocks >= 0.5e9) & (clocks <= 2e9)).all()
    middle = designs.to_unit(drawn)[:, designs.names.index("clock")]
    assert middle == pytest.approx((clocks - 0.5e9) / 1.5e9)
    with pytest.raises(UserError, match="without a step"):
        next(designs.all())


def test_a_sample_is_of_different_designs_and_follows_from_its_seed(
    designs: HardwareDesigns, listed: list[Design]
) -> None:
    one = designs.sample(40, np.random.default_rng(3))
    assert one == designs.sample(40, np.random.default_rng(3))
    assert len(set(one)) == 40
    assert set(one) <= set(listed)


def test_words_are_drawn_as_often_as_each_other(designs: HardwareDesigns) -> None:
    points = np.random.default_rng(0).random((3000, len(designs.names)))
    drawn = [each for each in designs.from_unit(points) if each is not None]
    on = sum(each["stack"] == "on" for each in drawn) / len(drawn)
    assert on == pytest.approx(0.5, abs=0.05)


def test_a_sample_of_more_than_there_are_is_all_of_them(tmp_path: Path) -> None:
    designs = space_of(tmp_path, STEPPED.replace("lanes * rows <= 128", "lanes * rows <= 4"))
    listed = [each for columns in designs.all() for each in designs_of(columns)]
    drawn = designs.sample(10_000, np.random.default_rng(0))
    assert len(drawn) == len(listed)
    assert set(drawn) == set(listed)


def test_neighbours_are_legal_and_not_the_design_itself(
    designs: HardwareDesigns, listed: list[Design]
) -> None:
    design = listed[len(listed) // 2]
    found = designs.neighbours(design, 12, np.random.default_rng(0))
    assert len(set(found)) == len(found) == 12
    assert set(found) <= set(listed) - {design}


def test_features_are_within_zero_and_one_and_tell_designs_apart(
    designs: HardwareDesigns, listed: list[Design]
) -> None:
    features = designs.features(listed)
    assert features.min() >= 0
    assert features.max() <= 1
    assert len(np.unique(features, axis=0)) == len(listed)


def test_a_fixed_parameter_is_not_open_and_has_its_value(tmp_path: Path) -> None:
    designs = space_of(tmp_path, rows="8", stack="off")
    assert designs.names == ("lanes", "clock", "dies", "depth")
    drawn = designs.sample(20, np.random.default_rng(0))
    assert all(each["dies"] in range(1, 9) for each in drawn)
    assert designs.bind(drawn[0]).wafer.die.rows == 8


def test_a_spec_without_open_parameters_is_a_space_of_one_design() -> None:
    designs = HardwareDesigns(wscc.load_hardware("wse2"))
    assert designs.names == ()
    only = Design(())
    assert designs.sample(5, np.random.default_rng(0)) == [only]
    assert designs.from_unit(np.zeros((2, 0))) == [only, only]
    assert [designs_of(columns) for columns in designs.all()] == [[only]]
    assert designs.to_unit([only]).shape == designs.features([only]).shape == (1, 0)
    assert designs.neighbours(only, 3, np.random.default_rng(0)) == []


def test_the_shipped_space_of_theseus_gives_legal_designs_from_few_draws() -> None:
    designs = HardwareDesigns(wscc.load_hardware("theseus"))
    drawn = designs.sample(20, np.random.default_rng(0))
    assert len(drawn) == 20
    assert designs.from_unit(designs.to_unit(drawn)) == drawn
    for design in drawn[:3]:
        assert all(line.holds for line in designs.bind(design).constraints)
