"""An evaluation as a trace: who works on what, when, in one step of the first replica.

Every task of every stage is a slice. What a stage does within a task is drawn once for each of its
visits, in its first micro-batch: operators on the cores, messages on the network, what memories
bring. Counters hold the power of all stages and the memory of each stage's fullest core.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..ir.graph import Op
from ..ir.program import CoreMemory, Visit
from ..ir.trace import MEMORY, TASKS, Arrow, Sample, Slice, Trace
from .blocks import MESH_AXES, Blocks, axes_of
from .cost import OpCost
from .evaluate import Evaluation
from .extents import extent
from .fluid import Span
from .off_wafer import stream_s
from .schedule import Timeline

MOST_TASKS = 20_000
CORES, NETWORK, BROUGHT = "cores", "network", "memory"
LINKS, REPLICAS, SYSTEM = "between stages", "between replicas", "system"


def trace(evaluation: Evaluation) -> Trace:
    """The trace of a step. Tasks beyond the first MOST_TASKS are left out, and it says so."""
    tracks = _Tracks(evaluation)
    left_out = tracks.timeline.starts_s.size - len(tracks.shown)
    notes = (f"the last {left_out:,} tasks of stages are not drawn",) if left_out > 0 else ()
    slices = (*tracks.tasks(), *tracks.operators(), *tracks.passing(), *tracks.exposed())
    arrows = tuple(tracks.arrows())
    return Trace(slices, (*tracks.power(), *tracks.memory()), notes, arrows)


@dataclass(frozen=True)
class _Task:
    """A stage's work on one micro-batch in one direction."""

    stage: int
    chunk: int
    microbatch: int
    backward: bool
    start_s: float
    end_s: float


