"""A study so small that what kills it is all there is to see; also a program that is killed.

python tiny_study.py run FOLDER [WORKERS] [KILL]     KILL: method:before|after:count
python tiny_study.py kill FOLDER     killed before and after every write of the store, and resumed
"""

import itertools
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import sqlalchemy
from sqlalchemy import event
from wscc.dse.budget import Budget
from wscc.dse.coordinator import Coordinator, Progress, Stopped
from wscc.dse.design import Design, DesignSpace
from wscc.dse.engines import Ended, Engine, Lost, make_engine
from wscc.dse.engines.inline import InlineEngine
from wscc.dse.evaluator import Evaluator, Rung
from wscc.dse.objective import Objective
from wscc.dse.store import Store
from wscc.dse.strategy import Problem
from wscc.dse.study import StudyInfo
from wscc.dse.trial import ENDED, Outcome, Suggestion, Trial
from wscc.ir.errors import UserError

RUNGS = (Rung("cheap", 0.25), Rung("dear", 1.0))
OBJECTIVES = (Objective("far", "min"), Objective("high", "max"))
PROBLEM = Problem(cast("DesignSpace", None), OBJECTIVES, (), RUNGS, 10.0)
WRITES = ("create", "recover", "enqueue", "start", "finish", "lose", "exclude", "log")


def design(at: float) -> Design:
    return Design.of({"at": at})


