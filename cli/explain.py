"""`--explain`: what limits a run and what would help, each claim from an evaluation of its own."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..ir.errors import UserError
from ..ir.pins import Pins
from ..ir.program import Program
from ..ir.result import Result
from ..report.lines import many, plain_name
from ..report.quantities import percent, si
from . import pipeline
from .asked import Job

LEAST = 0.005
"""Changes of the time by less are not worth a word."""
REGIONS = 2
"""Other sizes of the region that are tried."""


@dataclass(frozen=True)
class Claim:
    """A sentence, and what it rests on: the latency and throughput of what was evaluated."""

    text: str
    latency_s: float
    tokens_per_s: float


def explain(job: Job, model: pipeline.LoadedModel, program: Program, result: Result) -> list[Claim]:
    """Claims on a run, the most telling first; raises UserError as a run does."""
    return [
        *_where_time_goes(result),
        *_hardware(program, result),
        *_mappings(job, model, program, result),
        *_batch(job, model, program, result),
    ]


def _where_time_goes(result: Result) -> Iterator[Claim]:
    """What the breakdown and the operators of the run itself say."""
    step = _step(result)
    name, part = max(result.breakdown.items(), key=lambda item: item[1])
    text = f"{percent(part / result.latency_s)} of the time of {step} is {plain_name(name)}"
    whole = sum(each.cycles for each in result.operators)
    if whole:
        first = result.operators[0]
        where = f" of {first.path}" if first.path else f" ({first.name})"
        text += (
            f"; of the layer that repeats most {percent(first.cycles / whole)} is "
            f"the {first.kind}{where}"
        )
    yield Claim(f"{text}.", result.latency_s, result.tokens_per_s)


def _hardware(program: Program, result: Result) -> Iterator[Claim]:
    """The same program on hardware that is better in one respect."""
    from ..backend.what_if import what_if

    found = list(what_if(program, result.fidelity))
    for words, other in sorted(found, key=lambda each: each[1].latency_s):
        if other.latency_s < (1 - LEAST) * result.latency_s:
            text = f"With {words} the same program takes {_compared(other, result)}."
            yield Claim(text, other.latency_s, other.tokens_per_s)
    idle = [words for words, other in found if abs(other.latency_s / result.latency_s - 1) < LEAST]
    if idle:
        text = f"It would not gain from {', or from '.join(idle)}."
        yield Claim(text, result.latency_s, result.tokens_per_s)


def _mappings(
    job: Job, model: pipeline.LoadedModel, program: Program, result: Result
) -> Iterator[Claim]:
    """Without what the user pinned, and on regions of other sizes."""
    if job.pins != Pins():
        other = _run(job, model, program, Pins())
        if other is not None and other.latency_s < (1 - LEAST) * result.latency_s:
            rows, columns = other.mapping.region
            text = (
                f"With nothing pinned the search takes {many(other.mapping.dp, 'replica')} of "
                f"{many(other.mapping.stages, 'stage')} on regions of {rows} x {columns}: "
                f"{_compared(other, result)}."
            )
            yield Claim(text, other.latency_s, other.tokens_per_s)
    chosen = program.mapping.region
    sizes = dict.fromkeys(tried.mapping.region for tried in program.tried)
    others = [size for size in sizes if size != chosen]
    for region in sorted(others, key=lambda size: _apart(size, chosen))[:REGIONS]:
        other = _run(job, model, program, replace(job.pins, region=region))
        if other is not None and abs(other.latency_s / result.latency_s - 1) >= LEAST:
            text = f"On regions of {region[0]} x {region[1]} it takes {_compared(other, result)}."
            yield Claim(text, other.latency_s, other.tokens_per_s)


def _apart(size: tuple[int, int], chosen: tuple[int, int]) -> float:
    """How far two sizes of a region are apart; those that are nearly equal tell nothing."""
    ratio = size[0] * size[1] / (chosen[0] * chosen[1])
    return abs(abs(ratio - 1) - 0.3)


def _batch(
    job: Job, model: pipeline.LoadedModel, program: Program, result: Result
) -> Iterator[Claim]:
    """Twice the sequences in a step."""
    doubled = replace(job, batch=2 * job.batch)
    larger = replace(model, workload=replace(model.workload, batch=doubled.batch))
    other = _run(doubled, larger, program, job.pins)
    if other is not None:
        text = (
            f"With twice the sequences (--batch {doubled.batch}) {_step(result)} takes "
            f"{si(other.latency_s, 's')}, at {other.tokens_per_s / result.tokens_per_s:.2f} times "
            "the tokens a second."
        )
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
    change = other.latency_s / result.latency_s - 1
    return f"{si(other.latency_s, 's')}, {percent(abs(change))} {'more' if change > 0 else 'less'}"


def _step(result: Result) -> str:
    return {"decode": "a token", "train": "a step"}.get(result.workload.phase, "a prompt")
