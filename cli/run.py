"""A run: read, trace, compile, evaluate, report; what was done before comes from the cache.

A mapped program is cached under the digest of everything it is made from, a trace under what it
depends on, which leaves out the sizes of the step.
"""

import json
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from .. import __version__
from ..ir.errors import UserError, VerificationError, nearest
from ..ir.graph import Model, Phase
from ..ir.program import Program, Workload
from ..ir.result import Result
from ..ir.store import Store, digest
from ..ir.versions import code_version
from ..report import files
from ..report.json_report import Timings, print_json, to_json
from . import pipeline
from .asked import Job, Run
from .progress import Progress

if TYPE_CHECKING:
    from ..frontend.model import ModelConfig

logger = logging.getLogger(__name__)

T = TypeVar("T")


def run(command: Run) -> int:
    """Carry out `wscc --hw FILE --model CONFIG`; the exit code. Raises UserError."""
    for folder in (command.directory, command.dump_ir):
        if folder is not None:
            files.check_folder(folder)
    done = evaluated(command)
    if command.directory is not None:
        claims = [claim["text"] for claim in done.report.get("explanation", ())]
        drawn = pipeline.drawings(done.program, done.result, claims)
        files.save(done.report, {"program.txt": done.text, **drawn}, command.directory)
    if command.talk.json:
        sys.stdout.write(print_json(done.report))
    else:
        from ..report.console import print_report

        print_report(done.result, sys.stdout, notes=command.talk.verbosity > 0)
        for claim in done.report.get("explanation", ()):
            sys.stdout.write(f"- {claim['text']}\n")
    return 0 if done.result.feasible else 1


@dataclass(frozen=True)
class Evaluated:
    """A program and its text, its result, and the report of the run."""

    program: Program
    text: str
    result: Result
    report: dict[str, Any]


def evaluated(command: Run) -> Evaluated:
    """What a run comes to; raises UserError."""
    started = perf_counter()
    progress = Progress(command.talk.quiet)
    store = Store() if command.cache else None
    spent: dict[str, float] = {}
    program, text = _program(command, store, progress, spent)
    with progress.step("evaluate", spent):
        result = pipeline.evaluate(program, command.job.fidelity, command.job.flit_budget_s)
    timings = Timings(**spent, total=perf_counter() - started)
    report = to_json(result, timings, __version__)
    if command.explain:
        with progress.step("explain", {}):
            report["explanation"] = _explanation(command, program, result, store)
    return Evaluated(program, text, result, report)


def _explanation(
    command: Run, program: Program, result: Result, store: Store | None
) -> list[dict[str, Any]]:
    from .explain import explain

    model = _model(command.job, pipeline.read_config(command.job.model, command.job.options), store)
    return [asdict(claim) for claim in explain(command.job, model, program, result)]


def _program(
    command: Run, store: Store | None, progress: Progress, spent: dict[str, float]
) -> tuple[Program, str]:
    """The mapped program and its text, from the cache where it is there."""
    job = command.job
    config = pipeline.read_config(job.model, job.options)
    key = _program_key(job, config)
    watched = command.print_after is not None or command.dump_ir is not None
    if store is not None and not watched:
        text = store.get("program", key)
        program = None if text is None else _parsed(pipeline.parse_program, text)
        if text is not None and program is not None:
            logger.info("the mapped program is cached (%s)", key)
            return program, text
    hardware = pipeline.bind(pipeline.load_hardware(job.hardware), dict(job.overrides))
    with progress.step("trace", spent):
        model = _model(job, config, store)
    with progress.step("compile", spent):
        after = _watcher(command) if watched else None
        program = pipeline.compile_pinned(model, hardware, job.pins, job.seed, after)
    text = pipeline.print_program(program)
    if store is not None:
        store.put("program", key, text)
    return program, text


def _model(job: Job, config: "ModelConfig", store: Store | None) -> pipeline.LoadedModel:
    sizes = {"batch": job.batch, "sequence": job.sequence, "context": job.context}
    graph = pipeline.with_load(load_graph(config, job.phase, sizes, store), job.options)
    workload = Workload(job.phase, job.batch, job.sequence, job.context, config.dtype)
    return pipeline.LoadedModel(graph, workload, job.layers)


def load_graph(
    config: "ModelConfig", phase: Phase, sizes: Mapping[str, int], store: Store | None
) -> Model:
    """The model graph of a config, from the cache where it is there."""
    from ..frontend.model import traces

    return traces.load_graph(config, phase, sizes, store, pipeline.trace)


def _parsed(parse: Callable[[str], T], text: str) -> T | None:
    """What a cached text says; None, a miss, where it cannot be read."""
    try:
        return parse(text)
    except (ValueError, KeyError, IndexError, VerificationError) as error:
        logger.info("a cache entry cannot be parsed: %s", error)
        return None


def _program_key(job: Job, config: "ModelConfig") -> str:
    """The digest of all that the mapped program is made from."""
    from ..frontend.hardware import source_files
    from ..frontend.model import trace_key

    sources = source_files(job.hardware)
    options = (
        *sorted(job.overrides),
        job.phase, job.batch, job.sequence, job.context, job.layers, job.seed,
        job.options.expert_load,
    )  # fmt: skip
    return digest(
        code_version(),
        *(part for path in sources for part in (path.name, path.read_text("utf-8-sig"))),
        trace_key(config, job.phase),
        json.dumps(options),
        repr(job.pins),
    )


def _watcher(command: Run) -> "_Watcher":
    from ..passes.compile import PASSES

    name = command.print_after
    if name is not None and name not in PASSES:
        hint = nearest(name, PASSES)
        raise UserError(f"--print-after: no pass '{name}', there are {', '.join(PASSES)}{hint}")
    return _Watcher(name, command.dump_ir)


class _Watcher:
    """Prints the program after one pass to standard error, and dumps it after every pass."""

    def __init__(self, print_after: str | None, folder: str | None) -> None:
        self.print_after = print_after
        self.folder = folder
        self.passes = 0

    def __call__(self, name: str, text: str) -> None:
        self.passes += 1
        if name == self.print_after:
            sys.stderr.write(text)
        if self.folder is not None:
            files.save_files(self.folder, {f"{self.passes:02d}-{name}.txt": text})
