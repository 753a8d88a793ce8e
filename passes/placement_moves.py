"""Placement improved by taking a few rectangles up and putting each back where it costs least.

Ruin and recreate (Schrimpf et al., J. Comput. Phys. 159, 2000) with threshold accepting (Dueck and
Scheuer, J. Comput. Phys. 90, 1990).
"""

from collections.abc import Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray

from .placement_board import Board, Integers
from .placement_links import hottest_link
from .placement_swaps import swapped

STEPS = 1000
"""Ruins of one run; for fewer than FEW rectangles in proportion."""

FEW = 12

TAKEN = 9
"""Rectangles that are taken up at a time, at most."""

LOSS = 0.5
"""Share of a rectangle's part of the objective that a step may lose at the start of a run; it
falls to nothing."""

ORDERS = 20
"""In which rectangles are put down before it is given up that they fit."""

COOLING_STEPS = 500
"""Ruins that look for a cooler busiest link."""

LEAST_COOLING = 1e-6
"""Share by which the busiest link must carry less: more than sums are rounded by."""

TOLERANCE = 0.02
"""Share of the objective that may be given for it."""


def improve(board: Board, start: Integers, share: float = 1.0, seed: int = 0) -> Integers:
    """The best corners found, no worse than those given. `share` is the part of the usual work that
    is spent."""
    best = corners = swapped(board, start)
    draw = Random(seed)
    now = least = board.cost(corners)
    count = len(corners)
    steps = int(STEPS * share * min(1.0, count / FEW))
    for step in range(steps):
        moved = _put_back(board, corners, _taken(board, corners, draw))
        if moved is None:
            continue
        cost = board.cost(moved)
        if cost <= now + LOSS * least * (1 - step / steps) ** 2 / count:
            corners, now = moved, cost
        if cost < least:
            best, least = moved, cost
    return swapped(board, best)


def cooled(board: Board, start: Integers, share: float = 1.0, seed: int = 0) -> Integers:
    """Corners whose busiest link carries less, at a cost of no more than TOLERANCE above that of
    those given."""
    corners, draw = start, Random(seed)
    heat = hottest_link(board, corners)
    limit = board.cost(corners) * (1 + TOLERANCE)
    for _ in range(int(COOLING_STEPS * share * min(1.0, len(corners) / FEW))):
        moved = _put_back(board, corners, _taken(board, corners, draw))
        if moved is None or board.cost(moved) > limit:
            continue
        if (reached := hottest_link(board, moved)) < heat * (1 - LEAST_COOLING):
            corners, heat = moved, reached
    return corners


def constructed(board: Board, seed: int = 0) -> Integers | None:
    """Corners of all rectangles, the largest first, each where it costs least; other orders if
    that finds no room; None if none of them does."""
    count = len(board.sizes)
    draw = Random(seed)
    order = np.argsort(-board.sizes.prod(axis=1), kind="stable").tolist()
    for _ in range(ORDERS):
        corners = np.zeros((count, 2), dtype=np.int64)
        found = _settled(board, corners, np.zeros(count, dtype=bool), order)
        if found is not None:
            return found
        first, second = draw.randrange(count), draw.randrange(count)
        order.insert(first, order.pop(second))
    return None


def _taken(board: Board, corners: Integers, draw: Random) -> list[int]:
    """A rectangle and some of its partners or of those around it, in a random order."""
    count = len(corners)
    index = draw.randrange(count)
    wanted = draw.randint(1, min(TAKEN, count))
    if draw.random() < 0.5:
        centres = 2 * corners + board.sizes
        near = np.abs(centres - centres[index]).sum(axis=1)
        order = np.argsort(near, kind="stable")[: 2 * wanted].tolist()
    else:
        order = [index, *board.partners[index][0][: 2 * wanted].tolist()]
    others = [other for other in order if other != index]
    taken = [index, *draw.sample(others, min(wanted - 1, len(others)))]
    draw.shuffle(taken)
    return taken


def _put_back(board: Board, corners: Integers, taken: Sequence[int]) -> Integers | None:
    """Each rectangle in turn where it costs least; None if one finds no room."""
    standing = np.ones(len(corners), dtype=bool)
    standing[list(taken)] = False
    return _settled(board, corners.copy(), standing, taken)


def _settled(
    board: Board, corners: Integers, standing: NDArray[np.bool_], order: Sequence[int]
) -> Integers | None:
    """The corners, with those of some more rectangles written into them, one after the other."""
    for index in order:
        corner = board.best_corner(index, corners, standing)
        if corner is None:
            return None
        corners[index] = corner
        standing[index] = True
    return corners
