"""Yields: the formulas, against counts by hand and published figures, monotone, in batches."""

from dataclasses import replace
from math import comb, exp
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wscc.backend.physics.yields import (
    at_least,
    at_most_dead,
    cores_made,
    dead_among,
    die_yield,
    murphy,
    negative_binomial,
    passing_die_yield,
    poisson,
    share_without_defect,
    wafer_yield,
    yield_of,
)
from wscc.ir.errors import UserError
from wscc.ir.hardware import Core, CorePatch, Die, DiePatch, Hardware, Wafer
from wscc.ir.technology import Defects, Link, Technology

PER_MM2 = 1e6
N7 = Defects(per_m2=900.0)
"""0.09 a cm2."""

TIGHT = 1e-9
"""What sums of the same chances in another order may differ by."""


def spoiled(core: Core, defects: Defects | None, **changes: Any) -> Core:
    return replace(core, technology=replace(core.technology, defects=defects), **changes)


def die_of(core: Core, defects: Defects | None = N7, **changes: Any) -> Die:
    """4 x 6 cores of 3 x 3 mm on 12 x 18 mm, so that defects matter."""
    big = spoiled(core, defects, width_m=3e-3, height_m=3e-3)
    die = Die("tile", big, rows=4, columns=6, width_m=18e-3, height_m=12e-3)
    return replace(die, **changes)


def of_dies(wafer: Wafer, die: Die, **changes: Any) -> Wafer:
    return replace(wafer, die=die, **changes)


# Areas.


def test_an_area_without_defects_always_works() -> None:
    assert murphy(0.0) == negative_binomial(0.0, 10.0) == poisson(0.0) == 1.0
    assert share_without_defect(0.0, N7) == 1.0


@pytest.mark.parametrize("expected", [1e-300, 1e-17, 1e-12, 1e-6])
def test_murphy_keeps_its_digits_for_tiny_areas(expected: float) -> None:
    """1 - x to first order, and no rounding of 1 - exp(-x) in between."""
    assert 1.0 - murphy(expected) == pytest.approx(expected, rel=1e-4, abs=3e-16)


def test_all_models_agree_where_defects_are_few_and_order_where_they_are_many() -> None:
    few = [murphy(1e-4), negative_binomial(1e-4, 10.0), poisson(1e-4)]
    assert few == pytest.approx([1 - 1e-4] * 3, rel=1e-7)
    assert poisson(3.0) < negative_binomial(3.0, 10.0) < murphy(3.0) < negative_binomial(3.0, 1.0)


def test_the_negative_binomial_becomes_poissons_without_clustering() -> None:
    assert negative_binomial(2.0, 1e7) == pytest.approx(exp(-2.0), rel=1e-6)
    assert negative_binomial(2.0, float("inf")) == pytest.approx(exp(-2.0), rel=1e-8)


def test_dies_yield_what_chiplet_actuary_says() -> None:
    """Its chip.py: (1 + D / 100 A / 10)^-10; 0.09 at 7 nm and 0.11 a cm2 at 5 nm, 800 mm2."""
    seven, five = (Defects(per_m2, "negative_binomial", 10.0) for per_m2 in (900.0, 1100.0))
    assert share_without_defect(800e-6, seven) == pytest.approx(0.49894, rel=1e-4)
    assert share_without_defect(800e-6, five) == pytest.approx(0.43024, rel=1e-4)


def test_a_gpu_of_the_reticles_size_yields_half_by_murphy() -> None:
    """A100, 826 mm2 at 0.09 a cm2; by hand ((1 - e^-0.7434) / 0.7434)^2."""
    by_hand = ((1 - exp(-0.7434)) / 0.7434) ** 2
    assert share_without_defect(826e-6, N7) == pytest.approx(by_hand)
    assert by_hand == pytest.approx(0.498, abs=1e-3)


# Counts.


@pytest.mark.parametrize("most", [0, 1, 3, 7, 8])
def test_the_tail_is_the_sum_of_its_terms(most: int) -> None:
    by_hand = sum(comb(8, n) * 0.3**n * 0.7 ** (8 - n) for n in range(most + 1))
    assert at_most_dead(most, 8, 0.3) == pytest.approx(by_hand, rel=1e-12)
    assert at_least(8 - most, 8, 0.3) == at_most_dead(most, 8, 0.3)


@pytest.mark.parametrize("made", [24, 2400])
def test_a_share_of_a_part_does_not_count(made: int) -> None:
    whole = at_least(made - 12, made, 0.1)
    assert at_least(made - 12 + 1e-9, made, 0.1) == whole
    assert at_least(made - 12.5, made, 0.1) == whole
    assert at_least(made - 12 + 0.5, made, 0.1) == at_least(made - 11, made, 0.1) < whole


