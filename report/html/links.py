"""Links on the map of a system: borders of dies by how busy their links are, and what stages pass
from one to the other."""

from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, HoverTool

from ...ir.wafer_map import Border, Region, WaferMap
from ..quantities import percent, si, size
from .places import Places
from .style import INK

MOST_BORDERS = 6_000
"""The busiest, where there are more."""
WIDTH = 3.5
"""Pixels of a line, half of it on many islands."""
FEW_ISLANDS = 4


def border_lines(made: Any, drawn: WaferMap, at: Places, mapper: Any) -> list[Any]:
    """A line for every border that something goes over, in the colours of a scale; not shown at
    first."""
    shown = sorted(
        (border for border in drawn.borders if border.island < at.islands),
        key=lambda border: -border.busy,
    )[:MOST_BORDERS]
    if not shown:
        return []
    x0, y0, x1, y1 = np.array([_ends(at, border) for border in shown]).T
    source = ColumnDataSource(
        {
            "x0": x0,
            "y0": y0,
            "x1": x1,
            "y1": y1,
            "busy": np.array([border.busy for border in shown]),
            "text": [percent(border.busy) for border in shown],
            "inside": [percent(border.collectives) for border in shown],
            "passed": [percent(border.handovers) for border in shown],
            "links": np.array([float(border.links) for border in shown]),
            "between": [f"{border.between} of {drawn.kind} {border.island}" for border in shown],
        }
    )
    width = WIDTH if at.islands <= FEW_ISLANDS else WIDTH / 2
    # A dark line below keeps each apart from the colours of the stages.
    below = made.segment(
        "x0",
        "y0",
        "x1",
        "y1",
        source=source,
        line_color="#222222",
        line_width=1.5 * width,
        visible=False,
    )
    lines = made.segment(
        "x0", "y0", "x1", "y1", source=source, line_width=width, visible=False,
        line_color={"field": "busy", "transform": mapper},
    )  # fmt: skip
    tips = [
        ("between", "@between"),
        ("links each way", "@links{0,0}"),
        ("busiest, at most", "@text"),
        ("within stages", "@inside"),
        ("between stages", "@passed"),
    ]
    made.add_tools(HoverTool(renderers=[lines], tooltips=tips, limit=1))
    return [below, lines]


def _ends(at: Places, border: Border) -> tuple[float, float, float, float]:
    rows, columns = (border.length, 0) if border.vertical else (0, border.length)
    left, right, top, bottom = at.box(border.island, border.row, border.column, rows, columns)
    return left, top, right, bottom


def passages(made: Any, drawn: WaferMap, at: Places) -> None:
    """A line between the middles of stages that hand something to each other."""
    places = {(r.stage, r.replica): r for r in drawn.regions if r.island < at.islands}
    lines: dict[str, Any] = {name: [] for name in ("xs", "ys", "what", "busy")}
    for each in drawn.passages:
        ends = [places.get((stage, each.replica)) for stage in (each.source, each.target)]
        if each.way != "forward" or None in ends:
            continue
        points = [_middle(at, end) for end in ends if end is not None]
        lines["xs"].append([x for x, _ in points])
        lines["ys"].append([y for _, y in points])
        lines["busy"].append(f"{percent(each.busy)} of the step")
        lines["what"].append(
            f"stage {each.source} to {each.target}: {size(each.bytes)} in {si(each.seconds, 's')}"
        )
    if lines["xs"]:
        drawn_lines = made.multi_line(
            "xs", "ys", source=ColumnDataSource(lines), line_color=INK, line_width=1.5
        )
        tips = [("passes", "@what"), ("under way", "@busy")]
        made.add_tools(HoverTool(renderers=[drawn_lines], tooltips=tips, limit=1))


def _middle(at: Places, region: Region) -> tuple[float, float]:
    left, right, top, bottom = at.box(
        region.island, region.row, region.column, region.rows, region.columns
    )
    return (left + right) / 2, (top + bottom) / 2