@dataclass(frozen=True)
class Tiny:
    """Figures of a number; it writes down what it evaluated, and has its troubles."""

    folder: str
    trouble: dict[int, str] = field(default_factory=dict[int, str])
    pause_s: float = 0.0
    version: str = "tiny-1"
    rungs: tuple[Rung, ...] = RUNGS

    def evaluate(self, design: Design, fidelity: str) -> Outcome:
        at = int(float(design["at"]))
        with open(Path(self.folder, "evaluated.txt"), "a", encoding="utf-8") as file:
            file.write(f"{at} {fidelity} {os.getpid()}\n")
        time.sleep(self.pause_s)
        figures = {"far": abs(at - 42.0), "high": float(at % 7), "pid": float(os.getpid())}
        if self.trouble:
            self._have_trouble(self.trouble.get(at, ""), figures)
            if self.trouble.get(at) == "infeasible":
                return Outcome("infeasible", {"far": float("nan")}, 1.0, "it does not fit")
        return Outcome("done", figures, 1.0 if fidelity == "dear" else 0.25)

    def _have_trouble(self, kind: str, figures: dict[str, float]) -> None:
        first = Path(self.folder, "first")
        match kind:
            case "nan":
                figures["other"] = float("nan")
            case "inf":
                figures["far"] = float("inf")
            case "missing":
                del figures["high"]
            case "raise":
                raise ValueError("no such wafer")
            case "exit":
                sys.exit("bye")
            case "hang":
                print("about to hang", flush=True)
                time.sleep(1000)
            case "die":
                print("about to die", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            case "die once" if not first.exists():
                first.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            case "write":
                print("a word")
                Path("note.txt").write_text("a note")
            case _:
                pass


class Wrong(Tiny):
    """Does not do what an evaluator does."""

    def evaluate(self, design: Design, fidelity: str) -> Any:
        return {"far": 1.0}


class Hill:
    """Looks around the best that it was told of, cheaply, then dearly: all it does follows from
    the seed and from what it was told, in that order."""

    def __init__(self, seed: int = 0, most: int = 1000) -> None:
        self._seed = seed
        self._most = most
        self._known: set[tuple[str, str]] = set()
        self.told: list[Trial] = []

    @property
    def finished(self) -> bool:
        return len(self._known) >= self._most

    def tell(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            self._known.add((trial.design.key, trial.fidelity))
            if trial.state in ENDED:
                self.told.append(trial)

    def ask(self, count: int) -> list[Suggestion]:
        return [self._next() for _ in range(count) if not self.finished]

    def _next(self) -> Suggestion:
        done = [one for one in self.told if one.outcome and "far" in one.outcome.figures]
        if done and len(done) % 3 == 2:
            best = min(done[-4:], key=lambda one: one.outcome.figures["far"] if one.outcome else 0)
            if (best.design.key, "dear") not in self._known:
                return self._asked(best.design, "dear")
        rng = np.random.default_rng([self._seed, len(self._known)])
        around = float(done[-1].design["at"]) if done else 500.0
        while True:
            found = design(float(np.clip(round(rng.normal(around, 60)), 0, 999)))
            if (found.key, "cheap") not in self._known:
                return self._asked(found, "cheap")

    def _asked(self, what: Design, fidelity: str) -> Suggestion:
        self._known.add((what.key, fidelity))
        return Suggestion(what, fidelity, "hill")


def info(**changes: Any) -> StudyInfo:
    known: dict[str, Any] = {
        "hardware": "tiny.wsc",
        "files": {"tiny.wsc": "wafer"},
        "workloads": [{"name": "decode", "batch": 1}],
        "objectives": [str(each) for each in OBJECTIVES],
        "rungs": [rung.name for rung in RUNGS],
        "strategy": "hill",
        "seed": 0,
        "budget": "10",
        "evaluator_version": "tiny-1",
        "wscc_version": "0",
    }
    return StudyInfo(**(known | changes))


def search(
    folder: Path,
    evaluator: Tiny,
    strategy: Hill | None = None,
    engine: Engine | None = None,
    budget: Budget | None = None,
    on_change: Callable[[Progress], None] | None = None,
    retries: int = 1,
) -> Stopped:
    """A whole study in `folder`, begun or gone on with."""
    with Store.create(folder, info(evaluator_version=evaluator.version)) as store:
        return Coordinator(
            store,
            strategy or Hill(),
            evaluator,
            PROBLEM,
            engine or make_engine("local", 0),
            budget or Budget(evaluations=6),
            retries=retries,
            on_change=on_change,
        ).run()


def trials(folder: Path) -> list[list[Any]]:
    """What is stored, but for the processes that did it."""
    if not _begun(folder):
        return []
    with Store.open(folder) as store:
        return [
            [
                one.number,
                one.design["at"],
                one.fidelity,
                one.state,
                one.outcome
                and dict(sorted((n, v) for n, v in one.outcome.figures.items() if n != "pid")),
            ]
            for one in store.trials()
        ]


def _begun(folder: Path) -> bool:
    try:
        Store.open(folder).close()
    except UserError:
        return False
    return True


def evaluations(folder: Path) -> Counter[str]:
    """How often each was evaluated."""
    file = Path(folder, "evaluated.txt")
    lines = file.read_text().splitlines() if file.exists() else []
    return Counter(" ".join(line.split()[:2]) for line in lines)


def arm(method: str, when: str, number: int) -> None:
    """From now on the process is killed before or after the so manyth call of a store's method, or
    before a commit."""
    calls = Counter[str]()

    def strike(moment: str) -> None:
        if moment == when and calls[method] == number:
            os.kill(os.getpid(), signal.SIGKILL)

    if method == "commit":

        @event.listens_for(sqlalchemy.Engine, "commit")
        def commit(_connection: object) -> None:
            calls[method] += 1
            strike("before")

        return
    whole = Store.__dict__[method]
    plain = whole.__func__ if isinstance(whole, classmethod) else whole

    def deadly(*given: Any, **named: Any) -> Any:
        calls[method] += 1
        strike("before")
        found = plain(*given, **named)
        strike("after")
        return found

    setattr(Store, method, classmethod(deadly) if isinstance(whole, classmethod) else deadly)


def forked(work: Callable[[], object]) -> int:
    """The signal that ended `work` in a process of its own; 0 where none did."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError("the study broke")
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


class Losing(InlineEngine):
    """Loses the worker of a trial the first time."""

    def __init__(self) -> None:
        super().__init__()
        self._lost: list[Ended] = []

    def submit(self, trial: Trial, evaluator: Evaluator, folder: Path) -> None:
        if trial.number == 1 and trial.attempts == 1:
            self._lost.append((1, Lost("its worker left", 1.0)))
        else:
            super().submit(trial, evaluator, folder)

    def poll(self, timeout_s: float) -> Sequence[Ended]:
        lost, self._lost = self._lost, []
        return [*lost, *super().poll(timeout_s)]


class Proving(Hill):
    """Also rules a design out."""

    def exclusions(self) -> "list[Any]":
        from wscc.dse.reader import Exclusion

        return [Exclusion(design(-1), 0, (1.0, 2.0))]


def moments() -> Iterator[tuple[str, str, int]]:
    """When to be killed: around every kind of write, and inside every transaction there is."""
    for method in WRITES:
        yield method, "before", 1
        yield method, "after", 1
    for number in itertools.count(1):
        yield "commit", "before", number


def killed_everywhere(folder: Path) -> None:
    """Print, for every kill, whether the resumed study is the one that was never killed."""

    def study(name: str, *armed: Any) -> Callable[[], object]:
        where = folder / name
        where.mkdir(exist_ok=True)

        def work() -> None:
            if armed:
                arm(*armed)
            evaluator, budget = Tiny(str(where)), Budget(evaluations=1.5)
            search(where, evaluator, Proving(), Losing(), budget)

        return work

    forked(study("whole"))
    whole = trials(folder / "whole")
    for moment in moments():
        name = "-".join(map(str, moment))
        ended = forked(study(name, *moment))
        if ended == 0 and moment[0] == "commit":
            return
        before = trials(folder / name)
        often = evaluations(folder / name)
        forked(study(name))
        done = [f"{one[1]:.0f} {one[2]}" for one in before if one[3] == "done"]
        again = evaluations(folder / name)
        found = {
            "kill": name,
            "signal": ended,
            "same": trials(folder / name) == whole,
            "done before": len(done),
            "repeated": [one for one in done if again[one] != often[one]],
        }
        print(json.dumps(found), flush=True)


def main() -> None:
    command, folder = sys.argv[1], Path(sys.argv[2])
    if command == "kill":
        killed_everywhere(folder)
        return
    workers = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    evaluator = Tiny(str(folder), pause_s=0.05 if workers else 0.0)
    engine = make_engine("local", workers)
    print(search(folder, evaluator, engine=engine, budget=Budget(evaluations=8)).text)


if __name__ == "__main__":
    main()
