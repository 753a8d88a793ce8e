"""Which strategies are worth a placement: every legal one bounded at once, the best kept.

A strategy is a layout, a region of cores, how many parts the heads are cut into, how many stages,
replicas and sequences a micro-batch. Its estimate is a bound on its latency, and its memory is
known exactly enough to say how many stages it needs.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ..backend.extents import extent
from ..backend.handover import least_cycles
from ..backend.replicas import least_cycles as least_gradient_cycles
from ..backend.workload import PieceCosts, pieces_of
from ..ir.graph import Op
from ..ir.hardware import Hardware, Wafer
from ..ir.mapped import MappedGraph
from ..ir.pins import Pins
from ..ir.program import Layout, Strategy
from .pieces import SHARED, Chain
from .placement_shelves import count_fitting
from .shard import COLUMNS, ROWS

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

GRID_SIDES = 40
"""Sides of a region that are tried along each direction, besides the whole wafer's shares."""
SHARES = 8
MAX_MICROBATCHES = 6
LEAST_LOOKED_AT = 256
"""Strategies that are looked at closely where none fits."""


@dataclass(frozen=True)
class Candidate:
    """A strategy, a bound on its latency, and the bytes of a core if stages share evenly."""

    strategy: Strategy
    bound_s: float
    core_bytes: float
    fits: bool


@dataclass(frozen=True)
class Regions:
    """Regions that are looked at, as equally long arrays."""

    rows: Integers
    columns: Integers
    head_groups: Integers

    def sizes(self, layout: Layout) -> dict[str, Integers]:
        """The mesh axes of every region (as `lay_out.mesh_of` makes them)."""
        row_groups = self.head_groups if layout == "matmul" else np.ones_like(self.rows)
        return {
            "yh": row_groups,
            "yd": self.rows // row_groups,
            "xh": self.head_groups,
            "xd": self.columns // self.head_groups,
        }


