"""A model's summary as a table: what each kind of layer holds and does."""

from collections.abc import Callable, Sequence

from ..ir.summary import GraphSummary, ModelSummary
from .quantities import count, percent, si, size


def model_table(title: str, summary: ModelSummary) -> str:
    """The summary as lines of plain text: a row for every kind of layer, then the operators."""
    lines = [title, "", *_aligned(_graph_rows(summary)), "", *_aligned(_kind_rows(summary))]
    stored = ", ".join(f"{dtype} {size(held)}" for dtype, held in summary.stored_bytes)
    lines += ["", f"weights  {stored}"]
    lines += [f"buffer   {name}: {count(held)}" for name, held in summary.buffers]
    if summary.expert_load is not None:
        lines.append(f"experts  {_load(summary.expert_load)}")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _graph_rows(summary: ModelSummary) -> list[list[str]]:
    optional: dict[str, Callable[[GraphSummary | ModelSummary], int]] = {
        "cache": lambda part: part.cache_bytes,
        "saved": lambda part: part.saved_bytes,
    }
    shown = {name: read for name, read in optional.items() if read(summary)}
    head = ["graph", "layers", "operators", "parameters", "share", "FLOPs", "share", "weights"]

    def row(name: str, layers: str, operators: str, part: GraphSummary | ModelSummary) -> list[str]:
        return [
            name,
            layers,
            operators,
            count(part.parameters),
            _share(part.parameters, summary.parameters),
            si(part.flops, "FLOP"),
            _share(part.flops, summary.flops),
            size(part.weight_bytes),
            *(size(read(part)) for read in shown.values()),
        ]

    rows = [
        row(
            f"{part.name} ({part.path})" if part.path else part.name,
            count(part.layers),
            count(part.operators),
            part,
        )
        for part in summary.graphs
    ]
    return [[*head, *shown], *rows, row("total", "", "", summary)]


def _kind_rows(summary: ModelSummary) -> list[list[str]]:
    rows = [
        [
            part.kind,
            count(part.operators),
            si(part.flops, "FLOP"),
            _share(part.flops, summary.flops),
        ]
        for part in sorted(summary.kinds, key=lambda part: (-part.flops, -part.operators))
        if part.kind != "repeat"
    ]
    return [["operator", "in a step", "FLOPs", "share"], *rows]


def _load(load: Sequence[int]) -> str:
    """What a load means for the busiest expert."""
    most = max(load)
    over = most * len(load) / sum(load)
    return (
        f"expert {load.index(most)} of {count(len(load))} is the busiest, "
        f"loaded with {percent(most / sum(load))} of all choices, {over:.3g} times the mean"
    )


def _share(part: int, whole: int) -> str:
    return percent(part / whole) if whole else "-"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns two spaces apart, the first to the left and the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
