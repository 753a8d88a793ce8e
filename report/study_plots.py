"""Pictures of a study: the front, hypervolume against cost, parallel coordinates, importance.

Each is written as SVG and as PNG; the same study gives the same bytes. Matplotlib is imported where
a picture is drawn.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..ir.errors import Location, UserError
from .files import check_folder
from .study_data import Goal, StudyHead, TrialRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Told apart by colour-blind readers (Okabe and Ito, Color Universal Design, 2008)."""
GREY = "#b8b8b8"
WIDE = 20.0
"""Figures that span more than this ratio are drawn on a logarithmic axis."""
MOST_LINES = 400
"""Lines of other designs in parallel coordinates."""
DPI = 150


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


def draw_front(goals: Sequence[Goal], clouds: Sequence[Cloud]) -> "Figure":
    """Designs by their figures: one panel for every two objectives; by trial where there is one."""
    if len(goals) == 1:
        return _draw_single(goals[0], clouds)
    count = len(goals) - 1
    figure, axes = _panels(count, count)
    for row in range(count):
        for column in range(count):
            panel, across, up = axes[row][column], goals[column], goals[row + 1]
            if column > row:
                panel.axis("off")
                continue
            for color, cloud in zip(_colors(len(clouds)), clouds, strict=True):
                _draw_cloud(panel, cloud, across, up, color, exact=len(goals) == 2)
            _scale(panel, "x", across, clouds)
            _scale(panel, "y", up, clouds)
    if len(clouds) > 1:
        axes[0][0].legend(fontsize="small")
    return figure


def _draw_cloud(
    panel: "Axes", cloud: Cloud, across: Goal, up: Goal, color: str, exact: bool
) -> None:
    others = [trial for trial in cloud.trials if trial.number not in cloud.best]
    best = [trial for trial in cloud.trials if trial.number in cloud.best]
    x, y = ([trial.figures[goal.figure] for trial in others] for goal in (across, up))
    panel.scatter(x, y, s=10, color=GREY, linewidths=0, alpha=0.6, zorder=1)
    points = sorted((trial.figures[across.figure], trial.figures[up.figure]) for trial in best)
    if not points:
        return
    x, y = zip(*points, strict=True)
    panel.scatter(x, y, s=22, color=color, zorder=3, label=cloud.label)
    if exact:
        where = "post" if across.direction == "min" else "pre"
        panel.step(x, y, where=where, color=color, linewidth=1, zorder=2)


def _draw_single(goal: Goal, clouds: Sequence[Cloud]) -> "Figure":
    figure, ((panel,),) = _panels(1, 1)
    better = np.minimum if goal.direction == "min" else np.maximum
    for color, cloud in zip(_colors(len(clouds)), clouds, strict=True):
        if not cloud.trials:
            continue
        numbers = [trial.number for trial in cloud.trials]
        values = np.array([trial.figures[goal.figure] for trial in cloud.trials])
        panel.scatter(numbers, values, s=10, color=GREY, linewidths=0)
        best = better.accumulate(values)
        panel.step(numbers, best, where="post", color=color, label=cloud.label)
    panel.set_xlabel("trial")
    _scale(panel, "y", goal, clouds)
    panel.legend(fontsize="small")
    return figure


def _scale(panel: "Axes", axis: str, goal: Goal, clouds: Sequence[Cloud]) -> None:
    """Label an axis, and make it logarithmic where the figures span much."""
    values = [trial.figures[goal.figure] for cloud in clouds for trial in cloud.trials]
    arrow = "less is better" if goal.direction == "min" else "more is better"
    getattr(panel, f"set_{axis}label")(f"{goal.figure} ({arrow})")
    if values and min(values) > 0 and max(values) / min(values) > WIDE:
        getattr(panel, f"set_{axis}scale")("log")


def draw_hypervolume(curves: Sequence[Curve]) -> "Figure":
    """How the dominated share grew with what was spent on evaluations of every fidelity."""
    figure, ((panel,),) = _panels(1, 1)
    for color, curve in zip(_colors(len(curves)), curves, strict=True):
        panel.step(curve.evaluations, curve.share, where="post", color=color, label=curve.label)
    panel.set_xlabel("cost: evaluations at the top fidelity, others by what they take")
    panel.set_ylabel("hypervolume (share of the box of figures)")
    panel.set_ylim(bottom=0)
    if len(curves) > 1:
        panel.legend(fontsize="small")
    return figure


