"""The loop of a search: what the strategy asks for is evaluated, stored, and told.

    stopped = Coordinator(store, strategy, evaluator, problem, engine, read_budget("200")).run()

It may be killed at any moment: every change of a trial is in the store before anything follows from
it, and when it is begun again the strategy is told all earlier trials, in their order, and what had
not ended is evaluated first. With one worker a search therefore makes the same trials in the same
order however often it was killed.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from ..ir.errors import UserError, VerificationError
from .budget import Budget, Ledger
from .engines import Engine, Lost
from .engines.task import LOG
from .evaluator import Evaluator
from .strategy import Problem, Strategy
from .trial import ENDED, Outcome, Trial

if TYPE_CHECKING:
    from .store import Excluded, Store

MOST_FAILURES = 20
"""Evaluations in a row that fail, after which a search stops: something is wrong with all."""
MOST_EXCLUSIONS = 1_000_000
"""Designs ruled out that are kept with their proofs."""
POLL_S = 0.5
LOOK_S = 1.0
"""How soon a trial is noticed that a user enqueued."""
LOG_LINES = 10
"""Of a log that the reason of a failure shows."""


@dataclass(frozen=True)
class Stopped:
    """Why a search ended."""

    reason: Literal["budget", "finished", "failures"]
    text: str


@dataclass(frozen=True)
class Progress:
    """Where a search stands, after a trial has changed or some time has passed."""

    trial: Trial | None
    """What changed."""
    used: float
    """In evaluations at the top, those that run included."""
    share: float
    """Of the budget that is spent, from 0 to 1."""
    running: int
    elapsed_s: float
    """By all coordinators of the study."""


@runtime_checkable
class Proving(Protocol):
    """A strategy that knows which designs need no dear evaluation."""

    def exclusions(self) -> "Iterator[Excluded]": ...


class Coordinator:
    """Carries a study on until its budget is spent or its strategy has no more to ask.

    Trials that wait in the store, such as those a user enqueued or what ran when the coordinator
    before was killed, are evaluated first and whatever the budget; it limits what the strategy is
    asked for.

    Args:
        retries: How often a trial is tried again whose worker died or hung.
        folder: Where trials get folders of their own (default: `trials` beside the database).
        on_change: Called at every change of a trial, and about twice a second.
    """

    def __init__(
        self,
        store: "Store",
        strategy: Strategy,
        evaluator: Evaluator,
        problem: Problem,
        engine: Engine,
        budget: Budget,
        *,
        retries: int = 1,
        folder: Path | None = None,
        on_change: Callable[[Progress], None] | None = None,
    ) -> None:
        self._store = store
        self._guard = store.guard()
        self._strategy = strategy
        self._evaluator = evaluator
        self._wanted = [one.figure for one in (*problem.objectives, *problem.limits)]
        self._engine = engine
        self._ledger = Ledger(problem.rungs, budget)
        self._retries = retries
        self._folder = store.folder / "trials" if folder is None else folder
        self._on_change = on_change
        self._running: dict[int, Trial] = {}
        self._told: set[int] = set()
        self._deaths: Counter[int] = Counter()
        self._look_at = 0.0
        self._failures = 0
        self._last_failure = ""

    def run(self) -> Stopped:
        """Search until there is a reason to stop.

        Raises:
            UserError: Another coordinator searches the study, or the store cannot be written; what
                had ended is kept.
            KeyboardInterrupt: What ran is dropped, and waits to be evaluated again.
        """
        with self._guard:
            try:
                self._resume()
                stopped = self._search()
                if isinstance(self._strategy, Proving):
                    self._keep_proofs(self._strategy)
                self._store.log("stopped", stopped.text)
                return stopped
            finally:
                self._engine.close()
                if self._running:
                    with suppress(UserError):
                        self._store.recover()

    def _resume(self) -> None:
        """Tell the strategy all that is known, in the order in which it was asked for."""
        self._store.recover()
        trials = self._store.trials()
        self._store.log("began", f"{self._engine.place}, after {len(trials)} trials")
        self._tell(trials)

    def _tell(self, trials: Sequence[Trial]) -> None:
        if not trials:
            return
        for trial in trials:
            self._told.add(trial.number)
            if trial.state in ENDED:
                self._ledger.count(trial)
        self._strategy.tell(trials)

    def _search(self) -> Stopped:
        while True:
            self._guard.check()
            reason = self._reason()
            if reason is None or reason.reason == "budget":
                self._start_waiting()
            if reason is None:
                reason = self._ask()
            if reason is not None and not self._running:
                if reason.reason == "failures" or not self._store.waiting():
                    return reason
                self._look_at = 0.0
                continue
            ended = self._engine.poll(POLL_S)
            for number, found in ended:
                self._settle(self._running.pop(number), found)
            if not ended:
                self._show(None)

    def _reason(self) -> Stopped | None:
        """Why nothing new should be asked for; None while there is no such reason."""
        if self._failures >= MOST_FAILURES:
            text = f"{self._failures} evaluations in a row failed, the last: {self._last_failure}"
            return Stopped("failures", text)
        if self._ledger.spent(self._guard.elapsed_s):
            return Stopped("budget", "the budget is spent")
        return None

    def _start_waiting(self) -> None:
        """Start what waits in the store, whoever asked for it."""
        free = self._engine.workers - len(self._running)
        if free <= 0 or time.monotonic() < self._look_at:
            return
        numbers = self._store.waiting()
        if len(numbers) <= free:
            self._look_at = time.monotonic() + LOOK_S
        waiting = self._store.trials(numbers=numbers[:free])
        self._tell([trial for trial in waiting if trial.number not in self._told])
        for trial in waiting:
            self._start(trial)

    def _ask(self) -> Stopped | None:
        """Start what the strategy wants to know; why it wants nothing, if it is done."""
        free = self._engine.workers - len(self._running)
        room = self._ledger.room(trial.fidelity for trial in self._running.values())
        if min(free, room) <= 0:
            return None
        asked = self._strategy.ask(min(free, room))
        trials = [self._store.enqueue(suggestion) for suggestion in asked]
        for trial in trials:
            if trial.number in self._told:
                raise VerificationError(f"the strategy asked again for trial {trial.number}")
            self._told.add(trial.number)
            if trial.state == "queued":
                self._start(trial)
            else:
                self._tell([trial])
        if asked or self._running:
            return None
        done = "" if self._strategy.finished else ", and waits for nothing that runs"
        return Stopped("finished", f"the strategy has nothing more to ask for{done}")

    def _start(self, trial: Trial) -> None:
        trial = self._store.start(trial, self._engine.place)
        self._running[trial.number] = trial
        self._engine.submit(trial, self._evaluator, self._folder_of(trial.number))
        self._show(trial)

    def _folder_of(self, number: int) -> Path:
        return self._folder / str(number)

    def _settle(self, trial: Trial, found: Outcome | Lost) -> None:
        """Keep how an evaluation ended, and tell the strategy if it is not tried again."""
        if isinstance(found, Lost):
            self._deaths[trial.number] += 1
            if self._deaths[trial.number] <= self._retries:
                self._look_at = 0.0
                self._show(self._store.lose(trial, found.reason, found.seconds))
                return
            found = self._given_up(trial, found)
        trial = self._store.finish(trial, trusted(found, self._wanted))
        del self._deaths[trial.number]
        failed = trial.outcome is not None and trial.state == "failed"
        self._failures = self._failures + 1 if failed else 0
        if failed and trial.outcome is not None:
            self._last_failure = trial.outcome.reason
        self._tell([trial])
        self._show(trial)

    def _given_up(self, trial: Trial, lost: Lost) -> Outcome:
        times = self._deaths[trial.number]
        reason = f"{lost.reason}; tried {times} time{'s' if times > 1 else ''}"
        with suppress(OSError):
            log = (self._folder_of(trial.number) / LOG).read_text("utf-8", errors="replace")
            if lines := log.splitlines()[-LOG_LINES:]:
                reason = "\n".join([f"{reason}; the end of its log:", *lines])
        return Outcome("failed", seconds=lost.seconds, reason=reason)

    def _keep_proofs(self, strategy: Proving) -> None:
        def first() -> "Iterator[Excluded]":
            for count, exclusion in enumerate(strategy.exclusions()):
                if count == MOST_EXCLUSIONS:
                    text = f"the first {MOST_EXCLUSIONS} designs that were ruled out are listed"
                    left_out.append(text)
                    return
                yield exclusion

        left_out: list[str] = []
        self._store.exclude(first())
        for text in left_out:
            self._store.log("excluded", text)

    def _show(self, trial: Trial | None) -> None:
        if self._on_change is None:
            return
        running = [one.fidelity for one in self._running.values()]
        elapsed_s = self._guard.elapsed_s
        self._on_change(
            Progress(
                trial=trial,
                used=self._ledger.used(running),
                share=self._ledger.share(elapsed_s, running),
                running=len(running),
                elapsed_s=elapsed_s,
            )
        )


def trusted(outcome: Outcome, wanted: Sequence[str]) -> Outcome:
    """An outcome as it may be stored: plain finite numbers, and all that the search reads where it
    is done; anything else has failed."""
    seconds = _number(outcome.seconds)
    seconds = seconds if 0 <= seconds < math.inf else 0.0
    figures = {str(name): _number(value) for name, value in outcome.figures.items()}
    finite = {name: value for name, value in figures.items() if math.isfinite(value)}
    if outcome.state != "done":
        return Outcome(outcome.state, finite, seconds, outcome.reason)
    if wrong := [f"{name} is {figures[name]}" for name in figures if name not in finite]:
        return Outcome("failed", seconds=seconds, reason=f"no finite figure: {', '.join(wrong)}")
    if missing := [name for name in wanted if name not in figures]:
        known = ", ".join(figures) or "none"
        return Outcome(
            "failed", seconds=seconds, reason=f"no figure {', '.join(missing)}; there are: {known}"
        )
    return Outcome("done", figures, seconds, outcome.reason)


def _number(value: object) -> float:
    """nan for what is none."""
    try:
        return float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        return math.nan
