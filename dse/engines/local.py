"""Trials in processes of this machine, each of which lives on and evaluates many.

A worker that hangs is killed with all that it started, one that dies is replaced, and all die with
the process that began them, even if that is killed.
"""

import os
import pickle
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread

from ...ir.errors import UserError
from ..evaluator import Evaluator
from ..trial import Outcome, Trial
from . import Ended, Lost
from .task import judge_apart, make_folder

START_S = 300.0
"""How long a worker may take until it begins with a trial: it loads the evaluator first."""


class LocalEngine:
    """A pool of worker processes.

    Args:
        workers: How many, each of one thread unless OMP_NUM_THREADS says otherwise.
        timeout_s: After which an evaluation counts as hung; None: never.
    """

    def __init__(self, workers: int, timeout_s: float | None = None) -> None:
        self.workers = workers
        self.place = f"local@{socket.gethostname()}"
        self._timeout_s = timeout_s
        self._pool: list[_Worker] = []
        self._evaluator: Evaluator | None = None
        self._pickled = b""

    def submit(self, trial: Trial, evaluator: Evaluator, folder: Path) -> None:
        make_folder(folder)
        if evaluator is not self._evaluator:
            self._send_evaluator(evaluator)
        for worker in [one for one in self._pool if one.trial is None]:
            if worker.give(trial, folder, self._timeout_s):
                return
            self._drop(worker)
        worker = _Worker(self._pickled)
        self._pool.append(worker)
        worker.give(trial, folder, self._timeout_s)

    def _send_evaluator(self, evaluator: Evaluator) -> None:
        for worker in [one for one in self._pool if one.trial is None]:
            self._drop(worker)
        try:
            self._pickled = pickle.dumps(evaluator)
        except Exception as error:
            raise UserError(f"the evaluator cannot be sent to workers: {error}") from None
        self._evaluator = evaluator

    def poll(self, timeout_s: float) -> Sequence[Ended]:
        busy = [worker for worker in self._pool if worker.trial is not None]
        if not busy:
            return ()
        until = [worker.deadline - time.monotonic() for worker in busy]
        news = [file for one in busy for file in (one.connection, one.process.sentinel)]
        wait(news, max(0.0, min(timeout_s, *until)))
        ended: list[Ended] = []
        for worker in busy:
            trial, found = worker.trial, worker.look()
            if trial is not None and found is not None:
                ended.append((trial.number, found))
                if isinstance(found, Lost):
                    self._drop(worker)
        return ended

    def _drop(self, worker: "_Worker") -> None:
        worker.kill()
        self._pool.remove(worker)

    def close(self) -> None:
        for worker in self._pool:
            worker.kill(wait_for_it=False)
        for worker in list(self._pool):
            self._drop(worker)


@dataclass(frozen=True)
class _Began:
    """Said by a worker when its evaluator is there and a trial begins."""


class _Worker:
    """A process as its owner sees it."""

    def __init__(self, evaluator: bytes) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=_serve, args=(theirs, evaluator), name="wscc-dse worker", daemon=True
        )
        with _quiet_start():
            self.process.start()
        theirs.close()
        self.trial: Trial | None = None
        self.deadline = float("inf")
        self._timeout_s: float | None = None
        self._since = 0.0

    def give(self, trial: Trial, folder: Path, timeout_s: float | None) -> bool:
        """Whether the worker took a trial; one that did not is dead, as a look at it shows."""
        self._timeout_s = timeout_s
        self._since = time.monotonic()
        self.deadline = float("inf") if timeout_s is None else self._since + START_S + timeout_s
        self.trial = trial
        try:
            self.connection.send((trial, folder.absolute()))
        except OSError:
            return False
        return True

    def look(self) -> "Outcome | Lost | None":
        """How its trial ended; None while it runs."""
        alive = self.process.is_alive()
        while (said := self._said()) is not None:
            if not isinstance(said, _Began):
                self.trial = None
                return said
            self._since = time.monotonic()
            if self._timeout_s is not None:
                self.deadline = self._since + self._timeout_s
        spent_s = time.monotonic() - self._since
        if not alive:
            return Lost(f"its worker {_how_it_ended(self.process)}", spent_s)
        if time.monotonic() >= self.deadline:
            return Lost(f"it took longer than {self._timeout_s:g} s and was killed", spent_s)
        return None

    def _said(self) -> "Outcome | _Began | None":
        """The next message; None where there is none, or no more than a part of one."""
        try:
            return self.connection.recv() if self.connection.poll() else None
        except (EOFError, OSError, pickle.UnpicklingError):
            self.process.join(1.0)
            return None

    def kill(self, wait_for_it: bool = True) -> None:
        """End the process, and all that it started."""
        if self.process.pid is not None and self.process.is_alive():
            with suppress(OSError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()
        if wait_for_it:
            self.process.join()
            self.connection.close()


def _how_it_ended(process: BaseProcess) -> str:
    code = process.exitcode
    if code is not None and code < 0:
        return f"was killed by signal {-code} ({signal.Signals(-code).name})"
    return f"ended with exit code {code}"


@contextmanager
def _quiet_start() -> Iterator[None]:
    """What is begun here never gets a Ctrl-C, which is for its owner to act on, and computes with
    one thread."""
    resource_tracker.ensure_running()
    threads = os.environ.get("OMP_NUM_THREADS")
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        yield
    finally:
        if threads is None:
            del os.environ["OMP_NUM_THREADS"]
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)


def _serve(connection: Connection, pickled: bytes) -> None:
    """What a worker does: trials, until there are no more."""
    os.setsid()
    Thread(target=_die_with_parent, daemon=True).start()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    evaluator: Evaluator | None = None
    broken = ""
    try:
        evaluator = pickle.loads(pickled)
    except Exception as error:
        broken = f"the evaluator cannot be loaded by a worker: {error}"
    with suppress(EOFError, OSError):
        while True:
            trial, folder = connection.recv()
            connection.send(_Began())
            if evaluator is None:
                outcome = Outcome("failed", reason=broken)
            else:
                outcome = judge_apart(evaluator, trial, folder)
            connection.send(_sendable(outcome))


def _sendable(outcome: Outcome) -> Outcome:
    try:
        pickle.dumps(outcome)
    except Exception as error:
        return Outcome("failed", reason=f"its outcome cannot be sent: {error}")
    return outcome


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)
