"""How many points a space has, and how many of them can be built.

The points are listed batch by batch (enumerate.py) and judged (batch.py); nothing but the sums is
kept.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .batch import judge

if TYPE_CHECKING:
    from .space import HardwareSpace


@dataclass(frozen=True)
class Counted:
    """Points of a space. Constraints without physics have been applied to all of them."""

    points: int
    designs: int
    """Whose values make a design at all."""
    feasible: int
    """That meet every constraint."""
    broken: dict[str, int]
    """By constraint, how many of the designs break it; the most broken first."""


def count(
    space: "HardwareSpace",
    fixed: Mapping[str, str | float] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Counted:
    """Count the points of a space in which some parameters are `fixed`; `progress` is told how
    many have been judged.

    Raises UserError for a mistake, and where the values of a parameter cannot be listed.
    """
    points = designs = feasible = 0
    broken: Counter[str] = Counter()
    for columns in space.points(fixed):
        verdicts = judge(space, columns)
        points += len(verdicts.valid)
        designs += int(verdicts.valid.sum())
        feasible += int(verdicts.feasible.sum())
        for text, holds in verdicts.holds.items():
            broken[text] += int(np.count_nonzero(verdicts.valid & ~holds))
        if progress is not None:
            progress(points)
    return Counted(points, designs, feasible, dict(broken.most_common()))
