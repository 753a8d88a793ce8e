"""The page of a study: words, plots and tables, put into study.html."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..quantities import count, percent, three_digits
from ..study_axes import Cloud, Curve
from ..study_data import TrialRow, figure_text
from ..study_table import (
    StudyStatus,
    common_values,
    end_rows,
    problem_rows,
    spent_rows,
    spent_text,
    study_title,
)
from .template import rendered

MOST_ROWS = 200
"""Best designs in the table."""
MOST_REASONS = 3
"""Of designs of one state without figures."""
Cell = tuple[str, float | str]
"""What is shown, and what is sorted by."""


@dataclass(frozen=True)
class StudyPage:
    """What the page of a study shows."""

    status: StudyStatus
    fidelity: str
    """What the front is of: the top, or the highest at which a design has figures."""
    cloud: Cloud
    """Designs with figures at that fidelity."""
    front: Sequence[TrialRow]
    """The best of them, in the order of the table."""
    curve: Curve
    """How the front grew; empty where there is none."""
    second: float
    """Seconds of one core of an evaluation at that fidelity."""
    importance: Mapping[str, Sequence[float]] = field(default_factory=dict[str, Sequence[float]])
    importance_at: str = ""
    """The fidelity that importance was estimated at."""
    unjudged: Mapping[tuple[str, str], Mapping[str, int]] = field(
        default_factory=dict[tuple[str, str], Mapping[str, int]]
    )
    """By fidelity and state: reasons of designs that have no figures, and how often each."""
    specs: Mapping[str, str] = field(default_factory=dict[str, str])
    """The front's designs as texts of files, and what these use."""
    spec_of: Mapping[int, str] = field(default_factory=dict[int, str])
    """Trials by number: the file of each in `specs`."""
    notes: Sequence[str] = ()


def study_page(study: StudyPage) -> str:
    """The text of study.html: self-contained, no request leaves it."""
    status, head = study.status, study.status.head
    plots: dict[str, Any] = {}
    places: Mapping[int, int] = {}
    notes = list(study.notes)
    if study.cloud.trials:
        from .front import Drawn, front_plots, parallel_plot
        from .growth import growth_plot, importance_plot

        drawn = Drawn.of(head, study.cloud)
        places = drawn.place
        notes += _notes(study, len(drawn.front), len(drawn.others))
        plots = {
            "front": front_plots(drawn),
            "parallel": parallel_plot(drawn),
            "growth": growth_plot(study.curve, study.second),
        }
        if study.importance:
            plots["importance"] = importance_plot(head.goals, study.importance)
    shown = study.front[:MOST_ROWS]
    common = common_values(shown)
    files = [*dict.fromkeys(study.spec_of[trial.number] for trial in shown if study.spec_of)]
    others = [name for name in study.specs if name not in set(study.spec_of.values())]
    return rendered(
        "study.html",
        plots,
        title=study_title(status),
        warnings=_warnings(study),
        cards=_cards(study),
        rows=[*problem_rows(head), *spent_rows(status), *end_rows(status)],
        front_title="The front" if len(head.goals) > 1 else "The best design so far",
        front_what=_front_words(study),
        importance_what=_importance_words(study),
        heads=_heads(study, common),
        table=[_row(study, trial, common, places) for trial in shown],
        table_what=_table_words(study),
        shared=head.design(common) if len(shown) > 1 else "",
        others=others if files else [],
        reasons=list(_reasons(study)),
        notes=notes,
        specs=packed({name: study.specs[name] for name in (*files, *(others if files else ()))}),
    )


def _cards(study: StudyPage) -> list[tuple[str, str, str]]:
    """The best of each objective, the front, and what was spent."""
    status, cards = study.status, list[tuple[str, str, str]]()
    for goal in status.head.goals:
        if study.front:
            better = min if goal.direction == "min" else max
            best = better(study.front, key=lambda t, name=goal.figure: t.figures[name])
            figure = figure_text(goal.figure, best.figures[goal.figure])
            way = "least" if goal.direction == "min" else "most"
            cards.append((f"{way} {goal.figure}", figure, f"trial {best.number}"))
    share = "" if status.hypervolume is None else f"hypervolume {three_digits(status.hypervolume)}"
    cards.append(("front", count(len(status.front)), share or "designs"))
    cards.append(("budget", status.head.budget, f"spent {spent_text(status)}"))
    return cards