def test_tails_have_ends() -> None:
    assert at_most_dead(-1, 8, 0.3) == 0.0
    assert at_most_dead(9, 8, 0.3) == at_most_dead(3, 8, 0.0) == 1.0
    assert at_most_dead(3, 8, 1.0) == 0.0


def test_a_million_parts_are_counted_exactly() -> None:
    """At the mean of a million parts half of the chances lie below, as the normal law has it."""
    assert at_most_dead(0, 1e6, 1e-6) == pytest.approx(exp(-1.0), rel=1e-6)
    assert at_most_dead(50_000, 1e6, 0.05) == pytest.approx(0.5, abs=2e-3)
    assert at_most_dead(50_000 + 3 * 218, 1e6, 0.05) == pytest.approx(0.99865, abs=1e-4)
    assert at_least(850_000, 853_776, 3.5e-5) == pytest.approx(1.0, abs=1e-12)


def test_dead_parts_of_several_groups_are_added_up() -> None:
    two = dead_among(3, [(3, 0.2), (5, 0.2)])
    one = dead_among(3, [(8, 0.2)])
    assert two == pytest.approx(one, rel=1e-12)
    assert sum(one) == pytest.approx(at_most_dead(3, 8, 0.2))
    assert dead_among(2, [(2, 0.0), (3, 1.0)]) == pytest.approx([0.0, 0.0, 0.0])


# Dies.


def test_a_die_without_spares_needs_all_of_its_area(core: Core) -> None:
    die = die_of(core, declared_area_m2={"io": 20e-6, "blank": 500e-6})
    assert die_yield(die) == pytest.approx(murphy((24 * 9 + 20) * 900e-6))


@pytest.mark.parametrize(
    "defects",
    [N7, Defects(900.0, "negative_binomial", 10.0), Defects(900.0, "negative_binomial", 1.0)],
)
def test_averaging_over_densities_gives_the_closed_form(core: Core, defects: Defects) -> None:
    """A die of which every core is needed, by the way that counts cores, and without it."""
    die = die_of(core, defects)
    assert die_yield(die, needed=24) == pytest.approx(die_yield(die), abs=1e-6)


def test_a_row_shifts_past_a_dead_core(core: Core) -> None:
    """Of cores that fail independently: each row of 6 + 1 has at most one dead core."""
    defects = Defects(900.0, "negative_binomial", float("inf"))
    die = die_of(core, defects, spare_columns=1)
    dead = 1 - exp(-9 * 900e-6)
    row = (1 - dead) ** 7 + 7 * dead * (1 - dead) ** 6
    assert die_yield(die) == pytest.approx(row**4, rel=1e-6)
    turned = die_of(core, defects, rows=6, columns=4, spare_rows=1)
    assert die_yield(turned) == pytest.approx(die_yield(die), rel=1e-12)


def test_repair_is_what_a_simulation_of_shifting_rows_finds(core: Core) -> None:
    """20,000 dies at ten times the defects, clustered: cores of a die share a density."""
    defects = Defects(9000.0, "negative_binomial", 2.0)
    die = die_of(core, defects, spare_columns=1)
    random = np.random.default_rng(1)
    density = random.gamma(2.0, 9000.0 / 2.0, size=20_000)
    dead = random.random((20_000, 4, 7)) < -np.expm1(-9e-6 * density)[:, None, None]
    simulated = (dead.sum(axis=2) <= 1).all(axis=1).mean()
    assert die_yield(die) == pytest.approx(simulated, abs=4 * 0.5 / 20_000**0.5)


def test_cores_of_patches_must_all_work(core: Core) -> None:
    die = die_of(core)
    giant = replace(die.core, width_m=6e-3)
    patched = replace(die, patches=(CorePatch(giant, 0, 0, 1, 3),))
    assert die_yield(patched) == pytest.approx(murphy((21 * 9 + 3 * 18) * 900e-6))
    spared = replace(patched, spare_columns=1)
    assert die_yield(patched) < die_yield(spared) < murphy(3 * 18 * 900e-6)


def test_defects_that_nobody_states_are_named(core: Core) -> None:
    with pytest.raises(UserError, match="defect_density of technology round"):
        yield_of(core)


# Wafers.


def test_a_wafer_without_redundancy_yields_nothing(wse: Wafer, core: Core) -> None:
    """46,225 mm2 of one piece, or 84 dies that must all work."""
    assert poisson(46_225e-6 * 900.0) < 1e-17
    assert wafer_yield(of_dies(wse, die_of(core))) < 1e-6


