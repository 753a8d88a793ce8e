"""What pictures of a study share, drawn by whatever library: clouds, curves, and axes side by side.

Axes of parallel coordinates run from 0, the least value, to 1, the greatest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .study_data import Goal, StudyHead, TrialRow, figure_text

WIDE = 20.0
"""Figures that span more than this ratio are drawn on a logarithmic axis."""
MOST_LINES = 400
"""Lines of other designs in parallel coordinates."""


@dataclass(frozen=True)
class Curve:
    """Hypervolume as a share of the box between the best figures and the reference point, against
    cost in evaluations at the top."""

    label: str
    evaluations: Sequence[float]
    share: Sequence[float]


@dataclass(frozen=True)
class Cloud:
    """The evaluated designs of a study, and which are on its front."""

    label: str
    trials: Sequence[TrialRow]
    best: frozenset[int]


@dataclass(frozen=True)
class Axis:
    """A parameter or a figure as an axis: what its ends stand for, and where every trial is."""

    name: str
    low: str
    high: str
    places: "np.ndarray[Any, Any]"
    """From 0 to 1; nan where a trial has none."""


def direction(goal: Goal) -> str:
    """Which way of an objective is better, in words."""
    return "less is better" if goal.direction == "min" else "more is better"


def is_wide(values: Sequence[float]) -> bool:
    """Whether figures span so much that their axis is better logarithmic."""
    return bool(values) and min(values) > 0 and max(values) / min(values) > WIDE


def parallel_axes(head: StudyHead, trials: Sequence[TrialRow]) -> list[Axis]:
    """The parameters that trials have, in the order of the spec, then the objectives."""
    found: list[Axis] = []
    for name in dict.fromkeys((*head.parameters, *(name for t in trials for name in t.values))):
        values = [trial.values.get(name) for trial in trials]
        known = sorted({value for value in values if value is not None}, key=_order)
        if known:
            low, high = head.value(name, known[0]), head.value(name, known[-1])
            found.append(Axis(name, low, high, _places(values)))
    for goal in head.goals:
        figures = [trial.figures[goal.figure] for trial in trials]
        low, high = (figure_text(goal.figure, end(figures)) for end in (min, max))
        found.append(Axis(goal.figure, low, high, _places(figures)))
    return found


def _order(value: float | str) -> tuple[bool, float | str]:
    return isinstance(value, str), value


def _places(values: Sequence[Any]) -> "np.ndarray[Any, Any]":
    """Where values lie between the least and the greatest; by rank where they span much; nan, a gap
    in the line, where there is none."""
    known = sorted({value for value in values if value is not None})
    if len(known) == 1:
        return np.array([np.nan if value is None else 0.5 for value in values])
    if isinstance(known[0], str) or (known[0] > 0 and known[-1] / known[0] > WIDE):
        at = {value: rank / (len(known) - 1) for rank, value in enumerate(known)}
        return np.array([at.get(value, np.nan) for value in values])
    low, high = known[0], known[-1]
    return np.array([np.nan if v is None else (v - low) / (high - low) for v in values])


def spread(indices: Sequence[int], most: int) -> list[int]:
    """At most so many of some indices, evenly apart."""
    return list(indices[:: max(1, -(-len(indices) // most))])
