"""How much the busiest link of a wafer carries under a placement, by an estimate.

Half of what two rectangles exchange goes each way. All rows of the sender carry a share of it, from
its centre's column to the other's, and then all columns of the receiver do (dimension order). What
goes to an edge goes straight. Loads are running sums of differences at both ends of a way; only
the rows and columns where something begins or ends are held.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..ir.program import Rectangle
from .placement_board import Board, Integers
from .placement_problem import PlacementProblem


def hottest(problem: PlacementProblem, rectangles: Sequence[Rectangle]) -> float:
    """Bytes over the busiest link between two cores, both directions together."""
    board = Board(problem)
    return hottest_link(board, board.corners(rectangles)) / board.scale


def hottest_link(board: Board, corners: Integers) -> float:
    """The same for corners, in the board's unit of weight."""
    sizes, centres = board.sizes, corners + (board.sizes - 1) // 2
    first, second = board.pairs[:, 0], board.pairs[:, 1]
    sender, receiver = np.append(first, second), np.append(second, first)
    weights = np.append(board.weights, board.weights) / 2
    ports, to_row, to_column, sent = _to_ports(board, corners, centres)
    none = np.zeros(len(ports))
    in_rows = _busiest(
        np.append(corners[sender, 0], corners[ports, 0]),
        np.append(sizes[sender, 0], sizes[ports, 0]),
        np.append(centres[sender, 1], centres[ports, 1]),
        np.append(centres[receiver, 1], to_column),
        np.append(weights, np.where(to_column == centres[ports, 1], none, sent)),
    )
    in_columns = _busiest(
        np.append(corners[receiver, 1], corners[ports, 1]),
        np.append(sizes[receiver, 1], sizes[ports, 1]),
        np.append(centres[sender, 0], centres[ports, 0]),
        np.append(centres[receiver, 0], to_row),
        np.append(weights, np.where(to_row == centres[ports, 0], none, sent)),
    )
    return max(in_rows, in_columns)


def _to_ports(
    board: Board, corners: Integers, centres: Integers
) -> tuple[Integers, Integers, Integers, NDArray[np.float64]]:
    """Of everything that is anchored: which rectangle, the row and the column that it goes to, one
    of which is its own, and how much goes."""
    doubled = 2 * corners + board.sizes - 1
    found: list[tuple[int, int, int, int]] = []
    for index, given in enumerate(board.anchors):
        for edges, weight in given:
            axis, _, off = min(edges, key=lambda e: e[1] * int(doubled[index, e[0]]) + e[2])
            to = centres[index].tolist()
            to[axis] = off // 2
            found.append((index, *to, weight))
    index, row, column, weight = np.array(found, dtype=np.int64).reshape(-1, 4).T
    return index, row, column, weight.astype(np.float64)


def _busiest(
    begins: Integers,
    lines: Integers,
    sources: Integers,
    targets: Integers,
    weights: NDArray[np.float64],
) -> float:
    """The most that a link carries, where ways from `sources` to `targets` share their weights over
    so many parallel lines, the first of them at `begins`."""
    rows, row_keys = np.unique(np.append(begins, begins + lines), return_inverse=True)
    columns, column_keys = np.unique(np.append(sources, targets), return_inverse=True)
    count = len(begins)
    share = np.where(sources < targets, weights, -weights) / lines
    loads = np.zeros((len(rows), len(columns)))
    for row_key, sign in ((row_keys[:count], share), (row_keys[count:], -share)):
        np.add.at(loads, (row_key, column_keys[:count]), sign)
        np.add.at(loads, (row_key, column_keys[count:]), -sign)
    return float(loads.cumsum(axis=0).cumsum(axis=1).max(initial=0.0))
