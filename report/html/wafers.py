"""The system drawn to scale: islands beside each other, dies, dead parts, and stages coloured by
how busy, how full or how hot they are."""

from typing import Any

from bokeh.layouts import column
from bokeh.models import (
    BasicTickFormatter,
    ColorBar,
    ColumnDataSource,
    CustomJS,
    HoverTool,
    LinearColorMapper,
    NumeralTickFormatter,
    Select,
)

from ...ir.wafer_map import Unit, WaferMap
from ..quantities import percent, si, size
from .links import border_lines, passages
from .places import Places
from .style import HIGH, INK, LOW, plot

MOST_DIES = 4_000
"""Beyond so many, dies are not outlined one by one."""
SHADES = 64
ON_WHITE = ".bk-input { color: #1c1e21; background-color: #ffffff; }"
"""Of a choice, which Bokeh draws on white on a dark page too."""

SWITCH = """
    const from = {load: 'load', memory: 'memory', links: 'links', power: 'heat'}[this.value];
    const values = source.data[from];
    source.data['shown'] = values;
    mapper.high = tops[this.value] ?? 1;
    boxes.glyph.fill_alpha = this.value == 'links' ? 0.35 : 1;
    lines.forEach(line => { line.visible = this.value == 'links'; });
    bar.title = titles[this.value];
    bar.formatter = formatters[this.value];
    source.change.emit();
"""
TITLES = {
    "load": "share of the step in which cores compute",
    "memory": "share of the memory of the fullest core",
    "power": "watts of a core, on average over the step",
    "links": "share of the step in which the busiest link is used: of stages, and between dies",
}


def wafers(drawn: WaferMap) -> Any:
    """The plot and the switch of what the colours say."""
    at = Places(drawn)
    mapper = LinearColorMapper(palette=_shades(), low=0.0, high=1.0)
    made = plot(
        at.pixels, match_aspect=True, x_range=(-at.pad, at.width + at.pad), y_range=at.vertical
    )
    made.axis.visible = False
    made.grid.visible = False
    _dies(made, drawn, at)
    source = ColumnDataSource(_regions(drawn, at))
    boxes = made.quad(
        left="left",
        right="right",
        top="top",
        bottom="bottom",
        source=source,
        fill_color={"field": "shown", "transform": mapper},
        line_color="#333333",
        line_width=0.7,
    )
    made.add_tools(_hover(boxes))
    _edges(made, drawn, at)
    _dead(made, drawn, at)
    passages(made, drawn, at)
    lines = border_lines(made, drawn, at, mapper)
    shares = NumeralTickFormatter(format="0.[00]%")
    watts = BasicTickFormatter(precision=3)
    bar = ColorBar(
        formatter=shares,
        color_mapper=mapper,
        title=TITLES["load"],
        background_fill_alpha=0,
        major_label_text_color=INK,
        title_text_color=INK,
        title_text_font_style="normal",
        height=12,
    )
    made.add_layout(bar, "below")
    heat: Any = source.data["heat"]
    used = [*(each.links for each in drawn.regions), *(each.busy for each in drawn.borders)]
    switch = Select(
        title="Colours", value="load", options=list(TITLES), width=160, stylesheets=[ON_WHITE]
    )
    switch.js_on_change(
        "value",
        CustomJS(
            args={
                "source": source,
                "mapper": mapper,
                "bar": bar,
                "titles": TITLES,
                "tops": {"power": max([*heat, 1e-12]), "links": max([*used, 1e-12])},
                "formatters": {name: watts if name == "power" else shares for name in TITLES},
                "boxes": boxes,
                "lines": lines,
            },
            code=SWITCH,
        ),
    )
    return column(switch, made, sizing_mode="stretch_width")


def _boxes(at: Places, islands: int, units: tuple[Unit, ...]) -> dict[str, Any]:
    boxes = [
        (*at.box(island, u.row, u.column, u.rows, u.columns), u.name)
        for island in range(islands)
        for u in units
    ]
    names = ("left", "right", "top", "bottom", "name")
    return {name: [box[i] for box in boxes] for i, name in enumerate(names)}


