"""The pipeline over time: which stage works on which micro-batch."""

from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, HoverTool

from ...ir.trace import TASKS, Slice, Trace
from ..quantities import si
from .style import colour, legend_above, plot, prefixed

MOST = 4_000
COLOURS = {"forward": colour(0), "backward": colour(2), "update": colour(3)}


def timeline(trace: Trace) -> Any:
    """A row a stage, a box a task; forward, backward and the optimizer in colours of their own."""
    tasks = sorted((s for s in trace.slices if s.track == TASKS), key=lambda s: s.start_s)[:MOST]
    rows = list(dict.fromkeys(sorted((s.group for s in tasks), key=_number)))
    names = [row.partition(":")[0] for row in rows]
    factor, unit = prefixed(max((s.start_s + s.seconds for s in tasks), default=0.0), "s")
    made = plot(min(640, 130 + 24 * len(rows)), y_range=names[::-1])
    for way, chosen in _by_way(tasks).items():
        boxes = made.hbar(
            y="stage",
            left="left",
            right="right",
            height=0.8,
            source=ColumnDataSource(
                {
                    "stage": [each.group.partition(":")[0] for each in chosen],
                    "left": np.array([factor * each.start_s for each in chosen]),
                    "right": np.array([factor * (s.start_s + s.seconds) for s in chosen]),
                    "name": [each.name for each in chosen],
                    "text": [si(each.seconds, "s") for each in chosen],
                    "runs": [each.group.partition(": ")[2] for each in chosen],
                }
            ),
            fill_color=COLOURS[way],
            line_color="white",
            line_width=0.5,
            legend_label=way,
        )
        tips = [("@stage", "@name"), ("takes", "@text"), ("runs", "@runs")]
        made.add_tools(HoverTool(renderers=[boxes], tooltips=tips))
    made.xaxis.axis_label = unit
    made.ygrid.visible = False
    legend_above(made)
    return made


def _number(group: str) -> tuple[int, str]:
    word = group.partition(":")[0].rpartition(" ")[2]
    return (int(word) if word.isdigit() else 1 << 30), group


def _by_way(tasks: list[Slice]) -> dict[str, list[Slice]]:
    found: dict[str, list[Slice]] = {}
    for each in tasks:
        found.setdefault(str(each.details.get("way", "update")), []).append(each)
    return found
