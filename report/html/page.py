"""The page of a result: words, plots and tables, put into page.html."""

from collections.abc import Sequence
from typing import Any

from ...ir.result import Result, TriedFigures
from ...ir.roofline import Roofline
from ...ir.trace import Trace
from ...ir.wafer_map import WaferMap
from ..lines import headline, rows, shortage
from ..quantities import percent, si, size, three_digits
from .template import rendered

MOST_TRIED = 200
Cell = tuple[str, float | str]
"""What is shown, and what is sorted by."""


def page(
    result: Result,
    wafer: WaferMap,
    trace: Trace,
    claims: Sequence[str] = (),
    roofline: Roofline | None = None,
) -> str:
    """The text of report.html: self-contained, no request leaves it. `claims` are what
    `--explain` says."""
    from .bars import memory, operators, shares
    from .roofline import roofline_plot
    from .timeline import timeline
    from .wafers import wafers

    plots: dict[str, Any] = {"time": shares(result.breakdown, "s")}
    plots["energy"] = shares(result.energy, "J")
    plots["memory"] = memory(trace, result.memory.core_capacity_bytes)
    plots["timeline"] = timeline(trace)
    plots["wafers"] = wafers(wafer)
    if result.operators:
        plots["operators"] = operators(result)
    if roofline is not None and roofline.points:
        plots["roofline"] = roofline_plot(roofline, result.hardware.device)
    return rendered(
        "page.html",
        plots,
        title=headline(result),
        cards=_cards(result),
        rows=list(rows(result)),
        claims=claims,
        shortages=[(shortage(each), each.changes) for each in result.infeasible],
        notes=[*result.limits, *trace.notes, *_map_notes(wafer)],
        **_strategies(result.tried[:MOST_TRIED]),
        dropped=result.dropped,
    )


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
    from .links import MOST_BORDERS
    from .places import MOST_ISLANDS

    notes: list[str] = []
    if wafer.islands > MOST_ISLANDS:
        notes.append(f"of {wafer.islands:,} {wafer.kind}s the first {MOST_ISLANDS} are drawn")
    if len(wafer.borders) > MOST_BORDERS:
        known = f"of {len(wafer.borders):,} borders of dies with traffic"
        notes.append(f"{known} the {MOST_BORDERS:,} busiest are drawn")
    return notes


TRIED_HEADS = (
    *("replicas", "stages", "experts over", "region", "layout", "heads in", "micro-batch"),
    *("chunks", "recompute", "ZeRO", "weights", "bound", "core holds", "outcome"),
)


def _strategies(tried: Sequence[TriedFigures]) -> dict[str, Any]:
    """The table of strategies: what they differ in, and what became of each; what all have in
    common is said once."""
    rows = [_tried(each) for each in tried]
    last = len(TRIED_HEADS) - 1
    shown = [
        at
        for at in range(len(TRIED_HEADS))
        if at == last or len(rows) < 2 or len({row[at] for row in rows}) > 1
    ]
    common = {TRIED_HEADS[at]: rows[0][at][0] for at in range(last) if at not in shown}
    return {
        "tried": [[row[at] for at in shown] for row in rows],
        "tried_heads": [TRIED_HEADS[at] for at in shown],
        "tried_common": ", ".join(f"{head} {text}" for head, text in common.items()),
    }


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
