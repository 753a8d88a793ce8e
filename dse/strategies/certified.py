"""Pruning that loses nothing: the exact front of a finite space, and why nothing else is on it.

A design whose optimistic figures an evaluated design betters is never evaluated. Designs are taken
in order of promise, as a best-first search takes nodes (P. E. Hart, N. J. Nilsson and B. Raphael,
A formal basis for the heuristic determination of minimum cost paths, IEEE TSSC 4(2), 1968): with
one worker none is evaluated that another proof from the same figures could have spared.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np

from ..design import Design
from ..evaluator import Rung
from ..pareto import nondominated
from ..strategy import Problem
from ..trial import Suggestion, Trial
from .frontier import (
    EVALUATED,
    FAILED,
    HOPELESS,
    OPEN,
    Excluder,
    Frontier,
    breaks,
    frontier_of,
    limited,
    refuse_unproven,
    usual,
)
from .history import Remembering, number


@dataclass(frozen=True)
class Exclusion:
    """A design that is not on the front, and the proof."""

    design: Design
    trial: int | None
    """Number of the trial whose figures better all that the design could reach, or which showed
    that it cannot do the work; None where its optimistic figures alone say so."""
    optimistic: tuple[float, ...]
    """The losses, one an objective, that no evaluation of it betters; inf where it cannot do the
    work or breaks a limit."""


@dataclass(frozen=True)
class Certificate:
    """How a space was settled: every design is counted once."""

    designs: int
    evaluated: int
    """At the top fidelity, and it ended done or infeasible."""
    hopeless: int
    """Excluded by their optimistic figures alone: they cannot do the work or break a limit."""
    excluded: int
    """By an evaluation of another design, or by one of their own at a lower rung."""
    failed: int
    """Whose evaluation broke: the front is exact but for them."""
    open: int
    """Neither evaluated nor excluded yet."""
    epsilon: float


class Certified(Remembering):
    """Ends when every design is evaluated or excluded: the trials then hold the exact front, ties
    kept. Figures that differ by less than 1e-12 of themselves count as equal.

    With `epsilon` a design is excluded too where an evaluated one comes within this share of its
    optimistic figures: of every design left out there is one that is at most so much worse.
    """

    def __init__(self, problem: Problem, seed: int, epsilon: object = 0.0) -> None:
        super().__init__(problem, seed)
        self.epsilon = number("epsilon", epsilon)
        self._ladder = [rung for rung in problem.rungs[:-1] if rung.proven]
        proven = [figure for rung in self._ladder for figure in rung.proven]
        for objective in problem.objectives:
            refuse_unproven(problem.optimist, proven, objective)
        self._frontier: Frontier | None = None
        self._order: Iterator[int] = iter(())
        self._head: tuple[float, int] | None = None
        self._again: list[tuple[float, int]] = []
        self._waiting: dict[tuple[str, str], int] = {}
        self._applied: dict[int, int] = {}
        self._excluders: list[Excluder] = []
        self._news: list[Trial] = []

    def tell(self, trials: Sequence[Trial]) -> None:
        super().tell(trials)
        self._news += trials

    @property
    def frontier(self) -> Frontier:
        """All designs with their optimistic losses; listed and bounded when first needed."""
        if self._frontier is None:
            self._frontier = frontier_of(self.problem)
            promise = self._frontier.promise(np.arange(len(self._frontier)))
            self._order = iter(np.argsort(promise, kind="stable").tolist())
        return self._frontier

    def choose(self) -> Suggestion | None:
        self._learn()
        while (row := self._most_promising()) is not None:
            suggestion = self._visit(row)
            if suggestion is not None:
                return suggestion
        self._exhausted = not self._waiting
        return None

    def _learn(self) -> None:
        """What new trials settle, and which designs they let go on."""
        frontier, news, self._news = self.frontier, self._news, []
        for trial in news:
            if not self.history.outcome(trial.design, trial.fidelity):
                continue
            waiting = self._waiting.pop((trial.design.key, trial.fidelity), None)
            if waiting is not None:
                self._push(waiting)
            if trial.fidelity == self.top:
                frontier.settle(trial.design, FAILED if trial.state == "failed" else EVALUATED)
        told = {trial.number for trial in news if trial.fidelity == self.top}
        results = self.history.results(self.top)
        new = [
            Excluder(row, trial.number)
            for row, trial, allowed in zip(
                results.losses, results.trials, results.allowed, strict=True
            )
            if allowed and trial.number in told
        ]
        if new:
            together = [*self._excluders, *new]
            best = nondominated(np.array([one.losses for one in together]))
            self._excluders = [one for one, kept in zip(together, best, strict=True) if kept]
            rows = frontier.open
            for one in self._excluders:
                if one.trial in told:
                    frontier.exclude(rows, one, self.epsilon)

    def _push(self, row: int) -> None:
        heappush(self._again, (float(self.frontier.promise(np.array([row]))[0]), row))

    def _most_promising(self) -> int | None:
        """The next open design, of those not visited yet and those better known since."""
        frontier = self.frontier
        while self._head is None or frontier.by[self._head[1]] != OPEN:
            row = next(self._order, None)
            if row is None:
                self._head = None
                break
            self._head = (float(frontier.promise(np.array([row]))[0]), row)
        while self._again and frontier.by[self._again[0][1]] != OPEN:
            heappop(self._again)
        if self._again and (self._head is None or self._again[0] < self._head):
            return heappop(self._again)[1]
        head, self._head = self._head, None
        return None if head is None else head[1]

    def _visit(self, row: int) -> Suggestion | None:
        """What to ask of a design: the next rung that proves something of it, else the top. A
        lower rung's outcome refines what is known, and the design takes its turn again."""
        design = self.frontier.design(row)
        step = self._applied.get(row, 0)
        fidelity = self._ladder[step].name if step < len(self._ladder) else self.top
        known = self.history.knows(design, fidelity)
        if fidelity != self.top:
            trial = self.history.outcome(design, fidelity)
            if trial is not None:
                self._applied[row] = step + 1
                self._refine(row, self._ladder[step], trial)
                self._push(row)
                return None
            self._waiting[design.key, fidelity] = row
        return None if known else Suggestion(design, fidelity, "certify")

    def _refine(self, row: int, rung: Rung, trial: Trial) -> None:
        """What a lower rung proves of a design; a trial that failed proves nothing."""
        figures = trial.outcome.figures if trial.outcome and trial.state == "done" else {}
        proven = rung.proof(figures)
        limits = [
            limit
            for limit in self.problem.limits
            if limit.figure in proven and usual(limited(limit))
        ]
        broken = any(bool(breaks(one, limited(one).sign * proven[one.figure])) for one in limits)
        if broken or trial.state == "infeasible":
            self.frontier.give_up(row, trial.number)
            return
        losses = [
            one.sign * proven[one.figure] if one.figure in proven and usual(one) else -np.inf
            for one in self.problem.objectives
        ]
        self.frontier.refine(row, np.array(losses))
        for one in self._excluders:
            self.frontier.exclude(np.array([row]), one, self.epsilon)

    def certificate(self) -> Certificate:
        """Where the proof stands."""
        self._learn()
        by = self.frontier.by
        count = {state: int((by == state).sum()) for state in (OPEN, HOPELESS, EVALUATED, FAILED)}
        return Certificate(
            designs=len(by),
            evaluated=count[EVALUATED],
            hopeless=count[HOPELESS],
            excluded=int((by >= 0).sum()),
            failed=count[FAILED],
            open=count[OPEN],
            epsilon=self.epsilon,
        )

    def exclusions(self) -> Iterator[Exclusion]:
        """Every design that was not evaluated dearly, with the proof, in the order of the space."""
        self._learn()
        frontier = self.frontier
        for row in np.flatnonzero((frontier.by >= 0) | (frontier.by == HOPELESS)).tolist():
            trial = int(frontier.by[row])
            optimistic = tuple(frontier.optimistic[row].tolist())
            yield Exclusion(frontier.design(row), None if trial < 0 else trial, optimistic)
