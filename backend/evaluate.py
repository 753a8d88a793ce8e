"""A mapped program becomes a result, at either fidelity.

One micro-batch goes through the stages one after the other; the others follow at the pace of the
slowest, and the optimizer, in training, behind all of them. `bound` takes each graph's lower bound
and hand-overs at zero load; `fluid` runs graphs and hand-overs with everything that shares links.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ..ir.graph import Op
from ..ir.program import Program, Stage
from ..ir.result import Bottleneck, Fidelity, NocFigures, OperatorFigures, Result
from . import figures
from .energy import COMPONENTS, hop_energy_j_per_word, op_energy_j
from .fluid import GraphRun, bounded_run, graph_run
from .handover import Handover, handovers
from .physics.cost import economics
from .physics.power import power, regulator_loss, standby
from .replicas import GradientSum, gradient_sum
from .workload import PieceCosts, pieces_of

Breakdown = dict[str, float]


def evaluate(program: Program, fidelity: Fidelity = "fluid") -> Result:
    """Latency, throughput, energy, power, memory and network use of one step.

    Raises ValueError for a fidelity that does not exist.
    """
    if fidelity not in ("bound", "fluid"):
        raise ValueError(f"no fidelity {fidelity!r}")
    return Evaluation(program, fidelity).result()


@dataclass(frozen=True)
class Evaluation:
    """Everything that is computed of a program on the way to its result."""

    program: Program
    fidelity: Fidelity

    @cached_property
    def pieces(self) -> dict[str, PieceCosts]:
        program = self.program
        return pieces_of(program.hardware, program.graphs, program.mesh.sizes)

    @cached_property
    def runs(self) -> dict[str, GraphRun]:
        """A run of every graph that a stage calls."""
        used = {call.text("body") for stage in self.program.stages for call in stage.calls}
        return {name: self._run(self.pieces[name]) for name in sorted(used)}

    def _run(self, piece: PieceCosts) -> GraphRun:
        if self.fidelity == "bound":
            return bounded_run(piece.mapped, piece.costs, piece.bound)
        return graph_run(piece.mapped, piece.costs)

    @cached_property
    def handovers(self) -> list[Handover]:
        contended = self.fidelity == "fluid" and self.program.microbatches > 1
        return handovers(self.program, self.pieces, contended)

    @cached_property
    def gradient_sums(self) -> list[GradientSum]:
        """What it takes to sum every stage's gradients over the replicas."""
        program = self.program
        return [
            gradient_sum(
                program,
                stage.places,
                sum(
                    call.integer("count") * float(self.pieces[call.text("body")].memory.gradients)
                    for call in stage.calls
                ),
                program.workload.dtype,
                contended=self.fidelity == "fluid",
            )
            for stage in program.stages
        ]

    # Time.

    def _updates(self, call: Op) -> bool:
        """Whether a call is of the optimizer: once a step, not for every micro-batch."""
        return self.program.graphs[call.text("body")].updates

    def _times(self, call: Op) -> int:
        """How often one replica runs a call's graph in a step."""
        often = 1 if self._updates(call) else self.program.microbatches
        return often * call.integer("count")

    def _stage_breakdown(self, stage: Stage, updates: bool) -> Breakdown:
        """Exposed seconds of one micro-batch in a stage, or of its optimizer, by component."""
        clock = self.program.hardware.core.clock_hz
        total = {"compute_s": 0.0, "software_s": 0.0, "noc_s": 0.0}
        for call in stage.calls:
            if self._updates(call) != updates:
                continue
            spans = self.runs[call.text("body")].spans
            count = call.integer("count") / clock
            total["compute_s"] += count * sum(span.compute for span in spans)
            total["software_s"] += count * sum(span.software for span in spans)
            total["noc_s"] += count * sum(span.network for span in spans)
        return total

    @cached_property
    def stage_breakdowns(self) -> list[Breakdown]:
        return [self._stage_breakdown(stage, updates=False) for stage in self.program.stages]

    @cached_property
    def update_breakdown(self) -> Breakdown:
        """Of the stage whose optimizer takes longest."""
        each = (self._stage_breakdown(stage, updates=True) for stage in self.program.stages)
        return max(each, key=lambda parts: sum(parts.values()))

    @cached_property
    def breakdown(self) -> Breakdown:
        """Exposed seconds of the step; they sum to its latency.

        With several micro-batches the slowest stage works on all of them; what it waits for the
        first to arrive and the last to leave is the bubble.
        """
        total = {"compute_s": 0.0, "software_s": 0.0, "noc_s": 0.0}
        for stage in self.stage_breakdowns:
            _add(total, stage)
        for handover in self.handovers:
            total["software_s"] += handover.software_s
            total["noc_s"] += handover.seconds - handover.software_s
        fixed = {"memory_s": 0.0, "bubble_s": 0.0}
        microbatches = self.program.microbatches
        if microbatches > 1:
            chain_s = sum(total.values())
            slowest = max(self._paces, key=lambda pace: sum(pace.values()))
            total = {name: microbatches * seconds for name, seconds in slowest.items()}
            fixed["bubble_s"] = chain_s - sum(slowest.values())
        _add(total, self.update_breakdown)
        summing = max((each.seconds for each in self.gradient_sums), default=0.0)
        return total | fixed | ({"gradients_s": summing} if summing else {})

    @property
    def _paces(self) -> list[Breakdown]:
        """What every stage and hand-over needs for one micro-batch."""
        passing = [
            {"compute_s": 0.0, "software_s": h.software_s, "noc_s": h.seconds - h.software_s}
            for h in self.handovers
        ]
        return [*self.stage_breakdowns, *passing]

    @cached_property
    def latency_s(self) -> float:
        return sum(self.breakdown.values())

    # Energy and power.

    def _graph_energy(self, name: str) -> list[dict[str, float]]:
        """Joules of every operator of one run of a graph on one mesh."""
        hardware, devices = self.program.hardware, self.program.mesh.devices
        return [op_energy_j(hardware, cost, devices) for cost in self.pieces[name].costs]

    @cached_property
    def graph_energies(self) -> dict[str, list[dict[str, float]]]:
        return {name: self._graph_energy(name) for name in self.runs}

    @cached_property
    def energy(self) -> dict[str, float]:
        """Joules of a step on the whole system, by component."""
        hardware = self.program.hardware
        total = dict.fromkeys(COMPONENTS, 0.0)
        replicas = self.program.mapping.dp
        repeats = self.program.microbatches * replicas
        for stage in self.program.stages:
            for call in stage.calls:
                for op in self.graph_energies[call.text("body")]:
                    _add(total, op, replicas * self._times(call))
        for name, joules in hop_energy_j_per_word(hardware).items():
            total[name] += repeats * joules * sum(h.word_hops for h in self.handovers)
            total[name] += replicas * joules * sum(s.word_hops for s in self.gradient_sums)
        total["regulator_loss"] = sum(total.values()) * regulator_loss(hardware.wafer)
        for name, watts in self.standby_w.items():
            total[name] += watts * self.latency_s
        return total

    @cached_property
    def standby_w(self) -> dict[str, float]:
        """Watts of the whole system that run all the time, by component."""
        always = standby(self.program.hardware)
        return {name: float(watts) for name, watts in always.items() if name in COMPONENTS}

    @cached_property
    def peak_power_w(self) -> float:
        """What runs always, and the hungriest operator on as many meshes as work at a time."""
        clock = self.program.hardware.core.clock_hz
        peak = 0.0
        for name, energies in self.graph_energies.items():
            for cost, energy in zip(self.pieces[name].costs, energies, strict=True):
                if float(cost.cycles) > 0:
                    peak = max(peak, sum(energy.values()) * clock / float(cost.cycles))
        active = min(len(self.program.stages), self.program.microbatches)
        supplied = 1.0 + regulator_loss(self.program.hardware.wafer)
        busy = peak * active * self.program.mapping.dp * supplied
        return sum(self.standby_w.values()) + busy

    # Network.

    @cached_property
    def noc(self) -> NocFigures:
        """Use of links over the step: the busiest one, and the mean of all that programs use."""
        program = self.program
        wafer, cycles = program.hardware.wafer, self.latency_s * program.hardware.core.clock_hz
        busiest = words = 0.0
        messages = 0
        for stage in program.stages:
            busy = 0.0
            for call in stage.calls:
                piece, count = self.pieces[call.text("body")], self._times(call)
                links = piece.bound.busy
                busy += count * max(float(links["columns"]), float(links["rows"]))
                words += count * sum(float(cost.word_hops) for cost in piece.costs)
                sends = sum(float(cost.network_cycles) > 0 for cost in piece.costs)
                messages += call.integer("count") * sends
            busiest = max(busiest, busy)
        words += program.microbatches * sum(handover.word_hops for handover in self.handovers)
        words += sum(each.word_hops for each in self.gradient_sums)
        rows, columns = wafer.usable_rows, wafer.usable_columns
        links = 2 * (rows * (columns - 1) + columns * (rows - 1))
        return NocFigures(
            max_link_utilization=busiest / cycles,
            mean_link_utilization=words * program.mapping.dp / (max(links, 1) * cycles),
            flows=messages * program.mesh.devices * program.mapping.dp
            + sum(each.flows for each in (*self.handovers, *self.gradient_sums)),
        )

    # What stands out.

    @cached_property
    def main_call(self) -> Op:
        """The call of the graph that repeats most; what every stage makes anew is no layer."""
        counts: dict[str, int] = {}
        calls = [call for stage in self.program.stages for call in stage.calls]
        calls = [call for call in calls if call.text("body") != figures.SHARED]
        for call in calls:
            counts[call.text("body")] = counts.get(call.text("body"), 0) + call.integer("count")
        most = max(counts, key=lambda name: (counts[name], self.runs[name].cycles))
        return next(call for call in calls if call.text("body") == most)

    @cached_property
    def layer(self) -> tuple[str, ...]:
        """The graphs of one such layer: in training forward and backward."""
        main = self.main_call
        calls = [call for stage in self.program.stages for call in stage.calls]
        same = (c for c in calls if c.integer("count") > 1 and _layers(c) == _layers(main))
        found = dict.fromkeys(c.text("body") for c in same if not self._updates(c))
        return tuple(found) or (main.text("body"),)

    @cached_property
    def operators(self) -> tuple[OperatorFigures, ...]:
        """The operators of the layer that repeats most, the slowest first."""
        rows = [
            row
            for name in self.layer
            for row in zip(
                self.pieces[name].costs,
                self.runs[name].spans,
                self.graph_energies[name],
                strict=True,
            )
        ]
        found = [
            OperatorFigures(
                name=cost.op.result,
                kind=cost.op.kind,
                path=cost.op.path,
                cycles=span.compute + span.software + span.network,
                energy_j=sum(energy.values()),
            )
            for cost, span, energy in rows
        ]
        return tuple(sorted(found, key=lambda op: (-op.cycles, op.name)))

    @cached_property
    def bottleneck(self) -> Bottleneck:
        """The largest part of the latency, and the operator that has most of it."""
        kinds = {"compute_s": "compute", "software_s": "software", "noc_s": "noc"}
        kinds |= {"bubble_s": "pipeline bubble", "memory_s": "memory", "gradients_s": "gradients"}
        part = max(self.breakdown, key=lambda name: self.breakdown[name])
        if part == "gradients_s":
            of_time = self.breakdown[part] / self.latency_s
            return Bottleneck(kinds[part], "all-reduce among replicas", of_time)
        name = self.main_call.text("body")
        fields = {"compute_s": "compute", "software_s": "software"}
        shares = [
            (getattr(span, fields.get(part, "network")), cost.op)
            for cost, span in zip(self.pieces[name].costs, self.runs[name].spans, strict=True)
        ]
        _, op = max(shares, key=lambda share: share[0])
        path = op.path or self._reader(name, op).path
        where = f"{op.kind} of {path}" if path else op.kind
        return Bottleneck(kinds[part], where, self.breakdown[part] / self.latency_s)

    def _reader(self, name: str, op: Op) -> Op:
        """For an operator that no module stands for (a collective) the one that feeds it."""
        producers = self.program.graphs[name].graph.producers
        return producers.get(op.operands[0], op)

    def result(self) -> Result:
        """The result, with every figure of the report."""
        program, latency_s = self.program, self.latency_s
        hardware, workload = program.hardware, program.workload
        tokens = workload.batch * (1 if workload.phase == "decode" else workload.sequence)
        energy = self.energy
        power_w, tokens_per_s = sum(energy.values()) / latency_s, tokens / latency_s
        money = economics(hardware, power_w, tokens_per_s)
        short = figures.infeasibilities(program)
        peak_flops = hardware.peak_flops(workload.dtype)
        return Result(
            fidelity=self.fidelity,
            feasible=not short,
            infeasible=short,
            model=figures.model_figures(program),
            hardware=figures.hardware_figures(program),
            workload=figures.workload_figures(program),
            mapping=figures.mapping_figures(program),
            latency_s=latency_s,
            tokens_per_s=tokens_per_s,
            power_w=power_w,
            power_peak_w=self.peak_power_w,
            power_nameplate_w=float(power(hardware)),
            energy_j=sum(energy.values()),
            mfu=program.flops / (latency_s * peak_flops),
            breakdown=self.breakdown,
            energy=energy,
            bottleneck=self.bottleneck,
            memory=figures.memory_figures(program),
            noc=self.noc,
            cycles_per_layer=sum(self.runs[name].cycles for name in self.layer),
            operators=self.operators,
            tried=figures.tried_figures(program),
            limits=figures.LIMITS[self.fidelity],
            cost_usd=money.cost_usd,
            usd_per_million_tokens=money.usd_per_million_tokens,
        )


def _layers(call: Op) -> tuple[int, int]:
    return call.integer("first"), call.integer("count")


def _add(total: Breakdown, more: Mapping[str, float], times: float = 1.0) -> None:
    for name, value in more.items():
        total[name] += times * value
