"""What all plots of the page share: colours that can be read on white and on black, and sizes."""

from math import floor, log10
from typing import Any

from bokeh.models import CustomJSTickFormatter, FixedTicker, NoOverlap
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
MOST_DECADES = 3
"""Of a logarithmic axis with more ticks than at powers of ten."""
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
        axis.major_label_policy = NoOverlap()
    for grid in made.grid:
        grid.grid_line_color, grid.grid_line_alpha = INK, 0.2
    return made


def prefixed(most: float, unit: str) -> tuple[float, str]:
    """What to multiply by so that figures up to `most` are easily read, and their unit then."""
    shown = si(most, unit).rpartition(" ")[2]
    powers = {"p": 12, "n": 9, "u": 6, "m": 3, "k": -3, "M": -6, "G": -9}
    prefix = shown.removesuffix(unit)
    return 10.0 ** powers.get(prefix, 0), shown


_PREFIXES = """
    const size = Math.abs(tick), digits = number => Number(number.toPrecision(6));
    if (unit == "" && size < 1) return size == 0 || size >= 0.001 ? `${digits(tick)}` : tick.toExponential();
    const known = [["T", 1e12], ["G", 1e9], ["M", 1e6], ["k", 1e3], ["", 1], ["m", 1e-3], ["u", 1e-6], ["n", 1e-9]];
    const [prefix, one] = known.find(each => size >= 0.9999 * each[1]) ?? known[size == 0 ? 4 : 7];
    return `${digits(tick / one)} ${prefix}${unit}`.trim();
"""  # noqa: E501


def with_prefixes(axis: Any, unit: str, wide: tuple[float, float] | None = None) -> None:
    """Figures of an axis with a prefix and a unit; `wide`: its ends where it is logarithmic, with
    ticks at 1, 2 and 5, or at powers of ten alone over many of them."""
    axis.formatter = CustomJSTickFormatter(args={"unit": unit}, code=_PREFIXES)
    if wide is not None:
        low, high = (floor(log10(end)) for end in wide)
        steps = (1, 2, 5) if high - low < MOST_DECADES else (1,)
        powers = range(low - 1, high + 2)
        axis.ticker = FixedTicker(ticks=[step * 10.0**power for power in powers for step in steps])


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
