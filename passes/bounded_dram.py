"""What weights and caches in DRAM ask of many strategies at once: time, and room in that DRAM.

Arrays have one entry a strategy. The memory itself is in backend/dram.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..backend.dram import Dram, Use, first_pieces, first_s, moving_s
from ..backend.dram_traffic import Moved
from ..backend.extents import Number
from ..backend.memory import GraphMemory, Keeping
from ..backend.workload import PieceCosts
from .plans import Plans

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BoundedDram:
    """The nearest DRAM of a hardware, and strategies that may have weights or caches in it."""

    dram: Dram
    plans: Plans
    """Of every strategy."""
    rows: Floats
    columns: Floats
    devices: Floats
    """Of a mesh; some columns may be left over."""
    of_region: Callable[[Number], Floats]
    """A figure of every region as one of every strategy."""
    clock_hz: float
    wafers: int

    @cached_property
    def used(self) -> bool:
        """Whether any strategy has anything there."""
        return bool(np.any(self.plans.weights) or np.any(self.plans.cache))

    @cached_property
    def _use(self) -> Use:
        """Replicas of a stage lie on one wafer at least as often as they would evenly spread."""
        plans = self.plans
        weights, gradients = (np.where(plans.zero >= zero, plans.dp, 1) for zero in (3, 2))
        return Use(
            weights=plans.weights,
            cache=plans.cache,
            microbatches=plans.microbatches,
            parts=(weights, gradients) if self.dram.on_die else (1, 1),
            copies=np.maximum(1.0, plans.dp / self.wafers),
        )

    @cached_property
    def _into(self) -> Number:
        return self.dram.into(self.rows, self.columns)

    def cycles(self, piece: PieceCosts) -> Floats:
        """Cycles in which the memory serves one run of a piece, of which no stage needs less."""
        core, whole = self._moved(piece.moved), self._moved(piece.moved_whole)
        seconds = moving_s(self.dram, core, whole, self._use, self._into)
        return np.asarray(seconds * self.clock_hz, dtype=np.float64)

    def pace(self, runs: Sequence[tuple[PieceCosts, int]]) -> Floats:
        """Cycles in which the edges of all wafers serve a micro-batch of all replicas, whatever
        stages the runs of pieces are cut into."""
        if self.dram.on_die:
            return self.of_region(0.0)
        ways = [
            self.dram.seconds(*self._use.bytes_of(self._moved(piece.moved_whole), self._use.copies))
            * count
            for piece, count in runs
        ]
        return np.asarray(sum(ways) * self.clock_hz / self.wafers, dtype=np.float64)

    def first(self, memories: Sequence[GraphMemory]) -> Floats:
        """Cycles until the first piece is there, once a step."""
        weights, cache = first_pieces(memories)
        piece = np.where(self.plans.weights == 1, self.of_region(weights), self.of_region(cache))
        seconds = first_s(self.dram, piece, self.devices)
        return seconds * self.clock_hz * ((self.plans.weights == 1) | (self.plans.cache == 1))

    def _moved(self, moved: Moved) -> Moved:
        return Moved(*(self.of_region(getattr(moved, field.name)) for field in fields(moved)))

    @property
    def room(self) -> float:
        """Bytes for every core; without bound where it is the wafer's as a whole."""
        return self.dram.core_capacity_bytes

    def suffices(
        self, keeping: Keeping, units: Sequence[tuple[GraphMemory, int]]
    ) -> NDArray[np.bool_]:
        """Whether the edges of all wafers hold what all units put there: weights and states once,
        gradients and caches of every replica."""
        if self.dram.on_die:
            return np.ones(len(self.rows), dtype=np.bool_)
        plans, total = self.plans, self.of_region(0.0)
        for memory, count in units:
            once = plans.weights * (memory.weights + memory.states)
            cache = plans.cache * keeping.microbatches * memory.cache
            each = plans.weights * memory.gradients + cache
            total = total + count * (once + plans.dp * each)
        return total * self.devices <= self.dram.capacity_bytes * self.wafers
