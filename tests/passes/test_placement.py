"""Placement: rectangles fit, cost what is said, and never more than the serpentine."""

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise, permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wscc.ir.hardware import Core, DeadCore, DeadLink, Die, Router, Software, Sram, Wafer
from wscc.ir.program import Rectangle
from wscc.ir.technology import Link, Technology
from wscc.passes import placement_search
from wscc.passes.placement import (
    Anchor,
    Exchange,
    PlacementError,
    PlacementProblem,
    count_fitting,
    objective,
    place,
    serpentine,
)
from wscc.passes.placement_ground import dead_map, walls
from wscc.passes.placement_layouts import layouts
from wscc.passes.placement_problem import least_objective
from wscc.passes.placement_shelves import serpentines

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


def wafer_of(
    dies: tuple[int, int],
    cores: tuple[int, int],
    dead_dies: tuple[tuple[int, int], ...] = (),
    dead_cores: tuple[DeadCore, ...] = (),
    unused: tuple[int, int] = (0, 0),
    dead_links: tuple[DeadLink, ...] = (),
) -> Wafer:
    rows, columns = dies[0] * cores[0], dies[1] * cores[1]
    return Wafer(
        name="test",
        die=Die("die", CORE, *cores, width_m=1e-2, height_m=1e-2),
        rows=dies[0],
        columns=dies[1],
        link=Link("stitched", 1.0, 1e-9, 0),
        width_m=0.2,
        height_m=0.2,
        usable_rows=rows - unused[0],
        usable_columns=columns - unused[1],
        cores_in_use=rows * columns,
        dead_dies=dead_dies,
        dead_cores=dead_cores,
        dead_links=dead_links,
    )


LARGE = wafer_of((12, 7), (66, 154), unused=(42, 84))
LARGE_MENDED = replace(LARGE, dead_dies=((11, 6), (5, 3)), dead_cores=(DeadCore((0, 2), (3, 5)),))


def chain(wafer: Wafer, count: int, rows: int, columns: int, weight: float = 8) -> PlacementProblem:
    exchanges = tuple(Exchange(at, at + 1, weight) for at in range(count - 1))
    return PlacementProblem(wafer, ((rows, columns),) * count, exchanges)


@st.composite
def wafers(draw: st.DrawFn) -> Wafer:
    dies = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    cores = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    die = st.tuples(st.integers(0, dies[0] - 1), st.integers(0, dies[1] - 1))
    core = st.tuples(st.integers(0, cores[0] - 1), st.integers(0, cores[1] - 1))
    side = st.sampled_from(("north", "south", "east", "west"))
    link = st.builds(DeadLink, die, st.none() | core, side)
    return wafer_of(
        dies,
        cores,
        tuple(draw(st.lists(die, max_size=2))),
        tuple(draw(st.lists(st.builds(DeadCore, die, core), max_size=4))),
        (draw(st.integers(0, cores[0] - 1)), draw(st.integers(0, cores[1] - 1))),
        tuple(draw(st.lists(link, max_size=2))),
    )