def _warnings(study: StudyPage) -> list[str]:
    status = study.status
    if status.front:
        return []
    top = status.head.fidelities[-1]
    if not study.cloud.trials:
        return ["No design has figures and holds every limit: there is nothing to draw."]
    return [
        f"No design has figures at {top} and holds every limit: what is drawn is of "
        f"{study.fidelity}, which is no result of the study."
    ]


def _front_words(study: StudyPage) -> str:
    head, number = study.status.head, count(len(study.cloud.trials))
    words = f"{number} designs at {study.fidelity}; hover for figures and parameters."
    if len(head.goals) > 1:
        words += " No evaluated design betters one of the front in every objective."
    return words


def _importance_words(study: StudyPage) -> str:
    if not study.importance:
        return "Nothing can be told: it takes 16 designs with figures whose parameters differ."
    return (
        f"Of the designs judged at {study.importance_at}: first-order Sobol indices of ranks. What "
        "parameters do only together does not show."
    )


def _notes(study: StudyPage, front: int, others: int) -> list[str]:
    left = len(study.cloud.trials) - len(study.cloud.best)
    notes: list[str] = []
    if others < left:
        notes.append(
            f"of {count(left)} designs that others better, {count(others)} are drawn, evenly over "
            "the order of trials"
        )
    if front < len(study.cloud.best):
        notes.append(f"of {count(len(study.cloud.best))} designs of the front {front} are drawn")
    goals = len(study.status.head.goals)
    from .front import MOST_GOALS

    if goals > MOST_GOALS:
        notes.append(f"of {goals} objectives the first {MOST_GOALS} are set against each other")
    return notes


def _heads(study: StudyPage, common: Mapping[str, Any]) -> list[str]:
    goals = (goal.figure for goal in study.status.head.goals)
    files = ["spec"] if study.spec_of else []
    return ["trial", *files, *goals, *_own(study, common)]


def _own(study: StudyPage, common: Mapping[str, Any]) -> list[str]:
    """Parameters in which the best designs differ."""
    return [
        name
        for name in study.status.head.parameters
        if name not in common and any(name in trial.values for trial in study.front)
    ]


def _row(
    study: StudyPage, trial: TrialRow, common: Mapping[str, Any], places: Mapping[int, int]
) -> tuple[int, int, str, list[Cell]]:
    """Which row of the plots' source a trial is, its number, its file, and its cells."""
    head = study.status.head
    cells: list[Cell] = []
    for goal in head.goals:
        figure = trial.figures[goal.figure]
        cells.append((figure_text(goal.figure, figure), figure))
    for name in _own(study, common):
        value = trial.values.get(name)
        cells.append(("-", "") if value is None else (head.value(name, value), value))
    place, file = places.get(trial.number, -1), study.spec_of.get(trial.number, "")
    return place, trial.number, file, cells


def _table_words(study: StudyPage) -> str:
    words = "A click on a heading sorts, a click on a row shows the design in the plots."
    if study.spec_of:
        words += " The files are specs: wscc --hw FILE --model CONFIG evaluates one."
    if len(study.front) > MOST_ROWS:
        words += (
            f" Of {count(len(study.front))} designs the first {MOST_ROWS} are here; "
            "wscc-dse export writes all."
        )
    return words


def _reasons(study: StudyPage) -> list[tuple[str, str, str, str]]:
    found: list[tuple[str, str, str, str]] = []
    for (fidelity, state), reasons in study.unjudged.items():
        number = sum(reasons.values())
        ordered = sorted(reasons.items(), key=lambda reason: (-reason[1], reason[0]))
        most = "; ".join(
            f"{text} ({percent(often / number)})" for text, often in ordered[:MOST_REASONS] if text
        )
        found.append((fidelity, state, count(number), most or "-"))
    return found


def packed(texts: Mapping[str, str]) -> str:
    """Texts that differ little as JSON that may stand in a script: every line once, and by name
    which lines each text is of."""
    lines: dict[str, int] = {}
    files = {
        name: [lines.setdefault(line, len(lines)) for line in text.split("\n")]
        for name, text in texts.items()
    }
    whole = json.dumps({"lines": list(lines), "files": files}, separators=(",", ":"))
    return whole.replace("<", "\\u003c")
