"""A search as the store keeps it, and a stored one as reports show it and verbs go on with it."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...dse.objective import Limit, Objective, read_limit, read_objective
from ...dse.study import StudyInfo
from ...dse.trial import Trial
from ...report.study_data import Goal, StudyHead, TrialRow, Unit
from .asked import Work

if TYPE_CHECKING:
    from ...dse.spec_texts import SpecTexts
    from ...dse.workloads import Task

EXACT = 15
"""Digits that a parameter is read back from."""


def objectives_of(info: StudyInfo) -> tuple[Objective, ...]:
    """The objectives of a stored study."""
    return tuple(read_objective(text) for text in info.objectives)


def limits_of(info: StudyInfo) -> tuple[Limit, ...]:
    """The outcome constraints of a stored study."""
    return tuple(read_limit(text) for text in info.limits)


def spec_of(info: StudyInfo) -> "SpecTexts":
    """The spec that a stored study searches."""
    from ...dse.spec_texts import SpecTexts

    return SpecTexts(info.hardware, tuple(info.files.items()), tuple(info.shipped.items()))


def workloads_of(works: Sequence[Work], tasks: "Sequence[Task]") -> list[dict[str, Any]]:
    """The workloads of a search with the texts of their configs, as the store keeps them."""
    return [
        {**asdict(work), "title": task.config.name, "config": _config_text(work.model)}
        for work, task in zip(works, tasks, strict=True)
    ]


def _config_text(model: str) -> str:
    """The text of a config that has been read without a mistake."""
    path = Path(model)
    return (path / "config.json" if path.is_dir() else path).read_text("utf-8-sig")


def head_of(name: str, info: StudyInfo) -> StudyHead:
    """What a report says of a study before anything else."""
    return StudyHead(
        name=name,
        hardware=Path(info.hardware).stem,
        workloads=tuple(_workload(work) for work in info.workloads),
        goals=tuple(Goal(each.figure, each.direction) for each in objectives_of(info)),
        limits=tuple(info.limits),
        fidelities=tuple(info.rungs),
        strategy=info.strategy,
        seed=info.seed,
        budget=info.budget,
        parameters=tuple(info.parameters),
        units={name: Unit(str(unit), float(one)) for name, (unit, one) in info.parameters.items()},
    )


def _workload(work: Mapping[str, Any]) -> str:
    tokens = "context" if work["phase"] == "decode" else "sequence"
    name = f"{work['name']}: " if work["name"] else ""
    weight = f", weight {work['weight']:g}" if work["weight"] != 1 else ""
    sizes = f"batch {work['batch']}, {tokens} {work[tokens]}"
    return f"{name}{work['title']}, {work['phase']}, {sizes}{weight}"


def row_of(trial: Trial) -> TrialRow:
    """A trial as reports read it."""
    outcome = trial.outcome
    return TrialRow(
        number=trial.number,
        fidelity=trial.fidelity,
        state=trial.state,
        values=dict(trial.design.values),
        figures=dict(outcome.figures) if outcome else {},
        seconds=outcome.seconds if outcome else 0.0,
        reason=outcome.reason if outcome else "",
        attempts=trial.attempts,
        note=trial.note,
        worker=trial.worker,
    )


def rows_of(trials: Sequence[Trial]) -> list[TrialRow]:
    """Trials as reports read them."""
    return [row_of(trial) for trial in trials]


def command_of(info: StudyInfo, head: StudyHead, values: Mapping[str, float | str]) -> str:
    """The command that evaluates a design by itself, on the first workload."""
    work = info.workloads[0]
    words = ["wscc", "--hw", info.hardware, "--model", str(work["model"])]
    for flag in ("phase", "batch", "sequence", "context", "dtype"):
        if work[flag] is not None:
            words += [f"--{flag}", str(work[flag])]
    fixed = [f"{name}={text}" for name, text in info.overrides.items()]
    chosen = [f"{name}={head.value(name, values[name], EXACT)}" for name in values]
    for setting in (*fixed, *chosen):
        words += ["--set", setting]
    return shlex.join(words)