def sides(extent: int, sizes: Iterable[int]) -> list[int]:
    """Lengths from a few cores to the whole extent: its equal shares, and along a geometric grid
    the shortest that cut one of some sizes into blocks as small."""
    grid = [int(side) for side in np.geomspace(min(4, extent), extent, GRID_SIDES)]
    snapped = {-(-size // -(-size // side)) for side in grid for size in sizes}
    return sorted({*(extent // n for n in range(1, SHARES + 1)), *(snapped or grid)} - {0})


def regions(
    wafer: Wafer,
    pinned: tuple[int, int] | None,
    groups: Sequence[int],
    sizes: tuple[Iterable[int], Iterable[int]],
) -> Regions:
    """Every region that the wafer could hold, with every way to cut the heads; `sizes` are what
    is cut over rows and over columns."""
    rows = [pinned[0]] if pinned else sides(wafer.usable_rows, sizes[0])
    columns = [pinned[1]] if pinned else sides(wafer.usable_columns, sizes[1])
    table = np.array([(r, c, g) for r in rows for c in columns for g in groups if g <= min(r, c)])
    return Regions(table[:, 0], table[:, 1], table[:, 2])


def divisors(number: int) -> list[int]:
    """All divisors, in order."""
    return [n for n in range(1, number + 1) if number % n == 0]


@dataclass(frozen=True)
class Bounded:
    """A chain's pieces over many regions, and what follows for latency and stages.

    Arrays have one entry a region.
    """

    hardware: Hardware
    chain: Chain
    pieces: Mapping[str, PieceCosts]
    regions: Regions
    layout: Layout
    microbatches: int
    replicas: int = 1

    @cached_property
    def _clock(self) -> float:
        return self.hardware.core.clock_hz

    def _full(self, value: object) -> Floats:
        return np.broadcast_to(np.asarray(value, dtype=float), self.regions.rows.shape)

    @cached_property
    def path(self) -> Floats:
        """Cycles of one micro-batch through all pieces, passing between stages left out."""
        return self._summed(self._running)

    @cached_property
    def updating(self) -> Floats:
        """Cycles of the optimizer, once a step."""
        return self._summed([call for call in self.chain.calls if self._updates(call)])

    @cached_property
    def summing(self) -> Floats:
        """Cycles to sum the gradients of a stage that has them all over the replicas."""
        if self.replicas == 1:
            return np.zeros(self.regions.rows.shape)
        held = [
            self._full(self.pieces[call.text("body")].memory.gradients) * call.integer("count")
            for call in self.chain.calls
        ]
        sizes = self.regions.sizes(self.layout)
        rows, columns = (extent(axes, sizes) for axes in (ROWS, COLUMNS))
        gradients = np.sum(held, axis=0)
        return least_gradient_cycles(self.hardware, gradients, self.replicas, rows, columns) * (
            gradients > 0
        )

    def _summed(self, calls: Sequence[Op]) -> Floats:
        total = np.zeros(self.regions.rows.shape)
        for call in calls:
            total = total + self._cycles(call.text("body")) * call.integer("count")
        return total

    def _updates(self, call: Op) -> bool:
        return self.pieces[call.text("body")].mapped.updates

    @property
    def _running(self) -> list[Op]:
        """The calls that every micro-batch runs."""
        return [call for call in self.chain.calls if not self._updates(call)]

    def _cycles(self, name: str) -> Floats:
        return self._full(self.pieces[name].bound.cycles)

    @cached_property
    def shared(self) -> Floats:
        return self._full(0.0) if self.chain.shared is None else self._cycles(SHARED)

    def _reads_shared(self, call: Op) -> bool:
        made = () if self.chain.shared is None else self.chain.shared.results
        return not set(made).isdisjoint(call.operands)

    @cached_property
    def longest(self) -> Floats:
        """Cycles of the longest piece, with the shared values if it reads them: the longest stage
        is no shorter."""
        alone = [
            self._cycles(call.text("body")) + (self.shared if self._reads_shared(call) else 0.0)
            for call in self._running
        ]
        return np.max(alone, axis=0)

    def _making_shared(self, stages: Floats) -> Floats:
        """Stages that make the shared values, at least: the others have no piece that reads them,
        and one of its own each."""
        calls = [call for call in self.chain.calls if not self._reads_shared(call)]
        return np.maximum(stages - sum(call.integer("count") for call in calls), 1)

    @cached_property
    def handover(self) -> Floats:
        """Cycles to pass hidden states to the nearest other rectangle: over the edge between the
        two in `matvec`, where each row sends from there."""
        block = self._full(self.pieces[self.chain.calls[0].text("body")].carried_bytes)
        shorter = np.minimum(self.regions.rows, self.regions.columns).astype(float)
        hops = 1.0 if self.layout == "matvec" else shorter
        columns = self.regions.columns.astype(float)
        return self._full(least_cycles(self.hardware, block, hops, columns, self.layout))

    def _held(self, name: str) -> Floats:
        return self._full(self.pieces[name].memory.held(self.microbatches))

    @cached_property
    def transient(self) -> Floats:
        """Bytes of activations of the piece that needs most, and of the shared values."""
        names = [call.text("body") for call in self.chain.calls]
        needs = [self._full(self.pieces[name].memory.activations) for name in names]
        held = self._full(0.0) if self.chain.shared is None else self._held(SHARED)
        return np.max(needs, axis=0) + held

    @cached_property
    def stages_needed(self) -> Floats:
        """Stages that the memory asks for; infinite where a single piece does not fit."""
        room = self.hardware.core_bytes - self.transient
        needed, left = np.ones_like(room), room.copy()
        for call in self.chain.calls:
            each, count = self._held(call.text("body")), call.integer("count")
            each = np.maximum(each, 1.0)
            with np.errstate(divide="ignore", invalid="ignore"):
                here = np.minimum(count, np.floor(np.maximum(left, 0) / each))
                capacity = np.floor(np.maximum(room, 0) / each)
                rest = count - here
                more = np.where(rest > 0, np.ceil(rest / capacity), 0.0)
                in_last = np.where(more > 0, rest - (more - 1) * capacity, here)
            needed = needed + more
            left = np.where(more > 0, room - in_last * each, left - here * each)
        return np.where(np.isfinite(needed), needed, np.inf)

    @cached_property
    def most_bytes(self) -> Floats:
        """Bytes of all pieces in one core, were there one stage."""
        held = sum((self._held(c.text("body")) * c.integer("count") for c in self.chain.calls), 0.0)
        return held + self.transient

    def latency_s(self, stages: Floats) -> Floats:
        """A bound on a step: one micro-batch through all stages, the others behind it at the pace
        of a stage that is no shorter than the average and the longest piece, then the optimizer."""
        stages = np.maximum(stages, 1)
        work = self.path + self._making_shared(stages) * self.shared
        chain = work + (stages - 1) * self.handover
        pace = np.maximum(work / stages, self.longest)
        ending = self.summing + self.updating / stages
        return (chain + (self.microbatches - 1) * pace + ending) / self._clock


@dataclass(frozen=True)
class Split:
    """How a batch is divided: replicas, and sequences in a micro-batch."""

    dp: int
    microbatch: int
    batch: int

    @property
    def microbatches(self) -> int:
        return -(-self.batch // (self.dp * self.microbatch))


def splits(batch: int, pins: Pins) -> list[Split]:
    """Ways to divide a batch: replicas and micro-batches that divide it evenly."""
    found: list[Split] = []
    for dp in [pins.dp] if pins.dp else divisors(batch):
        each = batch // dp
        sizes = [pins.microbatch] if pins.microbatch else divisors(each)
        if len(sizes) > MAX_MICROBATCHES:
            chosen = np.linspace(0, len(sizes) - 1, MAX_MICROBATCHES).round().astype(int)
            sizes = [sizes[at] for at in chosen]
        found.extend(Split(dp, size, batch) for size in sizes)
    return found


@dataclass(frozen=True)
class Search:
    """Bounds all strategies of one layout and yields them from the best on."""

    hardware: Hardware
    chain: Chain
    graphs: Mapping[str, MappedGraph]
    """Symbolic in the batch, bound to sequence and context."""
    layout: Layout
    pins: Pins

    def ranked(self, batch: int, head_groups: Sequence[int], keep: int) -> list[Candidate]:
        """The `keep` best strategies that fit of every split and number of stages; if there is
        none at all, of every split the one that asks for the least memory."""
        table = regions(self.hardware.wafer, self.pins.region, head_groups, self._cut_sizes())
        known: dict[int, dict[str, PieceCosts]] = {}
        bounds: list[tuple[Split, Bounded]] = []
        for split in splits(batch, self.pins):
            if split.microbatch not in known:
                known[split.microbatch] = self._pieces(table, split.microbatch)
            pieces, microbatches = known[split.microbatch], split.microbatches
            bounded = Bounded(
                self.hardware, self.chain, pieces, table, self.layout, microbatches, split.dp
            )
            bounds.append((split, bounded))
        found = [c for split, bounded in bounds for c in self._best(bounded, split, keep)]
        return found or [self._short(bounded, split) for split, bounded in bounds]

    def _cut_sizes(self) -> tuple[set[int], set[int]]:
        """Sizes that layers cut over all rows, and over all columns."""
        found: tuple[set[int], set[int]] = (set(), set())
        bodies = {call.text("body") for call in self.chain.calls if call.integer("count") > 1}
        for name in bodies or set(self.graphs):
            mapped = self.graphs[name]
            for value, type_ in mapped.graph.types.items():
                for dim, axes in zip(type_.shape, mapped.shardings[value].axes, strict=True):
                    if isinstance(dim, int) and axes in (ROWS, COLUMNS):
                        found[axes == COLUMNS].add(dim)
        return found

    def _pieces(self, table: Regions, microbatch: int) -> dict[str, PieceCosts]:
        sizes = {"batch": microbatch}
        bound = {n: MappedGraph(g.graph.bind(sizes), g.shardings) for n, g in self.graphs.items()}
        return pieces_of(self.hardware, bound, table.sizes(self.layout))

    def _best(self, bounded: Bounded, split: Split, keep: int) -> Iterator[Candidate]:
        """For every number of stages the fastest strategies that fit."""
        needed, area = bounded.stages_needed, self._area_share(bounded.regions)
        for stages in self._stage_counts(split):
            count = self._counted(bounded, stages)
            latency = bounded.latency_s(count)
            fits = (needed <= count) & (count * split.dp <= area) & (count <= self.chain.pieces)
            able = np.flatnonzero(fits)
            able = able[np.argsort(latency[able], kind="stable")]
            yield from islice(self._placeable(bounded, split, able, count, latency), keep)

    def _counted(self, bounded: Bounded, stages: int) -> Floats:
        """Stages of every region: those pinned, else at least `stages` and what memory needs."""
        needed = bounded.stages_needed
        if self.pins.pp is not None:
            return np.full_like(needed, self.pins.pp)
        return np.clip(needed, stages, self.chain.pieces)

    def _placeable(
        self, bounded: Bounded, split: Split, able: Integers, count: Floats, latency: Floats
    ) -> Iterator[Candidate]:
        """Strategies in order, as far as the wafer has room for their rectangles."""
        for at in able:
            stages = int(count[at])
            if self._room(bounded.regions, at) >= stages * split.dp:
                yield self._candidate(bounded, split, at, stages, float(latency[at]), True)

    def _short(self, bounded: Bounded, split: Split) -> Candidate:
        """The strategy that asks the least memory of a core, with no more stages than the wafer
        has room for, unless they are pinned."""
        count = self._counted(bounded, 1)
        by_area = np.floor(self._area_share(bounded.regions) / split.dp)
        demand = bounded.most_bytes / np.clip(by_area, 1, count)
        demand = np.where(by_area >= (self.pins.pp or 1), demand, np.inf)
        likely = np.argsort(demand, kind="stable")[:LEAST_LOOKED_AT]
        room = np.array([self._room(bounded.regions, at) // split.dp for at in likely])
        stages = np.maximum(1, np.minimum(count[likely], room))
        if self.pins.pp is not None:
            stages = np.full_like(stages, self.pins.pp)
        share = bounded.most_bytes[likely] / stages
        has_room = room >= (self.pins.pp or 1)
        least = int(np.argmin(np.where(has_room | ~has_room.any(), share, np.inf)))
        at, wanted = int(likely[least]), self.pins.pp or int(stages[least])
        latency_s = float(bounded.latency_s(np.full_like(count, wanted))[at])
        return self._candidate(bounded, split, at, wanted, latency_s, False)

    def _area_share(self, table: Regions) -> Floats:
        """How many of each region the wafer's cores would make up."""
        wafer = self.hardware.wafer
        return wafer.usable_rows * wafer.usable_columns / (table.rows * table.columns)

    def _stage_counts(self, split: Split) -> list[int]:
        """Stages to try besides the fewest that memory asks for: more only pays in a pipeline."""
        if self.pins.pp is not None or split.microbatches == 1:
            return [1]
        counts = {1, *(2**n for n in range(1, 8)), split.microbatches}
        return sorted(count for count in counts if count <= self.chain.pieces)

    def _room(self, table: Regions, at: int) -> int:
        return count_fitting(self.hardware.wafer, int(table.rows[at]), int(table.columns[at]))

    def _candidate(
        self, bounded: Bounded, split: Split, at: int, stages: int, bound_s: float, fits: bool
    ) -> Candidate:
        table = bounded.regions
        strategy = Strategy(
            dp=split.dp,
            pp=stages,
            region=(int(table.rows[at]), int(table.columns[at])),
            layout=self.layout,
            head_groups=int(table.head_groups[at]),
            microbatch=split.microbatch,
            recompute=self.pins.recompute or "none",
        )
        return Candidate(strategy, bound_s, float(bounded.most_bytes[at] / stages), fits)
