"""Which strategies are worth a placement: every legal one bounded at once, the best kept.

A strategy is a layout, a region of cores, how many parts the heads are cut into, and a plan of how
the batch is divided over stages, replicas and time. Its estimate is a bound on its latency, and its
memory is known exactly enough to say how many stages it needs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..backend.streaming import off_wafer
from ..backend.workload import PieceCosts, pieces_of
from ..ir.floor import floor_of
from ..ir.hardware import Hardware
from ..ir.mapped import MappedGraph
from ..ir.pins import Pins
from ..ir.program import Layout, Recompute, Strategy
from .bounded import Bounded, Kind, kinds_of
from .pieces import Chain
from .placement_rooms import rooms
from .plans import Choices, Plans
from .regions import GRID_SIDES, Regions, regions
from .shard import COLUMNS, ROWS
from .units import units_of

Integers = NDArray[np.int64]

MOST_LOOKED_AT = 512
"""Strategies of one size of micro-batch whose rectangles are counted on the system."""
MOST_SHORT = 1 << 16
"""Strategies of which the one that asks least memory is taken where none fits."""
MOST_PAIRS = 1 << 19
"""Regions times plans that are bounded at a time, for the memory that it takes."""
TRAINING_SIDES = 8
"""Sides of a region that are tried along each direction in training, which has more plans."""


@dataclass(frozen=True)
class Candidate:
    """A strategy, a bound on its latency, and the bytes of a core if stages share evenly."""

    strategy: Strategy
    bound_s: float
    core_bytes: float
    fits: bool


@dataclass
class Ranking:
    """The best candidates, and how many others were dropped, by reason."""

    candidates: list[Candidate] = field(default_factory=list[Candidate])
    dropped: dict[str, int] = field(default_factory=dict[str, int])

    def drop(self, reason: str, count: int) -> None:
        if count:
            self.dropped[reason] = self.dropped.get(reason, 0) + count

    def add(self, other: "Ranking") -> None:
        """Take up another ranking."""
        self.candidates.extend(other.candidates)
        for reason, count in other.dropped.items():
            self.drop(reason, count)


@dataclass(frozen=True)
class _Table:
    """Plans of one size of micro-batch that stream alike, and regions for all of them."""

    size: int
    regions: Regions
    plans: Plans
    pieces: Mapping[str, PieceCosts]


@dataclass(frozen=True)
class Search:
    """Bounds all strategies of one layout and keeps the best."""

    hardware: Hardware
    chain: Chain
    graphs: Mapping[str, MappedGraph]
    """Symbolic in the batch, bound to sequence and context."""
    layout: Layout
    pins: Pins
    trains: bool = False
    recompute: Recompute = "none"

    def ranked(self, batch: int, head_groups: Sequence[int], keep: int) -> Ranking:
        """The `keep` best strategies that fit of every size of micro-batch; if there is none at
        all, of every size the one that asks for the least memory."""
        floor = floor_of(self.hardware)
        grid = TRAINING_SIDES if self.trains else GRID_SIDES
        table = regions(floor, self.pins.region, head_groups, self._cut_sizes(), grid)
        least = int((table.rows * table.columns).min())
        choices = Choices(
            batch=batch,
            pieces=sum(kind.count for kind in self._kinds),
            layers=max(kind.count for kind in self._kinds),
            devices=max(1, floor.islands * floor.rows * floor.columns // least),
            trains=self.trains,
            streams=off_wafer(self.hardware) is not None,
            pins=self.pins,
        )
        found = Ranking()
        tables = [
            _Table(size, table, part, pieces)
            for size, plans in choices.plans().items()
            for alike in plans.by_streaming()
            for pieces in [self._pieces(table, size, self.trains and bool(alike.streaming[0]))]
            for part in alike.parts(max(1, MOST_PAIRS // len(table.rows)))
        ]
        for each in tables:
            found.add(self._best(self._bounded(each), each.size, keep))
        if not found.candidates:
            found.candidates = [
                candidate
                for each in tables
                for candidate in self._short(self._bounded(each), each.size)
            ]
        return found

    @cached_property
    def _kinds(self) -> list[Kind]:
        return kinds_of(units_of(self.chain))

    def _bounded(self, each: "_Table") -> Bounded:
        """Plans on all regions that the system holds as often."""
        plans = each.plans
        least = np.maximum(plans.stages, 1) * plans.dp
        region, plan = np.nonzero(least[None, :] <= self._area(each.regions)[:, None])
        return Bounded(
            hardware=self.hardware,
            chain=self.chain,
            kinds=self._kinds,
            pieces=each.pieces,
            regions=each.regions,
            layout=self.layout,
            plans=plans,
            trains=self.trains,
            region=region,
            plan=plan,
            fixed_stages=self.pins.pp is not None,
        )

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

    def _pieces(self, table: Regions, microbatch: int, streaming: bool) -> dict[str, PieceCosts]:
        sizes = {"batch": microbatch}
        bound = {n: MappedGraph(g.graph.bind(sizes), g.shardings) for n, g in self.graphs.items()}
        return pieces_of(self.hardware, bound, table.sizes(self.layout), streaming)

    def _best(self, bounded: Bounded, size: int, keep: int) -> Ranking:
        """The fastest strategies that fit."""
        found = Ranking()
        everything = len(bounded.regions.rows) * len(bounded.plans)
        found.drop("more cores than there are", everything - len(bounded))
        likely = bounded.only(bounded.may_fit)
        fits = (likely.stages_needed <= likely.stages) & (likely.stages <= likely.units)
        able = likely.only(fits)
        found.drop("memory does not suffice", len(bounded) - len(able))
        placed = able.only(able.stages * able.plans.dp[able.plan] <= self._areas(able))
        found.drop("more cores than there are", len(able) - len(placed))
        if not len(placed):
            return found
        order = np.argsort(placed.latency_s, kind="stable")
        for count, at in enumerate(order):
            if len(found.candidates) == keep or count == MOST_LOOKED_AT:
                found.drop("slower by bound", len(order) - count)
                break
            candidate = self._candidate(placed, int(at), size, fits=True)
            strategy = candidate.strategy
            if rooms(self.hardware, *strategy.region) >= strategy.pp * strategy.dp:
                found.candidates.append(candidate)
            else:
                found.drop("no room for the rectangles", 1)
        return found

    def _short(self, bounded: Bounded, size: int) -> list[Candidate]:
        """The strategy that asks the least memory of a core, with no more stages than there is
        room for, unless they are pinned; of very many only every so often one is looked at."""
        every = -(-len(bounded) // MOST_SHORT)
        some = bounded.only(np.arange(len(bounded)) % max(every, 1) == 0)
        if not len(some):
            some = self._crowded(bounded)
        dp = some.plans.dp[some.plan]
        by_area = np.floor(self._areas(some) / dp)
        held = np.clip(by_area, 1, some.stages) if self.pins.pp is None else some.stages
        least = np.where(by_area >= (self.pins.pp or 1), some.most_bytes / held, np.inf)
        order = np.argsort(least, kind="stable")[:MOST_LOOKED_AT]
        return [next(self._roomy(some, order, held, size))]

    def _crowded(self, bounded: Bounded) -> Bounded:
        """Every plan on the smallest region, where the system has room for none."""
        smallest = int(np.argmin(bounded.regions.rows * bounded.regions.columns))
        plan = np.arange(len(bounded.plans))
        return replace(bounded, region=np.full_like(plan, smallest), plan=plan)

    def _roomy(
        self, bounded: Bounded, order: Integers, held: NDArray[np.float64], size: int
    ) -> Iterator[Candidate]:
        """Strategies with the stages that there is room for; the first of all where none has
        room."""
        for at in (int(at) for at in order):
            rows, columns = bounded.regions.rows, bounded.regions.columns
            region = int(rows[bounded.region[at]]), int(columns[bounded.region[at]])
            room = rooms(self.hardware, *region) // int(bounded.plans.dp[bounded.plan[at]])
            if room >= (self.pins.pp or 1):
                stages = self.pins.pp or max(1, min(room, int(held[at])))
                yield self._candidate(bounded, at, size, False, stages)
        first = int(order[0])
        yield self._candidate(bounded, first, size, False, max(1, int(held[first])))

    def _areas(self, bounded: Bounded) -> NDArray[np.float64]:
        """How many of each strategy's region the system's cores would make up."""
        return self._area(bounded.regions)[bounded.region]

    def _area(self, table: Regions) -> NDArray[np.float64]:
        """How many of each region the system's cores would make up."""
        floor = floor_of(self.hardware)
        return floor.islands * floor.rows * floor.columns / (table.rows * table.columns)

    def _candidate(
        self, bounded: Bounded, at: int, size: int, fits: bool, stages: int | None = None
    ) -> Candidate:
        table, plans = bounded.regions, bounded.plans
        row, column = int(bounded.region[at]), int(bounded.plan[at])
        stages = int(bounded.stages[at]) if stages is None else stages
        strategy = Strategy(
            dp=int(plans.dp[column]),
            pp=stages,
            region=(int(table.rows[row]), int(table.columns[row])),
            layout=self.layout,
            head_groups=int(table.head_groups[row]),
            microbatch=size,
            recompute=self.recompute,
            interleave=int(plans.chunks[column]),
            zero=int(plans.zero[column]),
            streaming=bool(plans.streaming[column]),
        )
        bytes_ = float(bounded.most_bytes[at]) / stages
        return Candidate(strategy, float(bounded.latency_s[at]), bytes_, fits)