def test_wse3_loses_few_of_the_cores_that_it_can_spare(wse: Wafer, core: Core) -> None:
    """Cerebras, "100x defect tolerance": D0 0.001 a mm2, cores of 0.05 mm2, 900,000 of 970,000 made
    in use, 93% of the silicon."""
    defects = Defects(0.001 * PER_MM2)
    small = spoiled(core, defects, width_m=0.05e-3, height_m=1e-3)
    die = Die("tile", small, 66, 175, 30e-3, 17e-3)
    wafer = of_dies(wse, die, cores_needed=900_000)
    made = 84 * cores_made(die)
    assert made * (1 - yield_of(small)) == pytest.approx(48.5, rel=0.01)
    assert 900_000 / made == pytest.approx(0.93, abs=0.005)
    assert wafer_yield(wafer) == pytest.approx(1.0, abs=1e-12)
    assert wafer_yield(replace(wafer, cores_needed=made)) < 1e-20


def test_enough_cores_is_a_tail_over_all_of_them(wse: Wafer, core: Core) -> None:
    die = die_of(core)
    wafer = of_dies(wse, die, cores_needed=2000)
    dead = 1 - murphy(9 * 900e-6)
    assert wafer_yield(wafer) == pytest.approx(at_most_dead(16, 84 * 24, dead))


def test_a_die_that_is_lost_takes_its_cores_along(wse: Wafer, core: Core) -> None:
    """With fragile areas beside the cores no die may be lost, or as many as are spare."""
    die = die_of(core, declared_area_m2={"io": 10e-6})
    wafer = of_dies(wse, die, cores_needed=1950)
    alive = murphy(10 * 900e-6)
    assert wafer_yield(wafer) == pytest.approx(alive**84, rel=1e-6)
    spare = replace(wafer, spare_dies=2)
    assert alive**84 < wafer_yield(spare) < at_most_dead(2, 84, 1 - alive)


def test_spare_dies_may_be_dead(wse: Wafer, core: Core) -> None:
    die = die_of(core)
    one = replace(of_dies(wse, die), spare_dies=12)
    assert wafer_yield(one) == pytest.approx(at_most_dead(12, 84, 1 - die_yield(die)))


def test_several_kinds_of_dies_must_all_work(wse: Wafer, core: Core) -> None:
    die = die_of(core, Defects(9.0))
    fragile = replace(die, declared_area_m2={"other": 100e-6})
    wafer = of_dies(wse, die, patches=(DiePatch(fragile, 0, 0, 2, 7),))
    by_hand = die_yield(die) ** 70 * die_yield(fragile) ** 14
    assert wafer_yield(wafer) == pytest.approx(by_hand)


def test_known_good_dies_can_only_be_joined_badly(wse: Wafer, core: Core) -> None:
    link = Link("info", 1.0, 1e-9, 1e-12, known_good=True, bonding_yield=0.99)
    wafer = of_dies(wse, die_of(core), link=link)
    assert wafer_yield(wafer) == pytest.approx(0.99**84)
    assert wafer_yield(replace(wafer, spare_dies=2)) == pytest.approx(at_most_dead(2, 84, 0.01))
    assert wafer_yield(replace(wafer, die=die_of(core, None))) == wafer_yield(wafer)


def test_a_tested_die_needs_its_share_of_the_cores(wse: Wafer, core: Core) -> None:
    """Dojo's D1 has 354 of 360 cores in use; here 23 of 24."""
    link = Link("info", 1.0, 1e-9, 1e-12, known_good=True)
    die = die_of(core)
    wafer = of_dies(wse, die, link=link, cores_needed=84 * 23)
    assert passing_die_yield(wafer, die) == pytest.approx(die_yield(die, needed=23))
    assert passing_die_yield(replace(wafer, cores_needed=None), die) == die_yield(die)
    assert die_yield(die) < die_yield(die, needed=23) < die_yield(die, needed=22) < 1


def test_a_system_is_of_tested_wafers(wse: Wafer, core: Core) -> None:
    wafer = replace(of_dies(wse, die_of(core)), spare_dies=20)
    assert yield_of(Hardware("two", 2, wafer)) == yield_of(wafer) == wafer_yield(wafer)


def test_the_shipped_wafers_nearly_always_work() -> None:
    from wscc.cli.pipeline import load_hardware

    for name in ("wse2", "wse3"):
        assert yield_of(load_hardware(name).bind()) == pytest.approx(1.0, abs=1e-6)


# Properties.

MODELS = st.sampled_from(["murphy", "negative_binomial"])
AREAS_MM2 = st.floats(0.01, 30.0)
DENSITIES = st.floats(0.0, 50_000.0)
GROWTH = st.floats(1.0, 4.0)
SPARES = st.integers(0, 3)


