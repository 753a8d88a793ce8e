"""Trials as tasks of Ray: on a running cluster, or on one that is begun on this machine.

Sources: the core API of Ray, https://docs.ray.io/en/latest/ray-core/tasks.html. The folder of a
study should be on a file system that all nodes share; else logs stay on the node that wrote them.
"""

import faulthandler
import logging
import os
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...ir.errors import UserError
from ..evaluator import Evaluator
from ..trial import Outcome, Trial
from . import Ended, Lost
from .task import LOG, judge_apart, make_folder

OBJECT_STORE_BYTES = 150 << 20
"""Shared memory of a local Ray: what is sent is small."""


class RayEngine:
    """A task a trial, `workers` at a time.

    Ray is connected to when the first trial comes.

    Args:
        timeout_s: After which an evaluation counts as hung, and its process ends.
        address: Of a running cluster; None: a local one with as many workers.
    """

    def __init__(self, workers: int, timeout_s: float | None, address: str | None) -> None:
        self.workers = workers
        self.place = f"ray@{address or 'local'}"
        self._timeout_s = timeout_s
        self._address = address
        if find_spec("ray") is None:
            raise UserError("--engine ray needs Ray: pip install 'wscc[ray]'")
        self._ray: Any = None
        self._task: Any = None
        self._running: dict[Any, tuple[int, float]] = {}
        self._evaluator: Evaluator | None = None
        self._sent: Any = None

    def submit(self, trial: Trial, evaluator: Evaluator, folder: Path) -> None:
        make_folder(folder)
        if self._ray is None:
            self._ray = _started(self.workers, self._address)
            self._task = self._ray.remote(num_cpus=1, max_retries=0)(_judge_in_time)
        if evaluator is not self._evaluator:
            self._evaluator, self._sent = evaluator, self._ray.put(evaluator)
        task = self._task.remote(self._sent, trial, folder.absolute(), self._timeout_s)
        self._running[task] = trial.number, time.monotonic()

    def poll(self, timeout_s: float) -> Sequence[Ended]:
        tasks = list(self._running)
        if not tasks:
            return ()
        self._ray.wait(tasks, timeout=timeout_s)
        ready, _ = self._ray.wait(tasks, num_returns=len(tasks), timeout=0)
        return [self._ended(task) for task in ready]

    def _ended(self, task: Any) -> Ended:
        number, since = self._running.pop(task)
        try:
            return number, self._ray.get(task)
        except self._ray.exceptions.RayTaskError as error:
            return number, Outcome("failed", reason=str(error).strip().split("\n")[-1])
        except self._ray.exceptions.RayError as error:
            hung = "" if self._timeout_s is None else f", or took longer than {self._timeout_s:g} s"
            reason = f"its worker died{hung} ({type(error).__name__})"
            return number, Lost(reason, time.monotonic() - since)

    def close(self) -> None:
        for task in self._running:
            self._ray.cancel(task, force=True)
        self._running.clear()
        if self._ray is not None:
            self._ray.shutdown()
            self._ray = None


def _started(workers: int, address: str | None) -> Any:
    """Ray, connected; what it has to say it says to nobody."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if address is not None:
            ray.init(address=address, **quiet)
        else:
            ray.init(
                num_cpus=workers,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                **quiet,
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        said = str(error).strip().split("\n")[0]
        raise UserError(f"Ray at {address or 'this machine'} does not start: {said}") from None
    return ray


def _judge_in_time(
    evaluator: Evaluator, trial: Trial, folder: Path, timeout_s: float | None
) -> Outcome:
    """Evaluate in a task; when the time is up the stack goes to the log, and the process ends."""
    if timeout_s is None:
        return judge_apart(evaluator, trial, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOG, "a", encoding="utf-8") as log:
        faulthandler.dump_traceback_later(timeout_s, exit=True, file=log)
        try:
            return judge_apart(evaluator, trial, folder)
        finally:
            faulthandler.cancel_dump_traceback_later()
