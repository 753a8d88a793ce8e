"""When every stage of a pipeline works on which micro-batch, and how long all of it takes.

Schedules: in order (inference); 1F1B and interleaved 1F1B (Narayanan et al., arXiv 2104.04473,
sections 2.2 and 2.3; orders and warm-up as in Megatron-LM's `schedules.py`); GPipe (arXiv
1811.06965). A stage does its tasks one after the other in a fixed order, and the links to its
neighbours pass one micro-batch after the other each way while it works on. How long tasks are is
found in timing.py.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Schedule = Literal["1f1b", "gpipe"]


@dataclass(frozen=True)
class Pipeline:
    """Seconds that one micro-batch takes in every part of a model: (stages, chunks) arrays.

    Chunk c of stage s is part c * stages + s of the model.
    """

    forward_s: Floats
    backward_s: Floats
    """Zeros for inference, which has no backward tasks."""
    passing_s: Floats
    """From a part to the next one; of the last part it means nothing."""
    returning_s: Floats
    """From the next part back to a part; of the last part it means nothing."""
    microbatches: int

    @property
    def trains(self) -> bool:
        return bool(self.backward_s.any())


@dataclass(frozen=True)
class Tasks:
    """The order of work: (stages, tasks of a stage) arrays, each stage's tasks as it does them."""

    chunk: Integers
    microbatch: Integers
    backward: Booleans

    def most_saved(self, saved: Floats) -> Floats:
        """The most that a stage keeps for backward passes at a time: (stages,).

        `saved`: (stages, chunks), what the forward pass of one micro-batch leaves in each part. It
        is there when that pass begins and until the backward pass has ended.
        """
        each = saved[np.arange(len(saved))[:, None], self.chunk]
        begun = np.cumsum(np.where(self.backward, 0.0, each), axis=1)
        ended = np.cumsum(np.where(self.backward, each, 0.0), axis=1)
        return (begun - _shifted(ended, 0)).max(axis=1)


@dataclass(frozen=True)
class Timeline:
    """When each task of a pipeline runs; arrays as in `tasks`: (stages, tasks of a stage)."""

    tasks: Tasks
    starts_s: Floats
    ends_s: Floats

    @cached_property
    def makespan_s(self) -> float:
        return float(self.ends_s[:, -1].max())

    @cached_property
    def in_flight(self) -> Integers:
        """Passes that wait in each stage for their backward pass at the most, each of one
        micro-batch through one part: (stages,); none in inference."""
        if not self.tasks.backward.any():
            return np.zeros(len(self.starts_s), np.int64)
        ones = np.ones((len(self.starts_s), int(self.tasks.chunk.max()) + 1))
        return self.tasks.most_saved(ones).astype(np.int64)


def timeline(pipeline: Pipeline, schedule: Schedule = "1f1b") -> Timeline:
    """Every task as early as its stage and what it reads allow.

    Raises ValueError for chunks that the schedule cannot interleave.
    """
    stages, chunks = pipeline.forward_s.shape
    waves = _waves(stages, chunks, pipeline.microbatches, pipeline.trains, schedule)
    lasting = waves.of_tasks(pipeline.forward_s, pipeline.backward_s)
    sending = waves.of_tasks(*_sending(pipeline))
    starts, ends, arrivals = np.zeros((3, len(lasting) + 1))
    for first, last in pairwise(waves.marks):
        ready = arrivals[waves.source[first:last]]
        start = np.maximum(ends[waves.before[first:last]], ready, out=starts[first:last])
        end = np.add(start, lasting[first:last], out=ends[first:last])
        free = np.maximum(end, arrivals[waves.sent_before[first:last]])
        np.add(free, sending[first:last], out=arrivals[first:last])
    return Timeline(waves.tasks, starts[waves.of_task], ends[waves.of_task])


def _sending(pipeline: Pipeline) -> tuple[Floats, Floats]:
    """Seconds to send what a part makes to where it is read, forward and backward."""
    forward, backward = pipeline.passing_s.copy(), np.zeros_like(pipeline.returning_s)
    forward[-1, -1] = 0.0
    backward.T.flat[1:] = pipeline.returning_s.T.flat[:-1]
    return forward, backward


@dataclass(frozen=True)
class _Waves:
    """Tasks sorted into waves: none waits for one of its own or a later wave.

    Arrays over the sorted tasks point to other tasks, or, past the last one, to none.
    """

    tasks: Tasks
    marks: list[int]
    """Where each wave begins, and where the last one ends."""
    of_task: Integers
    """(stages, tasks of a stage): where each task went."""
    before: Integers
    """What its stage does before it."""
    source: Integers
    """What sends it what it reads, where that is of another part."""
    sent_before: Integers
    """What its stage sends the same way before it."""

    def of_tasks(self, forward: Floats, backward: Floats) -> Floats:
        """Figures of parts, (stages, chunks) each way, for every sorted task."""
        tasks, stage = self.tasks, np.arange(len(forward))[:, None]
        found = np.where(tasks.backward, backward[stage, tasks.chunk], forward[stage, tasks.chunk])
        ordered = np.empty(found.size)
        ordered[self.of_task] = found
        return ordered


