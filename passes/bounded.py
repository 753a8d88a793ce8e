"""Bounds on the latency and the memory of many strategies at once: plans on regions.

Arrays have one entry a strategy, which is a pair of a region and a plan.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, reduce

import numpy as np
from numpy.typing import NDArray

from ..backend.dram import dram_of
from ..backend.extents import Number, extent
from ..backend.handover import least_cycles
from ..backend.memory import GraphMemory, Keeping
from ..backend.off_wafer import streamed
from ..backend.replicas import least_cycles as least_gradient_cycles
from ..backend.streaming import off_wafer
from ..backend.workload import PieceCosts
from ..ir.graph import Op
from ..ir.hardware import Hardware
from ..ir.program import Layout
from .bounded_dram import BoundedDram
from .pieces import SHARED, Chain
from .plans import Plans
from .regions import Integers, Regions
from .shard import COLUMNS, ROWS
from .units import Unit

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Kind:
    """Equal units that follow each other, and how many there are."""

    unit: Unit
    count: int


def kinds_of(units: Sequence[Unit]) -> list[Kind]:
    """Units in a row, equal ones together."""

    def bodies(unit: Unit) -> tuple[str, ...]:
        return tuple(call.text("body") for call in unit.calls)

    found: list[Kind] = []
    for unit in units:
        if found and bodies(found[-1].unit) == bodies(unit):
            found[-1] = Kind(found[-1].unit, found[-1].count + 1)
        else:
            found.append(Kind(unit, 1))
    return found


@dataclass(frozen=True)
class Bounded:
    """A chain's pieces over many regions, run by many plans, each strategy a pair of both."""

    hardware: Hardware
    chain: Chain
    kinds: Sequence[Kind]
    pieces: Mapping[str, PieceCosts]
    regions: Regions
    layout: Layout
    plans: Plans
    trains: bool
    region: Integers
    """Of every strategy the number of its region."""
    plan: Integers
    """Of every strategy the number of its plan."""
    fixed_stages: bool = False
    """Whether the numbers of stages are pinned."""

    def only(self, which: NDArray[np.bool_]) -> "Bounded":
        """Some of the strategies."""
        return replace(self, region=self.region[which], plan=self.plan[which])

    @property
    def units(self) -> int:
        """Units that may go to different stages."""
        return sum(kind.count for kind in self.kinds)

    # What every unit takes and holds.

    def _of_region(self, value: Number) -> Floats:
        """A figure of every region, as one of every strategy."""
        each = np.broadcast_to(np.asarray(value, dtype=float), self.regions.rows.shape)
        return each[self.region]

    @cached_property
    def _plans(self) -> Plans:
        """The plan of every strategy."""
        return self.plans[self.plan]

    @cached_property
    def _dram(self) -> BoundedDram | None:
        """The DRAM that some of the strategies use, if any does."""
        dram, regions = dram_of(self.hardware), self.regions
        if dram is None:
            return None
        clock_hz, wafers = self.hardware.core.clock_hz, self.hardware.wafers
        sizes = regions.sizes(self.layout)
        sides = (regions.rows, regions.columns, extent(sizes, sizes))
        rows, columns, devices = (self._of_region(side) for side in sides)
        each = self._of_region
        found = BoundedDram(dram, self._plans, rows, columns, devices, each, clock_hz, wafers)
        return found if found.used else None

    def _cycles(self, calls: Iterable[tuple[Op, int]]) -> Floats:
        """Cycles of some calls, each made so many times."""
        runs = [(self.pieces[call.text("body")], count) for call, count in calls]
        if self._dram is None:
            return self._of_region(sum(piece.bound.cycles * count for piece, count in runs))
        total = self._of_region(0.0)
        for piece, count in runs:
            cycles = np.maximum(self._of_region(piece.bound.cycles), self._dram.cycles(piece))
            total = total + cycles * count
        return total

    def _over_units(self, calls_of: Callable[[Unit], Sequence[Op]]) -> Floats:
        """Cycles of some calls of all units."""
        return self._cycles(
            (call, kind.count) for kind in self.kinds for call in calls_of(kind.unit)
        )

    def _memory(self, calls: Iterable[tuple[Op, int]]) -> GraphMemory:
        """The memory of some calls together, each made so many times, as figures of every
        strategy. What stays and what is buffered of several graphs adds up."""
        parts = [(self.pieces[call.text("body")].memory, count) for call, count in calls]
        totals = (
            sum(np.asarray(getattr(memory, field.name)) * n for memory, n in parts)
            for field in fields(GraphMemory)
        )
        return GraphMemory(*(self._of_region(n) if np.ndim(n) else n for n in totals))

    @cached_property
    def _each(self) -> list[GraphMemory]:
        """The memory of one unit of every kind."""
        return [self._memory((call, 1) for call in kind.unit.calls) for kind in self.kinds]

    @cached_property
    def all_memory(self) -> GraphMemory:
        """The memory of all units."""
        return self._memory((call, kind.count) for kind in self.kinds for call in kind.unit.calls)

    # Time.

    @cached_property
    def forward(self) -> Floats:
        """Cycles of one micro-batch through all units, passing between stages left out."""
        return self._over_units(lambda unit: unit.forward) + self._shared_cycles

    @cached_property
    def backward(self) -> Floats:
        return self._over_units(lambda unit: unit.backward)

    @cached_property
    def updating(self) -> Floats:
        """Cycles of the optimizer, once a step."""
        return self._over_units(lambda unit: unit.update)

    @cached_property
    def _shared_cycles(self) -> Floats:
        """Of making the shared values, which at least one stage does."""
        if self.chain.shared is None:
            return self._of_region(0.0)
        return self._of_region(self.pieces[SHARED].bound.cycles)

    @cached_property
    def longest(self) -> Floats:
        """Cycles of the longest unit: the longest stage is no shorter."""
        units = [(*kind.unit.forward, *kind.unit.backward) for kind in self.kinds]
        return _most([self._cycles((call, 1) for call in calls) for calls in units])

    @cached_property
    def handover(self) -> Floats:
        """Cycles to pass hidden states to the nearest other rectangle: over the edge between the
        two in `matvec`, where each row sends from there."""
        first = next(k.unit.forward[-1] for k in self.kinds if k.unit.forward)
        block = np.broadcast_to(
            np.asarray(self.pieces[first.text("body")].carried_bytes, dtype=float),
            self.regions.rows.shape,
        )
        shorter = np.minimum(self.regions.rows, self.regions.columns).astype(float)
        hops = 1.0 if self.layout == "matvec" else shorter
        columns = self.regions.columns.astype(float)
        return self._of_region(least_cycles(self.hardware, block, hops, columns, self.layout))

    @cached_property
    def gradients(self) -> Floats:
        """Bytes of all gradients in one core, were there one stage."""
        return self._of_region(0.0) + self.all_memory.gradients

    @cached_property
    def summing(self) -> Floats:
        """Cycles to sum the gradients of an average stage over the replicas once."""
        sizes = self.regions.sizes(self.layout)
        rows, columns = (self._of_region(extent(axes, sizes)) for axes in (ROWS, COLUMNS))
        dp, ep = self._plans.dp, self._plans.ep
        stages = np.maximum(self.stages, 1)
        of_experts = np.where(ep > 1, self.all_memory.expert_gradients, 0.0) / stages
        each = self.gradients / stages - of_experts
        cycles = least_gradient_cycles(self.hardware, each, dp, rows, columns)
        fewer = least_gradient_cycles(self.hardware, of_experts, dp // ep, rows, columns, ep)
        cycles = cycles + fewer * (of_experts > 0) * (dp > ep)
        exchanged = (dp > 1) & (self.gradients > 0) & (self._plans.streaming == 0)
        return np.asarray(cycles * exchanged, dtype=np.float64)

    @cached_property
    def _streaming(self) -> Floats:
        """Cycles that all weights take to come in, and gradients to leave, for one micro-batch."""
        way = off_wafer(self.hardware)
        if way is None:
            return np.zeros(len(self))
        runs = [
            (streamed(self.pieces[call.text("body")].mapped.graph), kind.count)
            for kind in self.kinds
            for call in (*kind.unit.forward, *kind.unit.backward)
        ]
        coming = sum(bytes_.coming * count for bytes_, count in runs)
        leaving = sum(bytes_.leaving * count for bytes_, count in runs)
        wafers = np.minimum(self.hardware.wafers, np.maximum(self.stages, 1))
        seconds = max(coming, leaving) / (way.bytes_per_s * wafers)
        return self._plans.streaming * seconds * self.hardware.core.clock_hz

    @cached_property
    def latency_s(self) -> Floats:
        """Seconds of a step, by which strategies are ranked: the stage with most to do works on all
        micro-batches, after the first has come to it and before the last has gone through the
        others. That is what equal stages take, and in inference a bound; in training it may be
        too long by what other stages do before and behind the slowest where that is not the last.
        """
        stages, pace = self._stages, np.maximum(self._pace, self.longest)
        ways = 2 if self.trains else 1
        others = np.maximum(self.forward + self.backward - pace, 0.0) / self._plans.chunks
        hops = ways * (stages - 1) * self.handover
        pace = np.maximum(pace, self._streaming)
        return self._seconds(self._plans.microbatches * pace + others + hops)

    @cached_property
    def least_s(self) -> Floats:
        """Seconds of a step at least, however the units are cut into stages. Chunks may come in any
        order: of them the share of an average stage is known, and the way of one micro-batch."""
        if not self.trains:
            return self.latency_s
        stages, count, hop = self._stages, self._plans.microbatches, 2 * self.handover
        pace = np.maximum(self._pace, self._streaming)
        in_order = least_through(stages, count, pace, hop)
        interleaved = np.maximum(count * pace, pace * stages + hop * (stages - 1))
        through = np.where(self._plans.chunks > 1, interleaved, in_order)
        return self._seconds(np.maximum(through, count * self.longest))

    @cached_property
    def _stages(self) -> Floats:
        """Of every strategy, one at least."""
        return np.maximum(self.stages, 1)

    @cached_property
    def _pace(self) -> Floats:
        """Cycles of an average stage for one micro-batch, with what it waits for other replicas."""
        half, zero = self.summing / 2, self._plans.zero
        forward = np.maximum(self.forward / self._stages, half * (zero == 3))
        given = half * ((zero >= 2) * 1.0 + (zero == 3))
        return forward + np.maximum(self.backward / self._stages, given)

    def _seconds(self, through: Floats) -> Floats:
        """Seconds of a step whose micro-batches take so many cycles to go through all stages."""
        if self._dram is not None:
            served = self._plans.microbatches * self._dram.pace(self._runs)
            through = np.maximum(through, served) + self._dram.first(self._memories)
        return (through + self._ending(self._stages)) / self.hardware.core.clock_hz

    @property
    def _runs(self) -> list[tuple[PieceCosts, int]]:
        """The pieces that a micro-batch runs, and how many units run each."""
        return [
            (self.pieces[call.text("body")], kind.count)
            for kind in self.kinds
            for call in (*kind.unit.forward, *kind.unit.backward)
        ]

    @property
    def _memories(self) -> list[GraphMemory]:
        """Of the pieces in the order of the forward pass."""
        return [piece.memory for piece, _ in self._runs]

    def _ending(self, stages: Floats) -> Floats:
        """Cycles behind the last micro-batch: sums of gradients as far as they are not hidden, and
        the optimizer."""
        zero = self._plans.zero
        alone = np.where(stages == 1, np.maximum(self.summing - self.backward, 0.0), self.summing)
        exposed = np.where(zero == 3, 0.0, np.where(zero == 2, self.summing / 2, alone))
        share = np.where(zero > 0, self._plans.dp, 1) * stages
        return exposed + self.updating / share * (1 - self._plans.streaming)

    def __len__(self) -> int:
        return len(self.region)

    # Memory.

    @cached_property
    def keeping(self) -> Keeping:
        """What stays in the cores of the first stage, which holds most; numbers of every plan."""
        plans = self._plans
        return Keeping(
            microbatches=plans.microbatches,
            trains=self.trains,
            in_flight=first_in_flight(plans) if self.trains else 1.0,
            replicas=plans.dp,
            zero=plans.zero,
            streaming=plans.streaming,
            weights_in_dram=plans.weights,
            cache_in_dram=plans.cache,
            experts=plans.ep,
        )

    @cached_property
    def transient(self) -> Floats:
        """Bytes of activations of the unit that needs most, of buffers, and of shared values."""
        keeping = self.keeping
        calls = [call for kind in self.kinds for call in kind.unit.calls]
        active = (self.pieces[call.text("body")].memory.activations for call in calls)
        buffers = [np.asarray(keeping.buffers(memory)) for memory in self._each]
        most = self._of_region(reduce(np.maximum, active)) + _most(buffers)
        if self.chain.shared is None:
            return most
        return most + keeping.held(self._memory([(self.chain.shared, 1)]))

    @cached_property
    def room(self) -> Floats:
        """Bytes of a core for what stays."""
        return self.hardware.core_bytes - self.transient

    @cached_property
    def stages_needed(self) -> Floats:
        """Stages that the memory asks for; infinite where a single unit does not fit."""
        keeping, dram = self.keeping, self._dram
        needed = self._needed(np.maximum(self.room, 0.0), keeping.held)
        if dram is None:
            return needed
        room = self._of_region(0.0) + dram.room
        needed = np.maximum(needed, self._needed(room, keeping.dram))
        return np.where(dram.suffices(keeping, [(self.all_memory, 1)]), needed, np.inf)

    def _needed(self, room: Floats, held: Callable[[GraphMemory], Number]) -> Floats:
        """Stages that it takes to hold what units do in so much room. Units are taken in order,
        each stage as many as it has room for."""
        needed, left = np.ones(len(self)), room
        for kind, memory in zip(self.kinds, self._each, strict=True):
            each = np.maximum(held(memory), 1.0)
            with np.errstate(divide="ignore", invalid="ignore"):
                here = np.minimum(kind.count, np.floor(left / each))
                capacity = np.floor(room / each)
                rest = kind.count - here
                more = np.where(rest > 0, np.ceil(rest / capacity), 0.0)
                in_last = np.where(more > 0, rest - (more - 1) * capacity, here)
            needed = needed + more
            left = np.where(more > 0, room - in_last * each, left - here * each)
            left = np.where(np.isfinite(left), left, 0.0)
        return np.where(np.isfinite(needed), needed, np.inf)

    @cached_property
    def stages(self) -> Floats:
        """Stages of every plan on every region: as stated, or, in inference, those that the memory
        asks for and at least as many as stated."""
        stated = self._plans.stages.astype(float)
        if self.trains or self.fixed_stages:
            return stated
        return np.clip(self.stages_needed, np.maximum(stated, 1), self.units)

    @cached_property
    def most_bytes(self) -> Floats:
        """Bytes of all units in one core, were there one stage."""
        return self._all_held + self.transient

    @cached_property
    def _all_held(self) -> Floats:
        """Bytes that stay of all units."""
        return self._of_region(0.0) + self.keeping.held(self.all_memory)

    @property
    def may_fit(self) -> NDArray[np.bool_]:
        """Whether all that stays would fit if every stage were as full as can be."""
        stages = self._plans.stages if self.trains or self.fixed_stages else self.units
        return self._all_held <= self.hardware.core_bytes * np.maximum(stages, 1)


def least_through(stages: Number, microbatches: Number, pace: Number, hop: Number) -> Floats:
    """What micro-batches take at least through s stages and back that work for `pace` on each on
    average, however unequal they are, over links that take half a `hop` each way.

    Stage k works m w_k in all; the first micro-batch comes to it, and the last leaves it, through
    the stages before: T >= m w_k + S_(k-1) + h (k - 1), where S_k = w_1 + ... + w_k. So S_k <=
    (1 - 1/m) S_(k-1) + (T - h (k - 1)) / m, and with q = 1 - (1 - 1/m)^s of all s stages
    S_s <= T q - h (s - m q).
    """
    with np.errstate(divide="ignore"):
        filled = -np.expm1(stages * np.log1p(-1.0 / np.asarray(microbatches)))
    return np.asarray((pace + hop) * stages / filled - hop * microbatches, dtype=np.float64)


def first_in_flight(plans: Plans) -> Floats:
    """Micro-batches whose saved values the first stage holds at most, its chunks averaged."""
    warm = (plans.stages - 1) * 2 + (plans.chunks - 1) * plans.stages + 1
    ahead = np.where(plans.chunks > 1, warm / plans.chunks, plans.stages)
    return np.minimum(ahead, plans.microbatches)


def _most(many: Sequence[Floats]) -> Floats:
    return np.max(np.broadcast_arrays(*many), axis=0)
