"""What all plots of the page share: colours that can be read on white and on black, and sizes."""

from typing import Any

from bokeh.plotting import figure

from ..quantities import si

INK = "#7a7f87"
"""Of axes and texts: as far from white as from black."""
PALETTE = (
    "#4477aa",
    "#ee6677",
    "#228833",
    "#ccbb44",
    "#66ccee",
    "#aa3377",
    "#ee8866",
    "#bbbbbb",
    "#44bb99",
    "#99ddff",
)
"""Distinct to most colour-blind readers: P. Tol, Colour Schemes, SRON technical note 2021."""
LOW, HIGH = "#fff3c4", "#b1123c"
"""The ends of a scale from idle to full."""
TOOLS = "pan,wheel_zoom,box_zoom,reset,save"


def plot(height: int, **settings: Any) -> figure:
    """An empty figure as wide as the page, without a background of its own."""
    made = figure(
        height=height,
        sizing_mode="stretch_width",
        tools=settings.pop("tools", TOOLS),
        toolbar_location=settings.pop("toolbar_location", "above"),
        background_fill_alpha=0,
        border_fill_alpha=0,
        outline_line_color=None,
        **settings,
    )
    made.toolbar.logo = None
    made.toolbar.active_scroll = None
    for axis in made.axis:
        axis.axis_line_color = axis.major_tick_line_color = INK
        axis.minor_tick_line_color = None
        axis.major_label_text_color = axis.axis_label_text_color = INK
        axis.axis_label_text_font_style = "normal"
    for grid in made.grid:
        grid.grid_line_color, grid.grid_line_alpha = INK, 0.2
    return made


def prefixed(most: float, unit: str) -> tuple[float, str]:
    """What to multiply by so that figures up to `most` are easily read, and their unit then."""
    shown = si(most, unit).rpartition(" ")[2]
    powers = {"p": 12, "n": 9, "u": 6, "m": 3, "k": -3, "M": -6, "G": -9}
    prefix = shown.removesuffix(unit)
    return 10.0 ** powers.get(prefix, 0), shown


def legend_above(made: figure, columns: int = 5) -> None:
    """Put the legend over the plot, in rows."""
    for legend in made.legend:
        legend.orientation = "horizontal"
        legend.background_fill_alpha = legend.border_line_alpha = 0
        legend.label_text_color = INK
        legend.ncols = columns
        made.add_layout(legend, "above")


def colour(at: int) -> str:
    """The colour of the part number `at`."""
    return PALETTE[at % len(PALETTE)]
