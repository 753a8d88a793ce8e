"""A scrambled Sobol sequence: covers the space more evenly than random designs.

A. B. Owen, Scrambling Sobol' and Niederreiter-Xing points, J. Complexity 14(4), 1998.
"""

from collections.abc import Iterator

from ..design import Design
from ..strategy import Problem
from ..trial import Suggestion
from .history import Remembering

_BATCH = 64
"""Points of the sequence made at once: a power of two keeps it balanced."""

_DRY = 4096
"""Points in a row that are illegal or repeat a design after which the sequence is given up."""


class SobolSearch(Remembering):
    """The designs that the sequence's points stand for; points that stand for none are left out,
    and when the sequence gives nothing new any more, random designs follow."""

    def __init__(self, problem: Problem, seed: int) -> None:
        super().__init__(problem, seed)
        self._sequence = sequence(problem, seed)

    def choose(self) -> Suggestion | None:
        for design in self._sequence:
            if not self.history.knows(design, self.top):
                return Suggestion(design, self.top, "sobol")
        return self.anything("random")


def sequence(problem: Problem, seed: int) -> Iterator[Design]:
    """Different legal designs, in the order of a scrambled Sobol sequence; ends when it has given
    nothing new for long."""
    from scipy.stats.qmc import Sobol

    points = Sobol(len(problem.space.names), scramble=True, rng=seed)
    seen: set[str] = set()
    misses = 0
    while misses < _DRY:
        for design in problem.space.from_unit(points.random(_BATCH)):
            misses += 1
            if design is not None and design.key not in seen:
                misses = 0
                seen.add(design.key)
                yield design
