"""How the sequences of a batch are divided over replicas, stages and time: every legal way."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ..ir.errors import UserError
from ..ir.pins import Pins

Integers = NDArray[np.int64]

MAX_MICROBATCHES = 6
"""Sizes of micro-batches that are tried for a number of replicas."""


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

    def __len__(self) -> int:
        return len(self.dp)

    def __getitem__(self, which: Integers) -> "Plans":
        """The plans of some numbers."""
        return Plans(*(getattr(self, field.name)[which] for field in fields(self)))

    def by_streaming(self) -> Iterator["Plans"]:
        """The plans that stream weights, and those that do not."""
        for streaming in np.unique(self.streaming):
            yield self[np.flatnonzero(self.streaming == streaming)]

    def parts(self, most: int) -> Iterator["Plans"]:
        """The plans in groups of at most some number."""
        for first in range(0, len(self), most):
            yield self[np.arange(first, min(first + most, len(self)))]


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
        return {
            size: Plans(*np.array(rows, dtype=np.int64).T) for size, rows in found.items() if rows
        }

    def _sizes(self, each: int) -> list[int]:
        if self.pins.microbatch:
            return [self.pins.microbatch]
        sizes = _divisors(each, each)
        if len(sizes) > MAX_MICROBATCHES:
            steps = np.linspace(0, len(sizes) - 1, MAX_MICROBATCHES).round().astype(int)
            return [sizes[at] for at in steps]
        return sizes

    def _of(self, dp: int, microbatches: int) -> Iterator[tuple[int, ...]]:
        zeros = self._zeros(dp)
        for stages in [1] if self._streams_alone else self._stages(dp, microbatches):
            for chunks in self._chunks(stages, microbatches):
                for zero, streamed in product(zeros, self._streaming(stages, chunks)):
                    if not (streamed and zero and self.pins.zero is None):
                        yield dp, microbatches, stages, chunks, zero, int(streamed)

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

    @property
    def _streams_alone(self) -> bool:
        """Whether weights are streamed by order: then one stage holds all layers in turn."""
        return bool(self.pins.streaming) and self.pins.pp is None

    def _streaming(self, stages: int, chunks: int) -> list[bool]:
        """Streamed weights leave room: one stage a wafer does."""
        if self.pins.streaming is not None:
            return [self.pins.streaming]
        return [False, True] if self.streams and chunks == 1 and stages <= 1 else [False]

    def _zeros(self, dp: int) -> list[int]:
        if self.pins.zero is not None:
            return [self.pins.zero]
        return [0] if dp == 1 or not self.trains else [0, 1, 2, 3]


def _divisors(number: int, most: int) -> list[int]:
    return [n for n in range(1, min(number, most) + 1) if number % n == 0]
