"""A placement problem as arrays of integers, and where one rectangle costs least.

Costs are whole numbers, so that every machine takes the same steps. What is tried in which order
is decided in placement_moves.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..ir.hardware import Edge
from ..ir.program import Rectangle
from .placement_ground import half_walls
from .placement_problem import PlacementProblem

Integers = NDArray[np.int64]

ToEdge = tuple[int, int, int]
"""How twice a centre becomes twice the hops to an edge: an axis, a sign and an offset."""

FINEST_WEIGHT = 1 << 20
"""Weights are integers of at most this here."""

LOOKED_AT = 40
"""Rows, and columns, of least cost that a rectangle is tried at first."""

ALIGNED = 6
"""Partners of the greatest weight whose centres a rectangle is tried in line with."""


@dataclass(frozen=True)
class Board:
    """A problem as arrays of integers.

    `sizes` (n, 2); `pairs` (e, 2) and their `weights` (e,); `walls` (m, 2, 2), from and up to, in
    half rows and half columns.
    """

    problem: PlacementProblem

    @cached_property
    def sizes(self) -> Integers:
        return np.array(self.problem.sizes, dtype=np.int64)

    @cached_property
    def extent(self) -> Integers:
        wafer = self.problem.wafer
        return np.array([wafer.usable_rows, wafer.usable_columns], dtype=np.int64)

    @cached_property
    def walls(self) -> Integers:
        found = [
            ((wall.row, wall.row + wall.rows), (wall.column, wall.column + wall.columns))
            for wall in half_walls(self.problem.wafer)
        ]
        return np.array(found, dtype=np.int64).reshape(-1, 2, 2)

    @cached_property
    def scale(self) -> float:
        """The board's weight of a byte."""
        given = (*self.problem.exchanges, *self.problem.anchors)
        return FINEST_WEIGHT / (max((each.weight_bytes for each in given), default=0) or 1)

    @cached_property
    def weights(self) -> Integers:
        return np.array(
            [round(e.weight_bytes * self.scale) for e in self.problem.exchanges], dtype=np.int64
        )

    @cached_property
    def pairs(self) -> Integers:
        pairs = [(e.first, e.second) for e in self.problem.exchanges]
        return np.array(pairs, dtype=np.int64).reshape(-1, 2)

    @cached_property
    def partners(self) -> list[tuple[Integers, Integers]]:
        """Of each rectangle those that it exchanges bytes with, heaviest first, and weights."""
        found: list[dict[int, int]] = [{} for _ in self.problem.sizes]
        for (first, second), weight in zip(self.pairs.tolist(), self.weights.tolist(), strict=True):
            if first != second and weight:
                found[first][second] = found[first].get(second, 0) + weight
                found[second][first] = found[second].get(first, 0) + weight
        ordered = [sorted(each.items(), key=lambda item: (-item[1], item[0])) for each in found]
        return [
            (
                np.array([other for other, _ in each], dtype=np.int64),
                np.array([weight for _, weight in each], dtype=np.int64),
            )
            for each in ordered
        ]

    @cached_property
    def anchors(self) -> list[list[tuple[list[ToEdge], int]]]:
        """Of each rectangle the edges that it may go to, and weights."""
        wafer = self.problem.wafer
        far = 2 * (wafer.core_rows - 1), 2 * (wafer.core_columns - 1)
        edges: dict[Edge, ToEdge] = {
            "north": (0, 1, 0),
            "south": (0, -1, far[0]),
            "west": (1, 1, 0),
            "east": (1, -1, far[1]),
        }
        found: list[list[tuple[list[ToEdge], int]]] = [[] for _ in self.problem.sizes]
        for each in self.problem.anchors:
            weight = round(each.weight_bytes * self.scale)
            found[each.rectangle].append(([edges[edge] for edge in each.edges], weight))
        return found

    def cost(self, corners: Integers) -> int:
        """Twice the hops times the weights, all told."""
        centres = 2 * corners + self.sizes - 1
        apart = np.abs(centres[self.pairs[:, 0]] - centres[self.pairs[:, 1]]).sum(axis=1)
        total = int((apart * self.weights).sum())
        for centre, given in zip(centres.tolist(), self.anchors, strict=True):
            for edges, weight in given:
                total += weight * min(sign * centre[axis] + off for axis, sign, off in edges)
        return total

    def anchor_costs(self, centres: Integers) -> NDArray[np.float64]:
        """Of every rectangle (n,), at every rectangle's centre (n,): (n, n)."""
        costs = np.zeros((len(centres), len(centres)))
        for index, given in enumerate(self.anchors):
            for edges, weight in given:
                hops = [sign * centres[:, axis] + off for axis, sign, off in edges]
                costs[index] += weight * np.min(hops, axis=0)
        return costs

    def best_corner(
        self, index: int, corners: Integers, standing: NDArray[np.bool_]
    ) -> tuple[int, int] | None:
        """Where a rectangle costs least among those that stand; None if there is no room.

        It is tried at the wafer's border, beside what stands or is dead, and in line with the
        rectangles that it exchanges bytes with.
        """
        begins, ends = self._obstacles(corners, standing)
        others, weights = self.partners[index]
        placed = standing[others]
        others, weights = others[placed], weights[placed]
        centres = 2 * corners[others] + self.sizes[others] - 1
        lines: list[Integers] = []
        costs: list[Integers] = []
        for axis in (0, 1):
            at = self._lines(index, axis, begins, ends, centres)
            doubled = 2 * at + self.sizes[index, axis] - 1
            cost = (np.abs(doubled[:, np.newaxis] - centres[:, axis]) * weights).sum(axis=1)
            for edges, weight in self.anchors[index]:
                if len(edges) == 1 and edges[0][0] == axis:
                    cost = cost + weight * (edges[0][1] * doubled + edges[0][2])
            lines.append(at)
            costs.append(cost)
        if not (len(lines[0]) and len(lines[1])):
            return None
        nearest = [np.argsort(cost, kind="stable")[:LOOKED_AT] for cost in costs]
        found = self._first_free(index, lines, costs, nearest, begins, ends)
        if found is None and max(len(line) for line in lines) > LOOKED_AT:
            everything = [np.argsort(cost, kind="stable") for cost in costs]
            found = self._first_free(index, lines, costs, everything, begins, ends)
        return found

    def _obstacles(
        self, corners: Integers, standing: NDArray[np.bool_]
    ) -> tuple[Integers, Integers]:
        """From and up to which half rows and columns something stands or is dead: (k, 2) each."""
        begins = 2 * corners[standing]
        ends = begins + 2 * self.sizes[standing] - 1
        return (
            np.concatenate([begins, self.walls[:, :, 0]]),
            np.concatenate([ends, self.walls[:, :, 1]]),
        )

    def _lines(
        self, index: int, axis: int, begins: Integers, ends: Integers, centres: Integers
    ) -> Integers:
        """Rows, or columns, where a rectangle may begin."""
        size, last = int(self.sizes[index, axis]), int(self.extent[axis] - self.sizes[index, axis])
        in_line = (centres[:ALIGNED, axis] + 1 - size) // 2
        found = np.concatenate(
            [[0, last], (ends[:, axis] + 1) // 2, (begins[:, axis] + 1) // 2 - size, in_line]
        )
        return np.unique(found[(found >= 0) & (found <= last)])

    def _first_free(
        self,
        index: int,
        lines: Sequence[Integers],
        costs: Sequence[Integers],
        chosen: Sequence[Integers],
        begins: Integers,
        ends: Integers,
    ) -> tuple[int, int] | None:
        """The cheapest free corner among some rows and columns."""
        hits: list[NDArray[np.float32]] = []
        for axis in (0, 1):
            at = 2 * lines[axis][chosen[axis]][:, np.newaxis]
            hit = (at < ends[:, axis]) & (at + 2 * self.sizes[index, axis] - 1 > begins[:, axis])
            hits.append(hit.astype(np.float32))
        blocked = hits[0] @ hits[1].T > 0
        total = costs[0][chosen[0]][:, np.newaxis] + costs[1][chosen[1]]
        for edges, weight in self.anchors[index]:
            if len(edges) > 1:
                total = total + weight * self._nearest_edge(index, lines, chosen, edges)
        total = np.where(blocked, np.iinfo(np.int64).max, total)
        at = int(total.argmin())
        row, column = divmod(at, total.shape[1])
        if blocked[row, column]:
            return None
        return int(lines[0][chosen[0][row]]), int(lines[1][chosen[1][column]])

    def _nearest_edge(
        self,
        index: int,
        lines: Sequence[Integers],
        chosen: Sequence[Integers],
        edges: Sequence[ToEdge],
    ) -> Integers:
        doubled = [2 * lines[axis][chosen[axis]] + self.sizes[index, axis] - 1 for axis in (0, 1)]
        away: list[Integers] = [np.array([[np.iinfo(np.int64).max]])]
        for axis, sign, offset in edges:
            hops = sign * doubled[axis] + offset
            away.append(hops[:, np.newaxis] if axis == 0 else hops[np.newaxis, :])
        shape = len(doubled[0]), len(doubled[1])
        return np.min([np.broadcast_to(each, shape) for each in away], axis=0)

    def corners(self, places: Sequence[Rectangle]) -> Integers:
        """The corners of rectangles: (n, 2)."""
        return np.array([(at.row, at.column) for at in places], dtype=np.int64).reshape(-1, 2)

    def rectangles(self, corners: Integers) -> list[Rectangle]:
        """The rectangles at some corners."""
        sizes = self.problem.sizes
        at = zip(corners.tolist(), sizes, strict=True)
        return [Rectangle(row, column, *size) for (row, column), size in at]
