"""`wscc-dse plot` and `wscc-dse compare`: studies as pictures, and beside each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...dse.analysis import Growth, growth, importance, judged, losses_of
from ...dse.design import Floats
from ...dse.pareto import nondominated, reference_point
from ...dse.trial import Trial
from ...ir.errors import UserError
from ...report.study_axes import Cloud, Curve
from ...report.study_plots import (
    draw_front,
    draw_hypervolume,
    draw_importance,
    draw_parallel,
    save_figures,
)
from ...report.study_table import Compared, compare_lines
from .asked import Compare, Plot
from .described import rows_of
from .opened import Opened, box, opened
from .reading import say


def carry_out(asked: Plot | Compare) -> int:
    """Carry out a verb that draws: the exit code. Raises UserError."""
    return _plot(asked) if isinstance(asked, Plot) else _compare(asked)


@dataclass(frozen=True)
class _Read:
    """What pictures need of a study."""

    study: Opened
    trials: list[Trial]
    able: list[Trial]
    """At the top, with figures, within every limit."""
    worth: Floats
    """Their losses."""

    @classmethod
    def of(cls, study: Opened) -> "_Read":
        trials = study.store.trials()
        able = judged(trials, study.objectives, study.limits, study.top)
        if not able:
            raise UserError(
                f"{study.name}: no design has ended at {study.top} yet, nothing to draw"
            )
        return cls(study, trials, able, losses_of(able, study.objectives))

    @property
    def cloud(self) -> Cloud:
        best = frozenset(self.able[row].number for row in np.flatnonzero(nondominated(self.worth)))
        return Cloud(self.study.name, rows_of(self.able), best)

    def growth(self, reference: Floats) -> Growth:
        objectives, limits = self.study.objectives, self.study.limits
        return growth(self.trials, objectives, limits, self.study.top, reference)


def _plot(asked: Plot) -> int:
    with opened(asked.study) as study:
        read = _Read.of(study)
        head, cloud = study.head, read.cloud
        reference = reference_point(read.worth)
        figures = {
            "front": draw_front(head.goals, [cloud]),
            "hypervolume": draw_hypervolume([_curve(read, reference, box(read.worth, reference))]),
            "parallel": draw_parallel(head, cloud),
        }
        shares, fidelity = importance_of(study, read.trials)
        if shares:
            figures["importance"] = draw_importance(head.goals, shares)
        written = [str(path) for path in save_figures(asked.directory, figures)]
        report = head.to_json() | {
            "written": written,
            "importance": {"fidelity": fidelity, "parameters": shares} if shares else None,
        }
    lines = [f"wrote {path}" for path in written]
    if not shares:
        lines.append("too few trials for the importance of parameters")
    say(asked.talk, "plot", report, lines)
    return 0


def importance_of(study: Opened, trials: Sequence[Trial]) -> tuple[dict[str, list[float]], str]:
    """The importance of parameters at the fidelity at which most designs were judged, the higher
    where equal; and its name."""
    found, at = list[Trial](), study.top
    for fidelity in study.store.info.rungs:
        able = judged(trials, study.objectives, study.limits, fidelity)
        found, at = (able, fidelity) if len(able) >= len(found) else (found, at)
    worth = losses_of(found, study.objectives)
    shares = importance([trial.design for trial in found], worth, study.head.parameters)
    return {name: share.tolist() for name, share in shares.items()}, at


def _curve(read: _Read, reference: Floats, volume: float) -> Curve:
    grown = read.growth(reference)
    label = f"{read.study.name} ({read.study.head.strategy})"
    return Curve(label, grown.evaluations.tolist(), (grown.hypervolume / volume).tolist())


def _compare(asked: Compare) -> int:
    read = [_read(name) for name in asked.studies]
    first = read[0].study
    for other in read[1:]:
        if other.study.head.goals != first.head.goals:
            raise UserError(
                f"{other.study.name}: searches other objectives than {first.name}, "
                f"{_goals(other.study)} and {_goals(first)}"
            )
    worth = np.concatenate([each.worth for each in read])
    fronts = np.concatenate([each.worth[nondominated(each.worth)] for each in read])
    reference = reference_point(fronts)
    volume = box(worth, reference)
    curves = [_curve(each, reference, volume) for each in read]
    cost = min(curve.evaluations[-1] for curve in curves)
    compared = [
        _compared(each, curve, cost, fronts) for each, curve in zip(read, curves, strict=True)
    ]
    written: list[str] = []
    if asked.directory is not None:
        clouds = [each.cloud for each in read]
        figures = {
            "fronts": draw_front(first.head.goals, clouds),
            "hypervolume": draw_hypervolume(curves),
        }
        written = [str(path) for path in save_figures(asked.directory, figures)]
    report = {
        "objectives": [str(goal) for goal in first.head.goals],
        "evaluations": cost,
        "reference": [
            each.sign * float(edge) for each, edge in zip(first.objectives, reference, strict=True)
        ],
        "studies": [each.to_json() for each in compared],
        "written": written,
    }
    lines = [*compare_lines(first.head.goals, compared, cost), *(f"wrote {w}" for w in written)]
    say(asked.talk, "compare", report, lines)
    return 0


def _read(name: str) -> _Read:
    with opened(name) as study:
        return _Read.of(study)


def _goals(study: Opened) -> str:
    return ", ".join(str(goal) for goal in study.head.goals)


def _compared(read: _Read, curve: Curve, cost: float, fronts: Floats) -> Compared:
    own = read.worth[nondominated(read.worth)]
    best = fronts[nondominated(fronts)]
    kept = sum(bool((best == point).all(axis=1).any()) for point in own)
    return Compared(
        head=read.study.head,
        evaluations=curve.evaluations[-1],
        share=curve.share[-1],
        share_at_equal_cost=_at(curve.evaluations, curve.share, cost),
        front=len(own),
        kept=kept,
    )


def _at(costs: Sequence[float], shares: Sequence[float], cost: float) -> float:
    """The last share that had been reached at a cost."""
    return max(share for spent, share in zip(costs, shares, strict=True) if spent <= cost)
