"""What a program's weights and caches in DRAM cost it: time that nothing hides, energy, and room.

Where they lie is the strategy's choice (`Strategy.weights`, `Strategy.cache`). How fast the memory
is, is in dram.py.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from ..ir.dims import size
from ..ir.graph import Op
from ..ir.hardware import Hardware
from ..ir.program import Program, Stage
from ..ir.result import Infeasibility
from .dram import Dram, Use, dram_of, first_pieces, first_s, moving_s
from .energy import hop_energy_j_per_word
from .extents import Number
from .memory import held_elsewhere
from .off_wafer import stages_of_a_wafer
from .workload import PieceCosts

GIB = 1 << 30


def uses_dram(program: Program) -> bool:
    """Whether anything of a program lies in DRAM."""
    return "dram" in (program.mapping.weights, program.mapping.cache)


@dataclass(frozen=True)
class InDram:
    """A program of which something lies in DRAM, and what its graphs ask for."""

    program: Program
    pieces: Mapping[str, PieceCosts]

    @cached_property
    def dram(self) -> Dram:
        found = dram_of(self.program.hardware)
        assert found is not None
        return found

    def run_s(self, stage: int, call: Op) -> float:
        """Seconds in which the memory serves one run of a call's graph. Of the optimizer replicas
        do their shares; those of a wafer read what lies at its edges once between them."""
        piece = self.pieces[call.text("body")]
        use, updates = self._use(stage), self.program.way(call) == "update"
        if updates:
            use = replace(use, sharing=stages_of_a_wafer(self.program))
        seconds = moving_s(self.dram, piece.moved, piece.moved_whole, use, self._into)
        if updates and self.program.mapping.zero:
            apart = 1 if self.dram.on_die else float(use.copies)
            seconds = seconds * min(1.0, apart / self.program.mapping.dp)
        return float(seconds)

    @cached_property
    def _into(self) -> Number:
        return self.dram.into(*self.program.mapping.region)

    def _use(self, stage: int) -> Use:
        program, mapping = self.program, self.program.mapping
        parts = tuple(mapping.dp if mapping.zero >= zero else 1 for zero in (3, 2))
        return Use(
            weights=int(mapping.weights == "dram"),
            cache=int(mapping.cache == "dram"),
            microbatches=program.microbatches,
            parts=(parts[0], parts[1]) if self.dram.on_die else (1, 1),
            copies=most_on_a_wafer(program, program.stages[stage]),
            sharing=min(stages_of_a_wafer(program), program.microbatches),
        )

    @cached_property
    def first_s(self) -> float:
        """Seconds until the first piece that a step asks for is there."""
        calls = (call for visit in self.program.visits for call in visit.calls)
        memories = (self.pieces[call.text("body")].memory for call in calls)
        weights, cache = first_pieces(memories)
        piece = weights if self.program.mapping.weights == "dram" else cache
        return float(first_s(self.dram, piece, self.program.mesh.devices))

    def most_w(self, seconds: Mapping[str, float]) -> float:
        """Watts of moving what the hungriest graph asks for, of all replicas of one stage; graphs
        take some seconds by themselves."""
        most = 0.0
        for at, stage in enumerate(self.program.stages):
            for call in stage.calls:
                taken = max(seconds[call.text("body")], self.run_s(at, call))
                if taken > 0:
                    most = max(most, sum(self._run_energy_j(at, call).values()) / taken)
        return most

    def step_energy_j(self, times: Callable[[Op], int]) -> dict[str, float]:
        """Joules of a step, by component; `times` is how often a replica runs a call."""
        total: dict[str, float] = {}
        for at, stage in enumerate(self.program.stages):
            for call in stage.calls:
                for name, joules in self._run_energy_j(at, call).items():
                    total[name] = total.get(name, 0.0) + times(call) * joules
        return total

    def _run_energy_j(self, stage: int, call: Op) -> dict[str, float]:
        """Joules of what one run of a call's graph moves, of all replicas: in the memory, through
        ports, along the network, and into or out of SRAM."""
        program, dram = self.program, self.dram
        piece, use = self.pieces[call.text("body")], self._use(stage)
        replicas, devices = program.mapping.dp, program.mesh.devices
        into = sum(float(way) for way in use.bytes_of(piece.moved)) * devices * replicas
        read = into
        if not dram.on_die:
            wafers = -(-replicas // int(use.copies))
            whole = use.bytes_of(piece.moved_whole, use.copies)
            read = sum(float(way) for way in whole) * wafers
        if program.way(call) == "update" and program.mapping.zero:
            into, read = into / replicas, read / (replicas if dram.on_die else 1)
        technology = program.hardware.core.technology
        found = {
            "memory": read * dram.energy_j_per_byte,
            "io": read * dram.port_energy_j_per_byte,
            "sram": into * technology.sram_write_energy_j_per_byte,
        }
        words = into * self._hops(stage) / program.hardware.core.router.width_bytes
        for name, joules in hop_energy_j_per_word(program.hardware).items():
            found[name] = joules * words
        return found

    def _hops(self, stage: int) -> float:
        """Of a byte on its way between the memory and a core of a stage, on average."""
        wafer, places = self.program.hardware.wafer, self.program.stages[stage].places
        centres = [place.centre for place in places]
        if not centres:
            centres = [(wafer.usable_rows / 2, wafer.usable_columns / 2)]
        return sum(self.dram.hops(wafer, *centre) for centre in centres) / len(centres)


def most_on_a_wafer(program: Program, stage: Stage) -> int:
    """Replicas of a stage that lie on one wafer, at most."""
    on = Counter(place.island for place in stage.places)
    return max(on.values(), default=-(-program.mapping.dp // program.hardware.wafers))


# Room.


def dram_bytes(program: Program) -> int:
    """Bytes of a program in all DRAM of the system."""
    dram = dram_of(program.hardware)
    if program.hardware.core.multiprocessors is not None:
        held = sum(stage.memory.total_bytes for stage in program.stages if stage.memory is not None)
        return held * program.mesh.devices * program.mapping.dp
    if dram is None or not uses_dram(program):
        return 0
    if not dram.on_die:
        return sum(_at_edges(program).values())
    held = sum(stage.memory.dram_bytes for stage in program.stages if stage.memory is not None)
    return held * program.mesh.devices * program.mapping.dp


def weight_copies(program: Program) -> int:
    """How often the system holds each weight: once a replica, but at the edges of a wafer once for
    all replicas there."""
    dram, replicas = dram_of(program.hardware), program.mapping.dp
    if dram is None or dram.on_die or program.mapping.weights != "dram":
        return replicas
    return max(-(-replicas // most_on_a_wafer(program, stage)) for stage in program.stages)


def dram_capacity_bytes(hardware: Hardware) -> float:
    """Bytes of all DRAM of a system that weights and caches may lie in."""
    if hardware.core.multiprocessors is not None:
        return hardware.dies * hardware.core_bytes
    dram = dram_of(hardware)
    if dram is None:
        return 0.0
    return (hardware.dies if dram.on_die else hardware.wafers) * dram.capacity_bytes


def short_dram(program: Program) -> Iterator[Infeasibility]:
    """The DRAM that is too small for what a program puts there, if it is."""
    dram = dram_of(program.hardware)
    placed = all(stage.places for stage in program.stages)
    if dram is None or not uses_dram(program) or not (dram.on_die or placed):
        return
    if dram.on_die:
        each = [stage.memory.dram_bytes for stage in program.stages if stage.memory is not None]
        at = max(range(len(each)), key=lambda at: each[at])
        demand, under = each[at] * dram.cores, f"under stage {at}"
        change = f"{-(-demand // GIB)} GiB of {dram.name} on each die"
    else:
        held = _at_edges(program)
        island = max(held, key=lambda island: held[island])
        demand, under = held[island], f"{island}" if program.hardware.wafers > 1 else ""
        change = f"{-(-demand // GIB)} GiB of {dram.name} at each wafer"
    limit = int(dram.capacity_bytes)
    if demand > limit:
        where = f"{dram.where} {under}".strip() + f" ({_contents(program)})"
        others = "more wafers, or a smaller model or context"
        changes = (change, others)
        yield Infeasibility("memory", where, demand, limit, demand - limit, "B", changes)


def _contents(program: Program) -> str:
    """What lies in DRAM, in words."""
    weights = "weights"
    if program.workload.phase == "train":
        weights = "weights, gradients, optimizer states"
    parts = [weights] * (program.mapping.weights == "dram")
    return ", ".join([*parts, *["KV cache"] * (program.mapping.cache == "dram")])


def _at_edges(program: Program) -> dict[int, int]:
    """Bytes at the edges of every wafer: weights and states of its stages once, gradients and
    caches of each of their replicas there."""
    graphs = {name: mapped.graph for name, mapped in program.graphs.items()}
    elsewhere, mapping = held_elsewhere(graphs), program.mapping
    found: Counter[int] = Counter()
    for stage in program.stages:
        common = own = 0
        for call in stage.calls:
            graph, count = graphs[call.text("body")], call.integer("count")
            for value in graph.inputs:
                if value.role in ("weight", "buffer", "state") and mapping.weights == "dram":
                    held = value.name not in elsewhere[graph.name]
                    common += held * count * size(graph.types[value.name].bytes)
            for output in graph.outputs:
                bytes_ = count * size(graph.types[output.name].bytes)
                own += bytes_ * (output.role == "gradient" and mapping.weights == "dram")
                cached = output.role == "cache" and mapping.cache == "dram"
                own += bytes_ * cached * program.microbatches
        on = Counter(place.island for place in stage.places) or Counter({0: mapping.dp})
        for island, replicas in on.items():
            found[island] += common + replicas * own
    return found
