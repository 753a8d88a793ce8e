"""Operators against the roofs of a core, on logarithmic axes."""

from itertools import groupby
from typing import Any

from bokeh.models import ColumnDataSource, HoverTool

from ...ir.roofline import Roofline, RooflinePoint
from ..quantities import percent, si, three_digits
from .style import INK, colour, legend_above, plot, with_prefixes

HEIGHT = 460
MOST_KINDS = 7
"""Kinds of operators with a colour of their own: those that take most time."""
SMALL, LARGE = 6, 26
"""Pixels of a point, by the root of its time against the longest."""
LABELS_APART = 2.5
"""Ratio of places on the logarithmic axis."""


def roofline_plot(shown: Roofline, device: str) -> Any:
    """FLOP/s of a core or a GPU over FLOPs a byte; the larger a point, the more time its operator
    takes."""
    peak = max(shown.peaks.values())
    at = [point.intensity for point in shown.points]
    ridges = [peak / rate for rate in shown.bandwidths.values()]
    low, high = min([*at, *ridges]) / 4, max([*at, *ridges]) * 4
    bottom = min(point.attained for point in shown.points) / 3
    x_range, y_range = (low, high), (bottom, peak * LABELS_APART ** (len(shown.bandwidths) + 2))
    made = plot(HEIGHT, x_axis_type="log", y_axis_type="log", x_range=x_range, y_range=y_range)
    _roofs(made, shown, low, high)
    _points(made, shown)
    with_prefixes(made.xaxis, "", x_range)
    with_prefixes(made.yaxis, "FLOP/s", y_range)
    made.xaxis.axis_label = "FLOPs a byte of memory"
    made.yaxis.axis_label = f"attained by a {device}"
    legend_above(made)
    return made


def _roofs(made: Any, shown: Roofline, low: float, high: float) -> None:
    """The units' roofs with their names at the right, the memories' with theirs over the ridge."""
    peak = max(shown.peaks.values())
    for name, flops in shown.peaks.items():
        made.line([low, high], [flops, flops], line_color=INK, line_width=1.5)
        _label(made, high, flops, f"{name}: {si(flops, 'FLOP/s')}", "right")
    for at, (name, rate) in enumerate(shown.bandwidths.items()):
        ridge = peak / rate
        made.line([low, ridge], [low * rate, peak], line_color=INK, line_dash="dashed")
        side = "left" if ridge < (low * high) ** 0.5 else "right"
        _label(made, ridge, peak * LABELS_APART ** (at + 1), f"{name}: {si(rate, 'B/s')}", side)


def _label(made: Any, x: float, y: float, text: str, align: str) -> None:
    made.text(
        x=[x], y=[y], text=[text], text_color=INK, text_font_size="11px", text_align=align,
        text_baseline="bottom", y_offset=-4,
    )  # fmt: skip


def _points(made: Any, shown: Roofline) -> None:
    whole = max(point.seconds for point in shown.points)
    legends = _legends(shown)
    for at, (legend, points) in enumerate(legends.items()):
        source = ColumnDataSource(
            {
                "x": [point.intensity for point in points],
                "y": [point.attained for point in points],
                "size": [SMALL + (LARGE - SMALL) * (p.seconds / whole) ** 0.5 for p in points],
                "name": [point.name for point in points],
                "kind": [point.kind for point in points],
                "intensity": [three_digits(point.intensity) for point in points],
                "attained": [si(point.attained, "FLOP/s") for point in points],
                "roof": [percent(point.attained / shown.roof(point)) for point in points],
                "memory": [point.memory for point in points],
                "took": [si(point.seconds, "s") for point in points],
                "working": [percent(point.working_s / point.seconds) for point in points],
            }
        )
        dots = made.scatter(
            "x", "y", size="size", source=source, fill_color=colour(at), fill_alpha=0.8,
            line_color="white", line_width=0.5, legend_label=legend,
        )  # fmt: skip
        tips = [
            ("@kind", "@name"),
            ("attains", "@attained, @roof of the roof"),
            ("FLOPs a byte", "@intensity of @memory"),
            ("takes", "@took, of which arithmetic @working"),
        ]
        made.add_tools(HoverTool(renderers=[dots], tooltips=tips, limit=3))


def _legends(shown: Roofline) -> dict[str, list[RooflinePoint]]:
    """Points by kind, those first that take most time; the rest together."""
    ordered = sorted(shown.points, key=lambda point: point.kind)
    kinds = {kind: list(points) for kind, points in groupby(ordered, lambda point: point.kind)}
    ranked = sorted(kinds, key=lambda kind: -sum(point.seconds for point in kinds[kind]))
    found = {kind: kinds[kind] for kind in ranked[:MOST_KINDS]}
    if rest := [point for kind in ranked[MOST_KINDS:] for point in kinds[kind]]:
        found["others"] = rest
    return found
