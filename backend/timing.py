"""What each stage takes of a step, and how long the pipeline of all of them is.

A micro-batch goes through the stages forward and, in training, backward; every stage runs its
micro-batches in the order of schedule.py. Gradients are summed over the replicas and the optimizer
runs behind them all. Where there is one stage, the sum runs behind the last backward pass, as the
gradients of layers come out of it; a pipeline sums when its stages are done.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..ir.graph import Op
from ..ir.program import Program, Visit, Way
from ..ir.result import Fidelity
from .exchange import places_of
from .fluid import GraphRun, bounded_run, graph_run
from .handover import Handover, handovers
from .in_dram import InDram, uses_dram
from .off_wafer import unhidden_s, waiting_s
from .replicas import GradientSum, gradient_sum
from .schedule import Pipeline, Timeline, timeline
from .workload import PieceCosts, pieces_of

if TYPE_CHECKING:
    from .flit_network import FlitNetwork

Breakdown = dict[str, float]
COMPONENTS: tuple[str, ...] = ("compute_s", "software_s", "noc_s", "memory_s")


@dataclass(frozen=True)
class Timing:
    """The times of a program at a fidelity."""

    program: Program
    fidelity: Fidelity
    known: Mapping[str, PieceCosts] | None = None
    network: "FlitNetwork | None" = None
    """That is asked how long phases of the network take, in place of closed forms and `fluid`."""

    @cached_property
    def pieces(self) -> Mapping[str, PieceCosts]:
        program = self.program
        streaming = program.mapping.streaming and program.workload.phase == "train"
        return self.known or pieces_of(
            program.hardware, program.graphs, program.mesh.sizes, streaming, places_of(program)
        )

    @cached_property
    def runs(self) -> dict[str, GraphRun]:
        """A run of every graph that a stage calls."""
        used = {call.text("body") for stage in self.program.stages for call in stage.calls}
        return {name: self._run(self.pieces[name]) for name in sorted(used)}

    def _run(self, piece: PieceCosts) -> GraphRun:
        if self.fidelity == "bound":
            return bounded_run(piece.mapped, piece.costs, piece.bound)
        if self.network is None:
            return graph_run(piece.mapped, piece.costs)
        from .flit_costs import SimulatedCosting

        return graph_run(piece.mapped, SimulatedCosting.of(piece, self.network).costs())

    @cached_property
    def handovers(self) -> list[Handover]:
        contended = self.fidelity != "bound" and self.program.microbatches > 1
        return handovers(self.program, self.pieces, contended, self.network)

    @cached_property
    def gradient_sums(self) -> list[GradientSum]:
        """What it takes to sum every stage's gradients over the replicas once."""
        program = self.program
        made = [
            [
                (call.integer("count"), self.pieces[call.text("body")].memory)
                for call in (stage.calls if program.workload.phase == "train" else ())
            ]
            for stage in program.stages
        ]
        return [
            gradient_sum(
                program,
                stage.places,
                sum(count * float(memory.gradients) for count, memory in own),
                program.workload.dtype,
                contended=self.fidelity != "bound",
                network=self.network,
                of_experts=sum(count * float(memory.expert_gradients) for count, memory in own),
            )
            for stage, own in zip(program.stages, made, strict=True)
        ]

    def ask(self) -> None:
        """Ask the network for every phase, before it can answer."""
        _ = self.runs, self.handovers, self.gradient_sums

    def times(self, call: Op) -> int:
        """How often one replica runs a call's graph in a step."""
        once = self.program.way(call) == "update"
        return (1 if once else self.program.microbatches) * call.integer("count")

    @cached_property
    def in_dram(self) -> InDram | None:
        """What lies in DRAM, if anything does."""
        return InDram(self.program, self.pieces) if uses_dram(self.program) else None

    @property
    def memory(self) -> str:
        """The memory that a step waits for, in words."""
        if self.in_dram is not None:
            return self.in_dram.dram.where
        return f"streamed weights through the ports of {self.program.hardware.wafer.name}"

    # Visits.

    def _visit(self, visit: Visit) -> Breakdown:
        """Exposed seconds of one micro-batch in a visit of a stage, or of its optimizer."""
        total = dict.fromkeys(COMPONENTS, 0.0)
        for call in visit.calls:
            add(total, self.call_parts(visit.stage, call))
        self._wait_for_replicas(visit, total)
        return total

    def call_parts(self, stage: int, call: Op) -> Breakdown:
        """Seconds of a call, by component; of `memory_s` what it waits for streamed weights, or for
        what lies in DRAM."""
        clock = self.program.hardware.core.clock_hz
        piece, run = self.pieces[call.text("body")], self.runs[call.text("body")]
        count = call.integer("count")
        share = 1.0
        if self.program.way(call) == "update":
            if self.program.mapping.streaming:
                return {}
            share = 1.0 / (self.program.mapping.dp if self.program.mapping.zero else 1)
        found = {
            "compute_s": share * count / clock * sum(span.compute for span in run.spans),
            "software_s": count / clock * sum(span.software for span in run.spans),
            "noc_s": share * count / clock * sum(span.network for span in run.spans),
        }
        if self.program.mapping.streaming:
            waiting = waiting_s(self.program, piece.mapped.graph, run.cycles / clock)
            found["memory_s"] = count * waiting
        elif self.in_dram is not None:
            moving = count * self.in_dram.run_s(stage, call)
            found["memory_s"] = max(0.0, moving - sum(found.values()))
        return found

    def _wait_for_replicas(self, visit: Visit, total: Breakdown) -> None:
        """Add what is not hidden of gathering divided weights and of giving away gradients."""
        zero, halves = self.program.mapping.zero, 0
        if self.program.mapping.streaming:
            halves = visit.way == "backward"
        elif visit.way == "backward":
            halves = (zero >= 2) + (zero >= 3)
        elif visit.way == "forward":
            halves = zero >= 3
        if halves:
            chunks = self.program.mapping.interleave
            each = halves * self.gradient_sums[visit.stage].seconds / 2 / chunks
            total["noc_s"] += max(0.0, each - sum(total.values()))

    @cached_property
    def _visits(self) -> list[tuple[Visit, Breakdown]]:
        return [(visit, self._visit(visit)) for visit in self.program.visits]

    def _stage(self, at: int, *ways: Way) -> Breakdown:
        total = dict.fromkeys(COMPONENTS, 0.0)
        for visit, parts in self._visits:
            if visit.stage == at and visit.way in ways:
                add(total, parts)
        return total

    @cached_property
    def stage_breakdowns(self) -> list[Breakdown]:
        """Exposed seconds of one micro-batch in every stage, both ways."""
        stages = range(len(self.program.stages))
        return [self._stage(at, "forward", "backward") for at in stages]

    @cached_property
    def update_breakdown(self) -> Breakdown:
        """Of the stage whose optimizer takes longest."""
        each = (self._stage(at, "update") for at in range(len(self.program.stages)))
        return max(each, key=lambda parts: sum(parts.values()))

    # The pipeline.

    @cached_property
    def pipeline(self) -> Pipeline:
        """Seconds of every part of the model, and of passing from each to the next."""
        stages, chunks = len(self.program.stages), self.program.mapping.interleave
        shape = (stages, chunks)
        spent: dict[Way, np.ndarray] = {"forward": np.zeros(shape), "backward": np.zeros(shape)}
        seen = dict.fromkeys([(at, way) for at in range(stages) for way in spent], 0)
        for visit, parts in self._visits:
            if visit.way in spent:
                at = min(seen[visit.stage, visit.way], chunks - 1)
                seen[visit.stage, visit.way] += 1
                chunk = at if visit.way == "forward" else chunks - 1 - at
                spent[visit.way][visit.stage, chunk] += sum(parts.values())
        passing, returning = np.zeros(shape), np.zeros(shape)
        for handover in self.handovers:
            if handover.way == "forward":
                passing[handover.source] = handover.seconds
            else:
                returning[handover.target] = handover.seconds
        return Pipeline(
            spent["forward"], spent["backward"], passing, returning, self.program.microbatches
        )

    @cached_property
    def timeline(self) -> Timeline:
        """Every stage's work on every micro-batch."""
        return timeline(self.pipeline)

    @cached_property
    def _paces(self) -> list[Breakdown]:
        """What every stage and every link between two of them needs for one micro-batch."""
        passing = [
            {
                "compute_s": 0.0,
                "software_s": h.crossings * h.software_s,
                "noc_s": h.crossings * (h.seconds - h.software_s),
            }
            for h in self.handovers
        ]
        return [*self.stage_breakdowns, *passing]

    @cached_property
    def breakdown(self) -> Breakdown:
        """Exposed seconds of the step; they sum to its latency.

        With several micro-batches the slowest stage works on all of them; what it waits for the
        first to arrive and the last to leave is the bubble.
        """
        chain = dict.fromkeys(COMPONENTS, 0.0)
        for stage in self.stage_breakdowns:
            add(chain, stage)
        for handover in self.handovers:
            add(chain, {"software_s": handover.software_s}, handover.crossings)
            add(chain, {"noc_s": handover.seconds - handover.software_s}, handover.crossings)
        microbatches = self.program.microbatches
        total, bubble = chain, 0.0
        if microbatches > 1:
            pace = max(self._paces, key=lambda parts: sum(parts.values()))
            total = dict.fromkeys(COMPONENTS, 0.0)
            add(total, pace, microbatches)
            longest = self.timeline.makespan_s
            bubble = max(0.0, longest - sum(total.values()))
        add(total, self.update_breakdown)
        add(total, {"memory_s": self.first_s})
        gradients = max((self._exposed(at) for at in range(len(self.gradient_sums))), default=0.0)
        return total | {"bubble_s": bubble} | ({"gradients_s": gradients} if gradients else {})

    @cached_property
    def first_s(self) -> float:
        """Seconds of the first weights on their way from another memory, which nothing hides; where
        gradients go back there, of the last ones too."""
        if self.program.mapping.streaming:
            return unhidden_s(self.program)
        return 0.0 if self.in_dram is None else self.in_dram.first_s

    def _exposed(self, at: int) -> float:
        """Seconds that summing a stage's gradients adds to the step."""
        program, seconds = self.program, self.gradient_sums[at].seconds
        if program.mapping.streaming:
            return 0.0
        match program.mapping.zero:
            case 3:
                return 0.0
            case 2:
                return seconds / 2
            case _ if len(program.stages) > 1:
                return seconds
            case _:
                return max(0.0, seconds - sum(self._stage(at, "backward").values()))

    @cached_property
    def latency_s(self) -> float:
        return sum(self.breakdown.values())


def add(total: Breakdown, more: Mapping[str, float], times: float = 1.0) -> None:
    """Add some parts to a sum of parts."""
    for name, value in more.items():
        total[name] = total.get(name, 0.0) + times * value
