"""The interface of a search strategy: asked for designs, told what became of them.

Strategies are in strategies/, each a module with the source of its idea.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .design import DesignSpace
from .evaluator import Optimist, Rung
from .objective import Limit, Objective
from .trial import Suggestion, Trial


@dataclass(frozen=True)
class Problem:
    """What a strategy searches, and with what means."""

    space: DesignSpace
    objectives: tuple[Objective, ...]
    limits: tuple[Limit, ...]
    rungs: tuple[Rung, ...]
    """Fidelities, the cheapest first; the front is of the last."""
    budget: float
    """In evaluations at the top; inf where a time was given."""
    optimist: Optimist | None = None


class Strategy(Protocol):
    """Its choices follow from the problem, the seed and what it was told, in that order, and from
    nothing else: a resumed study tells it all earlier trials again."""

    def ask(self, count: int) -> Sequence[Suggestion]:
        """Up to `count` new suggestions, none asked for before; none while it waits for what is
        running."""
        ...

    def tell(self, trials: Sequence[Trial]) -> None:
        """Trials that have ended, or that others have enqueued; also those of an earlier run."""
        ...

    @property
    def finished(self) -> bool:
        """Whether it has nothing more to ask, whatever it is told."""
        ...
