"""Which designs nothing betters, and how much of the space of figures they dominate.

All figures are losses: to be minimized, finite. Numpy only, so that reading a study needs no torch.
"""

from bisect import bisect_left, bisect_right

import numpy as np
from numpy.typing import NDArray

from .design import Floats

Mask = NDArray[np.bool_]

MARGIN = 0.1
"""Of the front's range, how far beyond its worst figures the reference point lies: 10%, as in
BoTorch's `infer_reference_point` (Ishibuchi et al., Evolutionary Computation 26(3), 2018)."""

_SIEVE = 64
"""Points tried against all others before the exact count: few dominate most of the rest."""


def nondominated(losses: Floats) -> Mask:
    """Which of the points no other betters; equal points are kept together.

    Args:
        losses: (points, objectives), finite.

    Returns:
        (points,) True where no point is at least as good in all and better in one.
    """
    count, objectives = losses.shape
    mask = np.zeros(count, dtype=bool)
    if count == 0:
        return mask
    order = np.lexsort(losses.T[::-1])
    ranked = losses[order]
    left = np.arange(count)
    if objectives > 2:
        left = _sieve(ranked, _SIEVE)
    exact = _swept if objectives <= 3 else _compared
    mask[order[left[exact(ranked[left])]]] = True
    return mask


def _sieve(ranked: Floats, count: int) -> NDArray[np.intp]:
    """Rows that the most promising points do not dominate."""
    spread = np.ptp(ranked, axis=0)
    promise = ((ranked - ranked.min(axis=0)) / np.where(spread > 0, spread, 1)).sum(axis=1)
    left = np.arange(len(ranked))
    for row in np.argsort(promise, kind="stable")[:count]:
        left = left[~dominated_by(ranked[row], ranked[left])]
    return left


def dominated_by(point: Floats, others: Floats) -> Mask:
    """Which of the others a point betters: at least as good in all, better in one."""
    no_worse = np.logical_and.reduce(point <= others, axis=1)
    return no_worse & np.logical_or.reduce(point < others, axis=1)


def _swept(ranked: Floats) -> Mask:
    """One to three objectives, rows sorted by the first, then the others: a row is dominated by
    what came before it, which a staircase of the last two objectives tells."""
    kept = np.zeros(len(ranked), dtype=bool)
    stairs_x: list[float] = []
    stairs_y: list[float] = []
    padded = np.column_stack([ranked, np.zeros((len(ranked), 3 - ranked.shape[1]))])
    before: tuple[float, float, float] | None = None
    for row, (first, x, y) in enumerate(padded.tolist()):
        at = bisect_right(stairs_x, x)
        if at and stairs_y[at - 1] <= y:
            kept[row] = before == (first, x, y) and kept[row - 1]
        else:
            kept[row] = True
            at = bisect_left(stairs_x, x)
            end = at
            while end < len(stairs_y) and stairs_y[end] >= y:
                end += 1
            stairs_x[at:end] = [x]
            stairs_y[at:end] = [y]
        before = (first, x, y)
    return kept


def _compared(ranked: Floats) -> Mask:
    """Any number of objectives, rows sorted: the first row left is on the front, and takes those
    that it dominates away."""
    kept = np.zeros(len(ranked), dtype=bool)
    left = np.arange(len(ranked))
    while len(left):
        row = left[0]
        kept[row] = True
        left = left[1:]
        left = left[~dominated_by(ranked[row], ranked[left])]
    return kept


def reference_point(losses: Floats) -> Floats:
    """Worse in every objective than all of the front: its worst figures and a tenth of its range
    (of the figure itself where the front has one value). (objectives,)"""
    front = losses[nondominated(losses)]
    worst = front.max(axis=0)
    spread = worst - front.min(axis=0)
    scale = np.where(spread > 0, spread, np.where(worst != 0, np.abs(worst), 1.0))
    return worst + MARGIN * scale


def hypervolume(losses: Floats, reference: Floats) -> float:
    """Volume between the front and the reference point, in the product of the figures' units.

    By slices along the last objective (While et al., IEEE TEVC 10(1), 2006); points that are not
    better than the reference in all objectives add nothing.
    """
    inside = losses[(losses < reference).all(axis=1)]
    if not len(inside):
        return 0.0
    return _volume(inside[nondominated(inside)], reference)


def _volume(front: Floats, reference: Floats) -> float:
    if front.shape[1] == 1:
        return float(reference[0] - front[:, 0].min())
    if front.shape[1] == 2:
        return _area(front, reference)
    front = front[np.argsort(front[:, -1], kind="stable")]
    depth = np.diff(front[:, -1], append=reference[-1])
    total = 0.0
    for count in np.flatnonzero(depth > 0) + 1:
        slab = front[:count, :-1]
        if front.shape[1] > 3:
            slab = slab[nondominated(slab)]
        total += depth[count - 1] * _volume(slab, reference[:-1])
    return float(total)


def _area(points: Floats, reference: Floats) -> float:
    """Of two objectives, in closed form; dominated points add nothing."""
    points = points[np.argsort(points[:, 0], kind="stable")]
    height = np.minimum.accumulate(points[:, 1])
    width = np.diff(points[:, 0], append=reference[0])
    return float(width @ (reference[1] - height))
