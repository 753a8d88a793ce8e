"""An evaluation as a map of the system: dies, dead parts, stages, and how busy each is."""

from collections.abc import Iterator

from ..ir.floor import floor_of
from ..ir.hardware import Edge, Hardware, Wafer
from ..ir.program import Stage
from ..ir.wafer_map import Passage, Region, Unit, WaferMap
from .border_map import borders
from .evaluate import Evaluation

EDGE = 0.04
"""Of the shorter side of a wafer: how wide its ports are drawn."""


def wafer_map(evaluation: Evaluation) -> WaferMap:
    """The map of a program's system; a stage without a place is left out."""
    program = evaluation.program
    hardware, floor = program.hardware, floor_of(program.hardware)
    wafer, die = hardware.wafer, hardware.wafer.die
    height = (die.height_m / die.rows) / (die.width_m / die.columns)
    stages = enumerate(program.stages)
    return WaferMap(
        islands=floor.islands,
        rows=floor.rows,
        columns=floor.columns,
        core_height=1.0 if floor.switched else height,
        kind="cluster" if floor.switched else "wafer",
        dies=tuple(_nodes(hardware) if floor.switched else _dies(wafer)),
        edges=() if floor.switched else tuple(_edges(wafer)),
        dead_cores=() if floor.switched else tuple(_dead_cores(wafer)),
        regions=tuple(region for at, stage in stages for region in _regions(evaluation, at, stage)),
        passages=tuple(_passages(evaluation)),
        borders=tuple(borders(evaluation)),
    )


def _dies(wafer: Wafer) -> Iterator[Unit]:
    """Each die's cores; those that no program may use are drawn too."""
    dead = {*wafer.dead_dies}
    for row in range(wafer.rows):
        for column in range(wafer.columns):
            die = wafer.die_at(row, column)
            yield Unit(
                die.name,
                row * wafer.die.rows,
                column * wafer.die.columns,
                die.rows,
                die.columns,
                (row, column) in dead,
            )


def _nodes(hardware: Hardware) -> Iterator[Unit]:
    """The nodes of a cluster, each a part of its one row."""
    node = floor_of(hardware).node or 1
    for at in range(hardware.wafers):
        yield Unit(hardware.wafer.name, 0, at * node, 1, node)


def _edges(wafer: Wafer) -> Iterator[Unit]:
    rows, columns = wafer.core_rows, wafer.core_columns
    width = EDGE * min(rows, columns)
    places: dict[Edge, tuple[float, float, float, float]] = {
        "north": (-2 * width, 0, width, columns),
        "south": (rows + width, 0, width, columns),
        "west": (0, -2 * width, rows, width),
        "east": (0, columns + width, rows, width),
    }
    for io in wafer.io:
        rate = io.ports * io.bandwidth_bytes_per_s / 1e9
        behind = [memory.name for memory in wafer.memories if memory.via == io.edge]
        name = f"{io.edge}: {io.ports} ports, {rate:,.0f} GB/s"
        yield Unit(", ".join([name, *behind]), *places[io.edge])


def _dead_cores(wafer: Wafer) -> Iterator[tuple[int, int]]:
    for dead in wafer.dead_cores:
        yield (
            dead.die[0] * wafer.die.rows + dead.core[0],
            dead.die[1] * wafer.die.columns + dead.core[1],
        )


def _regions(evaluation: Evaluation, at: int, stage: Stage) -> Iterator[Region]:
    timing, program = evaluation.timing, evaluation.program
    clock = program.hardware.core.clock_hz
    working = linked = joules = 0.0
    for call in stage.calls:
        body = call.text("body")
        cycles = sum(span.compute for span in timing.runs[body].spans)
        busy = timing.pieces[body].bound.busy
        working += timing.times(call) * cycles / clock
        linked += timing.times(call) * max(float(busy["rows"]), float(busy["columns"])) / clock
        each = sum(sum(op.values()) for op in evaluation.graph_energies[body])
        joules += timing.times(call) * each
    held = 0 if stage.memory is None else stage.memory.total_bytes
    for replica, place in enumerate(stage.places):
        yield Region(
            stage=at,
            replica=replica,
            island=place.island,
            row=place.row,
            column=place.column,
            rows=place.rows,
            columns=place.columns,
            runs=stage.runs,
            load=working / timing.latency_s,
            links=linked / timing.latency_s,
            memory=held / program.hardware.core_bytes,
            memory_bytes=held,
            power_w=joules / timing.latency_s,
        )


def _passages(evaluation: Evaluation) -> Iterator[Passage]:
    program = evaluation.program
    sent = {(t.source, t.target, t.way): t.bytes for t in program.transfers}
    for handover in evaluation.timing.handovers:
        bytes_ = sent.get((handover.source, handover.target, handover.way), 0)
        often = program.microbatches * handover.crossings
        moving_s = often * (handover.seconds - handover.software_s)
        for replica in range(program.mapping.dp):
            yield Passage(
                handover.source,
                handover.target,
                replica,
                handover.way,
                handover.seconds,
                bytes_,
                moving_s / evaluation.timing.latency_s,
            )
