"""Which strategies are worth a placement: every legal one bounded at once, the best kept.

A strategy is a layout, a region of cores, how many parts the heads are cut into, and a plan of how
the batch is divided over stages, replicas and time. Its estimate is a bound on its latency, and its
memory is known exactly enough to say how many stages it needs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce

import numpy as np
from numpy.typing import NDArray

from ..backend.bound import GraphBound, graph_bound
from ..backend.dram import dram_of
from ..backend.extents import Sizes
from ..backend.memory import GraphMemory, graph_memory
from ..backend.query_blocks import scores_room
from ..backend.streaming import off_wafer
from ..backend.workload import PieceCosts, pieces_of
from ..ir.floor import floor_of
from ..ir.graph import Graph
from ..ir.hardware import Hardware
from ..ir.mapped import EXPERTS, MappedGraph
from ..ir.pins import Pins
from ..ir.program import Layout, Recompute, Strategy
from .bounded import Bounded, Kind, kinds_of
from .pieces import Chain
from .placement_rooms import rooms
from .plans import Choices, Plans
from .regions import GRID_SIDES, Regions, regions
from .shard import COLUMNS, ROWS
from .spread_experts import experts_of
from .units import units_of

Integers = NDArray[np.int64]

MAX_GROUPS = 4
"""Numbers of replicas that may divide the experts which are tried, besides one."""
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
class _ManyCosts(PieceCosts):
    """The costs of a graph over many meshes, of which only the bound is kept."""

    known: GraphMemory | None = None

    @cached_property
    def bound(self) -> GraphBound:
        return graph_bound(self.mapped, self.costing.costs())

    @cached_property
    def memory(self) -> GraphMemory:
        scores = scores_room(self.hardware)
        return self.known or graph_memory(self.mapped, self.sizes, self.elsewhere, scores)

    def over(self, sizes: Sizes, which: Integers) -> "_ManyCosts":
        """The same over some of the meshes."""
        return replace(self, sizes={**self.sizes, **sizes}, known=self.memory.of(which))


@dataclass(frozen=True)
class Table:
    """Plans of one size of micro-batch that stream alike, and regions for all of them."""

    size: int
    regions: Regions
    plans: Plans
    pieces: Mapping[str, _ManyCosts]


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
    spread: Mapping[str, MappedGraph] = field(default_factory=dict[str, MappedGraph])
    """The graphs for replicas that divide experts among them, if there are experts."""

    def ranked(self, batch: int, head_groups: Sequence[int], keep: int) -> Ranking:
        """The `keep` best strategies that fit of every size of micro-batch."""
        found = Ranking()
        for table in self._tables(batch, head_groups):
            found.add(self._best(table, keep))
        return found

    def short(self, batch: int, head_groups: Sequence[int]) -> list[Candidate]:
        """Of every size of micro-batch the strategy that asks for the least memory."""
        tables = self._tables(batch, head_groups)
        return [self._shortest(table) for table in tables]

    def _tables(self, batch: int, head_groups: Sequence[int]) -> Iterator[Table]:
        """All regions with all plans of a size of micro-batch that stream alike."""
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
            streams=off_wafer(self.hardware) is not None and (self.trains or not self._at_edges),
            pins=self.pins,
            eps=self._eps(batch),
            dram_is_shared=self._at_edges,
            dram=self._offers_dram,
            caches=any(self._keeps(graph.graph) for graph in self.graphs.values()),
        )
        for size, plans in choices.plans().items():
            pieces: dict[int, dict[str, _ManyCosts]] = {}
            for alike in plans.by_streaming():
                streams, ep = self.trains and bool(alike.streaming[0]), int(alike.ep[0])
                pieces[ep] = pieces.get(ep) or self._pieces(table, size, ep)
                own = {
                    name: replace(piece, streaming=streams, known=piece.memory)
                    for name, piece in pieces[ep].items()
                }
                yield Table(size, table, alike, own)

    @property
    def _at_edges(self) -> bool:
        """Whether the nearest DRAM is behind the ports: what a step of inference would stream from
        there lies there."""
        dram = dram_of(self.hardware)
        return dram is not None and not dram.on_die

    @property
    def _offers_dram(self) -> bool:
        """Whether weights may lie in DRAM, unless they may not come through the ports."""
        kept_off = self._at_edges and self.pins.streaming is False and self.pins.weights is None
        return dram_of(self.hardware) is not None and not kept_off

    @staticmethod
    def _keeps(graph: Graph) -> bool:
        """Whether a graph makes a cache, or reads one."""
        return any(value.role == "cache" for value in (*graph.inputs, *graph.outputs))

    @cached_property
    def _kinds(self) -> list[Kind]:
        return kinds_of(units_of(self.chain))

    def _parts(self, table: Table, roomy: NDArray[np.bool_] | None = None) -> Iterator[Bounded]:
        """Plans on all regions, or on the `roomy` ones, that the system holds as often, so many at
        a time."""
        plans, area = table.plans, self._area(table.regions)
        least = _rectangles(plans)
        step = max(1, MOST_PAIRS // len(area))
        area = area if roomy is None else np.where(roomy, area, 0.0)
        for first in range(0, len(plans), step):
            region, plan = np.nonzero(least[None, first : first + step] <= area[:, None])
            yield self._bounded(table, region, plan + first)

    def _bounded(self, table: Table, region: Integers, plan: Integers) -> Bounded:
        """Some plans, each on its region."""
        return Bounded(
            hardware=self.hardware,
            chain=self.chain,
            kinds=self._kinds,
            pieces=table.pieces,
            regions=table.regions,
            layout=self.layout,
            plans=table.plans,
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

    def _eps(self, batch: int) -> tuple[int, ...]:
        """How many replicas may divide the experts among them: as many as leave none without
        experts, of these some that grow evenly, or as is pinned."""
        if self.pins.ep is not None:
            return (self.pins.ep,)
        experts = experts_of(self.spread.values())
        most = self.pins.dp or batch
        several = [n for n in range(2, min(experts, most) + 1) if experts % n == 0 == most % n]
        if len(several) > MAX_GROUPS:
            steps = np.linspace(0, len(several) - 1, MAX_GROUPS).round().astype(int)
            several = [several[at] for at in steps]
        return (1, *several)

    def _pieces(self, table: Regions, microbatch: int, ep: int) -> dict[str, _ManyCosts]:
        bound = {
            name: MappedGraph(mapped.graph.bind({"batch": microbatch}), mapped.shardings)
            for name, mapped in (self.graphs if ep == 1 else self.spread).items()
        }
        replicas = {EXPERTS: ep} if ep > 1 else {}
        pieces = pieces_of(self.hardware, bound, table.sizes(self.layout) | replicas)
        return {
            name: _ManyCosts(self.hardware, piece.mapped, piece.sizes, piece.elsewhere)
            for name, piece in pieces.items()
        }

    def _placed(self, table: Table, found: Ranking) -> Bounded:
        """The strategies of a table that fit, over no other regions than theirs; the others are
        noted as dropped."""
        everything = len(table.regions.rows) * len(table.plans)
        pairs: list[tuple[Integers, Integers]] = []
        active = (piece.memory.activations for piece in table.pieces.values())
        roomy = np.asarray(reduce(np.maximum, active) <= self.hardware.core_bytes)
        area = np.where(roomy, 0.0, self._area(table.regions))
        crowded = np.searchsorted(np.sort(_rectangles(table.plans)), area, side="right").sum()
        found.drop("memory does not suffice", int(crowded))
        everything -= int(crowded)
        for bounded in self._parts(table, roomy):
            everything -= len(bounded)
            likely = bounded.only(bounded.may_fit)
            fits = (likely.stages_needed <= likely.stages) & (likely.stages <= likely.units)
            able = likely.only(fits)
            found.drop("memory does not suffice", len(bounded) - len(able))
            placed = able.only(able.stages * able.plans.dp[able.plan] <= self._areas(able))
            found.drop("more cores than there are", len(able) - len(placed))
            pairs.append((placed.region, placed.plan))
        found.drop("more cores than there are", everything)
        region, plan = (np.concatenate(each) for each in zip(*pairs, strict=True))
        used, region = np.unique(region, return_inverse=True)
        fewer = table.regions[used]
        sizes = fewer.sizes(self.layout)
        own = {name: piece.over(sizes, used) for name, piece in table.pieces.items()}
        return self._bounded(replace(table, regions=fewer, pieces=own), region, plan)

    def _best(self, table: Table, keep: int) -> Ranking:
        """The fastest strategies that fit."""
        found = Ranking()
        placed = self._placed(table, found)
        if not len(placed):
            return found
        order = np.argsort(placed.latency_s, kind="stable")
        for count, at in enumerate(order):
            if len(found.candidates) == keep or count == MOST_LOOKED_AT:
                found.drop("slower by bound", len(order) - count)
                break
            candidate = self._candidate(placed, int(at), table.size, fits=True)
            strategy = candidate.strategy
            if rooms(self.hardware, *strategy.region) >= strategy.pp * strategy.dp:
                found.candidates.append(candidate)
            else:
                found.drop("no room for the rectangles", 1)
        return found

    def _shortest(self, table: Table) -> Candidate:
        """The strategy that asks the least memory of a core, with no more stages than there is
        room for, unless they are pinned; of very many only every so often one is looked at."""
        pairs = [(part.region, part.plan) for part in self._parts(table)]
        region, plan = (np.concatenate(each) for each in zip(*pairs, strict=True))
        every = max(1, -(-len(region) // MOST_SHORT))
        some = self._bounded(table, region[::every], plan[::every])
        if not len(some):
            some = self._crowded(some)
        dp = some.plans.dp[some.plan]
        by_area = np.floor(self._areas(some) / dp)
        held = np.clip(by_area, 1, some.stages) if self.pins.pp is None else some.stages
        least = np.where(by_area >= (self.pins.pp or 1), some.most_bytes / held, np.inf)
        order = np.argsort(least, kind="stable")[:MOST_LOOKED_AT]
        return next(self._roomy(some, order, held, table.size))

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
                yield self._candidate(_alone(bounded, at), 0, size, False, stages)
        first = int(order[0])
        yield self._candidate(_alone(bounded, first), 0, size, False, max(1, int(held[first])))

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
            ep=int(plans.ep[column]),
            interleave=int(plans.chunks[column]),
            zero=int(plans.zero[column]),
            streaming=bool(plans.streaming[column]),
            weights="dram" if plans.weights[column] else "sram",
            cache="dram" if plans.cache[column] else "sram",
        )
        bytes_ = float(bounded.most_bytes[at]) / stages
        return Candidate(strategy, float(bounded.latency_s[at]), bytes_, fits)


def _rectangles(plans: Plans) -> Integers:
    """How many rectangles every plan takes at least."""
    return np.maximum(plans.stages, 1) * plans.dp


def _alone(bounded: Bounded, at: int) -> Bounded:
    """One strategy, over its region alone."""
    used = bounded.region[at : at + 1]
    fewer = bounded.regions[used]
    sizes = fewer.sizes(bounded.layout)
    own = {
        name: piece.over(sizes, used) if isinstance(piece, _ManyCosts) else piece
        for name, piece in bounded.pieces.items()
    }
    plan = bounded.plan[at : at + 1]
    return replace(bounded, regions=fewer, pieces=own, region=np.zeros_like(used), plan=plan)