@lru_cache(maxsize=8)
def _waves(stages: int, chunks: int, microbatches: int, trains: bool, schedule: Schedule) -> _Waves:
    """What a schedule fixes before any time is known."""
    tasks, wave = _tasks(stages, chunks, microbatches, trains, schedule)
    ordered = np.argsort(wave, axis=None, kind="stable")
    none = len(ordered)
    of_task = np.empty(none, np.int64)
    of_task[ordered] = np.arange(none)
    of_task = of_task.reshape(wave.shape)
    way, part = tasks.backward.astype(int), tasks.chunk * stages + np.arange(stages)[:, None]
    makers = np.full((2, stages * chunks + 2, microbatches), none)
    makers[way, part + 1, tasks.microbatch] = of_task
    source = makers[way, np.where(tasks.backward, part + 2, part), tasks.microbatch]
    sent_before = np.empty_like(of_task)
    for same in (~tasks.backward, tasks.backward):
        sent_before[same] = _shifted(of_task[same].reshape(stages, -1), none).ravel()
    steps = np.diff(wave.ravel()[ordered])
    return _Waves(
        tasks=tasks,
        marks=[0, *(np.flatnonzero(steps) + 1).tolist(), none],
        of_task=of_task,
        before=_shifted(of_task, none).ravel()[ordered],
        source=source.ravel()[ordered],
        sent_before=sent_before.ravel()[ordered],
    )


def _shifted(rows: NDArray, first: int) -> NDArray:
    """Every row one place later, behind `first`."""
    return np.pad(rows, ((0, 0), (1, 0)), constant_values=first)[:, :-1]


def _tasks(
    stages: int, chunks: int, microbatches: int, trains: bool, schedule: Schedule
) -> tuple[Tasks, Integers]:
    """The tasks of every stage in order, and the wave of each.

    All stages number their forward tasks alike, and their backward tasks. Task k forward is in
    wave 2 k + slope * stage, and task k backward right behind the forward task that is as many
    further as the stage's warm-up has: then what a task reads is always of an earlier wave.
    """
    number, chunk, microbatch = _round(stages, chunks, microbatches)
    slope = 2 if chunks > 1 else 1
    wave = 2 * number + slope * np.arange(stages)[:, None]
    backward = np.zeros(wave.shape, bool)
    chunk, microbatch = (np.broadcast_to(each, wave.shape) for each in (chunk, microbatch))
    if trains:
        warm_up = _warm_up(stages, chunks, microbatches, schedule)[:, None]
        wave = np.hstack([wave, wave + 2 * warm_up + 1])
        backward = np.hstack([backward, ~backward])
        chunk = np.hstack([chunk, chunks - 1 - chunk])
        microbatch = np.hstack([microbatch, microbatch])
    order = np.argsort(wave, axis=1)
    chunk, microbatch, backward, wave = (
        np.take_along_axis(each, order, axis=1) for each in (chunk, microbatch, backward, wave)
    )
    return Tasks(chunk, microbatch, backward), wave


def _round(stages: int, chunks: int, microbatches: int) -> tuple[Integers, Integers, Integers]:
    """Number, chunk and micro-batch of every forward task. As many micro-batches as there are
    stages go through the first chunk, then through the next; numbers leave room for those that the
    last such group lacks."""
    if chunks == 1:
        number = np.arange(microbatches)
        return number, np.zeros_like(number), number
    groups = -(-microbatches // stages)
    group, chunk, place = np.indices((groups, chunks, stages)).reshape(3, -1)
    microbatch = group * stages + place
    number = np.flatnonzero(microbatch < microbatches)
    return number, chunk[number], microbatch[number]


def _warm_up(stages: int, chunks: int, microbatches: int, schedule: Schedule) -> Integers:
    """Forward tasks of each stage, were there enough, before it does one forward and one backward
    in turn: (stages,).

    Raises ValueError for chunks that cannot be interleaved, as Megatron-LM refuses them.
    """
    behind = stages - 1 - np.arange(stages)
    if schedule == "gpipe":
        if chunks > 1:
            raise ValueError("GPipe does not interleave chunks")
        return microbatches + behind
    if chunks == 1:
        return behind
    if microbatches % stages:
        raise ValueError(
            f"{microbatches} micro-batches cannot be interleaved on {stages} stages: expected a "
            "multiple of the stages"
        )
    return 2 * behind + (chunks - 1) * stages


def in_flight(stages: int, chunks: int, microbatches: int, schedule: Schedule = "1f1b") -> Integers:
    """Passes that wait in each stage for their backward pass at the most, each of one micro-batch
    through one part: (stages,). Raises ValueError as `timeline` does."""
    warm_up = _warm_up(stages, chunks, microbatches, schedule)
    return np.minimum(warm_up + 1, microbatches * chunks)
