"""A mapped program becomes a result, at any fidelity.

How long a step takes is in timing.py; here that becomes energy, power, the use of links, and what
stands out. `bound` takes each graph's lower bound and hand-overs at zero load; `fluid` runs graphs
and hand-overs with everything that shares links; `flit` does so with phases of the network
simulated cycle by cycle (flit_network.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ..ir.floor import floor_of
from ..ir.graph import Op
from ..ir.program import Program
from ..ir.result import (
    FIDELITIES,
    FLIT_BUDGET_S,
    Bottleneck,
    Fidelity,
    NocFigures,
    OperatorFigures,
    Result,
)
from . import figures
from .energy import hop_energy_j_per_word, op_energy_j
from .fluid import GraphRun
from .off_wafer import stream_energy_j
from .physics.cost import economics
from .physics.power import COMPONENTS, power, regulator_loss, standby
from .timing import Timing, add
from .workload import PieceCosts


def evaluate(
    program: Program, fidelity: Fidelity = "fluid", flit_budget_s: float = FLIT_BUDGET_S
) -> Result:
    """Latency, throughput, energy, power, memory and network use of one step.

    Raises ValueError for a fidelity that does not exist, UserError where `flit` would take longer
    than its budget.
    """
    if fidelity not in FIDELITIES:
        raise ValueError(f"no fidelity {fidelity!r}")
    return Evaluation(program, fidelity, flit_budget_s).result()


@dataclass(frozen=True)
class Evaluation:
    """Everything that is computed of a program on the way to its result."""

    program: Program
    fidelity: Fidelity
    flit_budget_s: float = FLIT_BUDGET_S

    @cached_property
    def timing(self) -> Timing:
        if self.fidelity != "flit" or not self._routed:
            return Timing(self.program, self.fidelity)
        from .flit_network import FlitNetwork

        network = FlitNetwork.of(self.program.hardware)
        Timing(self.program, self.fidelity, network=network).ask()
        network.simulate(self.flit_budget_s)
        return Timing(self.program, self.fidelity, network=network)

    @property
    def _routed(self) -> bool:
        """Whether cores send packets through routers."""
        hardware = self.program.hardware
        return hardware.core.router.kind == "wormhole" and not floor_of(hardware).switched

    @property
    def limits(self) -> tuple[str, ...]:
        """What this fidelity leaves out or assumes, in words."""
        if self.fidelity != "flit":
            return figures.LIMITS[self.fidelity]
        if self.timing.network is not None:
            return (*figures.LIMITS["fluid"], *self.timing.network.notes)
        what = "static circuits follow closed forms, at flit as at fluid"
        if floor_of(self.program.hardware).switched:
            what = "switches and adapters follow closed forms, at flit as at fluid"
        return (*figures.LIMITS["fluid"], f"network: {what}")

    @property
    def pieces(self) -> Mapping[str, PieceCosts]:
        return self.timing.pieces

    @property
    def runs(self) -> dict[str, GraphRun]:
        return self.timing.runs

    @property
    def latency_s(self) -> float:
        return self.timing.latency_s

    @cached_property
    def _summed_times(self) -> float:
        """How often a replica gives away and gathers its gradients in a step: once whole, or half
        of that for every micro-batch and pass over what replicas divide among them."""
        microbatches = self.program.microbatches
        if self.program.mapping.streaming:
            return microbatches / 2
        return {2: (microbatches + 1) / 2, 3: 1.5 * microbatches}.get(self.program.mapping.zero, 1)

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
                    add(total, op, replicas * self.timing.times(call))
        passed, summed = self.timing.handovers, self.timing.gradient_sums
        for name, joules in hop_energy_j_per_word(hardware).items():
            total[name] += repeats * joules * sum(h.word_hops for h in passed)
            words = self._summed_times * sum(each.word_hops for each in summed)
            total[name] += replicas * joules * words
        total["io"] += repeats * sum(h.link_energy_j for h in passed)
        total["io"] += self._summed_times * sum(each.link_energy_j for each in summed)
        if self.program.mapping.streaming:
            total["io"] += self._streamed_j
        if self.timing.in_dram is not None:
            add(total, self.timing.in_dram.step_energy_j(self.timing.times))
        total["regulator_loss"] = sum(total.values()) * regulator_loss(hardware.wafer)
        for name, watts in self.standby_w.items():
            total[name] += watts * self.latency_s
        return total

    @cached_property
    def _streamed_j(self) -> float:
        """Of weights and gradients on their way onto all wafers and off them."""
        program = self.program
        calls = [call for stage in program.stages for call in stage.calls]
        return sum(
            self.timing.times(call)
            * stream_energy_j(program, self.pieces[call.text("body")].mapped.graph)
            for call in calls
            if program.way(call) != "update"
        )

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
        if self.timing.in_dram is not None:
            seconds = {name: run.cycles / clock for name, run in self.runs.items()}
            busy += self.timing.in_dram.most_w(seconds) * active * supplied
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
                piece, count = self.pieces[call.text("body")], self.timing.times(call)
                links = piece.bound.busy
                busy += count * max(float(links["columns"]), float(links["rows"]))
                words += count * sum(float(cost.word_hops) for cost in piece.costs)
                sends = sum(float(cost.network_cycles) > 0 for cost in piece.costs)
                messages += call.integer("count") * sends
            busiest = max(busiest, busy)
        passed, summed = self.timing.handovers, self.timing.gradient_sums
        words += program.microbatches * sum(handover.word_hops for handover in passed)
        words += self._summed_times * sum(each.word_hops for each in summed)
        rows, columns = wafer.usable_rows, wafer.usable_columns
        links = 2 * (rows * (columns - 1) + columns * (rows - 1))
        return NocFigures(
            max_link_utilization=busiest / cycles,
            mean_link_utilization=words * program.mapping.dp / (max(links, 1) * cycles),
            flows=messages * program.mesh.devices * program.mapping.dp
            + sum(each.flows for each in (*passed, *summed)),
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
        found = dict.fromkeys(c.text("body") for c in same if self.program.way(c) != "update")
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
        breakdown = self.timing.breakdown
        part = max(breakdown, key=lambda name: breakdown[name])
        if part == "memory_s":
            of_time = breakdown[part] / self.latency_s
            return Bottleneck(kinds[part], self.timing.memory, of_time)
        if part == "gradients_s":
            of_time = breakdown[part] / self.latency_s
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
        return Bottleneck(kinds[part], where, breakdown[part] / self.latency_s)

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
            breakdown=self.timing.breakdown,
            energy=energy,
            bottleneck=self.bottleneck,
            memory=figures.memory_figures(program),
            noc=self.noc,
            cycles_per_layer=sum(self.runs[name].cycles for name in self.layer),
            operators=self.operators,
            tried=figures.tried_figures(program),
            dropped=program.dropped,
            limits=self.limits,
            cost_usd=money.cost_usd,
            usd_per_million_tokens=money.usd_per_million_tokens,
        )


def _layers(call: Op) -> tuple[int, int]:
    return call.integer("first"), call.integer("count")
