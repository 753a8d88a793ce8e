"""What every engine must do, and what only processes can: die, hang, and be replaced."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wscc.dse.engines import Engine, Lost, make_engine
from wscc.dse.evaluator import Evaluator
from wscc.dse.trial import Outcome, Trial
from wscc.ir.errors import UserError

Tiny = Any


@pytest.fixture(params=["inline", "local"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    made = make_engine("local", 0 if request.param == "inline" else 2)
    yield made
    made.close()


@pytest.fixture
def local() -> Iterator[Engine]:
    """One process, which may take two seconds."""
    made = make_engine("local", 1, timeout_s=2.0)
    yield made
    made.close()


def run(
    engine: Engine, tiny: Tiny, folder: Path, evaluator: Evaluator, *numbers: int
) -> dict[int, Outcome | Lost]:
    """How evaluations of numbers end."""
    found: dict[int, Outcome | Lost] = {}
    left = list(numbers)
    running = 0
    while left or running:
        while left and running < engine.workers:
            number = left.pop(0)
            trial = Trial(number, tiny.design(number), "dear", "running")
            engine.submit(trial, evaluator, folder / "trials" / str(number))
            running += 1
        ended = engine.poll(1.0)
        found |= dict(ended)
        running -= len(ended)
    return found


def outcome(found: Outcome | Lost) -> Outcome:
    assert isinstance(found, Outcome)
    return found


def test_an_evaluation_gives_the_same_wherever_it_is_carried_out(
    tiny: Tiny, tmp_path: Path, engine: Engine
) -> None:
    evaluator = tiny.Tiny(str(tmp_path), {3: "raise", 4: "exit", 5: "infeasible"})
    found = run(engine, tiny, tmp_path, evaluator, 1, 2, 3, 4, 5)
    far = {number: outcome(one).figures.get("far") for number, one in found.items()}
    assert (far[1], far[2]) == (41.0, 40.0)
    assert [outcome(found[at]).state for at in range(1, 6)] == [
        *("done", "done", "failed", "failed", "infeasible")
    ]
    assert outcome(found[3]).reason == "ValueError: no such wafer"
    assert outcome(found[4]).reason == "SystemExit: bye"


def test_what_is_no_outcome_has_failed(tiny: Tiny, tmp_path: Path, engine: Engine) -> None:
    (found,) = run(engine, tiny, tmp_path, tiny.Wrong(str(tmp_path)), 1).values()
    assert outcome(found).reason == "the evaluator returned dict, not an Outcome"


def test_an_evaluator_that_cannot_be_sent_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    class Nowhere(tiny.Tiny):
        pass

    engine = make_engine("local", 1)
    with pytest.raises(UserError, match="the evaluator cannot be sent to workers"):
        run(engine, tiny, tmp_path, Nowhere(str(tmp_path)), 1)
    engine.close()


def test_a_worker_lives_on_and_keeps_its_output_apart(
    tiny: Tiny, tmp_path: Path, local: Engine, capfd: pytest.CaptureFixture[str]
) -> None:
    evaluator = tiny.Tiny(str(tmp_path), {2: "write", 3: "raise"})
    found = run(local, tiny, tmp_path, evaluator, 1, 2, 3, 4)
    pids = {outcome(found[at]).figures["pid"] for at in (1, 2, 4)}
    assert len(pids) == 1
    assert os.getpid() not in pids
    assert sorted(path.name for path in (tmp_path / "trials").iterdir()) == ["2", "3"]
    own = tmp_path / "trials" / "2"
    assert ((own / "log.txt").read_text(), (own / "note.txt").read_text()) == ("a word\n", "a note")
    assert "in _have_trouble" in (tmp_path / "trials" / "3" / "log.txt").read_text()
    assert capfd.readouterr().out == ""


def test_a_worker_that_hangs_or_dies_is_replaced(tiny: Tiny, tmp_path: Path, local: Engine) -> None:
    evaluator = tiny.Tiny(str(tmp_path), {2: "hang", 3: "die"})
    found = run(local, tiny, tmp_path, evaluator, 1, 2, 3, 4)
    hung, died = found[2], found[3]
    assert isinstance(hung, Lost)
    assert hung.reason == "it took longer than 2 s and was killed"
    assert hung.seconds >= 2
    assert isinstance(died, Lost)
    assert died.reason == "its worker was killed by signal 9 (SIGKILL)"
    assert outcome(found[1]).state == outcome(found[4]).state == "done"
    assert (tmp_path / "trials" / "2" / "log.txt").read_text() == "about to hang\n"


def test_a_worker_killed_between_trials_costs_nothing(
    tiny: Tiny, tmp_path: Path, local: Engine
) -> None:
    evaluator = tiny.Tiny(str(tmp_path))
    pid = int(outcome(run(local, tiny, tmp_path, evaluator, 1)[1]).figures["pid"])
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    assert outcome(run(local, tiny, tmp_path, evaluator, 2)[2]).state == "done"


def test_closing_ends_what_runs_at_once(tiny: Tiny, tmp_path: Path) -> None:
    engine = make_engine("local", 1)
    engine.submit(
        Trial(1, tiny.design(1), "dear", "running"),
        tiny.Tiny(str(tmp_path), {1: "hang"}),
        tmp_path / "1",
    )
    while not (tmp_path / "evaluated.txt").exists():
        assert engine.poll(0.05) == []
    pid = int((tmp_path / "evaluated.txt").read_text().split()[2])
    engine.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.slow
def test_ray_gives_the_same_results_and_survives_its_workers(tiny: Tiny, tmp_path: Path) -> None:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(tiny)
    engine = make_engine("ray", 1, timeout_s=5.0)
    try:
        evaluator = tiny.Tiny(str(tmp_path), {3: "raise", 4: "die", 5: "hang"})
        found = run(engine, tiny, tmp_path, evaluator, 1, 2, 3, 4, 5, 6)
    finally:
        engine.close()
    assert [outcome(found[at]).figures.get("far") for at in (1, 2, 6)] == [41.0, 40.0, 36.0], found
    assert outcome(found[3]).reason == "ValueError: no such wafer"
    assert isinstance(found[4], Lost)
    assert isinstance(found[5], Lost)
    assert found[5].reason.startswith("its worker died, or took longer than 5 s")
    assert "Timeout (0:00:05)!" in (tmp_path / "trials" / "5" / "log.txt").read_text()
