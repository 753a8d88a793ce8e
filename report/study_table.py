"""A study on the console: how far it is, its best designs, one trial, studies beside each other."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .quantities import count, percent, three_digits
from .study_data import Goal, StudyHead, TrialRow, duration, figure_text, trial_json

WIDTH = 100
STATES = ("queued", "running", "done", "infeasible", "failed", "lost")
MOST_BEST = 10
"""Of the best designs in a status."""


@dataclass(frozen=True)
class StudyStatus:
    """How far a study is."""

    head: StudyHead
    counts: Mapping[tuple[str, str], int]
    """Trials by fidelity and state."""
    spent_s: Mapping[str, float]
    """Seconds of one core that evaluations of each fidelity took."""
    front: tuple[TrialRow, ...]
    hypervolume: float | None
    """Dominated by the front up to its own reference point, as a share of the box between that and
    the best figure of each objective; None of a front of less than two."""
    evaluations: float | None
    """What was spent in evaluations at the top fidelity; None where none has been timed."""
    running: bool
    """Whether a search is at work on it now."""
    excluded: int = 0
    """Designs proven not to be on the front without their evaluation."""
    stopped: str = ""
    """Why the last search ended."""

    def to_json(self) -> dict[str, Any]:
        """The object of schema `wscc-dse.status/1` but for its first two keys."""
        trials: dict[str, dict[str, int]] = {}
        for (fidelity, state), number in self.counts.items():
            trials.setdefault(fidelity, {})[state] = number
        return self.head.to_json() | {
            "running": self.running,
            "stopped": self.stopped or None,
            "trials": trials,
            "excluded": self.excluded,
            "spent_s": dict(self.spent_s),
            "evaluations": self.evaluations,
            "hypervolume": self.hypervolume,
            "front": [trial_json(trial) for trial in self.front],
        }


def status_lines(status: StudyStatus) -> Iterator[str]:
    """The study, its trials by fidelity and state, what they took, the best of its front."""
    head = status.head
    yield study_title(status)
    for label, text in (*problem_rows(head), *spent_rows(status), *end_rows(status)):
        yield _labelled(label, text)
    if not status.front:
        return
    yield ""
    yield from front_lines(head, status.front[:MOST_BEST])
    if len(status.front) > MOST_BEST:
        yield f"and {len(status.front) - MOST_BEST} more: wscc-dse pareto"


def study_title(status: StudyStatus) -> str:
    """Which study it is, and how it searches."""
    head = status.head
    running = ", running" if status.running else ""
    return f"{head.name}: {head.strategy} on {head.hardware}, seed {head.seed}{running}"


def problem_rows(head: StudyHead) -> Iterator[tuple[str, str]]:
    """Labels, and what is searched for."""
    for workload in head.workloads:
        yield "workload", workload
    yield "objectives", ", ".join(str(goal) for goal in head.goals)
    if head.limits:
        yield "constraints", ", ".join(head.limits)


def spent_lines(status: StudyStatus) -> Iterator[str]:
    """`spent_rows` as lines of the console."""
    return (_labelled(label, text) for label, text in spent_rows(status))


def spent_rows(status: StudyStatus) -> Iterator[tuple[str, str]]:
    """The budget, and what was spent of it at each fidelity."""
    yield "budget", f"{status.head.budget}; spent {spent_text(status)}"
    for fidelity in status.head.fidelities:
        yield fidelity, _counts(status, fidelity)
    if status.excluded:
        yield "excluded", f"{count(status.excluded)} designs, proven not to be on the front"


def end_rows(status: StudyStatus) -> Iterator[tuple[str, str]]:
    """Why the search ended, and how large its front is."""
    if status.stopped and not status.running:
        yield "stopped", status.stopped
    yield "front", front_text(status)


def front_text(status: StudyStatus) -> str:
    """How large the front is."""
    if not status.front:
        return "none yet"
    volume = status.hypervolume
    share = "" if volume is None else f"; hypervolume {three_digits(volume)}"
    return f"{_many(len(status.front), 'design')}{share}"


def _labelled(label: str, text: str) -> str:
    return f"  {label:<12} {text}"


def spent_text(status: StudyStatus) -> str:
    """What all evaluations took."""
    text = duration(sum(status.spent_s.values()))
    if status.evaluations is not None:
        text += f", as {three_digits(status.evaluations)} evaluations at the top"
    return text


def _counts(status: StudyStatus, fidelity: str) -> str:
    found = [(state, status.counts.get((fidelity, state), 0)) for state in STATES]
    if not status.running:
        found = [("interrupted" if state == "running" else state, n) for state, n in found]
    text = ", ".join(f"{count(number)} {state}" for state, number in found if number) or "no trial"
    spent = status.spent_s.get(fidelity, 0.0)
    return f"{text}; {duration(spent)}" if spent else text


def _many(number: int, what: str) -> str:
    return f"{count(number)} {what}" + ("" if number == 1 else "s")


def front_lines(head: StudyHead, front: Sequence[TrialRow]) -> Iterator[str]:
    """Designs beside their figures; what they have in common is said once."""
    common = common_values(front)
    header = ("trial", *(goal.figure for goal in head.goals))
    rows = [
        (f"{t.number}", *(figure_text(g.figure, t.figures[g.figure]) for g in head.goals))
        for t in front
    ]
    widths = [max(len(row[at]) for row in (header, *rows)) for at in range(len(header))]
    indent = sum(widths) + 2 * len(widths) + 2
    yield _aligned(header, widths) + "  design"
    for row, trial in zip(rows, front, strict=True):
        own = {name: value for name, value in trial.values.items() if name not in common}
        text = head.design(own) or "-"
        lines = textwrap.wrap(text, max(30, WIDTH - indent)) or [""]
        yield f"{_aligned(row, widths)}  {lines[0]}"
        yield from (" " * indent + line for line in lines[1:])
    if common and len(front) > 1:
        yield from textwrap.wrap(f"all: {head.design(common)}", WIDTH, subsequent_indent="     ")


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)) + "  "


def common_values(front: Sequence[TrialRow]) -> dict[str, float | str]:
    """The values that all designs share; none of a single design."""
    if len(front) < 2:
        return {}
    return {
        name: value
        for name, value in front[0].values.items()
        if all(trial.values.get(name) == value for trial in front)
    }


def trial_lines(
    head: StudyHead, trial: TrialRow, best: bool, command: str, log: str
) -> Iterator[str]:
    """Everything of a trial; `command` evaluates its design with `wscc`, `log` is what its worker
    wrote, empty where it is not kept."""
    place = ", on the front" if best else ""
    yield f"trial {trial.number}: {trial.state} at {trial.fidelity}{place}"
    if trial.reason:
        yield from textwrap.wrap(trial.reason, WIDTH, initial_indent="  ", subsequent_indent="  ")
    note = f"; {trial.note}" if trial.note else ""
    tries = _many(trial.attempts, "attempt")
    yield f"  took {duration(trial.seconds)} of a core, {tries}{note}"
    yield "design"
    order = [name for name in head.parameters if name in trial.values]
    width = max((len(name) for name in order), default=0)
    for name in order:
        yield f"  {name:<{width}}  {head.value(name, trial.values[name])}"
    if trial.figures:
        yield "figures"
        width = max(len(name) for name in trial.figures)
        for name, value in trial.figures.items():
            yield f"  {name:<{width}}  {figure_text(name, value)}"
    if log:
        yield "log"
        yield from (f"  {line}" for line in log.rstrip().splitlines())
    yield f"the same design by itself: {command}"


@dataclass(frozen=True)
class Compared:
    """A study beside others of the same problem."""

    head: StudyHead
    evaluations: float
    """What it spent in evaluations at the top fidelity."""
    share: float
    """Its hypervolume at the end, of the box from the best figures of all studies to a reference
    point beyond the worst of their fronts."""
    share_at_equal_cost: float
    """The same when it had spent what the cheapest study spent in all."""
    front: int
    """Designs on its own front."""
    kept: int
    """Of these, how many are on the front of all studies together."""

    def to_json(self) -> dict[str, Any]:
        """One of the studies of schema `wscc-dse.compare/1`."""
        return {
            "name": self.head.name,
            "strategy": self.head.strategy,
            "seed": self.head.seed,
            "evaluations": self.evaluations,
            "hypervolume": self.share,
            "hypervolume_at_equal_cost": self.share_at_equal_cost,
            "front": self.front,
            "front_of_all": self.kept,
        }


def compare_lines(goals: Sequence[Goal], studies: Sequence[Compared], cost: float) -> Iterator[str]:
    """Studies beside each other; `cost`: evaluations at the top at which all are compared."""
    yield f"objectives: {', '.join(str(goal) for goal in goals)}"
    header = ("study", "strategy", "cost", "hypervolume", f"at cost {three_digits(cost)}", "front")
    rows = [
        (
            each.head.name,
            f"{each.head.strategy}, seed {each.head.seed}",
            three_digits(each.evaluations),
            percent(each.share),
            percent(each.share_at_equal_cost),
            f"{each.front}, {each.kept} of all",
        )
        for each in studies
    ]
    widths = [max(len(row[at]) for row in (header, *rows)) for at in range(len(header))]
    for row in (header, *rows):
        yield "  ".join(
            f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)
        ).rstrip()