def draw_parallel(head: StudyHead, cloud: Cloud) -> "Figure":
    """Every design a line over its parameters and figures; the front's in colour, by the first
    objective."""
    from matplotlib import colormaps

    names = [name for name in head.parameters if any(name in t.values for t in cloud.trials)]
    figure, ((panel,),) = _panels(1, 1, width=max(6.5, 1.3 * (len(names) + len(head.goals))))
    table = np.array(
        [
            *(_places([trial.values.get(name) for trial in cloud.trials]) for name in names),
            *(_places([t.figures[goal.figure] for t in cloud.trials]) for goal in head.goals),
        ]
    ).T
    labels = [*names, *(goal.figure for goal in head.goals)]
    chosen = np.array([trial.number in cloud.best for trial in cloud.trials], dtype=bool)
    others = np.flatnonzero(~chosen)
    for row in others[:: max(1, -(-len(others) // MOST_LINES))]:
        panel.plot(table[row], color=GREY, linewidth=0.5, alpha=0.5, zorder=1)
    for row in np.flatnonzero(chosen):
        color = colormaps["viridis"](table[row, len(names)])
        panel.plot(table[row], color=color, linewidth=1.5, zorder=2)
    panel.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
    for at, (low, high) in enumerate(_ends(head, names, cloud.trials)):
        panel.axvline(at, color="black", linewidth=0.5, zorder=0)
        panel.annotate(low, (at, -0.02), ha="center", va="top", fontsize="x-small")
        panel.annotate(high, (at, 1.02), ha="center", va="bottom", fontsize="x-small")
    panel.set_ylim(-0.12, 1.12)
    panel.set_yticks([])
    return figure


def _places(values: Sequence[Any]) -> "np.ndarray[Any, Any]":
    """Where values lie from the least, 0, to the greatest, 1; by rank where they span much; nan,
    a gap in the line, where there is none."""
    known = sorted({value for value in values if value is not None})
    if len(known) == 1:
        return np.array([np.nan if value is None else 0.5 for value in values])
    if isinstance(known[0], str) or (known[0] > 0 and known[-1] / known[0] > WIDE):
        at = {value: rank / (len(known) - 1) for rank, value in enumerate(known)}
        return np.array([at.get(value, np.nan) for value in values])
    low, high = known[0], known[-1]
    return np.array([np.nan if v is None else (v - low) / (high - low) for v in values])


def _ends(
    head: StudyHead, names: Sequence[str], trials: Sequence[TrialRow]
) -> list[tuple[str, str]]:
    """What the lower and the upper end of each axis stand for."""
    found: list[tuple[str, str]] = []
    for name in names:
        known = sorted({t.values[name] for t in trials if name in t.values}, key=_order)
        found.append((head.value(name, known[0]), head.value(name, known[-1])))
    for goal in head.goals:
        values = [trial.figures[goal.figure] for trial in trials]
        found.append((f"{min(values):.3g}", f"{max(values):.3g}"))
    return found


def _order(value: float | str) -> tuple[bool, float | str]:
    return isinstance(value, str), value


def draw_importance(goals: Sequence[Goal], shares: Mapping[str, Sequence[float]]) -> "Figure":
    """The share of each figure's variance, by rank, that a parameter explains by itself."""
    ordered = sorted(shares, key=lambda name: max(shares[name]))
    figure, ((panel,),) = _panels(1, 1, height=1.2 + 0.32 * max(4, len(ordered)))
    width = 0.8 / len(goals)
    for at, (color, goal) in enumerate(zip(_colors(len(goals)), goals, strict=True)):
        places = np.arange(len(ordered)) + (len(goals) / 2 - at - 0.5) * width
        panel.barh(
            places, [shares[name][at] for name in ordered], width, color=color, label=goal.figure
        )
    panel.set_yticks(range(len(ordered)), ordered)
    panel.set_xlabel("share of the variance that the parameter explains by itself")
    panel.set_xlim(0, 1)
    panel.legend(fontsize="small", loc="lower right")
    return figure


def _panels(
    rows: int, columns: int, width: float = 6.5, height: float = 4.5
) -> "tuple[Figure, list[list[Axes]]]":
    from matplotlib.figure import Figure

    size = (width if columns == 1 else 4.0 * columns, height if rows == 1 else 3.4 * rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, [list(line) for line in axes]


def _colors(count: int) -> list[str]:
    return [COLORS[at % len(COLORS)] for at in range(count)]


def save_figures(folder: str, figures: "Mapping[str, Figure]") -> list[Path]:
    """Write each as NAME.svg and NAME.png into a folder, which is made; raises UserError."""
    import matplotlib as mpl

    check_folder(folder)
    written: list[Path] = []
    settings: Any = {"svg.hashsalt": "wscc", "svg.fonttype": "none"}
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            for kind, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
                buffer = io.BytesIO()
                with mpl.rc_context(settings):
                    figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
                path = Path(folder) / f"{name}.{kind}"
                beside = path.with_name(f".{path.name}.part")
                beside.write_bytes(buffer.getvalue())
                beside.replace(path)
                written.append(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot be written: {reason}", Location(folder)) from None
    return written
