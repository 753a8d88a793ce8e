"""Hidden states pass from a stage's rectangle to the next one's over the wafer's links."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ..ir.hardware import Hardware
from ..ir.program import Layout, Program, Rectangle
from .collectives import Line, all_gather
from .extents import Number, ceil_div
from .network import Fabric, Flows, bound_s, fabric_of
from .workload import PieceCosts


@dataclass(frozen=True)
class Handover:
    """What passing one micro-batch's hidden states between two stages takes.

    `seconds` with everything else that is handed over at the same time, `alone_s` at zero load,
    both with the launches; `word_hops` over all links.
    """

    source: int
    target: int
    seconds: float
    alone_s: float
    software_s: float
    word_hops: float
    flows: int


def least_cycles(
    hardware: Hardware, block: Number, hops: Number, columns: Number, layout: Layout
) -> Number:
    """Cycles at zero load to pass a core's block over some hops, launches included."""
    router = hardware.core.router
    words = ceil_div(block, router.width_bytes)
    launches, spread = _spread(hardware, words, columns, layout)
    software = (1 + launches) * hardware.core.software.launch_cycles
    return software + words - 1 + hops * router.hop_cycles + 2 * router.ramp_cycles + spread


def _spread(
    hardware: Hardware, words: Number, columns: Number, layout: Layout
) -> tuple[Number, Number]:
    """Launches and cycles to spread a block along the row, where every column needs it."""
    if layout == "matmul":
        return 0.0, 0.0
    traffic = all_gather(hardware, Line(columns, hardware.wafer.die.columns), words)
    return traffic.launches, traffic.cycles


def handovers(program: Program, pieces: dict[str, PieceCosts], contended: bool) -> list[Handover]:
    """The hand-overs between consecutive stages of one replica.

    With `contended` all replicas' and stages' hand-overs are in flight together, as they are when
    micro-batches follow each other; otherwise, and where stages are not placed, each has the wafer
    to itself.
    """
    hardware, layout = program.hardware, program.mapping.layout
    placed = all(stage.places for stage in program.stages)
    fabric = _fabric(program, placed)
    core = hardware.core
    block = float(_carried_block(program, pieces))
    words = np.ceil(block / core.router.width_bytes)
    launches, spread = _spread(hardware, words, float(program.mesh.columns), layout)
    software_s = float((1 + launches) * core.software.launch_cycles / core.clock_hz)
    spread_s = float(spread / core.clock_hz)
    replicas = [_pair_flows(program, at, block) for at in range(len(program.stages) - 1)]
    if not replicas:
        return []
    alone = [max(bound_s(fabric, _one_line(flows)) for flows in pair) for pair in replicas]
    per_pair = [together(pair) for pair in replicas]
    ends = alone
    if contended and placed:
        from .network_fluid import fluid

        sampled = _meeting(per_pair)
        finished = fluid(fabric, together(sampled))
        marks = np.cumsum([0, *(len(flows) for flows in sampled)])
        ends = [float(finished[a:b].max()) for a, b in pairwise(marks)]
    fixed_s = software_s + spread_s
    return [
        Handover(
            source=at,
            target=at + 1,
            seconds=max(end, least) + fixed_s,
            alone_s=least + fixed_s,
            software_s=software_s,
            word_hops=word_hops_of(flows, core.router.width_bytes) / program.mapping.dp,
            flows=len(flows),
        )
        for at, (flows, end, least) in enumerate(zip(per_pair, ends, alone, strict=True))
    ]


def _fabric(program: Program, placed: bool) -> Fabric:
    """The wafer's network; where stages are not placed, one with room for two side by side."""
    fabric = fabric_of(program.hardware.wafer)
    if placed:
        return fabric
    return replace(fabric, columns=max(fabric.columns, 2 * program.mapping.region[1]))


def _carried_block(program: Program, pieces: dict[str, PieceCosts]) -> Number:
    """Bytes of a core's block of the hidden states."""
    first = program.stages[0].calls[-1]
    return pieces[first.text("body")].carried_bytes


def word_hops_of(flows: Flows, word_bytes: float) -> float:
    """Words times hops of some flows."""
    hops = np.abs(flows.source_row - flows.target_row)
    hops = hops + np.abs(flows.source_column - flows.target_column)
    return float((np.ceil(flows.bytes / word_bytes) * hops).sum())


def _pair_flows(program: Program, at: int, block: float) -> list[Flows]:
    """The flows from a stage to the next one in each replica; from a rectangle to one beside it
    where stages are not placed."""
    stages = program.stages
    rows, columns = program.mapping.region
    sources = stages[at].places or (Rectangle(0, 0, rows, columns),)
    targets = stages[at + 1].places or (Rectangle(0, columns, rows, columns),)
    pairs = zip(sources, targets, strict=True)
    return [_flows(program, a, b, block) for a, b in pairs]


def _meeting(pairs: Sequence[Flows]) -> list[Flows]:
    """Of flows that stay in their row or column only those in the rows and columns where a pair
    begins: other lines repeat what meets there. Flows that turn are kept."""
    in_row = [(flows.source_row == flows.target_row).all() for flows in pairs]
    in_column = [(flows.source_column == flows.target_column).all() for flows in pairs]
    rows = [int(flows.source_row[0]) for flows, stays in zip(pairs, in_row, strict=True) if stays]
    columns = [
        int(flows.source_column[0]) for flows, stays in zip(pairs, in_column, strict=True) if stays
    ]
    kept: list[Flows] = []
    for flows, row, column in zip(pairs, in_row, in_column, strict=True):
        if row:
            kept.append(flows[np.isin(flows.source_row, rows)])
        elif column:
            kept.append(flows[np.isin(flows.source_column, columns)])
        else:
            kept.append(flows)
    return kept


def _one_line(flows: Flows) -> Flows:
    """One row's or column's flows where each stays in its own: lines do not meet, and between two
    rectangles all are alike."""
    if (flows.source_row == flows.target_row).all():
        return flows[flows.source_row == flows.source_row[0]]
    if (flows.source_column == flows.target_column).all():
        return flows[flows.source_column == flows.source_column[0]]
    return flows


def _flows(program: Program, source: Rectangle, target: Rectangle, block: float) -> Flows:
    """Every core's block to the same place of the next rectangle; in `matvec`, where a row holds
    the same block in every column, one core of each row sends."""
    mesh = program.mesh
    if program.mapping.layout == "matmul":
        row, column = np.divmod(np.arange(mesh.rows * mesh.columns), mesh.columns)
        from_column = to_column = column
    else:
        row = np.arange(mesh.rows)
        from_column, to_column = _sending_columns(mesh.columns, source, target, row)
    return Flows(
        source_row=source.row + row,
        source_column=source.column + from_column,
        target_row=target.row + row,
        target_column=target.column + to_column,
        bytes=np.full(len(row), block),
        release_s=np.zeros(len(row)),
    )


def _sending_columns(
    columns: int, source: Rectangle, target: Rectangle, row: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For every row the column that sends and the one that receives: facing edges for rectangles
    side by side, else a column for each row so that no link carries them all."""
    if target.column >= source.column + source.columns:
        return np.full_like(row, columns - 1), np.zeros_like(row)
    if source.column >= target.column + target.columns:
        return np.zeros_like(row), np.full_like(row, columns - 1)
    return row % columns, row % columns


def together(many: Sequence[Flows]) -> Flows:
    """Several flows as one set."""
    names = ("source_row", "source_column", "target_row", "target_column", "bytes", "release_s")
    return Flows(**{n: np.concatenate([getattr(f, n) for f in many]) for n in names})
