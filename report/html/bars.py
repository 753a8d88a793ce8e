"""Parts of a whole as bars: time by component and by operator, energy, the memory of a core."""

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from bokeh.models import ColumnDataSource, DataRange1d, HoverTool, NumeralTickFormatter

from ...ir.result import Result
from ...ir.trace import MEMORY, Trace
from ..lines import plain_name
from ..quantities import percent, si, size
from .style import colour, legend_above, plot, prefixed

MOST_OPERATORS = 16
BAR = 26
"""Pixels a bar."""
LEGEND_COLUMNS = 4


def shares(parts: Mapping[str, float], unit: str) -> Any:
    """One bar of all parts, the largest first."""
    whole = sum(parts.values())
    ordered = sorted(
        ((name, part) for name, part in parts.items() if part > 0), key=lambda p: -p[1]
    )
    factor, shown = prefixed(whole, unit)
    ends = [0.0, *accumulate(factor * part for _, part in ordered)]
    source = ColumnDataSource(
        {
            "left": ends[:-1],
            "right": ends[1:],
            "y": ["all"] * len(ordered),
            "colour": [colour(at) for at in range(len(ordered))],
            "legend": [f"{plain_name(name)} {percent(part / whole)}" for name, part in ordered],
            "text": [si(part, unit) for _, part in ordered],
        }
    )
    rows = -(-len(ordered) // LEGEND_COLUMNS)
    made = plot(125 + 24 * rows, y_range=["all"], tools="save", x_range=(0, ends[-1] or 1.0))
    bars = made.hbar(
        y="y",
        left="left",
        right="right",
        height=0.8,
        source=source,
        fill_color="colour",
        line_color=None,
        legend_field="legend",
    )
    made.add_tools(HoverTool(renderers=[bars], tooltips=[("@legend", "@text")]))
    made.yaxis.visible = made.ygrid.visible = False
    made.xaxis.axis_label = shown
    legend_above(made, LEGEND_COLUMNS)
    return made


def operators(result: Result) -> Any:
    """The operators of the layer that repeats most, the slowest first."""
    shown = [each for each in result.operators if each.cycles > 0][:MOST_OPERATORS]
    names = [
        f"{each.kind}  {_short(each.path or each.name)}  {at}" for at, each in enumerate(shown)
    ]
    whole = sum(each.cycles for each in result.operators)
    source = ColumnDataSource(
        {
            "name": names,
            "cycles": [each.cycles for each in shown],
            "share": [percent(each.cycles / whole) for each in shown],
            "energy": [si(each.energy_j, "J") for each in shown],
            "where": [each.path or each.name for each in shown],
        }
    )
    made = plot(
        90 + BAR * len(shown), y_range=names[::-1], tools="save", x_range=DataRange1d(start=0)
    )
    bars = made.hbar(y="name", right="cycles", height=0.75, source=source, color=colour(0))
    made.add_tools(
        HoverTool(
            renderers=[bars],
            tooltips=[
                ("operator", "@where"),
                ("cycles", "@cycles{0,0}"),
                ("of the layer", "@share"),
                ("energy", "@energy"),
            ],
        )
    )
    made.xaxis.axis_label = "cycles of the layer that repeats most"
    made.xaxis.formatter = NumeralTickFormatter(format="0,0")
    made.yaxis.major_label_text_font_size = "11px"
    return made


def memory(trace: Trace, capacity_bytes: int) -> Any:
    """What the fullest core of each stage holds, when most is saved for the backward pass."""
    fullest: dict[str, Mapping[str, float]] = {}
    for sample in trace.samples:
        if sample.name == MEMORY:
            known = fullest.get(sample.group)
            if known is None or sum(sample.figures.values()) > sum(known.values()):
                fullest[sample.group] = sample.figures
    groups = list(fullest)
    kinds = list(dict.fromkeys(kind for figures in fullest.values() for kind in figures))
    kinds = [kind for kind in kinds if any(figures.get(kind) for figures in fullest.values())]
    data: dict[str, Any] = {"stage": [group.partition(":")[0] for group in groups]}
    for kind in kinds:
        data[kind] = [fullest[group].get(kind, 0.0) for group in groups]
    made = plot(
        min(720, 120 + BAR * len(groups)),
        y_range=data["stage"][::-1],
        tools="save,ypan,ywheel_zoom",
        x_range=DataRange1d(start=0),
    )
    bars = made.hbar_stack(
        kinds,
        y="stage",
        height=0.8,
        source=ColumnDataSource(data),
        color=[colour(at) for at in range(len(kinds))],
        legend_label=list(kinds),
    )
    for kind, bar in zip(kinds, bars, strict=True):
        tips = [("stage", "@stage"), (kind, f"@{{{kind}}}{{0,0}} bytes")]
        made.add_tools(HoverTool(renderers=[bar], tooltips=tips))
    made.vspan(x=[capacity_bytes], line_color="#cc3311", line_dash="dashed", line_width=2)
    made.xaxis.axis_label = f"bytes of a core; it has {size(capacity_bytes)}"
    made.xaxis.formatter = NumeralTickFormatter(format="0 b")
    legend_above(made)
    return made


def _short(path: str) -> str:
    return ".".join(path.split(".")[-2:])
