"""The constraint model of placement, for OR-Tools CP-SAT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, gcd
from typing import TYPE_CHECKING

from ..ir.hardware import Edge, Wafer
from ..ir.program import Rectangle
from .placement_ground import half_walls, walls
from .placement_problem import PlacementProblem, apart, objective

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

WORK = 0.3
"""What CP-SAT may spend on all of up to FEW rectangles, in its own deterministic unit: one or two
seconds."""

FEW = 10
"""Rectangles whose best places CP-SAT often proves; of more, it gets a third of the work, which
gives a bound."""

MOST = 120
"""Rectangles; the model of more is too large to be of use."""

NEIGHBOURS = 7
"""Rectangles that move at a time once the search over all has ended."""

NEIGHBOURS_WORK = 0.02
"""What CP-SAT may spend on one neighbourhood."""

NEIGHBOURHOODS = 8
"""At most so many are searched."""

FINEST_WEIGHT = 1000
"""Weights are integers of at most this in the solver; finer differences are rounded down."""


@dataclass(frozen=True)
class _Grid:
    """The walls, and in which unit rectangles and walls are kept apart: cores, or, where links are
    dead, half rows and half columns, of which a rectangle of n cores takes 2 n - 1."""

    walls: list[Rectangle]
    halves: bool

    def size(self, cores: int) -> int:
        return 2 * cores - 1 if self.halves else cores

    def cores(self, wall: tuple[int, int]) -> tuple[int, int]:
        """From and up to which core a wall reaches; a dead link reaches none."""
        return ((wall[0] + 1) // 2, (wall[1] + 1) // 2) if self.halves else wall


def _grid(wafer: Wafer) -> _Grid:
    halves = bool(wafer.dead_links)
    return _Grid(half_walls(wafer) if halves else walls(wafer), halves)


@dataclass(frozen=True)
class _Corners:
    """The variables: rows and columns of the north-west corners."""

    rows: list[cp_model.IntVar]
    columns: list[cp_model.IntVar]


def search(
    problem: PlacementProblem, start: Sequence[Rectangle] | None, share: float = 1.0
) -> tuple[list[Rectangle] | None, float]:
    """The best rectangles found, if any, and a lower bound of the objective in byte-hops.

    First all rectangles move at once, which also gives the bound; then, around each in turn, only
    the nearest few do, and the others stand. The same problem has the same answer in every
    process. `share` is the part of the work that may be spent.
    """
    everything = range(len(problem.sizes))
    if start is not None and len(everything) > MOST:
        return list(start), 0.0
    work = WORK * share * (1 if len(everything) <= FEW or start is None else 1 / 3)
    found, least = _solve(problem, start, everything, work)
    best = start if found is None else found
    if best is None or objective(problem, best) <= least:
        return found, least
    best = min((way for way in (start, found) if way), key=lambda way: objective(problem, way))
    if len(everything) <= NEIGHBOURS:
        return list(best), least
    stride = -(-len(everything) // max(1, int(NEIGHBOURHOODS * share)))
    for index in everything[::stride]:
        moved, _ = _solve(problem, best, _nearest(best, index), NEIGHBOURS_WORK)
        if moved is not None and objective(problem, moved) < objective(problem, best):
            best = moved
    return list(best), least


def _nearest(places: Sequence[Rectangle], index: int) -> list[int]:
    """The rectangle and those whose centres are nearest to its own."""
    row, column = places[index].centre

    def hops(other: int) -> tuple[float, int]:
        at = places[other].centre
        return abs(at[0] - row) + abs(at[1] - column), other

    return sorted(range(len(places)), key=hops)[:NEIGHBOURS]


def _solve(
    problem: PlacementProblem,
    start: Sequence[Rectangle] | None,
    movable: Sequence[int],
    work: float,
) -> tuple[list[Rectangle] | None, float]:
    """The best places found with all but the movable rectangles where they start, and a bound."""
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    grid = _grid(problem.wafer)
    corners = _corners(model, problem, grid)
    _keep_apart(model, problem, corners, grid)
    unit = _minimize(model, problem, corners)
    for index, at in enumerate(start or ()):
        row, column = corners.rows[index], corners.columns[index]
        if index in movable:
            model.add_hint(row, at.row)
            model.add_hint(column, at.column)
        else:
            model.add(row == at.row)
            model.add(column == at.column)
    solver = _solver(work, problem.seed)
    status = solver.solve(model)
    least = solver.best_objective_bound * unit
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None, least
    places = [
        Rectangle(solver.value(row), solver.value(column), *size)
        for row, column, size in zip(corners.rows, corners.columns, problem.sizes, strict=True)
    ]
    return places, least


def _solver(work: float, seed: int) -> cp_model.CpSolver:
    """One worker, a given seed, stopped by deterministic time; an interrupt is ours to handle."""
    from ortools.sat.python import cp_model

    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = seed
    solver.parameters.catch_sigint_signal = False
    solver.parameters.max_deterministic_time = work
    solver.parameters.use_timetabling_in_no_overlap_2d = True
    solver.parameters.use_energetic_reasoning_in_no_overlap_2d = True
    return solver


def _corners(model: cp_model.CpModel, problem: PlacementProblem, grid: _Grid) -> _Corners:
    wafer = problem.wafer
    row_walls = [grid.cores((wall.row, wall.row + wall.rows)) for wall in grid.walls]
    column_walls = [grid.cores((wall.column, wall.column + wall.columns)) for wall in grid.walls]
    rows, columns = [], []
    for index, (high, wide) in enumerate(problem.sizes):
        for kind, size, extent, spans, into in (
            ("row", high, wafer.usable_rows, row_walls, rows),
            ("column", wide, wafer.usable_columns, column_walls, columns),
        ):
            steps = positions(size, extent, spans) if problem.equal else range(extent - size + 1)
            into.append(_variable(model, steps, f"{kind}{index}"))
    return _Corners(rows, columns)


def positions(size: int, extent: int, walls: Sequence[tuple[int, int]]) -> list[int]:
    """Coordinates that suffice for the best placement of equal rectangles, in one direction.

    For fixed relations (left of, right of) the objective is a linear program in differences, and
    these are bounded or bent at 0 and `size`: some best vertex has every rectangle a multiple of
    `size` away from the wafer's border or from a wall.
    """
    fixed = {0, extent - size} | {end for _, end in walls} | {begin - size for begin, _ in walls}
    residues = {at % size for at in fixed}
    return [at for at in range(extent - size + 1) if at % size in residues]


def _variable(model: cp_model.CpModel, steps: Sequence[int], name: str) -> cp_model.IntVar:
    from ortools.sat.python import cp_model

    return model.new_int_var_from_domain(cp_model.Domain.from_values(list(steps)), name)


def _keep_apart(
    model: cp_model.CpModel, problem: PlacementProblem, corners: _Corners, grid: _Grid
) -> None:
    """No rectangle overlaps another or a wall."""
    spans = model.new_fixed_size_interval_var
    row_spans = [spans(at.row, at.rows, f"wall_rows{n}") for n, at in enumerate(grid.walls)]
    column_spans = [spans(at.column, at.columns, f"wall_{n}") for n, at in enumerate(grid.walls)]
    step = 2 if grid.halves else 1
    for index, (high, wide) in enumerate(problem.sizes):
        row, column = step * corners.rows[index], step * corners.columns[index]
        row_spans.append(spans(row, grid.size(high), f"rows{index}"))
        column_spans.append(spans(column, grid.size(wide), f"columns{index}"))
    model.add_no_overlap_2d(row_spans, column_spans)


def _minimize(model: cp_model.CpModel, problem: PlacementProblem, corners: _Corners) -> float:
    """Sets the objective, in half hops times a unit of bytes; returns byte-hops for one of it."""
    weights, unit = _small([at.weight_bytes for at in (*problem.exchanges, *problem.anchors)])
    wafer = problem.wafer
    terms: list[cp_model.LinearExprT] = []
    for exchange, weight in zip(problem.exchanges, weights, strict=False):
        terms.append(weight * _half_hops(model, problem, corners, exchange.first, exchange.second))
    for anchor, weight in zip(problem.anchors, weights[len(problem.exchanges) :], strict=True):
        high, wide = problem.sizes[anchor.rectangle]
        row = 2 * corners.rows[anchor.rectangle] + high - 1
        column = 2 * corners.columns[anchor.rectangle] + wide - 1
        far_row, far_column = 2 * (wafer.core_rows - 1), 2 * (wafer.core_columns - 1)
        to_edge: dict[Edge, cp_model.LinearExprT] = {
            "north": row,
            "south": far_row - row,
            "west": column,
            "east": far_column - column,
        }
        nearest = to_edge[anchor.edge]
        if anchor.others:
            nearest = model.new_int_var(0, far_row + far_column, f"edge_{anchor.rectangle}")
            model.add_min_equality(nearest, [to_edge[edge] for edge in anchor.edges])
        terms.append(weight * nearest)
    model.minimize(sum(terms))
    return unit / 2


def _half_hops(
    model: cp_model.CpModel, problem: PlacementProblem, corners: _Corners, first: int, second: int
) -> cp_model.LinearExprT:
    """Twice the distance of two centres, which is at least what keeps them disjoint."""
    total: cp_model.LinearExprT = 0
    for name, at, along, extent in (
        ("row", corners.rows, 0, problem.wafer.usable_rows),
        ("column", corners.columns, 1, problem.wafer.usable_columns),
    ):
        # centres of equal parity are whole hops apart: smaller domains
        shift = problem.sizes[first][along] - problem.sizes[second][along]
        scale = 2 if shift % 2 == 0 else 1
        halves = 2 // scale
        distance = model.new_int_var(0, halves * extent, f"{name}_distance_{first}_{second}")
        model.add_abs_equality(distance, halves * (at[first] - at[second]) + shift // scale)
        total = total + scale * distance
    model.add(total >= round(2 * apart(problem, first, second)))
    return total


def _small(weights: Sequence[float]) -> tuple[list[int], float]:
    """Integers of at most FINEST_WEIGHT and a unit, whose products are at most the weights."""
    whole = [int(weight) for weight in weights]
    unit = float(gcd(*whole)) if whole == list(weights) else 0.0
    largest = max(weights, default=0)
    if unit == 0 or largest / unit > FINEST_WEIGHT:
        unit = largest / FINEST_WEIGHT or 1.0
    return [min(FINEST_WEIGHT, floor(weight / unit)) for weight in weights], unit
