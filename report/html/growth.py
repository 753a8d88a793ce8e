"""How far a search is: the share that its front dominates against cost, and which parameters tell
designs apart."""

from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.models import ColumnDataSource, DataRange1d, FactorRange, HoverTool
from bokeh.transform import dodge

from ..quantities import percent, three_digits
from ..study_axes import Curve
from ..study_data import Goal, duration
from .style import colour, legend_above, plot, with_prefixes

BAR = 16
"""Pixels a bar."""
MOST_PARAMETERS = 30
"""Those that explain most."""


def growth_plot(curve: Curve, second: float) -> Any:
    """The dominated share against cost; `second`: of one core, how many an evaluation at the top
    took."""
    made = plot(380, y_range=DataRange1d(start=0))
    source = ColumnDataSource(
        {
            "cost": list(curve.evaluations),
            "share": list(curve.share),
            "evaluations": [three_digits(cost) for cost in curve.evaluations],
            "took": [duration(cost * second) for cost in curve.evaluations],
            "text": [percent(share) for share in curve.share],
        }
    )
    made.step("cost", "share", source=source, mode="after", line_color=colour(0), line_width=2)
    dots = made.scatter("cost", "share", source=source, size=7, color=colour(0))
    tips = [("dominated", "@text"), ("evaluations", "@evaluations"), ("time of a core", "@took")]
    made.add_tools(HoverTool(renderers=[dots], tooltips=tips))
    made.xaxis.axis_label = "cost: evaluations at the top, others by what they take"
    with_prefixes(made.xaxis, "")
    made.yaxis.axis_label = "hypervolume"
    return made


def importance_plot(goals: Sequence[Goal], shares: Mapping[str, Sequence[float]]) -> Any:
    """The share of each figure's variance, by rank, that a parameter explains by itself."""
    ordered = sorted(shares, key=lambda name: max(shares[name]))[-MOST_PARAMETERS:]
    made = plot(
        110 + len(ordered) * (BAR * len(goals) + 6),
        y_range=FactorRange(factors=ordered),
        x_range=(0, 1),
        tools="save",
    )
    width = 0.84 / len(goals)
    for at, goal in enumerate(goals):
        values = [shares[name][at] for name in ordered]
        source = ColumnDataSource(
            {"name": ordered, "share": values, "text": [percent(value) for value in values]}
        )
        bars = made.hbar(
            y=dodge("name", (len(goals) / 2 - at - 0.5) * width, range=made.y_range),
            right="share",
            height=0.9 * width,
            source=source,
            color=colour(at),
            legend_label=goal.figure,
        )
        tips = [("parameter", "@name"), ("explains", f"@text of {goal.figure}")]
        made.add_tools(HoverTool(renderers=[bars], tooltips=tips))
    made.xaxis.axis_label = "share of the variance that the parameter explains by itself"
    made.ygrid.visible = False
    legend_above(made, columns=2)
    return made
