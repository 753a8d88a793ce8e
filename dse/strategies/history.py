"""What a strategy asked for and was told, in order: all that its next choice may follow from."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median

import numpy as np
from numpy.typing import NDArray

from ...ir.errors import UserError
from ..design import Design, DesignSpace, Floats
from ..evaluator import Rung
from ..objective import losses
from ..strategy import Problem
from ..trial import ENDED, Suggestion, Trial

COST_STEP = 4.0
TIMED = 32
"""Evaluations of a rung that its time is taken from."""


@dataclass(frozen=True)
class Results:
    """Evaluations of a fidelity that are done, in the order in which they were told."""

    designs: tuple[Design, ...]
    losses: Floats
    """(designs, objectives), to be minimized."""
    excess: Floats
    """(designs, limits): how far each limit is broken."""
    trials: tuple[Trial, ...]

    @property
    def allowed(self) -> NDArray[np.bool_]:
        """Which hold every limit. (designs,)"""
        return np.logical_and.reduce(self.excess <= 0, axis=1)


class History:
    """Trials by design and fidelity; what was asked and not yet told counts as running."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self.problem = problem
        self.seed = seed
        self._known: dict[str, dict[str, Design]] = {rung.name: {} for rung in problem.rungs}
        self._ended: dict[str, dict[str, Trial]] = {rung.name: {} for rung in problem.rungs}

    def asked(self, suggestion: Suggestion) -> None:
        self._known.setdefault(suggestion.fidelity, {})[suggestion.design.key] = suggestion.design

    def tell(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            self._known.setdefault(trial.fidelity, {})[trial.design.key] = trial.design
            if trial.state in ENDED:
                self._ended.setdefault(trial.fidelity, {})[trial.design.key] = trial
            else:
                self._ended.get(trial.fidelity, {}).pop(trial.design.key, None)

    def knows(self, design: Design, fidelity: str) -> bool:
        """Whether it was asked for or told: it must not be asked for again."""
        return design.key in self._known[fidelity]

    def outcome(self, design: Design, fidelity: str) -> Trial | None:
        """The trial of a design, once it has ended."""
        return self._ended[fidelity].get(design.key)

    def ended(self, fidelity: str) -> list[Trial]:
        """In the order in which they were first told."""
        return list(self._ended[fidelity].values())

    def known(self, fidelity: str) -> list[Design]:
        """In the order in which they were asked for or told."""
        return list(self._known[fidelity].values())

    def first_done(self, fidelity: str) -> Trial | None:
        """The first trial that was told done."""
        return next((t for t in self._ended[fidelity].values() if t.state == "done"), None)

    def figures(self, fidelity: str, first: int | None = None) -> list[Mapping[str, float]]:
        """Of the trials that are usable, of the first so many that ended."""
        trials = (trial for trial in self.ended(fidelity)[:first] if self.usable(trial))
        return [trial.outcome.figures for trial in trials if trial.outcome is not None]

    def running(self, fidelity: str) -> list[Design]:
        """Asked for or told, and not ended."""
        ended = self._ended[fidelity]
        return [design for key, design in self._known[fidelity].items() if key not in ended]

    def count(self, fidelity: str) -> int:
        """Trials of a fidelity, those running too."""
        return len(self._known[fidelity])

    def rng(self) -> np.random.Generator:
        """Random numbers of the next choice: they follow from the seed and from how many trials
        there are, so that a resumed search draws the same."""
        return np.random.default_rng([self.seed, self.trials])

    @property
    def trials(self) -> int:
        """Of all fidelities, those running too."""
        return sum(map(len, self._known.values()))

    def results(self, fidelity: str, first: int | None = None) -> Results:
        """What is done at a fidelity, of the first so many trials that ended (default: all)."""
        done = [trial for trial in self.ended(fidelity)[:first] if self.usable(trial)]
        figures = [trial.outcome.figures for trial in done if trial.outcome is not None]
        limits = self.problem.limits
        excess = [[limit.excess(row) for limit in limits] for row in figures]
        return Results(
            tuple(trial.design for trial in done),
            losses(figures, self.problem.objectives),
            np.array(excess, dtype=np.float64).reshape(len(done), len(limits)),
            tuple(done),
        )

    def cost(self, rung: Rung) -> float:
        """Of an evaluation at a rung, in evaluations at the top: as the problem has it, or, where
        evaluations took another time, the nearest of it times powers of COST_STEP. Steps are wide
        so that clocks, which never repeat, seldom change what a search does."""
        took, top = self._took(rung.name), self._took(self.problem.rungs[-1].name)
        if not took or not top:
            return rung.cost
        return rung.cost * COST_STEP ** round(math.log(took / top / rung.cost, COST_STEP))

    def timed(self) -> bool:
        """Whether it is known what an evaluation at the top takes."""
        return self._took(self.problem.rungs[-1].name) > 0

    def _took(self, fidelity: str) -> float:
        """Median seconds of the first evaluations that ended; 0 where there are none."""
        first = islice(self._ended[fidelity].values(), TIMED)
        return median([each.outcome.seconds for each in first if each.outcome] or [0.0])

    def usable(self, trial: Trial) -> bool:
        """Whether a trial is done and has every figure that the search reads."""
        if trial.state != "done" or trial.outcome is None:
            return False
        wanted = (*self.problem.objectives, *self.problem.limits)
        return all(np.isfinite(trial.outcome.figures.get(one.figure, np.nan)) for one in wanted)


class Remembering:
    """A strategy that chooses one trial at a time from its history."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self.problem = problem
        self.history = History(problem, seed)
        self._exhausted = False

    @abstractmethod
    def choose(self) -> Suggestion | None:
        """The next trial; None while it waits for what runs, or when `_exhausted` is set."""

    @property
    def top(self) -> str:
        """The fidelity of which the front is."""
        return self.problem.rungs[-1].name

    @property
    def finished(self) -> bool:
        return self._exhausted

    def ask(self, count: int) -> Sequence[Suggestion]:
        found: list[Suggestion] = []
        while len(found) < count and not self._exhausted:
            suggestion = self.choose()
            if suggestion is None:
                break
            self.history.asked(suggestion)
            found.append(suggestion)
        return found

    def tell(self, trials: Sequence[Trial]) -> None:
        self.history.tell(trials)

    def anything(self, note: str) -> Suggestion | None:
        """A legal design drawn at random that is new at the top; None when there is none left."""
        found = unseen(
            self.problem.space,
            lambda design: self.history.knows(design, self.top),
            1,
            self.history.rng(),
        )
        self._exhausted = not found
        return Suggestion(found[0], self.top, note) if found else None


def unseen(
    space: DesignSpace, known: Callable[[Design], bool], count: int, rng: np.random.Generator
) -> list[Design]:
    """Up to `count` legal designs that are not known; fewer only where the space has no more."""
    tries = 2 * count
    while True:
        drawn = space.sample(tries, rng)
        found = [design for design in drawn if not known(design)]
        if len(found) >= count or len(drawn) < tries:
            return found[:count]
        tries *= 4


def number(name: str, text: object) -> float:
    """An option that is a number not below zero; raises UserError."""
    try:
        value = float(str(text))
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UserError(f"--{name} {text}: expected a number not below 0")
    return value
