"""The operators of the layer that repeats most against the roofs of a core: drawing data."""

from collections.abc import Iterator

from ..ir.graph import Op
from ..ir.hardware import Core
from ..ir.roofline import Roofline, RooflinePoint
from .core import CoreWork, compute_dtype, matrix_dtype
from .dram import Use
from .evaluate import Evaluation
from .gpu.device import device_of
from .off_wafer import stream_s, streamed

SRAM, HBM = "SRAM", "memory of the GPU"


def roofline(evaluation: Evaluation) -> Roofline:
    """Operators that compute, each on one core; and the whole layer against memory off the core,
    where weights or caches come from there."""
    hardware = evaluation.program.hardware
    core, device = hardware.core, device_of(hardware)
    if device is None:
        ports = core.sram.read_bytes_per_cycle + core.sram.write_bytes_per_cycle
        bandwidths = {SRAM: ports * core.clock_hz}
    else:
        bandwidths = {HBM: device.memory_bytes_per_cycle * core.clock_hz}
    points = list(_operators(evaluation, next(iter(bandwidths))))
    for point, bytes_per_s in _from_outside(evaluation):
        points.append(point)
        bandwidths[point.memory] = bytes_per_s
    return Roofline(_peaks(core, evaluation.program.workload.dtype), bandwidths, tuple(points))


def _peaks(core: Core, dtype: str) -> dict[str, float]:
    matrix, vector = matrix_dtype(core, dtype), compute_dtype(core, dtype)
    return {
        f"matrix unit, {matrix}": core.matrix_flops_per_cycle[matrix] * core.clock_hz,
        f"vector unit, {vector}": core.vector_elements_per_cycle[vector] * core.clock_hz,
    }


def _operators(evaluation: Evaluation, memory: str) -> Iterator[RooflinePoint]:
    clock = evaluation.program.hardware.core.clock_hz
    for name in evaluation.layer:
        costs, spans = evaluation.pieces[name].costs, evaluation.runs[name].spans
        for cost, span in zip(costs, spans, strict=True):
            work = cost.work
            flops = _flops(work)
            bytes_ = float(work.sram_read_bytes) + float(work.sram_write_bytes)
            if memory == HBM:
                bytes_ = float(work.memory_bytes)
            cycles = span.compute + span.software + span.network
            if flops > 0 and bytes_ > 0 and cycles > 0:
                yield RooflinePoint(
                    name=cost.op.path or cost.op.result,
                    kind=cost.op.kind,
                    memory=memory,
                    flops=flops,
                    bytes=bytes_,
                    seconds=cycles / clock,
                    working_s=span.compute / clock,
                )


def _from_outside(evaluation: Evaluation) -> Iterator[tuple[RooflinePoint, float]]:
    """The forward graph of the layer against the memory that its weights or caches come from, and
    what a core gets of that memory's bandwidth."""
    program, timing = evaluation.program, evaluation.timing
    call = evaluation.main_call
    piece = evaluation.pieces[call.text("body")]
    clock = program.hardware.core.clock_hz
    if program.mapping.streaming:
        both = streamed(piece.mapped.graph)
        bytes_ = float(both.coming + both.leaving) / program.mesh.devices
        moving_s = stream_s(program, piece.mapped.graph)
    elif timing.in_dram is not None:
        mapping = program.mapping
        use = Use(weights=int(mapping.weights == "dram"), cache=int(mapping.cache == "dram"))
        bytes_ = sum(float(way) for way in use.bytes_of(piece.moved))
        moving_s = timing.in_dram.run_s(_stage_of(evaluation, call), call)
    else:
        return
    flops = sum(
        2 * float(c.work.multiply_adds) + float(c.work.vector_operations) for c in piece.costs
    )
    run = evaluation.runs[call.text("body")]
    if bytes_ > 0 and moving_s > 0 and flops > 0:
        yield (
            RooflinePoint(
                name=call.text("body"),
                kind="whole layer",
                memory=timing.memory,
                flops=flops,
                bytes=bytes_,
                seconds=max(run.cycles / clock, moving_s),
                working_s=sum(span.compute for span in run.spans) / clock,
            ),
            bytes_ / moving_s,
        )


def _flops(work: CoreWork) -> float:
    return 2 * float(work.multiply_adds) + float(work.vector_operations)


def _stage_of(evaluation: Evaluation, call: Op) -> int:
    stages = enumerate(evaluation.program.stages)
    return next(at for at, stage in stages if any(call is each for each in stage.calls))