@settings(max_examples=60, deadline=None)
@given(MODELS, AREAS_MM2, DENSITIES, GROWTH, SPARES, SPARES, st.floats(0.2, 100.0))
def test_yields_never_rise_with_area_or_density_nor_fall_with_spares(
    core_wafer: Wafer,
    model: Any,
    area_mm2: float,
    per_m2: float,
    growth: float,
    rows: int,
    columns: int,
    clustering: float,
) -> None:
    core, defects = core_wafer.die.core, Defects(per_m2, model, clustering)

    def of(defects: Defects, side: float, spare_rows: int, spare_columns: int, io: float) -> Wafer:
        part = spoiled(core, defects, width_m=side, height_m=side)
        die = replace(
            core_wafer.die,
            core=part,
            spare_rows=spare_rows,
            spare_columns=spare_columns,
            declared_area_m2={"io": io},
        )
        return replace(core_wafer, die=die, spare_dies=1)

    side = (area_mm2 * 1e-6) ** 0.5
    least = of(defects, side, rows, columns, 1e-6)
    denser = of(replace(defects, per_m2=per_m2 * growth), side, rows, columns, 1e-6)
    larger = of(defects, side * growth, rows, columns, 1e-6)
    beside = of(defects, side, rows, columns, 1e-6 * growth)
    spared = [
        of(defects, side, rows + 1, columns, 1e-6),
        of(defects, side, rows, columns + 1, 1e-6),
    ]
    for part in ("die", "wafer"):
        figure = yield_of(least.die if part == "die" else least)
        assert 0.0 <= figure <= 1.0 + TIGHT
        for worse in (denser, larger, beside):
            assert yield_of(worse.die if part == "die" else worse) <= figure + TIGHT
        for better in spared:
            assert yield_of(better.die if part == "die" else better) >= figure - TIGHT
    assert yield_of(larger.die.core) <= yield_of(least.die.core)
    assert wafer_yield(replace(least, spare_dies=2)) >= wafer_yield(least)

    counted = replace(least, cores_needed=60, spare_dies=0)
    assert wafer_yield(replace(counted, spare_dies=1)) >= wafer_yield(counted) - TIGHT
    assert wafer_yield(replace(counted, cores_needed=61)) <= wafer_yield(counted) + TIGHT
    assert wafer_yield(replace(denser, cores_needed=60)) <= (
        wafer_yield(replace(least, cores_needed=60)) + TIGHT
    )


@pytest.fixture(scope="module")
def core_wafer(wse: Wafer, core: Core) -> Wafer:
    """3 x 3 dies of 3 x 4 cores."""
    die = die_of(core, rows=3, columns=4)
    return replace(wse, die=die, rows=3, columns=3)


@pytest.mark.parametrize("needed", [None, 75])
@pytest.mark.parametrize("model", ["murphy", "negative_binomial"])
def test_a_batch_has_the_yields_of_its_points(
    core_wafer: Wafer, model: Any, needed: int | None
) -> None:
    random = np.random.default_rng(2)
    sides, density = random.uniform(0.2e-3, 3e-3, 50), random.uniform(0, 2e4, 50)
    rows, columns, lost = (random.integers(0, 3, 50) for _ in range(3))

    def of(side: Any, per_m2: Any, spare_rows: Any, spare_columns: Any, spare_dies: Any) -> Wafer:
        part = spoiled(
            core_wafer.die.core, Defects(per_m2, model, 3.0), width_m=side, height_m=side
        )
        die = replace(
            core_wafer.die, core=part, spare_rows=spare_rows, spare_columns=spare_columns,
            declared_area_m2={"io": 1e-6 * side / 1e-3},
        )  # fmt: skip
        return replace(core_wafer, die=die, cores_needed=needed, spare_dies=spare_dies)

    batch = of(sides, density, rows, columns, lost)
    points = [of(*point) for point in zip(sides, density, rows, columns, lost, strict=True)]
    assert yield_of(batch) == pytest.approx([float(yield_of(point)) for point in points], rel=1e-9)
    assert yield_of(batch.die) == pytest.approx(
        [float(yield_of(point.die)) for point in points], rel=1e-9
    )


def test_one_figure_of_a_batch_may_be_an_array_alone(core_wafer: Wafer) -> None:
    die = replace(core_wafer.die, spare_columns=np.array([0, 1, 2]))
    found = die_yield(die)
    alone = [die_yield(replace(core_wafer.die, spare_columns=n)) for n in range(3)]
    assert found == pytest.approx(alone, rel=1e-9)
    technology: Technology = core_wafer.die.core.technology
    clustered = Defects(900.0, "negative_binomial", np.array([0.5, 3.0, 10.0]))  # type: ignore[arg-type]
    core = replace(core_wafer.die.core, technology=replace(technology, defects=clustered))
    assert np.diff(die_yield(replace(die, core=core, spare_columns=1))).shape == (2,)
