"""`wscc-dse report`: a study as one page, with its best designs to download."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten

import numpy as np

from ...dse.analysis import growth, judged, losses_of, top_seconds
from ...dse.design import Floats
from ...dse.pareto import nondominated, reference_point
from ...dse.trial import Trial
from ...ir.errors import UserError
from ...report.files import save_files
from ...report.html.study_page import MOST_ROWS, StudyPage, study_page
from ...report.study_axes import Cloud, Curve
from .asked import Page
from .described import rows_of
from .export import specs_of
from .opened import Opened, box, opened
from .plotting import importance_of
from .reading import say, status_of

NAME = "study.html"
MOST_LETTERS = 120
"""Of the reason of a failure."""


def report(asked: Page) -> int:
    """Carry out `wscc-dse report`: 1 where nothing is drawn at the top. Raises UserError."""
    with opened(asked.study) as study:
        shown = _shown(study)
    save_files(asked.directory, {NAME: study_page(shown)})
    path = str(Path(asked.directory) / NAME)
    say(asked.talk, "report", {"written": [path]}, [f"wrote {path}"])
    return 0


def _shown(study: Opened) -> StudyPage:
    trials = study.store.trials()
    fidelity, able = _drawn(study, trials)
    worth = losses_of(able, study.objectives)
    order = [able[at] for at in np.flatnonzero(nondominated(worth))] if able else []
    front = sorted(
        order, key=lambda trial: (*losses_of([trial], study.objectives)[0], trial.number)
    )
    shares, importance_at = importance_of(study, trials) if able else ({}, fidelity)
    names, specs, notes = _specs(study, front[:MOST_ROWS])
    return StudyPage(
        status=status_of(study),
        fidelity=fidelity,
        cloud=Cloud(study.name, rows_of(able), frozenset(trial.number for trial in front)),
        front=rows_of(front),
        curve=_curve(study, trials, fidelity, worth),
        second=top_seconds(trials, fidelity),
        importance=shares,
        importance_at=importance_at,
        unjudged=_unjudged(trials),
        specs=specs,
        spec_of=names,
        notes=notes,
    )


def _drawn(study: Opened, trials: Sequence[Trial]) -> tuple[str, list[Trial]]:
    """The highest fidelity at which designs have figures and hold every limit, and these."""
    for fidelity in reversed(study.store.info.rungs):
        able = judged(trials, study.objectives, study.limits, fidelity)
        if able:
            return fidelity, able
    return study.top, []


def _curve(study: Opened, trials: Sequence[Trial], fidelity: str, worth: Floats) -> Curve:
    if not len(worth):
        return Curve(study.name, [], [])
    reference = reference_point(worth)
    grown = growth(trials, study.objectives, study.limits, fidelity, reference)
    share = grown.hypervolume / box(worth, reference)
    return Curve(study.name, grown.evaluations.tolist(), share.tolist())


def _specs(
    study: Opened, front: Sequence[Trial]
) -> tuple[dict[int, str], dict[str, str], list[str]]:
    """The designs as specs; none and why, where the spec of the study cannot be read any more."""
    try:
        return (*specs_of(study, front), [])
    except UserError as error:
        return {}, {}, [f"the best designs are not here as specs: {error}"]


def _unjudged(trials: Sequence[Trial]) -> dict[tuple[str, str], Counter[str]]:
    """Reasons of designs that have no figures, by fidelity and state."""
    found: dict[tuple[str, str], Counter[str]] = {}
    for trial in trials:
        if trial.state in ("infeasible", "failed") and trial.outcome is not None:
            key = trial.fidelity, trial.state
            found.setdefault(key, Counter())[_reason(trial)] += 1
    return found


def _reason(trial: Trial) -> str:
    """Why a design has no figures, without what is its own: of a shortage the resource."""
    reason = trial.outcome.reason if trial.outcome else ""
    if trial.state == "infeasible":
        return reason.partition(" of ")[0]
    return shorten(reason.partition("\n")[0], MOST_LETTERS, placeholder="...")
