"""Moves of rectangles keep them apart and never cost more; the busiest link is what is said."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wscc.frontend.hardware import load_hardware
from wscc.ir.hardware import DeadCore, DeadLink, Wafer
from wscc.ir.program import Rectangle
from wscc.passes.placement import Anchor, Exchange, PlacementProblem, hottest, objective, place
from wscc.passes.placement_board import Board
from wscc.passes.placement_ground import half_walls
from wscc.passes.placement_layouts import adjacent_order, layouts
from wscc.passes.placement_links import hottest_link
from wscc.passes.placement_moves import TOLERANCE, constructed, cooled, improve
from wscc.passes.placement_swaps import swapped

CLEAN: Wafer = load_hardware("wse2").bind().wafer
SMALL = replace(
    CLEAN, die=replace(CLEAN.die, rows=6, columns=8), rows=3, columns=3, usable_rows=18,
    usable_columns=24,
)  # fmt: skip


@st.composite
def problems(draw: st.DrawFn, equal: bool = False) -> PlacementProblem:
    """Up to ten rectangles on a small wafer with a few defects."""
    die = st.tuples(st.integers(0, 2), st.integers(0, 2))
    core = st.tuples(st.integers(0, 5), st.integers(0, 7))
    side = st.sampled_from(("north", "south", "east", "west"))
    wafer = replace(
        SMALL,
        dead_dies=tuple(draw(st.lists(die, max_size=1))),
        dead_cores=tuple(draw(st.lists(st.builds(DeadCore, die, core), max_size=3))),
        dead_links=tuple(draw(st.lists(st.builds(DeadLink, die, core, side), max_size=2))),
    )
    count = draw(st.integers(2, 10))
    size = st.tuples(st.integers(1, 5), st.integers(1, 6))
    sizes = (draw(size),) * count if equal else tuple(draw(size) for _ in range(count))
    ends = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))
    weight = st.integers(1, 1000).map(float)
    exchanges = draw(st.lists(st.tuples(ends, weight), max_size=16))
    anchors = draw(
        st.lists(
            st.builds(Anchor, st.integers(0, count - 1), side, weight, st.sampled_from(
                ((), ("east",), ("north", "south")))),
            max_size=3,
        )
    )  # fmt: skip
    given = tuple(Exchange(*pair, w) for pair, w in exchanges if pair[0] != pair[1])
    return PlacementProblem(wafer, sizes, given, tuple(anchors), draw(st.integers(0, 9)))


def assert_apart(board: Board, places: list[Rectangle]) -> None:
    """No rectangle overlaps another, what is dead, or the border."""
    walls = half_walls(board.problem.wafer)
    for at in places:
        assert 0 <= at.row <= board.extent[0] - at.rows
        assert 0 <= at.column <= board.extent[1] - at.columns
        halves = Rectangle(2 * at.row, 2 * at.column, 2 * at.rows - 1, 2 * at.columns - 1)
        assert not any(halves.overlaps(wall) for wall in walls)
    assert not any(a.overlaps(b) for a, b in combinations(places, 2))


@given(problems())
@settings(deadline=None, max_examples=60)
def test_a_board_costs_what_the_objective_says(problem: PlacementProblem) -> None:
    board = Board(problem)
    for way in layouts(problem):
        cost = board.cost(board.corners(way)) / (2 * board.scale)
        assert cost == pytest.approx(objective(problem, way), rel=1e-3)


@given(problems())
@settings(deadline=None, max_examples=40)
def test_every_layout_and_construction_is_sound(problem: PlacementProblem) -> None:
    board = Board(problem)
    for way in (*layouts(problem), *layouts(problem, adjacent_order(problem))):
        assert [(at.rows, at.columns) for at in way] == list(problem.sizes)
        assert_apart(board, way)
    if (found := constructed(board)) is not None:
        assert_apart(board, board.rectangles(found))


@given(problems())
@settings(deadline=None, max_examples=25)
def test_moves_keep_rectangles_apart_and_never_cost_more(problem: PlacementProblem) -> None:
    board = Board(problem)
    for way in layouts(problem)[:1]:
        start = board.corners(way)
        found = improve(board, start, 0.1, problem.seed)
        assert_apart(board, board.rectangles(found))
        assert board.cost(found) <= board.cost(start)
        assert (found == improve(board, start, 0.1, problem.seed)).all()


@given(problems())
@settings(deadline=None, max_examples=15)
def test_cooling_costs_little_and_cools(problem: PlacementProblem) -> None:
    board = Board(problem)
    for way in layouts(problem)[:1]:
        start = board.corners(way)
        found = cooled(board, start, 0.3, problem.seed)
        assert_apart(board, board.rectangles(found))
        assert board.cost(found) <= board.cost(start) * (1 + TOLERANCE)
        assert hottest_link(board, found) <= hottest_link(board, start)


@given(problems(equal=True))
@settings(deadline=None, max_examples=40)
def test_after_swaps_no_two_rectangles_should_change_places(problem: PlacementProblem) -> None:
    board = Board(problem)
    for way in layouts(problem)[:1]:
        start = board.corners(way)
        found = swapped(board, start)
        assert sorted(found.tolist()) == sorted(start.tolist())
        assert board.cost(found) <= board.cost(start)
        for a, b in combinations(range(len(found)) if len(found) > 2 else (), 2):
            other = found.copy()
            other[[a, b]] = found[[b, a]]
            assert board.cost(other) >= board.cost(found)


def test_the_busiest_link_carries_a_row_s_share() -> None:
    problem = PlacementProblem(
        SMALL,
        ((3, 2), (3, 2), (3, 2)),
        (Exchange(0, 1, 30.0), Exchange(1, 2, 60.0)),
    )
    in_a_row = [Rectangle(0, column, 3, 2) for column in (0, 2, 4)]
    assert hottest(problem, in_a_row) == pytest.approx(20)
    crossed = [in_a_row[0], in_a_row[2], in_a_row[1]]
    assert hottest(problem, crossed) == pytest.approx(30)


def test_what_goes_to_an_edge_loads_the_links_there() -> None:
    problem = PlacementProblem(
        SMALL, ((2, 2), (2, 2)), (), (Anchor(0, "west", 8.0), Anchor(1, "west", 4.0))
    )
    behind = [Rectangle(0, 0, 2, 2), Rectangle(0, 4, 2, 2)]
    beside = [Rectangle(0, 4, 2, 2), Rectangle(4, 4, 2, 2)]
    assert hottest(problem, behind) == pytest.approx(2)
    assert hottest(problem, beside) == pytest.approx(4)
    assert hottest(replace(problem, anchors=()), beside) == 0


@given(problems())
@settings(deadline=None, max_examples=30)
def test_the_busiest_link_is_that_of_a_sum_link_by_link(problem: PlacementProblem) -> None:
    problem = replace(problem, anchors=())
    for way in layouts(problem)[:1]:
        shape = SMALL.core_rows, SMALL.core_columns
        east, south = np.zeros(shape), np.zeros(shape)
        for each in problem.exchanges:
            pair = way[each.first], way[each.second]
            for a, b in (pair, pair[::-1]):
                (from_row, from_column), (to_row, to_column) = (
                    (int(at.centre[0]), int(at.centre[1])) for at in (a, b)
                )
                half = each.weight_bytes / 2
                west, to = sorted((from_column, to_column))
                east[a.row : a.row + a.rows, west:to] += half / a.rows
                north, to = sorted((from_row, to_row))
                south[north:to, b.column : b.column + b.columns] += half / b.columns
        assert hottest(problem, way) == pytest.approx(max(east.max(), south.max()), rel=1e-3)


def test_rectangles_that_no_serpentine_holds_are_placed() -> None:
    wafer = replace(SMALL, rows=1, columns=1, usable_rows=6, usable_columns=8)
    sizes = ((6, 2), (2, 6), (4, 3), (4, 3))
    problem = PlacementProblem(wafer, sizes, (Exchange(0, 2, 1.0), Exchange(1, 3, 2.0)))
    assert not layouts(problem)
    placed = place(problem)
    assert_apart(Board(problem), list(placed.rectangles))


def test_the_order_of_exchanges_starts_where_the_problem_does() -> None:
    exchanges = (Exchange(0, 3, 1.0), Exchange(3, 1, 5.0), Exchange(0, 2, 3.0), Exchange(2, 4, 1.0))
    problem = PlacementProblem(SMALL, ((1, 1),) * 5, exchanges)
    assert adjacent_order(problem) == [0, 2, 3, 1, 4]


def test_experts_that_share_tokens_come_nearer_than_in_a_serpentine() -> None:
    pairs = [(a, b) for a in range(12) for b in range(a)]
    exchanges = tuple(Exchange(a, b, 1000.0 / (1 + (7 * a + 5 * b) % 13)) for a, b in pairs)
    problem = PlacementProblem(replace(SMALL, dead_dies=((1, 1),)), ((3, 5),) * 12, exchanges)
    best = min(objective(problem, way) for way in layouts(problem))
    assert place(problem, 0.2).objective < 0.9 * best
