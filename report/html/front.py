"""The designs of a study: figures against each other, and parallel coordinates beside them.

All plots share one source of data, so that what is chosen in one is chosen in all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from bokeh.layouts import gridplot
from bokeh.models import (
    CDSView,
    ColumnDataSource,
    HoverTool,
    IndexFilter,
    Span,
    TapTool,
)

from ..study_axes import MOST_LINES, Axis, Cloud, direction, is_wide, parallel_axes, spread
from ..study_data import Goal, StudyHead, figure_text, unit_of
from .style import INK, colour, legend_above, plot, with_prefixes

MOST_POINTS = 2_500
"""Other designs that are drawn; beyond so many, evenly spread over the order of trials."""
MOST_BEST = 1_000
"""Designs of the front that are drawn."""
MOST_GOALS = 5
"""Objectives that are set against each other."""
FRONT, OTHER, CHOSEN = colour(0), INK, colour(1)
TOOLS = "pan,wheel_zoom,box_zoom,box_select,tap,reset,save"
PANEL = 420
"""Pixels of height of the one panel of two objectives; of several each has fewer."""
SMALL_PANEL = 300
MOST_LEVEL = 14
"""Axes beside each other whose names and ends fit on a line."""
COLUMNS_FROM = 12
"""Rows of a tip from which it has two columns."""


@dataclass(frozen=True)
class Drawn:
    """The designs that are drawn: one source, and which of its rows are on the front."""

    head: StudyHead
    cloud: Cloud
    """Only what is drawn."""
    source: Any
    axes: Sequence[Axis]
    front: list[int]
    others: list[int]

    @classmethod
    def of(cls, head: StudyHead, cloud: Cloud) -> "Drawn":
        """Of a study, at most MOST_POINTS designs and all of the front."""
        best = [at for at, t in enumerate(cloud.trials) if t.number in cloud.best][:MOST_BEST]
        rest = [at for at, t in enumerate(cloud.trials) if t.number not in cloud.best]
        kept = sorted([*best, *spread(rest, MOST_POINTS)])
        trials = [cloud.trials[at] for at in kept]
        axes = parallel_axes(head, trials)
        data: dict[str, Any] = {
            "trial": [trial.number for trial in trials],
            "what": [
                "on the front" if trial.number in cloud.best else "another betters it"
                for trial in trials
            ],
            "xs": [list(range(len(axes)))] * len(trials),
            "ys": np.stack([axis.places for axis in axes], axis=1).round(4).tolist(),
        }
        for at, goal in enumerate(head.goals):
            figures = [trial.figures[goal.figure] for trial in trials]
            data[f"g{at}"] = figures
            data[f"t{at}"] = [figure_text(goal.figure, figure) for figure in figures]
        for at, name in enumerate(_searched(head, axes)):
            data[f"p{at}"] = [
                head.value(name, trial.values[name]) if name in trial.values else "-"
                for trial in trials
            ]
        on_front = {trial.number for trial in trials} & cloud.best
        chosen = [at for at, trial in enumerate(trials) if trial.number in on_front]
        others = [at for at, trial in enumerate(trials) if trial.number not in on_front]
        drawn = Cloud(cloud.label, trials, frozenset(on_front))
        return cls(head, drawn, ColumnDataSource(data, name="designs"), axes, chosen, others)

    @property
    def place(self) -> dict[int, int]:
        """Trials by number: which row of the source each is."""
        return {trial.number: at for at, trial in enumerate(self.cloud.trials)}


def _searched(head: StudyHead, axes: Sequence[Axis]) -> list[str]:
    return [axis.name for axis in axes[: len(axes) - len(head.goals)]]


def front_plots(drawn: Drawn) -> Any:
    """One panel for every two objectives; by trial where there is one."""
    goals = drawn.head.goals[:MOST_GOALS]
    if len(goals) == 1:
        return _single(drawn)
    pairs = [(up, across) for up in range(1, len(goals)) for across in range(up)]
    if len(pairs) == 1:
        return _panel(drawn, 0, 1, PANEL, legend=True)
    panels = [_panel(drawn, across, up, SMALL_PANEL, legend=False) for up, across in pairs]
    return gridplot(
        [panels[at : at + 3] for at in range(0, len(panels), 3)],
        sizing_mode="stretch_width",
        toolbar_location="above",
        toolbar_options={"logo": None},
    )


def _panel(drawn: Drawn, across: int, up: int, height: int, legend: bool) -> Any:
    goals = drawn.head.goals
    kinds = {
        f"{axis}_axis_type": "log" if _is_wide(drawn, goals[at]) else "linear"
        for axis, at in (("x", across), ("y", up))
    }
    made = plot(height, tools=TOOLS, **kinds)
    if len(goals) == 2:
        _staircase(made, drawn)
    _points(made, drawn, f"g{across}", f"g{up}", legend)
    for axis, goal in ((made.xaxis, goals[across]), (made.yaxis, goals[up])):
        axis.axis_label = f"{goal.figure} ({direction(goal)})"
        with_prefixes(axis, unit_of(goal.figure), _ends_if_wide(drawn, goal))
    return made


def _is_wide(drawn: Drawn, goal: Goal) -> bool:
    return is_wide([trial.figures[goal.figure] for trial in drawn.cloud.trials])


def _ends_if_wide(drawn: Drawn, goal: Goal) -> tuple[float, float] | None:
    figures = [trial.figures[goal.figure] for trial in drawn.cloud.trials]
    return (min(figures), max(figures)) if is_wide(figures) else None


def _points(made: Any, drawn: Drawn, x: str, y: str, legend: bool) -> None:
    """All other designs behind, the front before them, with one tip for both."""
    looks = (
        (drawn.others, OTHER, 5, 0.35, "evaluated"),
        (drawn.front, FRONT, 10, 0.95, "front"),
    )
    renderers: list[Any] = []
    for rows, fill, size, alpha, name in looks:
        if not rows:
            continue
        dots = made.scatter(
            x,
            y,
            source=drawn.source,
            view=CDSView(filter=IndexFilter(indices=rows)),
            size=size,
            fill_color=fill,
            fill_alpha=alpha,
            line_color=None,
            selection_fill_color=CHOSEN,
            selection_fill_alpha=1.0,
            selection_line_color=CHOSEN,
            nonselection_fill_color=fill,
            nonselection_fill_alpha=alpha / 3,
            **({"legend_label": name} if legend else {}),
        )
        renderers.append(dots)
    made.add_tools(HoverTool(renderers=renderers[::-1], tooltips=_tip(drawn), limit=2))
    if legend:
        legend_above(made)


def _staircase(made: Any, drawn: Drawn) -> None:
    """What the front of two objectives dominates lies behind this line."""
    goals = drawn.head.goals
    trials = [drawn.cloud.trials[at] for at in drawn.front]
    points = sorted((t.figures[goals[0].figure], t.figures[goals[1].figure]) for t in trials)
    if points:
        x, y = (list(each) for each in zip(*points, strict=True))
        mode = "after" if goals[0].direction == "min" else "before"
        made.step(x, y, mode=mode, line_color=FRONT, line_width=1.5, line_alpha=0.7)


def _single(drawn: Drawn) -> Any:
    """Figures in the order of trials, and the best so far."""
    (goal,) = drawn.head.goals
    wide = _is_wide(drawn, goal)
    made = plot(PANEL, tools=TOOLS, y_axis_type="log" if wide else "linear")
    better = np.minimum if goal.direction == "min" else np.maximum
    figures = np.array([trial.figures[goal.figure] for trial in drawn.cloud.trials])
    numbers = [trial.number for trial in drawn.cloud.trials]
    best = better.accumulate(figures).tolist()
    made.step(numbers, best, mode="after", line_color=FRONT, line_width=1.5)
    _points(made, drawn, "trial", "g0", legend=True)
    made.xaxis.axis_label = "trial"
    made.yaxis.axis_label = f"{goal.figure} ({direction(goal)})"
    with_prefixes(made.yaxis, unit_of(goal.figure), _ends_if_wide(drawn, goal))
    return made


def _tip(drawn: Drawn) -> str:
    """What hovering shows: the trial, its figures, its design."""
    figures = [(goal.figure, f"@t{at}") for at, goal in enumerate(drawn.head.goals)]
    names = _searched(drawn.head, drawn.axes)
    design = [(name, f"@p{at}") for at, name in enumerate(names)]
    columns = 2 if len(design) >= COLUMNS_FROM else 1
    return (
        "<div style='font: 12px system-ui, sans-serif; color: #1c1e21'>"
        "<b>trial @trial</b>, @what"
        f"{_lines(figures, 1)}<hr style='border: 0; border-top: 1px solid #d9dce1; margin: 4px 0'>"
        f"{_lines(design, columns)}</div>"
    )


def _lines(rows: Sequence[tuple[str, str]], columns: int) -> str:
    lines = "".join(
        f"<div style='break-inside: avoid; white-space: nowrap'><span style='color: #6b7078'>"
        f"{escape(name)}</span> {value}</div>"
        for name, value in rows
    )
    return f"<div style='columns: {columns}'>{lines}</div>"


def parallel_plot(drawn: Drawn) -> Any:
    """Every design a line over its parameters and figures."""
    count = len(drawn.axes)
    made = plot(430, tools="reset,save", x_range=(-0.5, count - 0.5), y_range=(-0.2, 1.2))
    for at in range(count):
        made.add_layout(Span(location=at, dimension="height", line_color=INK, line_alpha=0.5))
    looks = (
        (spread(drawn.others, MOST_LINES), OTHER, 0.8, 0.25),
        (drawn.front, FRONT, 1.8, 0.8),
    )
    renderers: list[Any] = []
    for rows, stroke, width, alpha in looks:
        if rows:
            lines = made.multi_line(
                "xs",
                "ys",
                source=drawn.source,
                view=CDSView(filter=IndexFilter(indices=rows)),
                line_color=stroke,
                line_width=width,
                line_alpha=alpha,
                selection_line_color=CHOSEN,
                selection_line_alpha=1.0,
                nonselection_line_color=stroke,
                nonselection_line_alpha=alpha / 4,
                hover_line_color=CHOSEN,
                hover_line_alpha=1.0,
            )
            renderers.append(lines)
    front = renderers[-1:]
    made.add_tools(HoverTool(renderers=front, tooltips=_tip(drawn), limit=2))
    made.add_tools(TapTool(renderers=renderers))
    _ends(made, drawn.axes, count > MOST_LEVEL)
    made.xaxis.ticker = list(range(count))
    made.xaxis.major_label_overrides = {at: axis.name for at, axis in enumerate(drawn.axes)}
    made.xaxis.major_label_orientation = 0.5 if count > MOST_LEVEL / 2 else 0.0
    made.yaxis.visible = False
    made.grid.visible = False
    return made


def _ends(made: Any, axes: Sequence[Axis], crowded: bool) -> None:
    """What the ends of axes stand for; every second a line further out where there are many."""
    for y, baseline, texts in (
        (-0.03, "top", [axis.low for axis in axes]),
        (1.03, "bottom", [axis.high for axis in axes]),
    ):
        made.text(
            x=list(range(len(axes))),
            y=[y + (0.06 if y > 0 else -0.06) * (crowded and at % 2) for at in range(len(axes))],
            text=texts,
            text_color=INK,
            text_font_size="11px",
            text_align="center",
            text_baseline=baseline,
        )
