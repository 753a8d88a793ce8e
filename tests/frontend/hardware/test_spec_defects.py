"""What is dead on a wafer: named, or drawn from a density, and repaired by spares."""

# ruff: noqa: E501  one mistake a line

from collections.abc import Callable

import numpy as np
import pytest
from wscc.frontend.hardware import HardwareSpace
from wscc.ir.hardware import DeadCore, DeadLink, Hardware, Wafer

SpaceOf = Callable[..., HardwareSpace]
Bind = Callable[..., Hardware]
Refused = Callable[..., str]


def defects(small: str, lines: str) -> str:
    """The small spec with these defects."""
    return small.replace("joined seam }", f"joined seam; defects {{ {lines} }} }}")


def test_dead_links_of_dies_and_of_cores_are_kept(small: str, bind: Bind):
    lines = "dead link 0, 1 east; dead link 1, 0 north; dead link 3, 0 east of die 1, 2"
    assert bind(defects(small, lines)).wafer.dead_links == (
        DeadLink((0, 1), None, "east"),
        DeadLink((1, 0), None, "north"),
        DeadLink((1, 2), (3, 0), "east"),
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("dead link 0, 2 east", "die 0, 2 has no neighbour in the east"),
        ("dead link 4, 0 east of die 0, 0", "die tile has no core 4, 0: it has 4 x 5, counted from zero"),
        ("dead link 0, 1 east; dead link 0, 1 east", "wafer wse: link 0, 1 east is named dead twice"),
        ("dead die 0, 0 east", "expected 'dead die 11, 6', 'dead core 3, 5 of die 0, 2', 'dead link 3, 5 east', of a die, or 'dead link 3, 5 east of die 0, 2', of a core"),
    ],
)  # fmt: skip
def test_a_wrong_dead_link_is_refused(line: str, message: str, small: str, refused: Refused):
    assert refused(defects(small, line)).endswith(f"error: {message}")


def test_a_wafer_on_which_nothing_is_alive_is_refused(small: str, refused: Refused):
    message = "error: wafer wse: no core that programs can use is alive"
    dead = "; ".join(f"dead die {row}, {column}" for row in range(2) for column in range(3))
    assert refused(defects(small, dead)) == f"spec.wsc:12:33: {message}"
    for one in ("dead core 0, 0 of die 0, 0", "dead die 0, 0"):
        text = defects(small, one).replace("joined seam", "joined seam; usable = 1 x 1")
        assert refused(text) == f"spec.wsc:12:33: {message}"


RANDOM = "density = density; seed = seed"


def drawn(space_of: SpaceOf, text: str, density: float, seeds: int = 1) -> list[Wafer]:
    """The wafers that seeds 0, 1, .. draw, at a density of defects per cm2."""
    space = space_of(f"{text}param density = 0 defect/cm2\nparam seed = 0\n")
    return [space.bind(density=density * 1e4, seed=seed).wafer for seed in range(seeds)]


def test_the_same_seed_draws_the_same_and_another_one_others(small: str, space_of: SpaceOf):
    text = defects(small, RANDOM)
    one, other = drawn(space_of, text, 300, seeds=2)
    assert len(one.dead_cores) > 0
    assert one == drawn(space_of, text, 300)[0]
    assert one.dead_cores != other.dead_cores


def test_a_density_of_zero_draws_none(small: str, space_of: SpaceOf):
    (wafer,) = drawn(space_of, defects(small, RANDOM), 0)
    assert (wafer.dead_cores, wafer.dead_dies, wafer.cores_in_use) == ((), (), 120)


def test_as_many_cores_are_dead_as_density_and_area_say(small: str, space_of: SpaceOf):
    density, seeds = 500.0, 400
    wafers = drawn(space_of, defects(small, RANDOM), density, seeds)
    chance = 1 - np.exp(-density * 1e4 * 200e-6 * 100e-6)
    deviation = np.sqrt(120 * chance * (1 - chance) / seeds)
    dead = np.mean([len(wafer.dead_cores) for wafer in wafers])
    assert dead == pytest.approx(120 * chance, abs=4 * deviation)
    assert all(w.cores_in_use == 120 - len(w.dead_cores) for w in wafers)


def test_clustered_defects_hit_fewer_cores_and_vary_more(small: str, space_of: SpaceOf):
    spread, lumped = (
        [len(wafer.dead_cores) for wafer in drawn(space_of, defects(small, lines), 500, 200)]
        for lines in (RANDOM, f"{RANDOM}; clustering = 0.5")
    )
    assert np.mean(lumped) < np.mean(spread)
    assert np.var(lumped) > 2 * np.var(spread)


