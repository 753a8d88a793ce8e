"""Every design of a finite space at the top fidelity: the truth that others are judged by."""

from ..design import designs_of
from ..strategy import Problem
from ..trial import Suggestion
from .history import Remembering

_BATCH = 4096
"""Designs listed at once."""


class Exhaustive(Remembering):
    """In the order of the space. Raises UserError where its designs cannot be listed."""

    def __init__(self, problem: Problem, seed: int) -> None:
        super().__init__(problem, seed)
        self._designs = (
            design for columns in problem.space.all(_BATCH) for design in designs_of(columns)
        )

    def choose(self) -> Suggestion | None:
        for design in self._designs:
            if not self.history.knows(design, self.top):
                return Suggestion(design, self.top, "exhaustive")
        self._exhausted = True
        return None
