"""Pictures of a study: the front, hypervolume against cost, parallel coordinates, importance.

Each is written as SVG and as PNG; the same study gives the same bytes. Matplotlib is imported where
a picture is drawn.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..ir.errors import Location, UserError
from .files import check_folder
from .study_axes import MOST_LINES, Cloud, Curve, direction, is_wide, parallel_axes, spread
from .study_data import Goal, StudyHead

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Told apart by colour-blind readers (Okabe and Ito, Color Universal Design, 2008)."""
GREY = "#b8b8b8"
DPI = 150


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
    getattr(panel, f"set_{axis}label")(f"{goal.figure} ({direction(goal)})")
    if is_wide(values):
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

    axes = parallel_axes(head, cloud.trials)
    figure, ((panel,),) = _panels(1, 1, width=max(6.5, 1.3 * len(axes)))
    table = np.array([axis.places for axis in axes]).T
    chosen = np.array([trial.number in cloud.best for trial in cloud.trials], dtype=bool)
    for row in spread(np.flatnonzero(~chosen).tolist(), MOST_LINES):
        panel.plot(table[row], color=GREY, linewidth=0.5, alpha=0.5, zorder=1)
    for row in np.flatnonzero(chosen):
        color = colormaps["viridis"](table[row, -len(head.goals)])
        panel.plot(table[row], color=color, linewidth=1.5, zorder=2)
    panel.set_xticks(range(len(axes)), [axis.name for axis in axes], rotation=30, ha="right")
    for at, axis in enumerate(axes):
        panel.axvline(at, color="black", linewidth=0.5, zorder=0)
        panel.annotate(axis.low, (at, -0.02), ha="center", va="top", fontsize="x-small")
        panel.annotate(axis.high, (at, 1.02), ha="center", va="bottom", fontsize="x-small")
    panel.set_ylim(-0.12, 1.12)
    panel.set_yticks([])
    return figure


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
