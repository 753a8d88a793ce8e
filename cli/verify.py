"""`wscc verify`: a config mapped as a run would, run on virtual devices, compared with itself.

What is run and compared is in passes/verify.py; here it is reported.
"""

import logging
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..ir.program import Program, Strategy, Workload
from ..ir.store import Store
from ..report.json_report import print_json
from ..report.quantities import si
from . import pipeline
from .asked import Verify
from .progress import Progress
from .run import load_graph

if TYPE_CHECKING:
    from ..passes.verify import Compared, Verification

_LOG = logging.getLogger(__name__)


def verify(command: Verify) -> int:
    """Carry out `wscc verify`: 0 where all outputs are equal within the tolerance, else 1.

    Raises UserError, also for a model that is too large to be run.
    """
    from ..passes.verify_size import check_model

    started = perf_counter()
    job = command.job
    progress = Progress(command.talk.quiet)
    spent: dict[str, float] = {}
    config = pipeline.read_config(job.model, job.options)
    if config.quantization is not None:
        _LOG.warning("%s is verified unquantized: rounding to few bits hides faults", config.name)
        config = replace(config, quantization=None)
    hardware = pipeline.bind(pipeline.load_hardware(job.hardware), dict(job.overrides))
    with progress.step("trace", spent):
        sizes = {"batch": job.batch, "sequence": job.sequence, "context": job.context}
        store = Store() if command.cache else None
        graph = pipeline.with_load(load_graph(config, job.phase, sizes, store), job.options)
    check_model(graph.bind(sizes), job.layers)
    workload = Workload(job.phase, job.batch, job.sequence, job.context, config.dtype)
    model = pipeline.LoadedModel(graph, workload, job.layers)
    with progress.step("compile", spent):
        program = pipeline.compile_pinned(model, hardware, job.pins, job.seed)
    with progress.step("verify", spent):
        found = pipeline.verify(model, program, job.seed, command.tolerance)
    if command.talk.json:
        timings = spent | {"total": perf_counter() - started}
        sys.stdout.write(print_json(report(program, found, timings)))
    else:
        sys.stdout.write("\n".join(lines(program, found)) + "\n")
    return 0 if found.equal else 1


def report(
    program: Program, found: "Verification", timings: dict[str, float] | None = None
) -> dict[str, Any]:
    """The object that `--json` prints; an error that is infinite is null."""
    mapping = program.mapping
    return {
        "schema": "wscc.verify/1",
        "wscc_version": __version__,
        "equal": found.equal,
        "fault": found.fault,
        "tolerance": found.tolerance,
        "seed": found.seed,
        "model": {
            "name": program.model,
            "parameters": program.parameters,
            "layers": program.layers,
        },
        "hardware": {"name": program.hardware.name},
        "workload": asdict(program.workload),
        "mapping": asdict(mapping) | {"stages": len(program.stages)},
        "devices": found.devices,
        "steps": found.steps,
        "operators": found.operators,
        "collectives": dict(found.collectives),
        "outputs": [_output_json(output, found.tolerance) for output in found.outputs],
        "timings_s": {
            **(timings or {}),
            "unsplit": found.unsplit_s,
            "devices": found.devices_s,
        },
    }


def _output_json(output: "Compared", tolerance: float) -> dict[str, Any]:
    numbers = {
        name: value if not isinstance(value, float) or math.isfinite(value) else None
        for name, value in asdict(output).items()
    }
    return numbers | {"equal": output.within(tolerance)}


def lines(program: Program, found: "Verification") -> Iterator[str]:
    """The report as a person reads it: a layer's outputs are one line where they are equal."""
    step, mapping = program.workload, program.mapping
    yield (
        f"{program.model} on {program.hardware.name}, {step.phase}, batch {step.batch}, "
        f"sequence {step.sequence}, context {step.context}: {_verdict(found)}"
    )
    if found.fault is not None:
        yield f"  the program is broken: {found.fault}"
    yield f"  mapping      {', '.join(_mapping(mapping))}"
    yield (
        f"  devices      {found.devices:,} of {_number(len(program.stages), 'stage')} and "
        f"{_number(mapping.dp, 'replica')}"
    )
    yield (
        f"  run          {_number(found.operators, 'operator')} in "
        f"{_number(found.steps, 'micro-batch', 'micro-batches')}"
    )
    counted = ", ".join(f"{number:,} {kind}" for kind, number in found.collectives.items())
    yield f"  collectives  {counted or 'none'}"
    yield (
        f"  time         {si(found.unsplit_s, 's')} unsplit, {si(found.devices_s, 's')} on devices"
    )
    yield from _table(found, _trained_kind if step.phase == "train" else _kind)


def _mapping(mapping: Strategy) -> Iterator[str]:
    rows, columns = mapping.region
    yield f"dp={mapping.dp}, pp={mapping.pp}, {rows} x {columns} cores, {mapping.layout}"
    yield f"micro-batches of {mapping.microbatch}"
    usual = Strategy(mapping.dp, mapping.pp, mapping.region, mapping.layout, 1, 1)
    for name in ("ep", "interleave", "recompute", "zero"):
        if getattr(mapping, name) != getattr(usual, name):
            yield f"{name}={getattr(mapping, name)}"
    if mapping.streaming:
        yield "weights streamed"


def _number(number: int, one: str, several: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def _verdict(found: "Verification") -> str:
    if found.equal:
        return f"{len(found.outputs)} outputs equal within {found.tolerance:g}"
    if found.fault is not None:
        return "not equal"
    which = f"{len(found.different)} of {len(found.outputs)} outputs"
    return f"{which} differ by more than {found.tolerance:g}"


def _table(found: "Verification", kind_of: Callable[[str], str]) -> Iterator[str]:
    rows = [_row(output.output, "differs", [output]) for output in found.different]
    equal: dict[str, list[Compared]] = {}
    for output in found.outputs:
        if output not in found.different:
            equal.setdefault(kind_of(output.output), []).append(output)
    for name, outputs in equal.items():
        remarks = [_how_many(name, outputs)]
        remarks += ["rounding"] * any(o.relative_error > found.tolerance for o in outputs)
        rows.append(_row(name, ", ".join(filter(None, remarks)), outputs))
    if rows:
        yield from _aligned([("output", "", "largest value", "largest error", "relative"), *rows])


def _kind(output: str) -> str:
    """One line for an output of all layers."""
    return re.sub(r"\.\d+\.", ".*.", output)


_ENDS = {
    ".gradient": "gradients",
    ".moment1": "first moments",
    ".moment2": "second moments",
    ".master": "copies of weights",
}


def _trained_kind(output: str) -> str:
    """One line for what all weights have, and one for the weights."""
    found = next((kind for end, kind in _ENDS.items() if output.endswith(end)), "weights")
    return found if "." in output else output


def _how_many(name: str, outputs: "Sequence[Compared]") -> str:
    if "*" in name:
        return "" if len(outputs) == 1 else f"{len(outputs)} layers"
    return "" if outputs[0].output == name else f"of {len(outputs)}"


def _row(name: str, remark: str, outputs: "Sequence[Compared]") -> tuple[str, ...]:
    worst = max(outputs, key=lambda output: output.relative_error)
    numbers = (worst.largest_value, worst.absolute_error, worst.relative_error)
    return (name, remark, *(f"{number:.3g}" for number in numbers))


def _aligned(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    rows = [*rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if at < 2 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  " + "  ".join(cells).rstrip()
