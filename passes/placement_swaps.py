"""Placement improved by rectangles of one size that change places, two at a time.

The best of all pairs until none is left (2-exchange for quadratic assignment; Burkard et al.,
Assignment Problems, 2009, section 8.2.3), all pairs at once by one product of matrices.
"""

import numpy as np
from numpy.typing import NDArray

from .placement_board import Board, Integers

MOST = 256
"""Rectangles; for more a product of matrices takes too long."""

SWAPS = 200
"""At most so many."""


def swapped(board: Board, corners: Integers) -> Integers:
    """Corners no worse than those given, between which no two should change places.

    Sums of products of weights and hops are whole numbers below 2**53, so that floating point is
    exact and every machine takes the same steps.
    """
    count = len(corners)
    if not 2 < count <= MOST:
        return corners
    weights = np.zeros((count, count))
    for index, (others, given) in enumerate(board.partners):
        weights[index, others] = given
    alike = (board.sizes[:, np.newaxis] == board.sizes).all(axis=2)
    corners = corners.copy()
    for _ in range(SWAPS):
        gain = _gain(board, corners, weights)
        gain[~alike] = 0
        first, second = divmod(int(gain.argmin()), count)
        if gain[first, second] >= 0:
            break
        corners[[first, second]] = corners[[second, first]]
    return corners


def _gain(board: Board, corners: Integers, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the cost changes by if two rectangles change places: (n, n)."""
    centres = 2 * corners + board.sizes - 1
    apart = np.abs(centres[:, np.newaxis] - centres).sum(axis=2).astype(np.float64)
    there = weights @ apart + board.anchor_costs(centres)
    here = np.diag(there)
    return there + there.T - here[:, np.newaxis] - here + 2 * weights * apart
