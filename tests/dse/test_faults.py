"""Whatever is killed, whenever: nothing that was done is lost, and nothing done is repeated."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from wscc.dse.budget import Budget
from wscc.dse.engines import make_engine
from wscc.dse.store import Store
from wscc.dse.trial import Trial
from wscc.ir.errors import UserError

Tiny = Any
SCRIPT = Path(__file__).with_name("tiny_study.py")


@contextmanager
def process(command: str, folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    folder.mkdir(exist_ok=True)
    begun = subprocess.Popen(
        [sys.executable, str(SCRIPT), command, str(folder), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield begun
    finally:
        begun.kill()
        begun.communicate()


def finished(folder: Path, *arguments: str) -> str:
    """What a study says that is run to its end."""
    with process("run", folder, *arguments) as begun:
        out, err = begun.communicate(timeout=60)
        assert (begun.returncode, err) == (0, "")
    return out.strip()


def wait_for(what: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def stored(folder: Path) -> list[Trial]:
    with suppress(UserError), Store.open(folder) as store:
        return store.trials()
    return []


def done(folder: Path) -> set[str]:
    return {f"{one.design['at']:g} {one.fidelity}" for one in stored(folder) if one.state == "done"}


def workers_of(folder: Path) -> set[int]:
    file = folder / "evaluated.txt"
    return (
        {int(line.split()[2]) for line in file.read_text().splitlines()} if file.exists() else set()
    )


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_study_killed_at_any_write_ends_as_one_that_was_never_killed(tmp_path: Path) -> None:
    with process("kill", tmp_path) as begun:
        out, err = begun.communicate(timeout=300)
    assert (begun.returncode, err) == (0, "")
    found = [json.loads(line) for line in out.splitlines()]
    assert sum(one["kill"].startswith("commit") for one in found) > 15
    assert [one for one in found if one["signal"] != signal.SIGKILL] == []
    assert [one for one in found if not one["same"] or one["repeated"]] == []
    assert {one["done before"] for one in found} >= {0, 1, 2, 3}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_killed_coordinator_takes_its_workers_along_and_is_gone_on_with(
    tiny: Tiny, tmp_path: Path
) -> None:
    with process("run", tmp_path, "2") as begun:
        wait_for(lambda: len(done(tmp_path)) >= 4)
        begun.kill()
        begun.wait()
        wait_for(lambda: not any(runs(pid) for pid in workers_of(tmp_path)), 5.0)
    before, often = done(tmp_path), tiny.evaluations(tmp_path)
    assert finished(tmp_path, "2") == "the budget is spent"
    trials = stored(tmp_path)
    assert {one.state for one in trials} == {"done"}
    assert [one.number for one in trials] == list(range(len(trials)))
    assert before < done(tmp_path)
    assert {one for one in before if tiny.evaluations(tmp_path)[one] != often[one]} == set()


def test_workers_that_are_killed_now_and_then_cost_only_what_ran(
    tiny: Tiny, tmp_path: Path
) -> None:
    rng = random.Random(0)
    killed: set[int] = set()

    def kill_one(_progress: Any) -> None:
        alive = sorted(workers_of(tmp_path) - killed)
        if alive and len(killed) < 3 and rng.random() < 0.4:
            os.kill(alive[-1], signal.SIGKILL)
            killed.add(alive[-1])

    evaluator = tiny.Tiny(str(tmp_path), pause_s=0.02)
    stopped = tiny.search(
        tmp_path,
        evaluator,
        engine=make_engine("local", 2),
        budget=Budget(evaluations=8),
        on_change=kill_one,
        retries=10,
    )
    assert stopped.reason == "budget"
    assert len(killed) == 3
    assert {one.state for one in stored(tmp_path)} == {"done"}
    attempts = {f"{one.design['at']:g} {one.fidelity}": one.attempts for one in stored(tmp_path)}
    assert all(often <= attempts[name] for name, often in tiny.evaluations(tmp_path).items())


def test_a_trial_that_kills_every_worker_fails_with_the_end_of_its_log(
    tiny: Tiny, tmp_path: Path
) -> None:
    with Store.create(tmp_path, tiny.info()) as store:
        from wscc.dse.trial import Suggestion

        for at in (7, 8, 9):
            store.enqueue(Suggestion(tiny.design(at), "dear"))
    tiny.search(
        tmp_path,
        tiny.Tiny(str(tmp_path), {7: "die", 8: "die once"}),
        engine=make_engine("local", 1),
        budget=Budget(evaluations=3),
    )
    first, second, third = stored(tmp_path)
    assert [(one.state, one.attempts) for one in (first, second, third)] == [
        ("failed", 2),
        ("done", 2),
        ("done", 1),
    ]
    assert first.outcome is not None
    assert first.outcome.reason == (
        "its worker was killed by signal 9 (SIGKILL); tried 2 times; the end of its log:\n"
        "about to die\nabout to die"
    )


def test_a_second_coordinator_is_refused_and_a_killed_one_is_not_in_the_way(
    tiny: Tiny, tmp_path: Path
) -> None:
    with process("run", tmp_path, "1") as begun:
        wait_for(lambda: done(tmp_path))
        with pytest.raises(
            UserError, match=rf"is being searched by process {begun.pid} on .*stop it"
        ):
            tiny.search(tmp_path, tiny.Tiny(str(tmp_path)))
        begun.send_signal(signal.SIGSTOP)
        with Store.open(tmp_path) as store:
            assert store.holder is not None
            assert store.holder.pid == begun.pid
        begun.kill()
        begun.wait()
        with Store.open(tmp_path) as store:
            assert store.holder is None
    assert tiny.search(tmp_path, tiny.Tiny(str(tmp_path))).reason == "budget"


def test_a_disk_without_room_stops_the_search_with_one_message(tmp_path: Path) -> None:
    program = (
        "import resource, runpy, sys; from wscc.ir.errors import UserError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))\n"
        f"sys.argv = ['tiny', 'run', {str(tmp_path)!r}]\n"
        "try: runpy.run_path(%r, run_name='__main__')\n"
        "except UserError as error: print(error)\n" % str(SCRIPT)
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (said.returncode, said.stderr) == (0, "")
    assert "the disk" in said.stdout
    before = done(tmp_path)
    assert finished(tmp_path) == "the budget is spent"
    assert before <= done(tmp_path)
    assert {one.state for one in stored(tmp_path)} == {"done"}
