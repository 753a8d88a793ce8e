"""The parts of a result that need no evaluation: what was mapped, where, and what is short."""

from collections.abc import Iterable, Iterator

from ..ir.dims import size
from ..ir.floor import floor_of
from ..ir.graph import TensorType
from ..ir.hardware import Hardware
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
    )


def memory_figures(program: Program) -> MemoryFigures:
    """Bytes in all as stored on the system, and of the fullest core. What the forward pass saves
    counts with the activations."""
    elsewhere = held_elsewhere({name: m.graph for name, m in program.graphs.items()})
    weights = caches = gradients = states = 0
    for stage in program.stages:
        for call in stage.calls:
            graph, count = program.graphs[call.text("body")].graph, call.integer("count")
            own = [value for value in graph.inputs if value.name not in elsewhere[graph.name]]
            weights += count * _total(v.type for v in own if v.role == "weight")
            states += count * _total(v.type for v in own if v.role == "state")
            made = [(output.role, graph.types[output.name]) for output in graph.outputs]
            caches += count * _total(type_ for role, type_ in made if role == "cache")
            gradients += count * _total(type_ for role, type_ in made if role == "gradient")
    memories = [stage.memory for stage in program.stages if stage.memory is not None]
    active = sum(memory.activation_bytes + memory.saved_bytes for memory in memories)
    hardware, mapping = program.hardware, program.mapping
    replicas, zero = mapping.dp, 3 if mapping.streaming else mapping.zero
    return MemoryFigures(
        weights_bytes=weights * (1 if zero == 3 else replicas),
        kv_bytes=caches * replicas * program.microbatches,
        activation_bytes=active * program.mesh.devices * replicas,
        optimizer_bytes=states * (1 if zero else replicas),
        peak_core_bytes=max(memory.total_bytes for memory in memories),
        core_capacity_bytes=int(hardware.core_bytes),
        gradient_bytes=gradients * (1 if zero >= 2 else replicas),
    )


def _total(types: Iterable[TensorType]) -> int:
    return sum(size(type_.bytes) for type_ in types)


def tried_figures(program: Program) -> tuple[TriedFigures, ...]:
    """The table of strategies that the search looked at."""
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
        )
        for tried in program.tried
    )


def infeasibilities(program: Program) -> tuple[Infeasibility, ...]:
    """What is short: memory of the fullest core of a stage, or room for the rectangles."""
    return (*_short_memory(program), *_short_room(program))


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