@dataclass(frozen=True)
class _Tracks:
    evaluation: Evaluation

    @property
    def timeline(self) -> Timeline:
        return self.evaluation.timing.timeline

    @cached_property
    def shown(self) -> list[_Task]:
        """The tasks that are drawn, in the order in which they begin."""
        line = self.timeline
        first_s = self.evaluation.timing.first_s
        order = np.argsort(line.starts_s, axis=None, kind="stable")[:MOST_TASKS]
        stages, at = np.unravel_index(order, line.starts_s.shape)
        columns = (
            stages,
            line.tasks.chunk[stages, at],
            line.tasks.microbatch[stages, at],
            line.tasks.backward[stages, at],
            first_s + line.starts_s[stages, at],
            first_s + line.ends_s[stages, at],
        )
        return [_Task(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]

    @property
    def end_s(self) -> float:
        """When the last micro-batch is done with."""
        return self.evaluation.timing.first_s + self.timeline.makespan_s

    @cached_property
    def chunks(self) -> int:
        return self.evaluation.program.mapping.interleave

    @cached_property
    def names(self) -> list[str]:
        """Of the stages, with what each runs."""
        return [
            f"stage {at}: {stage.runs}" for at, stage in enumerate(self.evaluation.program.stages)
        ]

    # Slices.

    def tasks(self) -> Iterator[Slice]:
        """Every task that is drawn."""
        return map(self._task, self.shown)

    def _task(self, task: _Task) -> Slice:
        way = _way(task.backward)
        chunk = f", chunk {task.chunk}" if self.chunks > 1 else ""
        name = f"{way} {task.microbatch}{chunk}"
        details = {"way": way, "micro-batch": task.microbatch, "chunk": task.chunk}
        seconds = task.end_s - task.start_s
        return Slice(self.names[task.stage], TASKS, name, task.start_s, seconds, details)

    def operators(self) -> Iterator[Slice]:
        """What each visit of a stage consists of, in its first micro-batch, and each update."""
        starts = {
            (task.stage, task.backward, task.chunk): task.start_s for task in reversed(self.shown)
        }
        seen: dict[tuple[int, str], int] = {}
        for visit in self.evaluation.program.visits:
            if visit.way == "update":
                start: float | None = self.end_s
            else:
                at = seen.get((visit.stage, visit.way), 0)
                seen[visit.stage, visit.way] = at + 1
                backward = visit.way == "backward"
                chunk = self.chunks - 1 - at if backward else at
                start = starts.get((visit.stage, backward, chunk))
            if start is not None and self.evaluation.fidelity != "bound":
                yield from self._visit(visit, start)

    def _visit(self, visit: Visit, start_s: float) -> Iterator[Slice]:
        """The calls of a visit one after the other; of equal layers the first."""
        group = self.names[visit.stage]
        for call in visit.calls:
            body, count = call.text("body"), call.integer("count")
            parts = self.evaluation.timing.call_parts(visit.stage, call)
            each_s = sum(parts.values()) / count
            if each_s == 0:
                continue
            brought_s = min(self._brought_s(visit.stage, call), each_s)
            if brought_s:
                name = f"{body} from {self.evaluation.timing.memory}"
                yield Slice(group, BROUGHT, name, start_s, brought_s)
            yield from self._graph(group, body, start_s, each_s)
            if count > 1:
                name = f"{body}, {count - 1} more"
                for track in (CORES, BROUGHT) if brought_s else (CORES,):
                    yield Slice(group, track, name, start_s + each_s, (count - 1) * each_s)
            start_s += count * each_s

    def _brought_s(self, stage: int, call: Op) -> float:
        """Seconds in which a memory serves one run of a call's graph."""
        timing, program = self.evaluation.timing, self.evaluation.program
        if program.mapping.streaming:
            return stream_s(program, program.graphs[call.text("body")].graph)
        return timing.in_dram.run_s(stage, call) if timing.in_dram is not None else 0.0

    def _graph(self, group: str, body: str, start_s: float, most_s: float) -> Iterator[Slice]:
        """The operators of a graph, within `most_s`: replicas may share an optimizer's work."""
        timing, run = self.evaluation.timing, self.evaluation.timing.runs[body]
        scale = 1.0 / self.evaluation.program.hardware.core.clock_hz
        scale = min(scale, most_s / max(run.cycles, 1e-30))
        lanes: list[float] = []
        energies = self.evaluation.graph_energies[body]
        blocks = Blocks(timing.pieces[body].mapped, self.evaluation.program.mesh.sizes)
        for cost, span, energy in zip(timing.pieces[body].costs, run.spans, energies, strict=True):
            seconds = (span.end - span.start) * scale
            if seconds <= 0:
                continue
            track, begin_s = CORES, start_s + span.start * scale
            details = self._details(cost, span) | _collective(cost.op, blocks)
            details["energy_j"] = sum(energy.values())
            if float(cost.network_cycles) > 0 and not cost.stepped:
                track = _lane(lanes, begin_s, begin_s + seconds)
            name = cost.op.path.rpartition(".")[2] or cost.op.result
            yield Slice(group, track, f"{cost.op.kind} {name}", begin_s, seconds, details)

    def _details(self, cost: OpCost, span: Span) -> dict[str, str | int | float]:
        """Of an operator: where it stands in the model, its cycles, and what it sends."""
        found: dict[str, str | int | float] = {
            "value": cost.op.result,
            "module": cost.op.path,
            "compute, cycles": span.compute,
            "software, cycles": span.software,
            "network, cycles": span.network,
        }
        width = self.evaluation.program.hardware.core.router.width_bytes
        for axis in ("rows", "columns"):
            sent = float(getattr(cost, f"{axis}_words"))
            if sent:
                found[f"bytes over the busiest link along {axis}"] = sent * width
        return found

    def passing(self) -> Iterator[Slice]:
        """Hidden states on their way between stages."""
        return (passed for _, passed in self._passages)

    @cached_property
    def _passages(self) -> list[tuple[_Task, Slice]]:
        """What is handed over, behind the task that made it."""
        sent = {(h.source, h.way): h for h in self.evaluation.timing.handovers}
        found: list[tuple[_Task, Slice]] = []
        free_s: dict[str, float] = {}
        for task in sorted(self.shown, key=lambda task: task.end_s):
            handover = sent.get((task.stage, _way(task.backward)))
            if handover is None or self._next_part(task) is None:
                continue
            track = f"{_way(task.backward)} from stage {task.stage}"
            start_s = max(task.end_s, free_s.get(track, 0.0))
            free_s[track] = start_s + handover.seconds
            details = {"chunk": task.chunk, "to stage": handover.target}
            name = f"micro-batch {task.microbatch}"
            found.append((task, Slice(LINKS, track, name, start_s, handover.seconds, details)))
        return found

    def _next_part(self, task: _Task) -> tuple[int, int] | None:
        """The stage and the chunk that a micro-batch goes to after a task; None at its end."""
        part = task.chunk * len(self.names) + task.stage + (-1 if task.backward else 1)
        if not 0 <= part < len(self.names) * self.chunks:
            return None
        return part % len(self.names), part // len(self.names)

    def arrows(self) -> Iterator[Arrow]:
        """From a task to what it hands over, and from there to the task that takes it."""
        tasks = {(t.stage, t.chunk, t.microbatch, t.backward): t for t in self.shown}
        for task, passed in self._passages:
            target = self._next_part(task)
            taker = target and tasks.get((*target, task.microbatch, task.backward))
            if taker:
                yield Arrow(passed.name, (self._task(task), passed, self._task(taker)))

    def exposed(self) -> Iterator[Slice]:
        """What nothing hides: before the first micro-batch, and behind the last one."""
        timing = self.evaluation.timing
        if timing.first_s:
            yield Slice(SYSTEM, "memory", "first weights", 0.0, timing.first_s)
        start_s = self.end_s
        update_s = sum(timing.update_breakdown.values())
        for visit in self.evaluation.program.visits:
            if visit.way == "update":
                own = sum(
                    sum(timing.call_parts(visit.stage, call).values()) for call in visit.calls
                )
                if own:
                    yield Slice(self.names[visit.stage], TASKS, "update", start_s, own)
        exposed = timing.breakdown.get("gradients_s", 0.0)
        if exposed:
            yield Slice(
                REPLICAS, "gradients", "sums of gradients, not hidden", start_s + update_s, exposed
            )

    # Counters.

    def power(self) -> Iterator[Sample]:
        """Watts of all replicas: what always runs, and what the stages that work draw."""
        always = sum(self.evaluation.standby_w.values())
        watts = {}
        times, steps = [0.0], [0.0]
        for task in self.shown:
            key = (task.stage, task.backward, task.chunk)
            if key not in watts:
                watts[key] = self._task_j(*key) / max(task.end_s - task.start_s, 1e-30)
            times += [task.start_s, task.end_s]
            steps += [watts[key], -watts[key]]
        at, change = np.array(times), np.array(steps)
        order = np.argsort(at, kind="stable")
        total = always + np.maximum(np.cumsum(change[order]), 0.0)
        last = np.append(np.flatnonzero(np.diff(at[order])), len(order) - 1)
        for moment, power in zip(at[order][last].tolist(), total[last].tolist(), strict=True):
            yield Sample(SYSTEM, "power, W", moment, {"power": power})

    def _task_j(self, stage: int, backward: bool, chunk: int) -> float:
        """Joules of one task on all replicas, as if the chunks of a stage were alike."""
        program = self.evaluation.program
        calls = [
            call
            for visit in program.visits
            if visit.stage == stage and visit.way == _way(backward)
            for call in visit.calls
        ]
        each = (
            call.integer("count") * sum(sum(op.values()) for op in self._energies(call))
            for call in calls
        )
        return program.mapping.dp * sum(each) / self.chunks

    def _energies(self, call: Op) -> list[dict[str, float]]:
        return self.evaluation.graph_energies[call.text("body")]

    def memory(self) -> Iterator[Sample]:
        """Bytes in the fullest core of every stage; what is saved grows and shrinks with the
        passes that wait for their backward pass."""
        waiting = [0] * len(self.names)
        for at, stage in enumerate(self.evaluation.program.stages):
            if stage.memory is not None:
                yield Sample(self.names[at], MEMORY, 0.0, _held(stage.memory, 0.0))
        if self.evaluation.program.workload.phase != "train":
            return
        most = np.maximum(self.timeline.in_flight, 1)
        moments = sorted(
            (task.end_s if task.backward else task.start_s, task.stage, task.backward)
            for task in self.shown
        )
        for moment, at, backward in moments:
            waiting[at] += -1 if backward else 1
            memory = self.evaluation.program.stages[at].memory
            if memory is not None:
                share = waiting[at] / int(most[at])
                yield Sample(self.names[at], MEMORY, moment, _held(memory, share))


def _collective(op: Op, blocks: Blocks) -> dict[str, str | int | float]:
    """Of a collective along axes: what each member gives, and how many links every line has."""
    if "axes" not in op.attributes:
        return {}
    found: dict[str, str | int | float] = {
        "bytes of a member": sum(float(blocks.bytes(name)) for name in op.operands)
    }
    for direction, axes in MESH_AXES.items():
        members = int(extent((axis for axis in axes_of(op) if axis in axes), blocks.sizes))
        if members > 1:
            found[f"members along {direction}"] = members
            found[f"links along {direction}"] = members - 1
    return found


def _way(backward: bool) -> str:
    return "backward" if backward else "forward"


def _held(memory: CoreMemory, share: float) -> dict[str, float]:
    held = {
        "weights": memory.weights_bytes,
        "cache": memory.cache_bytes,
        "activations": memory.activation_bytes,
        "gradients": memory.gradient_bytes,
        "optimizer": memory.optimizer_bytes,
        "saved": share * memory.saved_bytes,
    }
    return {name: float(bytes_) for name, bytes_ in held.items() if bytes_ or name == "saved"}


def _lane(lanes: list[float], start_s: float, end_s: float) -> str:
    """The first network track that is free at a time; messages in flight overlap."""
    for at, free_s in enumerate(lanes):
        if free_s <= start_s:
            lanes[at] = end_s
            return NETWORK if at == 0 else f"{NETWORK} {at + 1}"
    lanes.append(end_s)
    return NETWORK if len(lanes) == 1 else f"{NETWORK} {len(lanes)}"
