"""What is expected of designs before any is evaluated: the sums behind optimistic figures.

They cost next to nothing, so that every choice is made among fresh designs; those that no
evaluation could bring onto the front are left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..design import Design, Floats, columns_of
from ..evaluator import Optimist
from ..strategy import Problem
from .bo import beside
from .history import Results

FRESH, KEPT = 512, 4
"""Designs drawn from the whole space for each choice, and choices for which they stay."""

SCALED = 256
"""Designs from which the range of figures is taken."""


@dataclass(frozen=True)
class Prior:
    """The figures that a search reads, as expected of designs."""

    problem: Problem
    optimist: Optimist
    figures: tuple[str, ...]
    seed: int
    _drawn: dict[int, list[Design]] = field(
        default_factory=dict[int, list[Design]], repr=False, compare=False
    )
    _known: dict[str, Floats] = field(default_factory=dict[str, Floats], repr=False, compare=False)

    @classmethod
    def of(cls, problem: Problem, seed: int) -> "Prior | None":
        """None where a figure is not expected of designs."""
        wanted = dict.fromkeys(one.figure for one in (*problem.objectives, *problem.limits))
        if problem.optimist is None:
            return None
        some = problem.space.sample(SCALED, np.random.default_rng([seed, SCALED]))
        prior = cls(problem, problem.optimist, tuple(wanted), seed)
        return prior if len(some) > 1 and prior._learn(some) else None

    def rows(self, designs: Sequence[Design]) -> list[dict[str, float]]:
        """The figures of designs; nan of one that certainly cannot do the work."""
        new = [design for design in designs if design.key not in self._known]
        if new:
            self._learn(new)
        return [
            dict(zip(self.figures, self._known[design.key].tolist(), strict=True))
            for design in designs
        ]

    def able(self, designs: Sequence[Design]) -> list[bool]:
        """Which designs may do the work."""
        return [all(value == value for value in row.values()) for row in self.rows(designs)]

    def drawn(
        self,
        known: Callable[[Design], bool],
        results: Results,
        choice: int,
        rng: np.random.Generator,
    ) -> list[Design]:
        """New designs of the whole space and beside the front, that may do the work and that no
        result betters for certain.

        Args:
            known: Which designs are not new.
            results: What is known of others.
            choice: Its number: those of the whole space follow from it alone.
            rng: For those beside the front.
        """
        some = (*self._far(choice), *beside(results, self.problem.space, rng))
        designs = list({design.key: design for design in some if not known(design)}.values())
        designs = [d for d, able in zip(designs, self.able(designs), strict=True) if able]
        objectives, optimist = self.problem.objectives, self.optimist
        if not designs or any(optimist.proven(one) for one in objectives):
            return designs
        best = optimist.optimistic(columns_of(designs, self.problem.space.names), objectives)
        losses = results.losses[results.allowed][:, None, :]
        beaten = np.all(losses <= best, axis=2) & np.any(losses < best, axis=2)
        return [designs[row] for row in np.flatnonzero(~np.any(beaten, axis=0))]

    def _far(self, choice: int) -> list[Design]:
        """Designs of the whole space for a choice: some are new, most served the ones before."""
        turns = range(choice, choice + KEPT)
        for turn in turns:
            if turn not in self._drawn:
                rng = np.random.default_rng([self.seed, turn, FRESH])
                self._drawn[turn] = self.problem.space.sample(FRESH, rng)
        for turn in self._drawn.keys() - set(turns):
            del self._drawn[turn]
        return [design for turn in turns for design in self._drawn[turn]]

    def _learn(self, designs: Sequence[Design]) -> bool:
        columns = columns_of(designs, self.problem.space.names)
        found = self.optimist.expected(columns, self.figures)
        if found is None:
            return False
        self._known.update(zip((d.key for d in designs), found, strict=True))
        return True

    def known_rows(self) -> list[dict[str, float]]:
        """The first designs drawn that may do the work."""
        rows = [dict(zip(self.figures, row.tolist(), strict=True)) for row in self._known.values()]
        return [row for row in rows[:SCALED] if all(value == value for value in row.values())]