def _dies(made: Any, drawn: WaferMap, at: Places) -> None:
    shown = drawn.dies
    if len(shown) * at.islands > MOST_DIES:
        shown = (Unit(drawn.kind, 0, 0, drawn.rows, drawn.columns),)
    for dead, fill, alpha in ((False, INK, 0.08), (True, INK, 0.7)):
        chosen = tuple(die for die in shown if die.dead == dead)
        if chosen:
            made.quad(
                left="left",
                right="right",
                top="top",
                bottom="bottom",
                source=ColumnDataSource(_boxes(at, at.islands, chosen)),
                fill_color=fill,
                fill_alpha=alpha,
                line_color=INK,
                line_alpha=0.5,
                line_width=0.5,
                hatch_pattern="diagonal_cross" if dead else None,
                hatch_alpha=0.5,
            )


def _edges(made: Any, drawn: WaferMap, at: Places) -> None:
    if not drawn.edges:
        return
    source = ColumnDataSource(_boxes(at, at.islands, drawn.edges))
    edges = made.quad(
        left="left",
        right="right",
        top="top",
        bottom="bottom",
        source=source,
        fill_color="#4477aa",
        fill_alpha=0.5,
        line_color=None,
    )
    made.add_tools(HoverTool(renderers=[edges], tooltips=[("edge", "@name")]))


def _dead(made: Any, drawn: WaferMap, at: Places) -> None:
    if not drawn.dead_cores:
        return
    boxes = [
        at.box(island, row, column, 1, 1)
        for island in range(at.islands)
        for row, column in drawn.dead_cores
    ]
    middle = [((left + right) / 2, (top + bottom) / 2) for left, right, top, bottom in boxes]
    made.scatter(
        [x for x, _ in middle], [y for _, y in middle], marker="x", size=4, line_color="#000000"
    )


def _regions(drawn: WaferMap, at: Places) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: []
        for name in (
            *("left", "right", "top", "bottom", "shown", "load", "memory", "links", "heat"),
            *("stage", "runs", "cores", "busy", "held", "linked", "power"),
        )
    }
    for region in drawn.regions:
        if region.island >= at.islands:
            continue
        box = at.box(region.island, region.row, region.column, region.rows, region.columns)
        cores = region.rows * region.columns
        row = dict(zip(("left", "right", "top", "bottom"), box, strict=True)) | {
            "shown": region.load,
            "load": region.load,
            "memory": region.memory,
            "links": region.links,
            "heat": region.power_w / cores,
            "stage": f"{region.stage}, replica {region.replica}",
            "runs": region.runs,
            "cores": f"{region.rows:,} x {region.columns:,} at row {region.row:,}, "
            f"column {region.column:,} of {drawn.kind} {region.island}",
            "busy": percent(region.load),
            "held": f"{size(region.memory_bytes)}, {percent(region.memory)}",
            "linked": percent(region.links),
            "power": si(region.power_w, "W"),
        }
        for name, value in row.items():
            found[name].append(value)
    return found


def _hover(boxes: Any) -> HoverTool:
    return HoverTool(
        renderers=[boxes],
        tooltips=[
            ("stage", "@stage"),
            ("runs", "@runs"),
            ("cores", "@cores"),
            ("computing", "@busy"),
            ("busiest link", "@linked"),
            ("fullest core", "@held"),
            ("power", "@power"),
        ],
    )


def _shades() -> list[str]:
    ends = [[int(text[i : i + 2], 16) for i in (1, 3, 5)] for text in (LOW, HIGH)]
    return [
        "#"
        + "".join(
            f"{round(a + (b - a) * at / (SHADES - 1)):02x}" for a, b in zip(*ends, strict=True)
        )
        for at in range(SHADES)
    ]
