"""`--explain`: what limits a run and what would help, each claim from an evaluation of its own."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..ir.errors import UserError
from ..ir.pins import Pins
from ..ir.program import Program
from ..ir.result import OperatorFigures, Result
from ..report.lines import many, plain_name, shortage
from ..report.quantities import percent, si, three_digits
from . import pipeline
from .asked import Job
from .pins import read_pins

LEAST = 0.005
"""Changes of the time by less are not worth a word."""
REGIONS = 2
"""Other sizes of the region that are tried."""
SHORT = 2
"""Things that are short, of which there may be one a stage, that are told."""
OF_GPUS = {
    "twice the ports of the SRAM": "twice the bandwidth of the L2 cache",
    "links between cores twice as wide": None,
    "hops that take half the cycles": None,
    "instructions issued in half the cycles": None,
    "links between dies twice as fast": "links between GPUs twice as fast",
    "links between wafers or nodes twice as fast": "links between nodes twice as fast",
}
"""What changes of the hardware are called where cores are GPUs; None: they have nothing of it."""


@dataclass(frozen=True)
class Claim:
    """A sentence, and what it rests on: the latency and throughput of what was evaluated."""

    text: str
    latency_s: float
    tokens_per_s: float


def explain(job: Job, model: pipeline.LoadedModel, program: Program, result: Result) -> list[Claim]:
    """Claims on a run, the most telling first; raises UserError as a run does."""
    return [
        *_short(job, model, program, result),
        *_where_time_goes(program, result),
        *_hardware(program, result),
        *_mappings(job, model, program, result),
        *_batch(job, model, program, result),
    ]


def _short(
    job: Job, model: pipeline.LoadedModel, program: Program, result: Result
) -> Iterator[Claim]:
    """What does not fit, and those of its remedies that are pins and were found to fit."""
    for line in result.infeasible[:SHORT]:
        yield Claim(
            f"It {shortage(line)}; all times are as if it fitted."
            if line.resource != "constraint"
            else f"The design breaks a constraint: {line.where}.",
            result.latency_s,
            result.tokens_per_s,
        )
    remedies = dict.fromkeys(change for line in result.infeasible for change in line.changes)
    for flags in remedies:
        pinned = re.match(r"--region (\S+)(?: --mapping (\S+))?", flags)
        if pinned is None:
            continue
        other = _run(job, model, program, read_pins(pinned[2], pinned[1], job.phase))
        if other is not None:
            text = f"It fits with {pinned[0]}, and {_step(other)} takes {si(other.latency_s, 's')}."
            yield Claim(text, other.latency_s, other.tokens_per_s)


def _where_time_goes(program: Program, result: Result) -> Iterator[Claim]:
    """What the breakdown and the operators of the run itself say."""
    name, part = max(result.breakdown.items(), key=lambda item: item[1])
    share = percent(part / result.latency_s)
    text = f"{share} of the time of {_step(result)} is {_plain(name, result)}"
    whole = sum(each.cycles for each in result.operators)
    if whole:
        kinds = defaultdict[str, list[OperatorFigures]](list)
        for each in result.operators:
            kinds[each.kind].append(each)
        most = max(kinds.values(), key=lambda own: sum(each.cycles for each in own))
        share = percent(sum(each.cycles for each in most) / whole)
        text += f". Of the time of a layer {share} is {_named(most, program, whole)}"
    yield Claim(f"{text}.", result.latency_s, result.tokens_per_s)


def _named(alike: list[OperatorFigures], program: Program, whole: float) -> str:
    """Operators of a kind, the slowest first, and where that is."""
    kind, first = alike[0].kind.replace("_", "-"), alike[0]
    where = f"{_place(first, program)}{_members(first, program)}"
    if len(alike) == 1:
        return f"the {kind}{where}"
    share = percent(first.cycles / whole)
    return f"its {len(alike)} {kind} operators; the longest{where} takes {share}"


def _place(found: OperatorFigures, program: Program) -> str:
    """Where an operator stands in the model; a collective where its operand was made."""
    if found.path:
        return f" of {found.path}"
    for mapped in program.graphs.values():
        paths = {name: op.path for op in mapped.graph.ops for name in op.results}
        for op in mapped.graph.ops:
            if op.result == found.name:
                path = next((paths[name] for name in op.operands if paths.get(name)), "")
                return f" of {path}" if path else f" ({found.name})"
    return f" ({found.name})"


def _members(found: OperatorFigures, program: Program) -> str:
    """Over how many rows and columns of its region a collective goes."""
    from ..backend.blocks import MESH_AXES, axes_of

    for mapped in program.graphs.values():
        for op in mapped.graph.ops:
            if op.result == found.name and "axes" in op.attributes:
                sizes = {
                    way: program.mesh.extent(axis for axis in axes_of(op) if axis in axes)
                    for way, axes in MESH_AXES.items()
                }
                over = [many(size, way[:-1]) for way, size in sizes.items() if size > 1]
                return f" over {' and '.join(over)}" if over else ""
    return ""


def _hardware(program: Program, result: Result) -> Iterator[Claim]:
    """The same program on hardware that is better in one respect."""
    from ..backend.what_if import what_if

    found = [
        (called, other)
        for words, other in what_if(program, result.fidelity)
        if (called := OF_GPUS.get(words, words) if _on_gpus(result) else words) is not None
    ]
    for words, other in sorted(found, key=lambda each: each[1].latency_s):
        if other.latency_s < (1 - LEAST) * result.latency_s:
            text = f"With {words} the same program takes {_compared(other, result)}."
            yield Claim(text, other.latency_s, other.tokens_per_s)
    idle = [words for words, other in found if abs(other.latency_s / result.latency_s - 1) < LEAST]
    if idle:
        first = " or ".join(filter(None, (", ".join(idle[:-1]), idle[-1])))
        text = f"It would gain less than {percent(LEAST)} from {first}."
        yield Claim(text, result.latency_s, result.tokens_per_s)


def _mappings(
    job: Job, model: pipeline.LoadedModel, program: Program, result: Result
) -> Iterator[Claim]:
    """Without what the user pinned, and on regions of other sizes."""
    if job.pins != Pins():
        other = _run(job, model, program, Pins())
        faster = other and other.latency_s < (1 - LEAST) * result.latency_s
        if other is not None and (faster or not result.feasible):
            text = (
                f"With nothing pinned the search takes {many(other.mapping.dp, 'replica')} of "
                f"{many(other.mapping.stages, 'stage')} on {_regions(other)}: "
            )
            fits = f"{si(other.latency_s, 's')}, and it fits"
            text += f"{_compared(other, result) if result.feasible else fits}."
            yield Claim(text, other.latency_s, other.tokens_per_s)
    chosen = program.mapping.region
    sizes = dict.fromkeys(tried.mapping.region for tried in program.tried)
    others = [size for size in sizes if size != chosen]
    for region in sorted(others, key=lambda size: _apart(size, chosen))[:REGIONS]:
        other = _run(job, model, program, replace(job.pins, region=region))
        if other is not None and abs(other.latency_s / result.latency_s - 1) >= LEAST:
            text = f"On {_regions(other)} it takes {_compared(other, result)}."
            yield Claim(text, other.latency_s, other.tokens_per_s)


def _apart(size: tuple[int, int], chosen: tuple[int, int]) -> float:
    """How far two sizes of a region are apart; those that are nearly equal tell nothing."""
    ratio = size[0] * size[1] / (chosen[0] * chosen[1])
    return abs(abs(ratio - 1) - 0.3)


def _batch(
    job: Job, model: pipeline.LoadedModel, program: Program, result: Result
) -> Iterator[Claim]:
    """Twice the sequences in a step; of what does not fit, half of them."""
    size = 2 * job.batch if result.feasible else job.batch // 2
    if size == 0:
        return
    larger = replace(model, workload=replace(model.workload, batch=size))
    other = _run(replace(job, batch=size), larger, program, job.pins)
    if other is not None:
        text = f"With {'twice' if result.feasible else 'half'} the sequences (--batch {size}) "
        takes = f"{_step(result)} takes {si(other.latency_s, 's')}"
        pace = f"{other.tokens_per_s / result.tokens_per_s:.2f} times the tokens a second"
        text += f"{takes}, at {pace}." if result.feasible else f"it fits, and {takes}."
        yield Claim(text, other.latency_s, other.tokens_per_s)


def _run(job: Job, model: pipeline.LoadedModel, program: Program, pins: Pins) -> Result | None:
    """What else comes out with other pins or sizes; None where that cannot be, or does not fit."""
    try:
        other = pipeline.compile_pinned(model, program.hardware, pins, job.seed)
        result = pipeline.evaluate(other, job.fidelity)
    except UserError:
        return None
    return result if result.feasible else None


def _compared(other: Result, result: Result) -> str:
    ratio = other.latency_s / result.latency_s
    if ratio >= 2:
        return f"{si(other.latency_s, 's')}, {three_digits(ratio)} times as long"
    change = f"{percent(abs(ratio - 1))} {'more' if ratio > 1 else 'less'}"
    return f"{si(other.latency_s, 's')}, {change}"


def _regions(result: Result) -> str:
    rows, columns = result.mapping.region
    return f"regions of {rows} x {columns} {result.hardware.device}s"


def _plain(component: str, result: Result) -> str:
    """What a reader calls a part of the breakdown; kernels of a GPU wait for its memory."""
    name = plain_name(component)
    return "kernels" if name == "compute" and _on_gpus(result) else name


def _on_gpus(result: Result) -> bool:
    return result.hardware.device == "GPU"


def _step(result: Result) -> str:
    return {"decode": "a token", "train": "a step"}.get(result.workload.phase, "a prompt")
