"""What the trials of a study say together: how its front grew, which parameters matter.

Numpy only, so that reading a study needs no torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .design import Design, Floats, columns_of
from .objective import Limit, Objective, losses
from .pareto import dominated_by, hypervolume
from .trial import ENDED, Trial

MOST_GROUPS = 8
"""Groups that the values of a parameter are put in."""
LEAST_IN_GROUP = 5
LEAST_TRIALS = 16
"""Fewer say nothing of importance."""


def judged(
    trials: Sequence[Trial], objectives: Sequence[Objective], limits: Sequence[Limit], fidelity: str
) -> list[Trial]:
    """The trials at a fidelity that have figures and break no limit, in their order."""
    return [
        trial
        for trial in trials
        if trial.fidelity == fidelity
        and trial.state == "done"
        and trial.outcome is not None
        and all(limit.excess(trial.outcome.figures) <= 0 for limit in limits)
        and all(each.figure in trial.outcome.figures for each in objectives)
    ]


def losses_of(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Floats:
    """What is to be minimized, of trials that have figures: (trials, objectives)."""
    return losses([trial.outcome.figures for trial in trials if trial.outcome], objectives)


@dataclass(frozen=True)
class Growth:
    """How a front grew: after every trial that changed it, and at the end."""

    seconds: Floats
    """Of one core, spent on evaluations of every fidelity by then, those that failed included."""
    evaluations: Floats
    """The same in evaluations at the top fidelity, by the mean of what those took."""
    hypervolume: Floats


def growth(
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    limits: Sequence[Limit],
    fidelity: str,
    reference: Floats,
) -> Growth:
    """The hypervolume of the front at `fidelity` against the cost of all trials, in their order."""
    ended = [trial for trial in trials if trial.state in ENDED and trial.outcome is not None]
    able = {trial.number for trial in judged(ended, objectives, limits, fidelity)}
    best = np.zeros((0, len(objectives)))
    spent, volume = 0.0, 0.0
    points = [(0.0, 0.0)]
    for trial in ended:
        spent += trial.outcome.seconds if trial.outcome else 0.0
        if trial.number not in able:
            continue
        (worth,) = losses_of([trial], objectives)
        if (best <= worth).all(axis=1).any():
            continue
        best = np.vstack([best[~dominated_by(worth, best)], worth])
        volume = hypervolume(best, reference)
        points.append((spent, volume))
    points.append((spent, volume))
    seconds, volumes = np.array(points).T
    return Growth(seconds, seconds / top_seconds(trials, fidelity), volumes)


def top_seconds(trials: Sequence[Trial], fidelity: str) -> float:
    """The mean time of an evaluation at a fidelity, in seconds of one core; nan where none was."""
    times = [
        trial.outcome.seconds
        for trial in trials
        if trial.outcome is not None and trial.fidelity == fidelity and trial.outcome.seconds > 0
    ]
    return float(np.mean(times)) if times else np.nan


def importance(
    designs: Sequence[Design], worth: Floats, names: Sequence[str]
) -> Mapping[str, Floats]:
    """The share of the variance of each loss's rank that a parameter explains by itself.

    That is the first-order Sobol index, the correlation ratio (Saltelli et al., Global Sensitivity
    Analysis, 2008, section 1.2.9), of ranks, estimated from groups of equal or near values and
    freed of the bias that groups of few have (omega squared: Hays, Statistics for Psychologists,
    1963). It describes the designs that were tried, not the space evenly. Parameters that have one
    value in all designs are left out; so are all where there are too few designs.

    Args:
        worth: losses of the designs, (designs, objectives).

    Returns:
        By parameter, a share from 0 to 1 for each objective.
    """
    if len(designs) < LEAST_TRIALS:
        return {}
    ranks = np.stack([_ranks(column) for column in worth.T], axis=1)
    found: dict[str, Floats] = {}
    for name, column in columns_of(designs, names).items():
        groups = _groups(column)
        if groups.max() > 0:
            found[name] = np.array([_explained(groups, each) for each in ranks.T])
    return found


def _ranks(values: Floats) -> Floats:
    """The middle rank of equal values."""
    _, at, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[at]


def _groups(column: np.ndarray) -> NDArray[np.intp]:
    """Of each design the group of its value: each value its own where there are few, else of near
    values alike many designs; those without the parameter are a group too."""
    values, places = np.unique(column, return_inverse=True)
    if len(values) <= MOST_GROUPS or column.dtype.kind in "US":
        return places
    count = int(np.clip(len(column) // LEAST_IN_GROUP, 2, MOST_GROUPS))
    cuts = np.quantile(places, np.linspace(0, 1, count + 1)[1:-1])
    return np.unique(np.searchsorted(cuts, places), return_inverse=True)[1]


def _explained(groups: NDArray[np.intp], ranks: Floats) -> float:
    counts = np.bincount(groups)
    means = np.bincount(groups, ranks) / counts
    total = float(((ranks - ranks.mean()) ** 2).sum())
    between = float((counts * (means - ranks.mean()) ** 2).sum())
    free = len(ranks) - len(counts)
    if total == 0 or free <= 0:
        return 0.0
    noise = (total - between) / free
    return float(np.clip((between - (len(counts) - 1) * noise) / (total + noise), 0.0, 1.0))
