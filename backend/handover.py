"""Hidden states pass from a stage's rectangle to the next one's over the wafer's links."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ..ir.floor import floor_of
from ..ir.hardware import Hardware
from ..ir.program import Layout, Program, Rectangle, Transfer, Way
from . import switched
from .collectives import Line, all_gather
from .extents import Number, block_bytes, ceil_div
from .network import Fabric, Flows, bound_s, fabric_of
from .workload import PieceCosts

if TYPE_CHECKING:
    from .flit_network import FlitNetwork


@dataclass(frozen=True)
class Handover:
    """What passing one micro-batch's hidden states, or their gradients, between two stages takes.

    A pair of stages of several chunks passes several times on the way of a micro-batch:
    `crossings`. Of each are `seconds` with everything else that is handed over at the same time,
    `alone_s` at zero load, both with the launches, and `software_s`; of all of them `word_hops`
    over all links, `flows` and energy.
    """

    source: int
    target: int
    seconds: float
    alone_s: float
    software_s: float
    word_hops: float
    flows: int
    way: Way = "forward"
    crossings: int = 1
    link_energy_j: float = 0.0
    """Of links between wafers or to switches, all replicas together divided by their number."""


def least_cycles(
    hardware: Hardware, block: Number, hops: Number, columns: Number, layout: Layout
) -> Number:
    """Cycles at zero load to pass a core's block over some hops, launches included; through
    switches inside a node."""
    if floor_of(hardware).switched:
        exchange = switched.point_to_point(hardware, block, far=False)
        return exchange.seconds * hardware.core.clock_hz + hardware.core.software.launch_cycles
    router = hardware.core.router
    words = ceil_div(block, router.width_bytes)
    launches, spread = _spread(hardware, words, columns, layout)
    software = (1 + launches) * hardware.core.software.launch_cycles
    return software + words - 1 + hops * router.hop_cycles + 2 * router.ramp_cycles + spread


def _spread(
    hardware: Hardware, words: Number, columns: Number, layout: Layout
) -> tuple[Number, Number]:
    """Launches and cycles to spread a block along the row, where every column needs it."""
    if layout != "matvec":
        return 0.0, 0.0
    traffic = all_gather(hardware, Line(columns, hardware.wafer.die.columns), words)
    return traffic.launches, traffic.cycles


def handovers(
    program: Program,
    pieces: Mapping[str, PieceCosts],
    contended: bool,
    network: "FlitNetwork | None" = None,
) -> list[Handover]:
    """The hand-overs between neighbouring stages of one replica: one for every transfer from the
    stage before, or, backward, from the stage behind; the last stage's neighbour is the first.

    With `contended` those of all replicas and stages that stay on a wafer are in flight together,
    forward ones and backward ones each, as they are when micro-batches follow each other;
    otherwise, and where stages are not placed, each has the wafer to itself. What is in flight is
    simulated by a `network`, if there is one.
    """
    found: list[Handover] = []
    for way in ("forward", "backward"):
        passed = [t for t in program.transfers if t.way == way and _between_neighbours(program, t)]
        if floor_of(program.hardware).switched:
            found.extend(_through_switches(program, pieces, passed))
            continue
        here = [t for t in passed if not _leaves_island(program, t)]
        if outside := [t for t in passed if t not in here]:
            found.extend(_over_links(program, outside))
        found.extend(_on_wafer(program, pieces, here, contended, network))
    return found


def _between_neighbours(program: Program, transfer: Transfer) -> bool:
    stages = len(program.stages)
    step = 1 if transfer.way == "forward" else -1
    return (transfer.source + step) % stages == transfer.target


def _leaves_island(program: Program, transfer: Transfer) -> bool:
    sources, targets = (program.stages[at].places for at in (transfer.source, transfer.target))
    return any(a.island != b.island for a, b in zip(sources, targets, strict=True))


def _through_switches(
    program: Program, pieces: Mapping[str, PieceCosts], passed: Sequence[Transfer]
) -> list[Handover]:
    """Every device to its like of the next stage, all at once."""
    hardware, columns = program.hardware, program.mapping.region[1]
    holders = columns if program.mapping.layout == "matvec" else 1
    node = floor_of(hardware).node or 1
    found: list[Handover] = []
    for transfer in passed:
        block = passed_block(program, pieces, transfer)
        far = _crosses_node(program, transfer, node)
        exchange = switched.hand_over(hardware, block, holders, far)
        found.append(
            _over_link(
                program, transfer, float(exchange.seconds), columns,
                columns * float(switched.energy_j(hardware, exchange)),
            )
        )  # fmt: skip
    return found


def _crosses_node(program: Program, transfer: Transfer, node: int) -> bool:
    """Whether any replica's devices send to another node; those that are not placed do."""
    sources, targets = (program.stages[at].places for at in (transfer.source, transfer.target))
    pairs = [*zip(sources, targets, strict=True)]
    return not pairs or any(a.column // node != b.column // node for a, b in pairs)


def _over_links(program: Program, passed: Sequence[Transfer]) -> list[Handover]:
    """From wafer to wafer: what all cores of a stage pass shares the link of a wafer with what
    other replicas and stages pass there at the same time."""
    from . import links

    hardware = program.hardware
    pairs = [_pairs(program, transfer) for transfer in passed]
    ends = np.array([(a.island, b.island) for of_one in pairs for a, b in of_one])
    shared = iter(links.shared_by(hardware, ends[:, 0], ends[:, 1]).tolist())
    found: list[Handover] = []
    for transfer, of_one in zip(passed, pairs, strict=True):
        bytes_ = transfer.bytes / _crossings(program, transfer)
        each = [
            links.passing(hardware, bytes_, a.island, b.island, next(shared), (a, b))
            for a, b in of_one
        ]
        slowest_s = max(float(passing.seconds) for passing in each)
        energy_j = sum(float(passing.energy_j) for passing in each) / len(each)
        found.append(_over_link(program, transfer, slowest_s, 1, energy_j))
    return found


def _pairs(program: Program, transfer: Transfer) -> list[tuple[Rectangle, Rectangle]]:
    """From where to where each replica passes."""
    sources, targets = (program.stages[at].places for at in (transfer.source, transfer.target))
    return [*zip(sources, targets, strict=True)]


def _crossings(program: Program, transfer: Transfer) -> int:
    """How often the target waits for some of a transfer's values on the way of a micro-batch."""
    wanted = set(transfer.values)
    return sum(
        any(wanted.intersection(call.operands) for call in visit.calls)
        for visit in program.visits
        if visit.stage == transfer.target and visit.way == transfer.way
    )


def _over_link(
    program: Program, transfer: Transfer, seconds: float, flows: int, energy_j: float
) -> Handover:
    core, crossings = program.hardware.core, _crossings(program, transfer)
    software_s = core.software.launch_cycles / core.clock_hz
    return Handover(
        source=transfer.source,
        target=transfer.target,
        seconds=seconds + software_s,
        alone_s=seconds + software_s,
        software_s=software_s,
        word_hops=0.0,
        flows=crossings * flows,
        way=transfer.way,
        crossings=crossings,
        link_energy_j=crossings * energy_j,
    )


def _on_wafer(
    program: Program,
    pieces: Mapping[str, PieceCosts],
    passed: Sequence[Transfer],
    contended: bool,
    network: "FlitNetwork | None",
) -> list[Handover]:
    """Hand-overs over the links of a wafer's cores."""
    if not passed:
        return []
    hardware, layout = program.hardware, program.mapping.layout
    placed = all(stage.places for stage in program.stages)
    fabric = _fabric(program, placed)
    core = hardware.core
    blocks = [passed_block(program, pieces, transfer) for transfer in passed]
    per_pair = [
        _pair_flows(program, transfer, block)
        for transfer, block in zip(passed, blocks, strict=True)
    ]
    alone = [max(bound_s(fabric, _one_line(flows)) for flows in pair) for pair in per_pair]
    joined = [together(pair) for pair in per_pair]
    ends = alone
    if contended and placed:
        ends = _ends_together_s(fabric, joined, network)
    elif network is not None:
        arrivals = [[network.finish_s(fabric, _one_line(flows)) for flows in p] for p in per_pair]
        ends = [max(float(each.max()) for each in of_one) for of_one in arrivals]
    found: list[Handover] = []
    for transfer, block, flows, end, least in zip(passed, blocks, joined, ends, alone, strict=True):
        words = np.ceil(block / core.router.width_bytes)
        launches, spread = _spread(hardware, words, float(program.mesh.columns), layout)
        software_s = float((1 + launches) * core.software.launch_cycles / core.clock_hz)
        alone_s = fixed_s = software_s + float(spread / core.clock_hz)
        if network is not None and layout == "matvec":
            from .flit_costs import gathered_cycles

            gathered = gathered_cycles(hardware, network, float(words), program.mesh.columns)
            fixed_s = max(fixed_s, software_s + gathered / core.clock_hz)
        crossings = _crossings(program, transfer)
        word_hops = word_hops_of(flows, core.router.width_bytes) / program.mapping.dp
        found.append(
            Handover(
                source=transfer.source,
                target=transfer.target,
                seconds=max(end, least) + fixed_s,
                alone_s=least + alone_s,
                software_s=software_s,
                word_hops=crossings * word_hops,
                flows=crossings * len(flows),
                way=transfer.way,
                crossings=crossings,
            )
        )
    return found


def straight_flows(
    program: Program, pieces: Mapping[str, PieceCosts], transfer: Transfer
) -> list[tuple[Rectangle, Flows]]:
    """What each replica passes at a crossing where it stays on its wafer, by its source's place;
    rows count from the top of that wafer. Where every flow stays in its row or column, those of one
    line alone: the others are alike."""
    block = passed_block(program, pieces, transfer)
    on_wafer = [(a, b) for a, b in _pairs(program, transfer) if a.island == b.island]
    return [
        (a, _one_line(_flows(program, replace(a, island=0), replace(b, island=0), block)))
        for a, b in on_wafer
    ]


def _ends_together_s(
    fabric: Fabric, joined: Sequence[Flows], network: "FlitNetwork | None"
) -> list[float]:
    """When the last flow of each set has arrived, all sent at once."""
    from .network_fluid import fluid

    sampled = meeting(joined)
    every = together(sampled)
    finished = fluid(fabric, every) if network is None else network.finish_s(fabric, every)
    marks = np.cumsum([0, *(len(flows) for flows in sampled)])
    return [float(finished[a:b].max()) for a, b in pairwise(marks)]


def _fabric(program: Program, placed: bool) -> Fabric:
    """The network of all wafers, one below the other; where stages are not placed, of one with room
    for two side by side."""
    fabric = fabric_of(program.hardware.wafer)
    if placed:
        return replace(fabric, rows=fabric.rows * program.hardware.wafers)
    return replace(fabric, columns=max(fabric.columns, 2 * program.mapping.region[1]))


def passed_block(program: Program, pieces: Mapping[str, PieceCosts], transfer: Transfer) -> float:
    """Bytes of a core's block of what a transfer passes at a crossing, as its target reads it."""
    total = 0.0
    wanted = set(transfer.values)
    for visit in program.visits:
        if visit.stage == transfer.target and visit.way == transfer.way:
            for call in visit.calls:
                mapped = program.graphs[call.text("body")]
                inputs = [i for i in mapped.graph.inputs if i.role in ("carried", "shared")]
                for value, name in zip(inputs, call.operands, strict=True):
                    if name in wanted:
                        wanted.discard(name)
                        place = mapped.shardings[value.name]
                        total += float(block_bytes(value.type, place, program.mesh.sizes))
    return total / _crossings(program, transfer)


def word_hops_of(flows: Flows, word_bytes: float) -> float:
    """Words times hops of some flows."""
    hops = np.abs(flows.source_row - flows.target_row)
    hops = hops + np.abs(flows.source_column - flows.target_column)
    return float((np.ceil(flows.bytes / word_bytes) * hops).sum())


def _pair_flows(program: Program, transfer: Transfer, block: float) -> list[Flows]:
    """The flows from a stage to the next one in each replica; from a rectangle to one beside it
    where stages are not placed."""
    stages = program.stages
    rows, columns = program.mapping.region
    sources = stages[transfer.source].places or (Rectangle(0, 0, rows, columns),)
    targets = stages[transfer.target].places or (Rectangle(0, columns, rows, columns),)
    pairs = zip(sources, targets, strict=True)
    return [_flows(program, a, b, block) for a, b in pairs]


def meeting(pairs: Sequence[Flows]) -> list[Flows]:
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
    """Every core's block to the same place of the next rectangle, which is on the same wafer; in
    `matvec`, where a row holds the same block in every column, one core of each row sends."""
    mesh = program.mesh
    if program.mapping.layout == "matmul":
        row, column = np.divmod(np.arange(mesh.rows * mesh.columns), mesh.columns)
        from_column = to_column = column
    else:
        row = np.arange(mesh.rows)
        from_column, to_column = _sending_columns(mesh.columns, source, target, row)
    row = row + source.island * program.hardware.wafer.core_rows
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
