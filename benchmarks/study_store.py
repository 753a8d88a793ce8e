"""What the store of a study costs: a trial's writes, and opening a study of many trials.

    python benchmarks/study_store.py [--trials 100000] [--url postgresql://...]

A trial is enqueued, started and finished, a transaction each, with as many figures as a report has.
Opening and listing is timed in a new process, from its start to the sizes of front and study on
its output.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from wscc.dse.design import Design
from wscc.dse.schema import DESIGNS, FIGURES, TRIALS
from wscc.dse.store import Store
from wscc.dse.study import StudyInfo
from wscc.dse.trial import Outcome, Suggestion

FIGURES_OF_A_REPORT = 60
PARAMETERS = 15
WRITTEN = 2000
"""Trials that are written one by one."""

LIST = """
import sys
from wscc.dse.store import Store
with Store.open(sys.argv[1]) as store:
    print(len(store.front()), sum(store.counts().values()))
"""


def info() -> StudyInfo:
    """Of a study with three objectives."""
    return StudyInfo(
        hardware="bench.wsc",
        files={},
        workloads=[],
        objectives=["min:f0", "max:f1", "min:f2"],
        rungs=["top"],
        strategy="random",
        seed=0,
        budget="1000",
        evaluator_version="bench",
        wscc_version="0",
    )


def design(number: int) -> Design:
    """A different one for every number."""
    return Design.of({f"parameter_{at}": number * (at + 1) for at in range(PARAMETERS)})


def outcome(number: int) -> Outcome:
    """With random figures."""
    values = np.random.default_rng(number).random(FIGURES_OF_A_REPORT)
    return Outcome("done", {f"f{at}": float(v) for at, v in enumerate(values)}, 1.0)


def write_one_by_one(store: Store) -> tuple[float, float]:
    """Seconds a trial, on the clock and of this process."""
    work = [(Suggestion(design(number), "top"), outcome(number)) for number in range(WRITTEN)]
    began, began_cpu = time.perf_counter(), time.process_time()
    for suggestion, found in work:
        store.finish(store.start(store.enqueue(suggestion), "bench"), found)
    taken = time.perf_counter() - began, time.process_time() - began_cpu
    return taken[0] / WRITTEN, taken[1] / WRITTEN


def children_s() -> float:
    """Of a core, taken by processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def fill(store: Store, first: int, trials: int) -> None:
    """The same rows at once."""
    for start in range(first, trials, 10_000):
        numbers = range(start, min(start + 10_000, trials))
        designs = [design(number) for number in numbers]
        found = [outcome(number) for number in numbers]
        with store._database.writing() as connection:
            texts = [json.dumps(dict(each.values)) for each in designs]
            rows = zip(designs, texts, strict=True)
            connection.execute(
                DESIGNS.insert(), [{"key": each.key, "parameters": text} for each, text in rows]
            )
            connection.execute(
                TRIALS.insert(),
                [
                    {
                        "number": number,
                        "design": each.key,
                        "fidelity": "top",
                        "version": "bench",
                        "state": "done",
                        "attempts": 1,
                        "queued_at": 0.0,
                        "seconds": 1.0,
                        "losses": store._losses(own),
                    }
                    for number, each, own in zip(numbers, designs, found, strict=True)
                ],
            )
            connection.execute(
                FIGURES.insert(),
                [
                    {"number": number, "figures": json.dumps(dict(own.figures))}
                    for number, own in zip(numbers, found, strict=True)
                ],
            )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What the store of a study costs.")
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--url", help="of an empty PostgreSQL database")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        where = asked.url or str(Path(folder, "study"))
        with Store.create(where, info()) as store:
            wall_s, cpu_s = write_one_by_one(store)
            print(f"{1e3 * wall_s:.2f} ms a trial ({1e3 * cpu_s:.2f} ms of a core) to write it")
            fill(store, WRITTEN, asked.trials)
        for _ in range(3):
            began, began_cpu = time.perf_counter(), children_s()
            said = subprocess.run(
                [sys.executable, "-c", LIST, where], capture_output=True, text=True
            )
            took = time.perf_counter() - began
            cpu_s = children_s() - began_cpu
            print(f"{took:.2f} s ({cpu_s:.2f} s of a core) to open and list:", end=" ")
            print(said.stdout or said.stderr, end="")


if __name__ == "__main__":
    main()
