"""The parts of a result that need no evaluation: what was mapped, where, and what is short."""

from collections.abc import Iterable, Iterator

from ..ir.dims import size
from ..ir.floor import floor_of
from ..ir.hardware import Hardware
from ..ir.mapped import MappedGraph
from ..ir.program import CoreMemory, Program, Stage
from ..ir.result import (
    Fidelity,
    HardwareFigures,
    Infeasibility,
    MappingFigures,
    MemoryFigures,
    ModelFigures,
    TriedFigures,
    WorkloadFigures,
)
from .in_dram import dram_bytes, dram_capacity_bytes, short_dram, weight_copies
from .memory import held_elsewhere

SHARED = "shared"
"""The graph of the values that all layers read; passes/pieces.py names it."""

LIMITS: dict[Fidelity, tuple[str, ...]] = {
    "bound": ("a lower bound: nothing waits for anything but its operands",),
    "fluid": (
        "weights that are resident are there when the step begins",
        "logits stay on the wafer; sampling is not part of the step",
        "routers of dead cores are taken to pass words on",
        "what stages hand over does not share links with the stages' own collectives",
        "what comes from DRAM does not share links with collectives",
        "cores that do not work are taken to be clock-gated: they only leak",
    ),
}


def model_figures(program: Program) -> ModelFigures:
    """Size and work of what was mapped."""
    return ModelFigures(program.model, program.parameters, program.layers, program.flops)


def hardware_figures(program: Program) -> HardwareFigures:
    """The hardware in the report's units."""
    hardware = program.hardware
    return HardwareFigures(
        name=hardware.name,
        wafers=hardware.wafers,
        dies=hardware.dies,
        cores=hardware.cores,
        area_mm2=hardware.wafers * hardware.wafer.area_m2 * 1e6,
        peak_flops=hardware.peak_flops(program.workload.dtype),
        sram_bytes=hardware.sram_bytes,
        dram_bytes=hardware.dram_bytes,
        unit="node" if hardware.wafer.board else "wafer",
        device="core" if hardware.core.multiprocessors is None else "GPU",
    )


def workload_figures(program: Program) -> WorkloadFigures:
    """The step that was evaluated."""
    work = program.workload
    return WorkloadFigures(work.phase, work.batch, work.sequence, work.context, work.dtype)


def mapping_figures(program: Program) -> MappingFigures:
    """The strategy, and how good its placement is."""
    strategy, placement = program.mapping, program.placement
    gpu = program.hardware.core.multiprocessors is not None
    return MappingFigures(
        dp=strategy.dp,
        tp=program.mesh.devices,
        pp=len(program.stages),
        ep=strategy.ep,
        microbatch=strategy.microbatch,
        interleave=strategy.interleave,
        recompute=strategy.recompute,
        zero=strategy.zero,
        streaming=strategy.streaming,
        region=strategy.region,
        stages=len(program.stages),
        objective=None if placement is None else placement.objective,
        gap=None if placement is None else placement.gap,
        layout=strategy.layout,
        head_groups=strategy.head_groups,
        weights_in=_place("off-wafer" if strategy.streaming else strategy.weights, gpu),
        cache_in=_place(strategy.cache, gpu),
    )


def _place(stated: str, gpu: bool) -> str:
    """Where something lies, as reports say it: all that a GPU holds lies in its DRAM."""
    return "dram" if gpu else stated


def memory_figures(program: Program) -> MemoryFigures:
    """Bytes in all as stored on the system, and of the fullest core. What the forward pass saves
    counts with the activations."""
    elsewhere = held_elsewhere({name: m.graph for name, m in program.graphs.items()})
    mapping = program.mapping
    zero = 3 if mapping.streaming else mapping.zero
    weights = caches = gradients = states = 0
    for stage in program.stages:
        for call in stage.calls:
            mapped, count = program.graphs[call.text("body")], call.integer("count")
            own = {
                role: [
                    value.name
                    for value in mapped.graph.inputs
                    if value.role == role and value.name not in elsewhere[mapped.graph.name]
                ]
                for role in ("weight", "state")
            }
            made = {
                role: [output.name for output in mapped.graph.outputs if output.role == role]
                for role in ("cache", "gradient")
            }
            ep = mapping.ep
            weights += count * _total(mapped, own["weight"], 1 if zero == 3 else ep)
            states += count * _total(mapped, own["state"], 1 if zero else ep)
            caches += count * _total(mapped, made["cache"])
            gradients += count * _total(mapped, made["gradient"], 1 if zero >= 2 else ep)
    memories = [stage.memory for stage in program.stages if stage.memory is not None]
    active = sum(memory.activation_bytes + memory.saved_bytes for memory in memories)
    hardware, replicas = program.hardware, mapping.dp
    return MemoryFigures(
        weights_bytes=weights * (1 if zero == 3 else weight_copies(program)),
        kv_bytes=caches * replicas * program.microbatches,
        activation_bytes=active * program.mesh.devices * replicas,
        optimizer_bytes=states * (1 if zero else weight_copies(program)),
        peak_core_bytes=max(memory.total_bytes for memory in memories),
        core_capacity_bytes=int(hardware.core_bytes),
        gradient_bytes=gradients * (1 if zero >= 2 else replicas),
        dram_bytes=dram_bytes(program),
        dram_capacity_bytes=int(dram_capacity_bytes(hardware)),
    )


