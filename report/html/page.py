"""The page of a result: words, plots and tables, put into page.html."""

from collections.abc import Sequence
from typing import Any

from ...ir.result import Result, TriedFigures
from ...ir.trace import Trace
from ...ir.wafer_map import WaferMap
from ..lines import headline, rows, shortage
from ..quantities import percent, si, size, three_digits

PACKAGE = "wscc.report.html"
MOST_TRIED = 200
BOKEH = ("bokeh", "bokeh-widgets")
"""Of its scripts, those that the plots need."""
Cell = tuple[str, float | str]
"""What is shown, and what is sorted by."""


def page(result: Result, wafer: WaferMap, trace: Trace, claims: Sequence[str] = ()) -> str:
    """The text of report.html: self-contained, no request leaves it. `claims` are what
    `--explain` says."""
    from bokeh.embed import components

    from .bars import memory, operators, shares
    from .timeline import timeline
    from .wafers import wafers

    plots: dict[str, Any] = {"time": shares(result.breakdown, "s")}
    plots["energy"] = shares(result.energy, "J")
    plots["memory"] = memory(trace, result.memory.core_capacity_bytes)
    plots["timeline"] = timeline(trace)
    plots["wafers"] = wafers(wafer)
    if result.operators:
        plots["operators"] = operators(result)
    script, drawn = components(plots)
    return _template().render(
        title=headline(result),
        result=result,
        cards=_cards(result),
        rows=list(rows(result)),
        claims=claims,
        shortages=[(shortage(each), each.changes) for each in result.infeasible],
        notes=[*result.limits, *trace.notes, *_map_notes(wafer)],
        tried=[_tried(each) for each in result.tried[:MOST_TRIED]],
        tried_heads=TRIED_HEADS,
        dropped=result.dropped,
        scripts=_scripts(),
        script=script,
        plots=drawn,
    )


def _scripts() -> list[str]:
    """Bokeh's own, whole, without the line that has it announce itself on the console."""
    from bokeh.resources import Resources

    raw = Resources(mode="inline", components=list(BOKEH)).js_raw
    return [script for script in raw if not script.startswith("Bokeh.set_log_level")]


def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    found = Environment(
        loader=PackageLoader(PACKAGE, "."),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
    )
    found.filters["trusted"] = _trusted
    return found.get_template("page.html")


def _trusted(text: str) -> Any:
    """Of Bokeh: markup that is not escaped."""
    from markupsafe import Markup

    return Markup(text)


def _cards(result: Result) -> list[tuple[str, str, str]]:
    """The figures that are asked for first: label, figure, and what else there is to it."""
    memory = result.memory
    share = memory.peak_core_bytes / memory.core_capacity_bytes
    step = {"decode": "a token", "train": "a step"}.get(result.workload.phase, "a prompt")
    return [
        ("latency", si(result.latency_s, "s"), f"{step}, at {result.fidelity}"),
        (
            "throughput",
            f"{three_digits(result.tokens_per_s)} tokens/s",
            f"MFU {percent(result.mfu)}",
        ),
        ("power", si(result.power_w, "W"), f"{si(result.power_nameplate_w, 'W')} nameplate"),
        ("energy", si(result.energy_j, "J"), step),
        ("fullest core", size(memory.peak_core_bytes), f"{percent(share)} of what it has"),
        (
            "limited by",
            result.bottleneck.kind,
            f"{result.bottleneck.where}, {percent(result.bottleneck.utilization)}",
        ),
    ]


def _map_notes(wafer: WaferMap) -> list[str]:
    from .wafers import MOST_ISLANDS

    if wafer.islands <= MOST_ISLANDS:
        return []
    return [f"of {wafer.islands:,} {wafer.kind}s the first {MOST_ISLANDS} are drawn"]


TRIED_HEADS = (
    *("replicas", "stages", "experts over", "region", "layout", "heads in", "micro-batch"),
    *("chunks", "recompute", "ZeRO", "weights", "bound", "core holds", "outcome"),
)


def _tried(tried: TriedFigures) -> list[Cell]:
    """A row of the table of strategies."""
    height, width = tried.region
    return [
        (str(tried.dp), tried.dp),
        (str(tried.pp), tried.pp),
        (str(tried.ep), tried.ep),
        (f"{height} x {width}", height * width),
        (tried.layout, tried.layout),
        (str(tried.head_groups), tried.head_groups),
        (str(tried.microbatch), tried.microbatch),
        (str(tried.interleave), tried.interleave),
        (tried.recompute, tried.recompute),
        (str(tried.zero), tried.zero),
        (_weights(tried), _weights(tried)),
        (si(tried.bound_s, "s"), tried.bound_s),
        (size(tried.core_bytes), tried.core_bytes),
        (tried.outcome, tried.outcome),
    ]


def _weights(tried: TriedFigures) -> str:
    return "streamed" if tried.streaming else tried.weights_in
