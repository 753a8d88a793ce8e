"""Trials one after the other in this process: for tests, for debugging, and for tables."""

from collections.abc import Sequence
from pathlib import Path

from ..evaluator import Evaluator
from ..trial import Trial
from . import Ended
from .task import judge


class InlineEngine:
    """Evaluates when it is polled; nothing can be killed here, so nothing has a time limit."""

    workers = 1
    place = "in process"

    def __init__(self) -> None:
        self._given: list[tuple[Trial, Evaluator]] = []

    def submit(self, trial: Trial, evaluator: Evaluator, folder: Path) -> None:
        self._given.append((trial, evaluator))

    def poll(self, timeout_s: float) -> Sequence[Ended]:
        given, self._given = self._given, []
        return [(trial.number, judge(evaluator, trial)) for trial, evaluator in given]

    def close(self) -> None:
        self._given.clear()
