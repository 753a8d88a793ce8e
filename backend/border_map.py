"""Which links between dies a step uses, and how much: drawing data, as far as an estimate knows it.

What a stage's collectives put on links is known of the busiest link in each direction alone, and is
laid to every border within the stage. What stages hand over is laid to the links of its routes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..ir.floor import floor_of
from ..ir.hardware import Wafer
from ..ir.program import Rectangle, Stage
from ..ir.wafer_map import Border
from .evaluate import Evaluation
from .handover import straight_flows
from .network import Fabric, Floats, Flows, Integers, fabric_of

BLOCKS = 24
"""Rows and columns of blocks at most that a wafer of one die is cut into."""
MOST_FLOWS = 2_000_000
"""Flows of one transfer that are followed; those of larger ones are left out."""

Place = tuple[int, bool, int, int]
"""Of a border: island, whether it is vertical, row and column of the block before it."""


def borders(evaluation: Evaluation) -> Iterator[Border]:
    """The borders that anything goes over; none where dies meet in switches."""
    hardware = evaluation.program.hardware
    if floor_of(hardware).switched:
        return
    blocks = _Blocks.of(hardware.wafer)
    within: dict[Place, _Within] = {}
    for stage in evaluation.program.stages:
        _add_collectives(evaluation, stage, blocks, within)
    handed: dict[Place, float] = {}
    _add_handovers(evaluation, blocks, handed)
    for place in sorted({*within, *handed}):
        yield blocks.border(place, within.get(place), handed.get(place, 0.0))


@dataclass(frozen=True)
class _Within:
    """The part of a border that lies within stages, from a core to another one, and its use."""

    start: int
    end: int
    busy: float

    def joined(self, other: "_Within | None") -> "_Within":
        if other is None:
            return self
        start, end = min(self.start, other.start), max(self.end, other.end)
        return _Within(start, end, max(self.busy, other.busy))


@dataclass(frozen=True)
class _Blocks:
    """Equal blocks of cores of a wafer: its dies, or of one die parts of it."""

    rows: int
    columns: int
    block_rows: int
    block_columns: int
    what: str

    @classmethod
    def of(cls, wafer: Wafer) -> "_Blocks":
        rows, columns = wafer.core_rows, wafer.core_columns
        if wafer.rows * wafer.columns > 1:
            return cls(rows, columns, wafer.die.rows, wafer.die.columns, "die")
        high, wide = (-(-count // BLOCKS) for count in (rows, columns))
        return cls(rows, columns, high, wide, "core" if high == wide == 1 else "block of cores")

    def inside(self, place: Rectangle, vertical: bool) -> Iterator[Place]:
        """The borders of one direction with cores of a rectangle on both sides."""
        block = self.block_columns if vertical else self.block_rows
        low, size = (place.column, place.columns) if vertical else (place.row, place.rows)
        other, others = (place.row, place.rows) if vertical else (place.column, place.columns)
        across = self.block_rows if vertical else self.block_columns
        for at in range(low // block + 1, -(-(low + size) // block)):
            for along in range(other // across, -(-(other + others) // across)):
                row, column = (along, at - 1) if vertical else (at - 1, along)
                yield place.island, vertical, row, column

    def along(self, place: Place) -> tuple[int, int]:
        """Where a whole border begins and ends, in cores."""
        _, vertical, row, column = place
        size, at, whole = (
            (self.block_rows, row, self.rows)
            if vertical
            else (self.block_columns, column, self.columns)
        )
        return at * size, min((at + 1) * size, whole)

    def border(self, place: Place, within: _Within | None, handovers: float) -> Border:
        island, vertical, row, column = place
        start, end = self.along(place)
        if within is not None:
            start, end = within.start, within.end
        after = (row, column + 1) if vertical else (row + 1, column)
        return Border(
            island=island,
            row=start if vertical else after[0] * self.block_rows,
            column=after[1] * self.block_columns if vertical else start,
            length=end - start,
            vertical=vertical,
            links=end - start,
            collectives=0.0 if within is None else within.busy,
            handovers=handovers,
            between=f"{self.what} {row}, {column} and {after[0]}, {after[1]}",
        )


def _add_collectives(
    evaluation: Evaluation, stage: Stage, blocks: _Blocks, found: dict[Place, _Within]
) -> None:
    timing = evaluation.timing
    cycles = timing.latency_s * evaluation.program.hardware.core.clock_hz
    for vertical, resource in ((True, "columns"), (False, "rows")):
        busy = sum(
            timing.times(call) * float(timing.pieces[call.text("body")].bound.busy[resource])
            for call in stage.calls
        )
        for rectangle in stage.places if busy else ():
            low, size = (
                (rectangle.row, rectangle.rows)
                if vertical
                else (rectangle.column, rectangle.columns)
            )
            for place in blocks.inside(rectangle, vertical):
                start, end = blocks.along(place)
                part = _Within(max(start, low), min(end, low + size), busy / cycles)
                found[place] = part.joined(found.get(place))


def _add_handovers(evaluation: Evaluation, blocks: _Blocks, found: dict[Place, float]) -> None:
    program, timing = evaluation.program, evaluation.timing
    if not all(stage.places for stage in program.stages):
        return
    fabric = fabric_of(program.hardware.wafer)
    crossings = {(h.source, h.target, h.way): h.crossings for h in timing.handovers}
    for transfer in program.transfers:
        times = crossings.get((transfer.source, transfer.target, transfer.way), 0)
        if not times or program.mesh.devices > MOST_FLOWS:
            continue
        scale = program.microbatches * times / timing.latency_s
        for source, flows in straight_flows(program, timing.pieces, transfer):
            for place, seconds in _busy_s(fabric, blocks, source, flows):
                found[place] = found.get(place, 0.0) + scale * seconds


def _busy_s(
    fabric: Fabric, blocks: _Blocks, source: Rectangle, flows: Flows
) -> Iterator[tuple[Place, float]]:
    """Seconds that the busiest link of every border carries the flows: along the row of the source
    first, then along the column of the target."""
    in_row = bool((flows.source_row == flows.target_row).all())
    in_column = bool((flows.source_column == flows.target_column).all())
    eastwest = _Leg(
        flows.source_column, flows.target_column, flows.source_row, flows.bytes,
        blocks.block_columns, blocks.block_rows, fabric.along_rows(),
        np.arange(source.row, source.row + source.rows) if in_row else None,
    )  # fmt: skip
    southnorth = _Leg(
        flows.source_row, flows.target_row, flows.target_column, flows.bytes,
        blocks.block_rows, blocks.block_columns, fabric.along_columns(),
        np.arange(source.column, source.column + source.columns) if in_column else None,
    )  # fmt: skip
    for before, along, seconds in eastwest.crossed():
        yield (source.island, True, along, before), seconds
    for before, along, seconds in southnorth.crossed():
        yield (source.island, False, before, along), seconds


@dataclass(frozen=True)
class _Leg:
    """The straight part of some flows' routes in one direction, in lines of cores."""

    start: Integers
    end: Integers
    line: Integers
    bytes: Floats
    block: int
    """Cores of a block in the direction of the flows."""
    across: int
    """Lines of a block."""
    bytes_per_s: Floats
    """Of the links from each place to the next."""
    alike: Integers | None
    """Lines that all carry what the flows' one line carries."""

    def crossed(self) -> Iterator[tuple[int, int, float]]:
        """The block before a border, the block along it, and seconds of its busiest link."""
        low = int(min(self.start.min(), self.end.min())) // self.block + 1
        high = int(max(self.start.max(), self.end.max())) // self.block
        for at in range(low, high + 1):
            place = at * self.block
            bytes_ = np.maximum(
                self._over((self.start < place) & (self.end >= place)),
                self._over((self.end < place) & (self.start >= place)),
            )
            lines = np.flatnonzero(bytes_)
            if not len(lines):
                continue
            most = bytes_[lines]
            if self.alike is not None:
                lines, most = self.alike, np.full(len(self.alike), most.max())
            blocks, at_block = np.unique(lines // self.across, return_inverse=True)
            busiest = np.zeros(len(blocks))
            np.maximum.at(busiest, at_block, most)
            for along, load in zip(blocks.tolist(), busiest.tolist(), strict=True):
                yield at - 1, along, load / float(self.bytes_per_s[place - 1])

    def _over(self, which: NDArray[np.bool_]) -> Floats:
        """Bytes by line of the flows that go over."""
        lines = int(self.line.max()) + 1
        return np.bincount(self.line[which], self.bytes[which], lines).astype(np.float64)
