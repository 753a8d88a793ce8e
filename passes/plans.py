"""How the sequences of a batch are divided over replicas, stages and time: every legal way."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ..backend.dram import dram_of
from ..backend.streaming import off_wafer
from ..ir.errors import UserError
from ..ir.hardware import Hardware
from ..ir.pins import Pins

Integers = NDArray[np.int64]

MAX_MICROBATCHES = 6
"""Sizes of micro-batches that are tried for a number of replicas."""


def check_places(hardware: Hardware, pins: Pins) -> None:
    """Raise UserError for weights or caches that are pinned to a memory which is not there."""
    asked = [f"{name}=dram" for name in ("weights", "cache") if getattr(pins, name) == "dram"]
    if asked and dram_of(hardware) is None:
        gpu = hardware.core.multiprocessors is not None
        reason = "all that a GPU holds lies there" if gpu else "none with a bandwidth is stated"
        raise UserError(
            f"--mapping {','.join(asked)}: {hardware.name} leaves no DRAM to choose: {reason}"
        )
    if (pins.streaming or pins.weights == "off-wafer") and off_wafer(hardware) is None:
        raise UserError(
            f"--mapping: weights cannot be streamed onto {hardware.name}, which has no ports"
        )


@dataclass(frozen=True)
class Plans:
    """Ways to run micro-batches of one size, as equally long arrays."""

    dp: Integers
    microbatches: Integers
    """Of a replica."""
    stages: Integers
    """At least, in inference; 0 for as few as the memory asks for."""
    chunks: Integers
    zero: Integers
    streaming: Integers
    weights: Integers
    """1 where they lie in DRAM; else in SRAM or, streamed, off the wafer."""
    cache: Integers
    """1 where caches lie in DRAM."""
    ep: Integers
    """Replicas that divide the experts among them."""

    def __len__(self) -> int:
        return len(self.dp)

    def __getitem__(self, which: Integers) -> "Plans":
        """The plans of some numbers."""
        return Plans(*(getattr(self, field.name)[which] for field in fields(self)))

    def by_streaming(self) -> Iterator["Plans"]:
        """The plans that stream weights, and those that do not, each apart by how many replicas
        divide the experts."""
        kinds = 2 * self.ep + self.streaming
        for kind in np.unique(kinds):
            yield self[np.flatnonzero(kinds == kind)]


@dataclass(frozen=True)
class Choices:
    """What may be chosen, and what is pinned of it."""

    batch: int
    pieces: int
    """Units that may go to different stages."""
    layers: int
    """Of the kind of unit that repeats most."""
    devices: int
    """Rectangles of the smallest region that the system holds, at most."""
    trains: bool
    streams: bool
    """Whether weights may come from off the wafer."""
    pins: Pins
    most_chunks: int = 8
    dram: bool = False
    """Whether the hardware has DRAM for weights and caches."""
    caches: bool = False
    """Whether the model keeps caches."""
    eps: tuple[int, ...] = (1,)
    """How many replicas may divide the experts among them."""
    dram_is_shared: bool = False
    """Whether the replicas on a wafer read the same weights in DRAM."""

    def plans(self) -> dict[int, Plans]:
        """All plans by the size of their micro-batches."""
        found: dict[int, list[tuple[int, ...]]] = {}
        for dp in [self.pins.dp] if self.pins.dp else _divisors(self.batch, self.devices):
            each = self.batch // dp
            for size in self._sizes(each):
                rows = found.setdefault(size, [])
                rows.extend(self._of(dp, each // size))
        if self.pins.interleave is not None and not any(found.values()):
            raise UserError(
                f"--mapping interleave={self.pins.interleave}: a batch of {self.batch} gives no "
                "replica a number of micro-batches that is a multiple of its stages"
            )
        if self.pins.ep not in (None, 1) and not any(found.values()):
            raise UserError(
                f"--mapping ep={self.pins.ep}: a batch of {self.batch} on {self.devices} "
                "rectangles gives no number of replicas that is a multiple of it"
            )
        return {
            size: Plans(*np.array(rows, dtype=np.int64).T) for size, rows in found.items() if rows
        }

    def _sizes(self, each: int) -> list[int]:
        if self.pins.microbatch:
            return [self.pins.microbatch] if each % self.pins.microbatch == 0 else []
        sizes = _divisors(each, each)
        if len(sizes) > MAX_MICROBATCHES:
            steps = np.linspace(0, len(sizes) - 1, MAX_MICROBATCHES).round().astype(int)
            return [sizes[at] for at in steps]
        return sizes

    def _of(self, dp: int, microbatches: int) -> Iterator[tuple[int, ...]]:
        zeros = self._zeros(dp)
        for stages in [1] if self._streams_alone else self._stages(dp, microbatches):
            for chunks in self._chunks(stages, microbatches):
                for zero, place in product(zeros, self._places(stages, chunks)):
                    if not (place[0] and zero and self.pins.zero is None):
                        for ep in self._eps(dp, place):
                            yield dp, microbatches, stages, chunks, zero, *place, ep

    def _stages(self, dp: int, microbatches: int) -> list[int]:
        """More stages than memory asks for only pay in a pipeline; of those that make stages of
        equally many units the fewest."""
        if self.pins.pp is not None:
            return [self.pins.pp]
        most = min(self.pieces, self.devices // dp)
        if microbatches == 1 and not self.trains:
            return [0]
        counts = {-(-self.pieces // each) for each in range(1, self.pieces + 1)}
        layers = {-(-(self.pieces - 2) // each) for each in range(1, self.pieces - 1)}
        found = sorted(count for count in counts | layers if 0 < count <= most)
        return found if self.trains else [0, *found]

    def _chunks(self, stages: int, microbatches: int) -> list[int]:
        """Chunks of equally many layers go round more than one stage, micro-batches in groups of
        as many as stages (Megatron-LM's rules)."""
        possible = self.trains and stages > 1 and microbatches % stages == 0
        if self.pins.interleave is not None:
            return [self.pins.interleave] if possible or self.pins.interleave == 1 else []
        if not possible:
            return [1]
        most = min(self.layers // stages, self.most_chunks)
        return [n for n in range(1, most + 1) if n == 1 or self.layers % (stages * n) == 0] or [1]

    def _eps(self, dp: int, place: tuple[int, int, int]) -> list[int]:
        """How many replicas divide the experts: one where all get weights from the same place."""
        common = place[0] or (place[1] and self.dram_is_shared)
        return [ep for ep in self.eps if ep == 1 or (dp % ep == 0 and not common)]

    @property
    def _streams_alone(self) -> bool:
        """Whether weights are streamed by order: then one stage holds all layers in turn."""
        ordered = self.pins.streaming or self.pins.weights == "off-wafer"
        return bool(ordered) and self.pins.pp is None

    def _places(self, stages: int, chunks: int) -> list[tuple[int, int, int]]:
        """Where weights and caches may lie: whether weights are streamed, whether they lie in DRAM,
        whether caches do. Streamed weights leave room for caches, and for all layers in one stage
        a wafer."""
        weights = ["sram"] + ["dram"] * self.dram
        if self.pins.weights is not None:
            weights = [self.pins.weights]
        elif self.pins.streaming:
            weights = ["off-wafer"]
        elif self.pins.streaming is None and self.streams and chunks == 1 and stages <= 1:
            weights.append("off-wafer")
        caches = ["sram"] + ["dram"] * (self.dram and self.caches)
        if self.pins.cache is not None:
            caches = [self.pins.cache]
        return [
            (int(of_weights == "off-wafer"), int(of_weights == "dram"), int(of_caches == "dram"))
            for of_weights, of_caches in product(weights, caches)
            if of_weights != "off-wafer" or of_caches == "sram"
        ]

    def _zeros(self, dp: int) -> list[int]:
        if self.pins.zero is not None:
            return [self.pins.zero]
        return [0] if dp == 1 or not self.trains else [0, 1, 2, 3]


def _divisors(number: int, most: int) -> list[int]:
    return [n for n in range(1, min(number, most) + 1) if number % n == 0]