def _total(mapped: MappedGraph, names: Iterable[str], ep: int = 1) -> int:
    """Bytes of some values, for every replica; `ep` of these have one by expert between them."""
    return sum(
        size(mapped.graph.types[name].bytes) // (ep if mapped.over_replicas(name) else 1)
        for name in names
    )


def tried_figures(program: Program) -> tuple[TriedFigures, ...]:
    """The table of strategies that the search looked at."""
    gpu = program.hardware.core.multiprocessors is not None
    return tuple(
        TriedFigures(
            dp=tried.mapping.dp,
            pp=tried.mapping.pp,
            region=tried.mapping.region,
            layout=tried.mapping.layout,
            head_groups=tried.mapping.head_groups,
            microbatch=tried.mapping.microbatch,
            bound_s=tried.bound_s,
            core_bytes=tried.core_bytes,
            outcome=tried.outcome,
            ep=tried.mapping.ep,
            interleave=tried.mapping.interleave,
            recompute=tried.mapping.recompute,
            zero=tried.mapping.zero,
            streaming=tried.mapping.streaming,
            weights_in=_place(
                "off-wafer" if tried.mapping.streaming else tried.mapping.weights, gpu
            ),
            cache_in=_place(tried.mapping.cache, gpu),
        )
        for tried in program.tried
    )


def infeasibilities(program: Program) -> tuple[Infeasibility, ...]:
    """What is short: memory of the fullest core of a stage, or room for the rectangles."""
    return (*_short_memory(program), *short_dram(program), *_short_room(program))


def _short_memory(program: Program) -> Iterator[Infeasibility]:
    limit = int(program.hardware.core_bytes)
    stages = [(at, stage) for at, stage in enumerate(program.stages) if stage.memory is not None]
    at, worst = max(stages, key=lambda pair: pair[1].memory.total_bytes if pair[1].memory else 0)
    if worst.memory is not None and worst.memory.total_bytes > limit:
        demand = worst.memory.total_bytes
        where = f"fullest core of stage {at} ({_contents(worst)})"
        if worst.memory.optimizer_bytes or worst.memory.gradient_bytes:
            where += f": {_kinds(worst.memory)}"
        yield Infeasibility(
            "core memory", where, demand, limit, demand - limit, "B", program.advice
        )


def _kinds(memory: CoreMemory) -> str:
    """What a core of a stage that trains holds, in words."""
    parts = {
        "weights": memory.weights_bytes,
        "gradients": memory.gradient_bytes,
        "optimizer": memory.optimizer_bytes,
        "saved activations": memory.saved_bytes,
        "others": memory.activation_bytes,
    }
    return ", ".join(f"{name} {bytes_ / 1024:.4g} KiB" for name, bytes_ in parts.items())


def _contents(stage: Stage) -> str:
    """Which layers a stage runs, in words."""
    parts: list[str] = []
    for call in stage.calls:
        first, count = call.integer("first"), call.integer("count")
        if call.text("body") == SHARED:
            continue
        if call.text("body").startswith("main."):
            parts.append("embedding" if not parts and not call.operands else "head")
        else:
            parts.append(f"layers {first}-{first + count - 1}" if count > 1 else f"layer {first}")
    return ", ".join(dict.fromkeys(parts))


def _short_room(program: Program) -> Iterator[Infeasibility]:
    if all(stage.places for stage in program.stages):
        return
    hardware, floor = program.hardware, floor_of(program.hardware)
    wafer = hardware.wafer
    rows, columns = program.mapping.region
    rectangles = len(program.stages) * program.mapping.dp
    alive = floor.columns if floor.switched else floor.islands * wafer.usable_alive
    demand, limit = rows * columns * rectangles, alive
    of_cores = f"of {rows}x{columns} cores"
    what = (
        f"1 rectangle {of_cores} does not fit"
        if rectangles == 1
        else f"{rectangles} rectangles {of_cores} do not fit side by side"
    )
    if demand <= limit:
        what += " between the edges and the dead cores"
    where = f"{_of_what(hardware)}: {what}"
    gap = max(0, demand - limit)
    yield Infeasibility("cores", where, demand, limit, gap, "cores", program.advice)


def _of_what(hardware: Hardware) -> str:
    """A system in words."""
    if hardware.wafer.board:
        return f"{hardware.wafers} nodes {hardware.wafer.name}"
    many = f"{hardware.wafers} wafers" if hardware.wafers > 1 else "wafer"
    return f"{many} {hardware.wafer.name}"
