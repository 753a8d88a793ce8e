"""The least bound of all strategies that fit, found without bounding all of them.

A floor under a strategy's bound follows from figures of its region and figures of its plan, so that
of all pairs it is a few sums over a matrix; so is a floor under the memory that it asks for. Only
strategies whose floor is less than the best bound so far are bounded, the lowest first. What is
found is what bounding all of them finds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..backend.memory import GraphMemory
from .bounded import Bounded
from .placement_rooms import rooms
from .plans import Plans
from .regions import Integers, Regions
from .strategy import Candidate, Search, Table

Floats = NDArray[np.float64]

CHUNK = 4096
"""Strategies that are bounded at a time."""
SLACK = 1e-9
"""Relative, by which floors are lowered for what rounding makes of them."""


@dataclass(frozen=True)
class Near:
    """Strategies of one mesh, best first, of which each has a bound below some limit."""

    first: Candidate
    """That of the least bound."""
    regions: Regions
    """The one region of all of them."""
    plans: Plans


@dataclass(frozen=True)
class Screen(Search):
    """Looks for strategies of low bounds (Bounded.least_s)."""

    _looked: "dict[tuple[object, ...], list[_Floors]]" = field(
        default_factory=dict, repr=False, compare=False
    )

    def better(
        self, batch: int, head_groups: Sequence[int], than: Candidate | None
    ) -> Candidate | None:
        """The strategy that fits, has room and has the least bound, or the one given if none is
        better."""
        for floors in self._floors(batch, head_groups):
            than = self._in_table(floors, than)
        return than

    def below(self, batch: int, head_groups: Sequence[int], limit_s: float) -> list[Near]:
        """All strategies that fit, have room and have a bound of less than some seconds."""
        return [
            near
            for floors in self._floors(batch, head_groups)
            for near in self._below(floors, limit_s)
        ]

    def bounded(self, table: Table, region: Integers, plan: Integers) -> Bounded:
        """Some plans of a table, each on its region."""
        return self._bounded(table, region, plan)

    def areas(self, regions: Regions) -> Floats:
        """How many of each region the system's cores would make up."""
        return self._area(regions)

    def over(self, table: Table, used: Integers) -> Table:
        """A table over some of its regions."""
        regions = table.regions[used]
        sizes = regions.sizes(self.layout)
        pieces = {name: piece.over(sizes, used) for name, piece in table.pieces.items()}
        return replace(table, regions=regions, pieces=pieces)

    def candidate(self, bounded: Bounded, at: int, microbatch: int) -> Candidate:
        """One of some strategies that fit."""
        found = self._candidate(bounded, at, microbatch, fits=True)
        return replace(found, bound_s=float(bounded.least_s[at]))

    def _floors(self, batch: int, head_groups: Sequence[int]) -> "list[_Floors]":
        """Floors of all tables, made once."""
        key = batch, *head_groups
        if key not in self._looked:
            self._looked[key] = [_Floors(self, table) for table in self._tables(*key[:1], key[1:])]
        return self._looked[key]

    def _in_table(self, floors: "_Floors", best: Candidate | None) -> Candidate | None:
        region, plan, floor = floors.pairs
        while len(floor):
            open_ = floor < (np.inf if best is None else best.bound_s)
            region, plan, floor = region[open_], plan[open_], floor[open_]
            if len(floor) > CHUNK:
                lowest = np.zeros(len(floor), bool)
                lowest[np.argpartition(floor, CHUNK)[:CHUNK]] = True
            else:
                lowest = np.ones(len(floor), bool)
            best = self._of_some(floors.table, region[lowest], plan[lowest], best)
            region, plan, floor = region[~lowest], plan[~lowest], floor[~lowest]
        return best

    def _of_some(
        self,
        table: Table,
        region: Integers,
        plan: Integers,
        best: Candidate | None,
    ) -> Candidate | None:
        """The best of some strategies of a table, and of one that is known."""
        if not len(region):
            return best
        able = self._able(table, region, plan)
        for at in np.argsort(able.least_s, kind="stable") if len(able) else ():
            if best is not None and able.least_s[at] >= best.bound_s:
                return best
            candidate = self.candidate(able, int(at), table.size)
            strategy = candidate.strategy
            if rooms(self.hardware, *strategy.region) >= strategy.pp * strategy.dp:
                return candidate
        return best

    def _able(self, table: Table, region: Integers, plan: Integers) -> Bounded:
        """Those of some strategies that fit the memory and the area."""
        bounded = self._bounded(table, region, plan)
        fits = (bounded.stages_needed <= bounded.stages) & (bounded.stages <= bounded.units)
        able = bounded.only(fits)
        return able.only(able.stages * able.plans.dp[able.plan] <= self._areas(able))

    def _below(self, floors: "_Floors", limit_s: float) -> Iterator[Near]:
        table, (region, plan, floor) = floors.table, floors.pairs
        open_ = np.flatnonzero(floor < limit_s)
        for chunk in np.array_split(open_, -(-len(open_) // CHUNK)) if len(open_) else ():
            able = self._able(table, region[chunk], plan[chunk])
            able = able.only(able.least_s < limit_s)
            order = np.lexsort((able.least_s, able.region))
            for own in np.split(order, np.flatnonzero(np.diff(able.region[order])) + 1):
                if len(own):
                    yield from self._near(table, able, own)

    def _near(self, table: Table, able: Bounded, own: Integers) -> Iterator[Near]:
        """Strategies of one region, best first, as far as it has room for them."""
        regions = table.regions[able.region[own[:1]]]
        space = rooms(self.hardware, int(regions.rows[0]), int(regions.columns[0]))
        placed = own[able.stages[own] * able.plans.dp[able.plan[own]] <= space]
        if len(placed):
            first = self.candidate(able, int(placed[0]), table.size)
            yield Near(first, regions, table.plans[able.plan[placed]])


@dataclass(frozen=True)
class _Floors:
    """Floors under the bounds of all strategies of a table: arrays of regions x plans."""

    screen: Screen
    whole: Table

    @cached_property
    def _fitting(self) -> tuple[NDArray[np.bool_], Floats]:
        """Which strategies may fit memory and area, and how many stages they need at least."""
        plans, dp = self.whole.plans, self.whole.plans.dp
        stated = np.maximum(plans.stages, 1).astype(float)
        room = self.screen.hardware.core_bytes
        area = self.screen.areas(self.whole.regions)[:, None]
        held = self._held * (1 - SLACK)
        if self._fixed:
            return (held <= room * stated) & (stated * dp <= area), np.broadcast_to(
                stated, held.shape
            )
        least = np.maximum(stated, np.ceil(held / room))
        return (least <= self._units) & (least * dp <= area), least

    @property
    def _fixed(self) -> bool:
        """Whether plans state their stages; else the memory asks for more."""
        return self.screen.trains or self.screen.pins.pp is not None

    @property
    def _units(self) -> int:
        return self._on_regions(self.whole, self.whole.plans).units

    @cached_property
    def _held(self) -> Floats:
        """Bytes that stay in a core of all units: linear in what they are of, so that a strategy's
        are a sum of the region's bytes times what of each its plan keeps."""
        names = [field.name for field in fields(GraphMemory)]
        all_units = self._on_regions(self.whole, self.whole.plans).all_memory
        count = len(self.whole.regions.rows), len(self.whole.plans)
        bytes_ = [np.broadcast_to(getattr(all_units, name), count[0]) for name in names]
        plans = self._on_plans(self.whole).keeping
        kept = [
            np.broadcast_to(plans.held(_unit(names, name)), count[1]).astype(float)
            for name in names
        ]
        return np.stack(bytes_, axis=1).astype(float) @ np.stack(kept)

    @cached_property
    def table(self) -> Table:
        """The table, of the regions only that may be used."""
        used = np.flatnonzero(self._fitting[0].any(axis=1))
        return self.screen.over(self.whole, used)

    @cached_property
    def pairs(self) -> tuple[Integers, Integers, Floats]:
        """Strategies that may fit, as numbers of a region of `table` and of a plan, and their
        floors in seconds."""
        may, least = self._fitting
        used = may.any(axis=1)
        region, plan = np.nonzero(may[used])
        if not len(region):
            return region, plan, np.zeros(0)
        return region, plan, self._floor(region, plan, least[used][region, plan])

    def _floor(self, region: Integers, plan: Integers, stages: Floats) -> Floats:
        plans = self.table.plans
        chain, longest, passing = self._cycles
        kind = self._kind_of_plan[plan]
        work, unit = chain[kind, region], longest[kind, region]
        most = stages if self._fixed else np.full_like(stages, self._units)
        pace, count = np.maximum(unit, work / most), plans.microbatches[plan]
        if self.screen.trains:
            cycles = np.maximum(work, count * pace)
        else:
            cycles = work + (count - 1) * pace + (stages - 1) * passing[region]
        return cycles / self.screen.hardware.core.clock_hz * (1 - SLACK)

    @cached_property
    def _kind_of_plan(self) -> Integers:
        """Of each plan which of the kinds below it is of."""
        plans = self.table.plans
        return (
            np.zeros(len(plans), np.int64)
            if self.screen.trains
            else plans.weights * 2 + plans.cache
        )

    @cached_property
    def _cycles(self) -> tuple[Floats, Floats, Floats]:
        """Cycles of a micro-batch through all units, and through the longest, by what lies in DRAM
        and region; and of passing to the next stage, by region. One replica alone takes what comes
        from DRAM; in training what replicas divide comes faster, and DRAM is left out."""
        found = [self._of_kind(kind) for kind in range(int(self._kind_of_plan.max()) + 1)]
        return (
            np.stack([each.forward + each.backward for each in found]),
            np.stack([each.longest for each in found]),
            found[0].handover,
        )

    def _of_kind(self, kind: int) -> Bounded:
        none = np.zeros(1, np.int64)
        one = np.ones(1, np.int64)
        plain = replace(
            self.table.plans[none],
            dp=one, microbatches=one, stages=one, chunks=one, zero=none, streaming=none,
            weights=one * (kind // 2), cache=one * (kind % 2),
        )  # fmt: skip
        return self._on_regions(self.table, plain)

    def _on_regions(self, table: Table, plans: Plans) -> Bounded:
        """The first of some plans on every region."""
        count = len(table.regions.rows)
        numbers = np.arange(count), np.zeros(count, np.int64)
        return self.screen.bounded(replace(table, plans=plans), *numbers)

    def _on_plans(self, table: Table) -> Bounded:
        """Every plan on the first region."""
        count = len(table.plans)
        return self.screen.bounded(table, np.zeros(count, np.int64), np.arange(count))


def _unit(names: Sequence[str], one: str) -> GraphMemory:
    return GraphMemory(**{name: float(name == one) for name in names})