def joined(wafer: Wafer, link: DeadLink) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The pairs of cores that a dead link would join."""
    high, wide = wafer.die.rows, wafer.die.columns
    down, right = {"north": (-1, 0), "south": (1, 0), "west": (0, -1), "east": (0, 1)}[link.side]
    rim = [
        (row, column)
        for row, column in product(range(high), range(wide))
        if not (0 <= row + down < high and 0 <= column + right < wide)
    ]
    cores = rim if link.core is None else [link.core]
    places = [(link.die[0] * high + row, link.die[1] * wide + column) for row, column in cores]
    return [(at, (at[0] + down, at[1] + right)) for at in places]


def holds_a_dead_link(wafer: Wafer, at: Rectangle) -> bool:
    return any(
        all(at.overlaps(Rectangle(*core, 1, 1)) for core in pair)
        for link in wafer.dead_links
        for pair in joined(wafer, link)
    )


def assert_sound(wafer: Wafer, places: list[Rectangle] | tuple[Rectangle, ...]) -> None:
    used = dead_map(wafer).astype(int)
    for at in places:
        assert at.row >= 0
        assert at.column >= 0
        assert at.row + at.rows <= wafer.usable_rows
        assert at.column + at.columns <= wafer.usable_columns
        used[at.row : at.row + at.rows, at.column : at.column + at.columns] += 1
        assert not holds_a_dead_link(wafer, at)
    assert used.max(initial=0) <= 1


def least_by_trial(problem: PlacementProblem) -> float | None:
    """The best objective of all placements, tried one by one."""
    dead = dead_map(problem.wafer)
    fits: list[list[Rectangle]] = []
    for rows, columns in problem.sizes:
        corners = product(range(dead.shape[0] - rows + 1), range(dead.shape[1] - columns + 1))
        fits.append(
            [
                Rectangle(row, column, rows, columns)
                for row, column in corners
                if not dead[row : row + rows, column : column + columns].any()
                and not holds_a_dead_link(problem.wafer, Rectangle(row, column, rows, columns))
            ]
        )
    costs = [
        objective(problem, places)
        for places in product(*fits)
        if not any(a.overlaps(b) for a, b in permutations(places, 2))
    ]
    return min(costs, default=None)


@given(wafers(), st.integers(1, 6), st.integers(1, 6))
@settings(deadline=None, max_examples=150)
def test_a_serpentine_of_as_many_as_are_said_to_fit_is_sound(
    wafer: Wafer, rows: int, columns: int
) -> None:
    count = count_fitting(wafer, rows, columns)
    places = serpentine(wafer, rows, columns, count)
    assert places is not None
    assert len(places) == count
    assert_sound(wafer, places)
    assert serpentine(wafer, rows, columns, count + 1) is None


def test_rectangles_fill_a_wafer_without_defects() -> None:
    assert count_fitting(wafer_of((2, 2), (6, 8)), 3, 4) == 16
    assert count_fitting(wafer_of((2, 2), (6, 8), unused=(1, 0)), 3, 4) == 12
    assert count_fitting(wafer_of((1, 1), (6, 8)), 7, 1) == 0


def test_shelves_start_below_a_dead_row() -> None:
    wafer = wafer_of((1, 1), (5, 4), dead_cores=(DeadCore((0, 0), (0, 1)),))
    assert count_fitting(wafer, 4, 2) == 2
    assert serpentine(wafer, 4, 2, 2) == [Rectangle(1, 0, 4, 2), Rectangle(1, 2, 4, 2)]


def test_rectangles_touch_along_a_dead_link() -> None:
    across = DeadLink((0, 0), (1, 1), "east")
    assert count_fitting(wafer_of((1, 1), (2, 4), dead_links=(across,)), 2, 2) == 2
    assert count_fitting(wafer_of((1, 1), (2, 4), dead_links=(across,)), 2, 3) == 0
    joint = DeadLink((0, 0), None, "south")
    assert count_fitting(wafer_of((2, 1), (2, 4), dead_links=(joint,)), 2, 4) == 2
    assert count_fitting(wafer_of((2, 1), (2, 4), dead_links=(joint,)), 3, 1) == 0


def test_neighbours_in_a_serpentine_touch() -> None:
    places = serpentine(wafer_of((2, 2), (6, 8)), 3, 4, 16)
    assert places is not None
    steps = {(abs(a.row - b.row), abs(a.column - b.column)) for a, b in pairwise(places)}
    assert steps <= {(3, 0), (0, 4)}


@given(wafers())
@settings(deadline=None)
def test_walls_cover_the_dead_cores_and_nothing_else(wafer: Wafer) -> None:
    covered = np.zeros((wafer.usable_rows, wafer.usable_columns), dtype=int)
    for wall in walls(wafer):
        covered[wall.row : wall.row + wall.rows, wall.column : wall.column + wall.columns] += 1
    assert (covered == dead_map(wafer)).all()


def test_a_dead_die_is_one_wall() -> None:
    wafer = wafer_of((3, 3), (4, 5), dead_dies=((1, 1),))
    assert walls(wafer) == [Rectangle(4, 5, 4, 5)]


@st.composite
def problems(draw: st.DrawFn) -> PlacementProblem:
    wafer = draw(wafers())
    count = draw(st.integers(1, 5))
    size = st.tuples(st.integers(1, 3), st.integers(1, 3))
    sizes = draw(
        st.one_of(
            size.map(lambda one: [one] * count), st.lists(size, min_size=count, max_size=count)
        )
    )
    pairs = [(a, b) for a in range(count) for b in range(a)]
    weight = st.one_of(st.integers(0, 10**9), st.floats(0, 1e9))
    exchanges = (
        draw(st.lists(st.tuples(st.sampled_from(pairs), weight), max_size=6)) if pairs else []
    )
    anchors = draw(
        st.lists(
            st.builds(
                Anchor,
                st.integers(0, count - 1),
                st.sampled_from(("north", "south", "east", "west")),
                weight,
            ),
            max_size=2,
        )
    )
    return PlacementProblem(
        wafer, tuple(sizes), tuple(Exchange(*pair, w) for pair, w in exchanges), tuple(anchors)
    )


@given(problems())
@settings(deadline=None, max_examples=40)
def test_placed_rectangles_are_sound_and_no_worse_than_any_serpentine(
    problem: PlacementProblem,
) -> None:
    try:
        placed = place(problem)
    except PlacementError:
        rows, columns = (max(size) for size in zip(*problem.sizes, strict=True))
        assert serpentine(problem.wafer, rows, columns, len(problem.sizes)) is None
        return
    assert_sound(problem.wafer, placed.rectangles)
    assert [(at.rows, at.columns) for at in placed.rectangles] == list(problem.sizes)
    assert placed.objective == objective(problem, placed.rectangles)
    assert least_objective(problem) * (1 - 1e-12) <= placed.objective
    assert placed.lower_bound <= placed.objective
    for way in layouts(problem):
        assert placed.objective <= objective(problem, way)


def test_objective_is_bytes_times_hops_between_centres_and_to_edges() -> None:
    problem = PlacementProblem(
        wafer_of((2, 2), (5, 5)),
        ((2, 2), (4, 2)),
        (Exchange(0, 1, 10),),
        (Anchor(0, "west", 1), Anchor(1, "east", 100), Anchor(1, "south", 1000)),
    )
    places = [Rectangle(0, 0, 2, 2), Rectangle(3, 5, 4, 2)]
    assert objective(problem, places) == 10 * (4 + 5) + 0.5 + 100 * 3.5 + 1000 * 4.5


SMALL = {
    "chain": chain(wafer_of((1, 1), (4, 6)), 3, 2, 2),
    "turn": chain(wafer_of((1, 1), (5, 7)), 4, 2, 3),
    "around a dead core": chain(
        wafer_of((1, 1), (4, 6), dead_cores=(DeadCore((0, 0), (1, 2)),)), 3, 2, 2
    ),
    "not in shelves": chain(
        wafer_of((1, 1), (4, 4), dead_cores=(DeadCore((0, 0), (0, 0)), DeadCore((0, 0), (3, 3)))),
        3,
        2,
        2,
    ),
    "star": PlacementProblem(
        wafer_of((1, 1), (4, 6)), ((2, 2),) * 4, tuple(Exchange(0, at, 3) for at in (1, 2, 3))
    ),
    "around dead links": chain(
        wafer_of(
            (1, 1),
            (4, 6),
            dead_links=(DeadLink((0, 0), (1, 1), "east"), DeadLink((0, 0), (2, 4), "north")),
        ),
        3,
        2,
        2,
    ),
    "anchored": PlacementProblem(
        wafer_of((1, 2), (5, 4)),
        ((2, 2),) * 3,
        (Exchange(0, 1, 5), Exchange(1, 2, 7)),
        (Anchor(0, "east", 4), Anchor(2, "east", 9)),
    ),
    "unequal": PlacementProblem(
        wafer_of((1, 1), (5, 5), dead_cores=(DeadCore((0, 0), (2, 2)),)),
        ((3, 2), (1, 4), (2, 2)),
        (Exchange(0, 1, 2), Exchange(1, 2, 3), Exchange(0, 2, 1.5)),
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_small_cases_are_placed_as_well_as_can_be(name: str) -> None:
    problem = SMALL[name]
    best = least_by_trial(problem)
    if best is None:
        with pytest.raises(PlacementError):
            place(problem)
        return
    placed = place(problem)
    assert placed.objective == pytest.approx(best)
    assert placed.lower_bound == pytest.approx(best, rel=2e-3)
    assert least_objective(problem) <= best


@given(st.integers(2, 5), st.integers(1, 3), st.integers(1, 3), st.data())
@settings(deadline=None, max_examples=30)
def test_no_placement_of_a_crowd_costs_less_than_the_bound(
    count: int, rows: int, columns: int, data: st.DataObject
) -> None:
    pairs = [(a, b) for a in range(count) for b in range(a)]
    weights = data.draw(st.lists(st.integers(0, 9), min_size=len(pairs), max_size=2 * len(pairs)))
    exchanges = tuple(
        Exchange(*pairs[at % len(pairs)], weight) for at, weight in enumerate(weights)
    )
    corners = data.draw(
        st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=count, max_size=count)
    )
    problem = PlacementProblem(wafer_of((1, 1), (16, 16)), ((rows, columns),) * count, exchanges)
    places = [Rectangle(*corner, rows, columns) for corner in corners]
    if not any(a.overlaps(b) for a, b in permutations(places, 2)):
        assert least_objective(problem) <= objective(problem, places) * (1 + 1e-12)


def test_a_chain_on_a_clean_wafer_is_proven_best_without_a_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(placement_search, "_solve", None)
    for size in ((150, 200), (170, 110), (66, 100)):
        assert place(chain(LARGE, 16, *size)).gap == 0


def test_placement_beats_the_serpentine_around_a_dead_die() -> None:
    problem = chain(LARGE_MENDED, 8, 180, 240)
    ways = serpentines(LARGE_MENDED, 180, 240, 8)
    assert place(problem).objective < 0.8 * min(objective(problem, way) for way in ways)


def test_what_does_not_fit_is_named_with_how_many_would() -> None:
    with pytest.raises(
        PlacementError, match="13 rectangles of 250 x 300 cores wanted, 9 fit"
    ) as at:
        place(chain(LARGE, 13, 250, 300))
    assert (at.value.infeasibility.limit, at.value.infeasibility.gap) == (9, 4)


def test_no_rectangles_are_placed_at_no_cost() -> None:
    assert place(PlacementProblem(LARGE, ())).objective == 0


def test_two_processes_place_alike() -> None:
    script = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('cases', sys.argv[1])\n"
        "cases = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(cases)\n"
        "print(cases.place(cases.chain(cases.LARGE_MENDED, 8, 150, 200)))\n"
    )
    command = [sys.executable, "-c", script, __file__]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    first, second = (run.communicate(timeout=120)[0] for run in runs)
    assert first == second
    assert b"Rectangle" in first
