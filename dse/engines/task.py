"""One evaluation, as a worker of any engine carries it out: what it raises is a failed trial."""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import process_time

from ...ir.errors import UserError
from ..evaluator import Evaluator
from ..trial import Outcome, Trial

LOG = "log.txt"
"""In a trial's folder: what its evaluation wrote, and the traceback where it raised."""


def make_folder(folder: Path) -> None:
    """Raises UserError where there is no room for it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}") from None


def judge(evaluator: Evaluator, trial: Trial) -> Outcome:
    """What the evaluator says of a trial; a traceback goes to standard error."""
    started = process_time()
    try:
        outcome = evaluator.evaluate(trial.design, trial.fidelity)
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        reason = traceback.format_exception_only(error)[-1].strip()
        return Outcome("failed", seconds=process_time() - started, reason=reason)
    if isinstance(outcome, Outcome):
        return outcome
    reason = f"the evaluator returned {type(outcome).__name__}, not an Outcome"
    return Outcome("failed", seconds=process_time() - started, reason=reason)


def judge_apart(evaluator: Evaluator, trial: Trial, folder: Path) -> Outcome:
    """The same in a worker process: what is written to standard output, standard error or the
    working folder goes to the trial's own folder, which is taken away if nothing was."""
    try:
        with _inside(folder):
            outcome = judge(evaluator, trial)
    except OSError as error:
        return Outcome("failed", reason=f"{folder}: {error.strerror}")
    if outcome.state != "failed":
        with suppress(OSError):
            if (folder / LOG).stat().st_size == 0:
                (folder / LOG).unlink()
                folder.rmdir()
    return outcome


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    before = os.getcwd()
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    kept = os.dup(1), os.dup(2)
    try:
        _flush()
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(folder)
        yield
    finally:
        with suppress(OSError, ValueError):
            _flush()
        for number, file in zip((1, 2), kept, strict=True):
            os.dup2(file, number)
            os.close(file)
        os.close(log)
        os.chdir(before)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