@pytest.mark.parametrize(
    "stated",
    [
        "area { other = 50 mm2 }",
        "memory m { kind = beside; capacity = 1 GB; bandwidth = 1 GB/s; phy_area = 50 mm2 }",
    ],
)
def test_a_die_dies_of_a_defect_in_the_areas_that_it_states(
    stated: str, small: str, space_of: SpaceOf
):
    text = defects(small, RANDOM)
    assert drawn(space_of, text, 1)[0].dead_dies == ()
    wafers = drawn(space_of, text.replace("of pe;", f"of pe; {stated};"), 0.2, 200)
    dead = np.mean([len(wafer.dead_dies) for wafer in wafers])
    assert dead == pytest.approx(6 * (1 - np.exp(-0.1)), abs=0.22)


LARGE = "size = 40 mm x 40 mm"


@pytest.mark.parametrize("spares", ["1 column", "2 column", "1 row", "2 row"])
def test_spares_repair_dead_cores(spares: str, small: str, space_of: SpaceOf):
    text = small.replace("4 x 5 of pe;", "12 x 12 of pe; spares = 0 row;")
    text = text.replace("size = 1 mm x 1 mm", "").replace("size = 4 mm x 4 mm", LARGE)
    text = defects(text, RANDOM)
    bare = drawn(space_of, text, 100, seeds=20)
    repaired = drawn(space_of, text.replace("0 row", spares), 100, seeds=20)
    dead = [sum(len(wafer.dead_cores) for wafer in wafers) for wafers in (bare, repaired)]
    assert 0 < dead[1] < dead[0] / 2
    for wafer in repaired:
        assert len({*wafer.dead_cores}) == len(wafer.dead_cores)
        for core in (place.core for place in wafer.dead_cores):
            assert 0 <= core[0] < wafer.die.rows
            assert 0 <= core[1] < wafer.die.columns


@pytest.mark.parametrize(("grid", "what"), [("1 x 30", "column"), ("30 x 1", "row")])
def test_exactly_as_many_cores_are_lost_as_are_dead_beyond_the_spares(
    grid: str, what: str, small: str, space_of: SpaceOf
):
    text = small.replace("4 x 5 of pe;", f"{grid} of pe; spares = 2 {what};")
    text = text.replace("2 x 3 of tile", "1 x 1 of tile").replace("size = 1 mm x 1 mm", "")
    text = defects(text.replace("size = 4 mm x 4 mm", LARGE), RANDOM)
    left = [len(wafer.dead_cores) for wafer in drawn(space_of, text, 1000, 40)]
    bare = drawn(space_of, text.replace("spares = 2", "spares = 0"), 1000, 40)
    assert left == [max(0, len(wafer.dead_cores) - 2) for wafer in bare]
    assert max(left) > 1


def test_drawn_and_named_defects_join(small: str, space_of: SpaceOf):
    named = "; dead die 0, 0; dead core 1, 1 of die 1, 1"
    (wafer,) = drawn(space_of, defects(small, RANDOM + named), 300)
    assert wafer.dead_dies == ((0, 0),)
    assert DeadCore((1, 1), (1, 1)) in wafer.dead_cores
    assert all(dead.die != (0, 0) for dead in wafer.dead_cores)
    assert wafer.cores_in_use == 120 - 20 - len(wafer.dead_cores)


def test_usable_cores_that_are_alive_are_counted_die_by_die(small: str, bind: Bind):
    lines = "dead die 0, 1; dead core 0, 0 of die 0, 0; dead core 3, 4 of die 1, 1"
    text = defects(small, lines).replace("joined seam", "joined seam; usable = 6 x 12")
    assert bind(text).wafer.usable_alive == 6 * 12 - 4 * 5 - 1
    corner = bind(text.replace("core 3, 4", "core 1, 4")).wafer
    assert corner.usable_alive == 6 * 12 - 4 * 5 - 2


@pytest.mark.parametrize(
    ("usable", "expected"), [("8 x 15", 134), ("7 x 15", 107), ("8 x 14", 119), ("4 x 5", 19)]
)
def test_a_placed_die_of_another_grid_is_usable_as_far_as_its_place_is(
    usable: str, expected: int, small: str, bind: Bind
):
    text = defects(small, "dead core 5, 5 of die 1, 2; dead core 0, 0 of die 0, 0")
    text = text.replace(
        "joined seam", f"joined seam; usable = {usable}; place 1 x 1 of wide at 1, 2"
    )
    text += "die wide { cores = 6 x 6 of pe; size = 1.2 mm x 1 mm }\n"
    wafer = bind(text).wafer
    assert wafer.die_at(1, 2).name == "wide"
    assert wafer.die_at(0, 2).name == "tile"
    assert wafer.usable_alive == expected
