"""The units of a chain are cut into stages, so that no stage is longer than it must be."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..backend.extents import Number
from ..backend.memory import GraphMemory, Keeping
from ..backend.schedule import in_flight
from ..backend.workload import PieceCosts
from ..ir.graph import Op
from ..ir.program import CoreMemory, Stage
from .pieces import SHARED, Chain
from .units import Unit, joined, units_of

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cut:
    """Cut a chain into `stages` of `chunks` contiguous parts each, which go round the stages:
    least excess of memory in any part, then the least time of the longest."""

    pieces: Mapping[str, PieceCosts]
    usable_bytes: float
    stages: int
    chunks: int = 1
    keeping: Keeping = field(default_factory=Keeping)
    dram_bytes: float = np.inf
    """Of DRAM for a core."""
    name: str = "cut"

    def run(self, chain: Chain) -> list[Stage]:
        """The stages in order, each with the memory of its fullest core."""
        units = units_of(chain)
        ends = _Parts(self, chain, units).ends()
        parts = [units[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        return [
            self._stage(chain, at, parts[at :: self.stages], first=units[0])
            for at in range(self.stages)
        ]

    def kept(self, stage: int) -> Keeping:
        """What stays in the cores of a stage: of the passes that are saved, as many as are under
        way there, shared evenly by its chunks."""
        saved = self._in_flight[stage] / self.chunks if self.keeping.trains else 1.0
        return replace(self.keeping, in_flight=float(saved))

    @cached_property
    def _in_flight(self) -> NDArray[np.int64]:
        return in_flight(self.stages, self.chunks, int(self.keeping.microbatches))

    def _stage(self, chain: Chain, at: int, parts: Sequence[Sequence[Unit]], first: Unit) -> Stage:
        units = [unit for part in parts for unit in part]
        calls = [
            *(call for part in parts for unit in part for call in unit.forward),
            *(call for part in parts[::-1] for unit in part[::-1] for call in unit.backward),
            *(call for unit in units for call in unit.update),
        ]
        runs = joined(calls)
        held = units
        if chain.shared is not None:
            runs = _with_shared(chain.shared, runs, at)
            held = [Unit(forward=(chain.shared,)), *units]
        memory = _core_memory(held, self.pieces, self.kept(at), first in units)
        return Stage(tuple(runs), memory)


def _core_memory(
    units: Sequence[Unit], pieces: Mapping[str, PieceCosts], keeping: Keeping, holds_first: bool
) -> CoreMemory:
    """What a core of a stage holds; weights that another stage holds too count as its own."""
    memories = [pieces[call.text("body")].memory for unit in units for call in unit.calls]

    def total(of: Callable[[GraphMemory], Number]) -> int:
        return int(sum(float(of(memory)) for memory in memories))

    buffers = max(_buffers(unit, pieces, keeping) for unit in units)
    borrowed = 0 if holds_first else total(keeping.borrowed)
    return CoreMemory(
        weights_bytes=total(keeping.weights) + borrowed,
        cache_bytes=total(keeping.caches),
        activation_bytes=int(max(float(m.activations) for m in memories) + buffers),
        gradient_bytes=total(keeping.gradients),
        optimizer_bytes=total(keeping.states),
        saved_bytes=total(keeping.saved),
        dram_bytes=total(keeping.dram),
    )


def _buffers(unit: Unit, pieces: Mapping[str, PieceCosts], keeping: Keeping) -> float:
    """Bytes that come and go while a unit runs."""
    return sum(float(keeping.buffers(pieces[call.text("body")].memory)) for call in unit.calls)


@dataclass(frozen=True)
class _Parts:
    """Units in a row, and what stretches of them hold and take."""

    cut: Cut
    chain: Chain
    units: Sequence[Unit]

    def ends(self) -> list[int]:
        """Where each part ends, by dynamic programming over the ends."""
        count, parts = len(self.units), self.cut.stages * self.cut.chunks
        times = np.cumsum([0.0, *self._each(self._time)])
        lasting = times[None, :] - times[:, None]
        first, last = np.indices((count + 1, count + 1))
        best = np.full(count + 1, np.inf)
        best[0] = 0.0
        chosen: list[NDArray[np.int64]] = []
        excess: dict[float, Floats] = {}
        for part in range(parts):
            keeping = self.cut.kept(part % self.cut.stages)
            key = float(keeping.in_flight)
            if key not in excess:
                excess[key] = self._excess(keeping)
            costs = np.where(first < last, (1.0 + times[-1]) * excess[key] + lasting, np.inf)
            totals = np.maximum(best[:, None], costs)
            chosen.append(np.argmin(totals, axis=0))
            best = totals[chosen[-1], np.arange(count + 1)]
        ends = [count]
        for before in chosen[:0:-1]:
            ends.append(int(before[ends[-1]]))
        return ends[::-1]

    def _each(self, of: Callable[[Unit], float]) -> list[float]:
        """A figure of every unit; those of the same graphs have the same."""
        known: dict[tuple[str, ...], float] = {}
        found: list[float] = []
        for unit in self.units:
            bodies = tuple(call.text("body") for call in unit.calls)
            if bodies not in known:
                known[bodies] = of(unit)
            found.append(known[bodies])
        return found

    def _time(self, unit: Unit) -> float:
        """Cycles of one micro-batch."""
        calls = (*unit.forward, *unit.backward)
        return sum(float(self.cut.pieces[call.text("body")].bound.cycles) for call in calls)

    def _excess(self, keeping: Keeping) -> Floats:
        """Bytes over what a core has for a part, by the units at which it begins and ends."""
        borrowed = self._sums(keeping.borrowed)
        borrowed[0] = 0.0
        held = self._sums(keeping.held) + borrowed
        active = self._most(self._active)
        buffers = self._most(lambda unit: _buffers(unit, self.cut.pieces, keeping))
        shared = 0.0
        if self.chain.shared is not None:
            shared = float(keeping.held(self.cut.pieces[SHARED].memory))
        room = self.cut.usable_bytes - shared
        inside = held + (active + buffers - room) / self.cut.chunks
        behind = self._sums(keeping.dram) - self.cut.dram_bytes / self.cut.chunks
        return np.maximum(0.0, np.maximum(inside, behind))

    def _memories(self, unit: Unit) -> list[GraphMemory]:
        return [self.cut.pieces[call.text("body")].memory for call in unit.calls]

    def _active(self, unit: Unit) -> float:
        return max(float(memory.activations) for memory in self._memories(unit))

    def _sums(self, of: Callable[[GraphMemory], Number]) -> Floats:
        each = self._each(lambda unit: sum(float(of(m)) for m in self._memories(unit)))
        total = np.cumsum([0.0, *each])
        return total[None, :] - total[:, None]

    def _most(self, of: Callable[[Unit], float]) -> Floats:
        each, count = self._each(of), len(self.units)
        found = np.zeros((count + 1, count + 1))
        for at in range(count):
            found[at, at + 1 :] = np.maximum.accumulate(each[at:])
        return found


def _with_shared(shared: Op, calls: Sequence[Op], at: int) -> list[Op]:
    """A stage that makes the shared values itself, under names of its own."""
    if not any(set(shared.results) & set(call.operands) for call in calls):
        return list(calls)
    own = {name: f"{name}.stage{at}" for name in shared.results}
    renamed = [
        replace(call, operands=tuple(own.get(n, n) for n in call.operands)) for call in calls
    ]
    return [replace(shared, results=tuple(own.values())), *renamed]
