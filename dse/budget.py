"""How long a search goes on: a time, or a number of evaluations.

A budget in evaluations counts those at the top fidelity, whatever became of them, as one each. One
at a lower rung counts as the ratio of the mean times of those that are done at it and at the top;
before both are known, as the rung's own `cost`. Nothing is free: what failed or could not do the
work counts like the rest. A time is what the clock on the wall shows, over all runs of the study.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..ir.errors import UserError
from .evaluator import Rung
from .trial import Trial

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Budget:
    """Whichever is reached first."""

    evaluations: float = math.inf
    """At the top fidelity."""
    seconds: float = math.inf


def read_budget(text: str) -> Budget:
    """`2h`, `30m`, `90s`, or `200` evaluations; raises UserError."""
    number, unit = text.strip(), ""
    if number[-1:] in UNITS_S:
        number, unit = number[:-1], number[-1]
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise UserError(
            f"--budget {text}: expected a time, as 90s, 30m or 2h, or a number of evaluations"
        )
    return Budget(seconds=value * UNITS_S[unit]) if unit else Budget(evaluations=value)


@dataclass
class Ledger:
    """What a study has spent, trial by trial."""

    rungs: Sequence[Rung]
    budget: Budget
    _ended: dict[str, set[int]] = field(default_factory=dict[str, set[int]])
    _seconds: dict[str, float] = field(default_factory=dict[str, float])
    _done: dict[str, int] = field(default_factory=dict[str, int])

    def count(self, trial: Trial) -> None:
        """A trial that has ended; one that is counted already is not counted again."""
        ended = self._ended.setdefault(trial.fidelity, set())
        if trial.number in ended or trial.outcome is None:
            return
        ended.add(trial.number)
        if trial.state == "done":
            spent = self._seconds.get(trial.fidelity, 0.0) + trial.outcome.seconds
            self._seconds[trial.fidelity] = spent
            self._done[trial.fidelity] = self._done.get(trial.fidelity, 0) + 1

    def cost(self, fidelity: str) -> float:
        """Of one evaluation, in evaluations at the top."""
        mine, top = self._mean_s(fidelity), self._mean_s(self.rungs[-1].name)
        if mine and top:
            return mine / top
        return next((rung.cost for rung in self.rungs if rung.name == fidelity), 1.0)

    def _mean_s(self, fidelity: str) -> float:
        return self._seconds.get(fidelity, 0.0) / max(self._done.get(fidelity, 0), 1)

    def used(self, running: Iterable[str] = ()) -> float:
        """Evaluations at the top that were spent, those that run (their fidelities) included."""
        ended = sum(len(numbers) * self.cost(name) for name, numbers in self._ended.items())
        return ended + sum(self.cost(fidelity) for fidelity in running)

    def share(self, elapsed_s: float, running: Iterable[str] = ()) -> float:
        """Of the budget that is spent: 1 where there is none left."""
        used = self.used(running) / self.budget.evaluations
        return min(1.0, max(used, elapsed_s / self.budget.seconds))

    def spent(self, elapsed_s: float) -> bool:
        """Whether nothing of the budget is left."""
        return elapsed_s >= self.budget.seconds or self.room(()) == 0

    def room(self, running: Iterable[str]) -> int:
        """How many evaluations may still be begun, were all at the top: one at least while
        anything is left."""
        left = self.budget.evaluations - self.used(running)
        return 0 if left <= ROUNDING else max(1, math.floor(min(left, 1e9)))


ROUNDING = 1e-9
"""Of sums of costs."""
