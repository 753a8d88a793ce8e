"""Verbs that only read a study: `status`, `pareto`, `show`. No torch, and no spec is read."""

import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ... import __version__
from ...dse.engines.task import LOG
from ...dse.trial import ENDED
from ...ir.errors import UserError
from ...report.json_report import print_json
from ...report.study_data import trial_json
from ...report.study_table import StudyStatus, front_lines, status_lines, trial_lines
from ..asked import Talk
from .asked import Pareto, Show, Status
from .described import command_of, row_of, rows_of
from .opened import Opened, front_share, opened

WATCH_S = 2.0
LOG_LINES = 40
"""Of the end of a trial's log."""


def carry_out(asked: Status | Pareto | Show) -> int:
    """Carry out a reading verb: the exit code. Raises UserError."""
    match asked:
        case Status(watch=True):
            return _watch(asked)
        case Status():
            with opened(asked.study) as study:
                return _status(study, asked.talk)
        case Pareto():
            with opened(asked.study) as study:
                return _pareto(study, asked)
        case Show():
            with opened(asked.study) as study:
                return _show(study, asked)


def say(talk: Talk, schema: str, report: dict[str, Any], lines: Iterable[str]) -> None:
    """One JSON object, or lines for a person, on standard output."""
    if talk.json:
        heading = {"schema": f"wscc-dse.{schema}/1", "wscc_version": __version__}
        sys.stdout.write(print_json(heading | report))
    else:
        sys.stdout.writelines(f"{line}\n" for line in lines)


def status_of(study: Opened) -> StudyStatus:
    """How far a study is now."""
    store = study.store
    counts = {(fidelity, str(state)): n for (fidelity, state), n in store.counts().items()}
    ends = [event for event in store.events() if event.kind in ("began", "stopped")]
    return StudyStatus(
        head=study.head,
        counts=counts,
        spent_s=store.spent(),
        front=tuple(rows_of(study.best)),
        hypervolume=front_share(study),
        evaluations=_evaluations(study, counts),
        running=store.holder is not None,
        excluded=store.excluded,
        stopped=ends[-1].text if ends and ends[-1].kind == "stopped" else "",
    )


def _evaluations(study: Opened, counts: Mapping[tuple[str, str], int]) -> float | None:
    """What was spent in evaluations at the top, as a budget counts it (dse/budget.py); None before
    evaluations of every fidelity have been timed."""
    means = study.store.mean_seconds()
    ended = {
        name: sum(counts.get((name, state), 0) for state in ENDED) for name in study.head.fidelities
    }
    if not means.get(study.top) or any(ended[name] and name not in means for name in ended):
        return None
    return sum(ended[name] * means.get(name, 0.0) for name in ended) / means[study.top]


def _status(study: Opened, talk: Talk) -> int:
    status = status_of(study)
    say(talk, "status", status.to_json(), status_lines(status))
    return 0


def _watch(asked: Status) -> int:
    """The status anew until the search ends; on a terminal in place."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        raise UserError("--watch needs a terminal; without it the status is printed once")
    with Live(console=console, auto_refresh=False) as live:
        while True:
            with opened(asked.study) as study:
                status = status_of(study)
            live.update(Text("\n".join(status_lines(status))), refresh=True)
            if not status.running:
                return 0
            time.sleep(WATCH_S)


def _pareto(study: Opened, asked: Pareto) -> int:
    fidelity = study.fidelity(asked.fidelity)
    front = rows_of(study.best if fidelity == study.top else study.store.front(fidelity))
    report = study.head.to_json() | {
        "fidelity": fidelity,
        "front": [trial_json(trial) for trial in front],
    }
    lines = front_lines(study.head, front) if front else [f"no design has ended at {fidelity} yet"]
    say(asked.talk, "pareto", report, lines)
    return 0 if front else 1


def _show(study: Opened, asked: Show) -> int:
    trial = study.store.trial(asked.trial)
    row = row_of(trial)
    best = any(each.number == trial.number for each in study.best)
    command = command_of(study.store.info, study.head, row.values)
    log = _log(study.store.folder / "trials" / str(trial.number))
    report = study.head.to_json() | trial_json(row) | {"on_front": best, "command": command}
    say(asked.talk, "trial", report, trial_lines(study.head, row, best, command, log))
    return 0


def _log(folder: Path) -> str:
    """The end of what the worker of a trial wrote; empty where nothing is kept."""
    try:
        text = (folder / LOG).read_text("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-LOG_LINES:])
