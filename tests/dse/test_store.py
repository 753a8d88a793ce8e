"""The store: what it keeps, what it refuses, and that a front read from it is the front."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wscc.dse import database
from wscc.dse.design import Design
from wscc.dse.reader import Exclusion
from wscc.dse.store import Store
from wscc.dse.study import StudyInfo
from wscc.dse.trial import Outcome, Suggestion, Trial
from wscc.ir.errors import UserError


@pytest.fixture
def store(tiny: Any, tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "study", tiny.info()) as store:
        yield store


def asked(at: float, fidelity: str = "dear") -> Suggestion:
    return Suggestion(Design.of({"at": at, "kind": "mesh"}), fidelity, "because")


def done(far: float, high: float) -> Outcome:
    return Outcome("done", {"far": far, "high": high}, 2.0)


def evaluated(store: Store, at: float, outcome: Outcome, fidelity: str = "dear") -> Trial:
    return store.finish(store.start(store.enqueue(asked(at, fidelity)), "here"), outcome)


def test_a_trial_is_read_back_as_it_was_written(store: Store) -> None:
    written = evaluated(store, 1, Outcome("done", {"far": 0.1 + 0.2, "high": 1e-300}, 2.5, "ok"))
    assert store.trials() == [written]
    assert store.trial(0) == written
    assert written.attempts == 1
    assert written.note == "because"
    assert written.worker == "here"


def test_a_design_has_one_trial_at_a_fidelity(store: Store) -> None:
    first = store.enqueue(asked(1))
    assert store.enqueue(asked(1)) == first
    assert store.enqueue(asked(1, "cheap")).number == 1
    assert store.enqueue(asked(2)).number == 2
    finished = store.finish(store.start(first, "here"), done(1, 1))
    assert store.enqueue(asked(1)) == finished
    assert store.counts() == {
        ("dear", "done"): 1,
        ("dear", "queued"): 1,
        ("cheap", "queued"): 1,
    }


def test_what_is_done_is_never_written_again(store: Store) -> None:
    trial = evaluated(store, 1, done(1, 1))
    for change in (
        lambda: store.finish(trial, done(0, 9)),
        lambda: store.start(trial, "here"),
        lambda: store.lose(trial, "gone", 1.0),
    ):
        with pytest.raises(ValueError, match="trial 0 is in no state"):
            change()
    with pytest.raises(UserError, match="trial 0 neither failed nor was lost"):
        store.retry([0])
    assert store.trials() == [trial]


def test_a_figure_that_is_not_finite_is_never_stored(store: Store) -> None:
    trial = store.start(store.enqueue(asked(1)), "here")
    with pytest.raises(ValueError, match="JSON"):
        store.finish(trial, done(1, float("nan")))
    assert store.trial(0).state == "running"


def test_a_failed_trial_is_tried_again_as_the_same_trial(store: Store) -> None:
    evaluated(store, 1, Outcome("failed", seconds=3.0, reason="it broke"))
    evaluated(store, 2, done(1, 1))
    assert store.retry() == [0]
    again = store.trial(0)
    assert (again.state, again.outcome, again.attempts) == ("queued", None, 1)
    assert store.waiting() == [0]
    finished = store.finish(store.start(again, "there"), done(5, 5))
    assert (finished.number, finished.attempts) == (0, 2)
    assert [(one.kind, one.trial, one.text) for one in store.events()] == [("retry", 0, "it broke")]
    assert store.spent() == {"dear": 3.0 + 2.0 + 2.0}


def test_what_ran_waits_again_once_its_coordinator_is_gone(store: Store) -> None:
    store.start(store.enqueue(asked(1)), "here")
    evaluated(store, 2, done(1, 1))
    store.enqueue(asked(3))
    assert store.recover() == [0]
    assert store.trial(0).state == "lost"
    assert store.waiting() == [0, 2]


def test_the_same_search_is_gone_on_with_and_may_be_longer(tiny: Any, tmp_path: Path) -> None:
    with Store.create(tmp_path, tiny.info()) as store:
        evaluated(store, 1, done(1, 1))
    with Store.create(tmp_path, tiny.info(budget="2h", engine="ray")) as store:
        assert [one.number for one in store.trials()] == [0]
    with Store.open(tmp_path) as store:
        assert store.info.to_json() == tiny.info(budget="2h", engine="ray").to_json()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 1}, r"seed: 0, not 1"),
        ({"objectives": ["min:far"]}, r"objectives: min:far, max:high, not min:far"),
        ({"files": {"tiny.wsc": "wafer 2"}}, r"files: not the same tiny.wsc"),
        ({"workloads": [{"name": "decode", "batch": 8}]}, r"workloads: not the same batch"),
        ({"strategy": "random", "seed": 3}, r"strategy: hill, not random; seed: 0, not 3"),
    ],
)
def test_another_search_in_the_same_folder_is_refused_with_what_differs(
    tiny: Any, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    Store.create(tmp_path, tiny.info()).close()
    with pytest.raises(UserError, match=rf"holds another study \({said}\)"):
        Store.create(tmp_path, tiny.info(**change))
    assert Store.open(tmp_path).info.to_json() == tiny.info().to_json()


def test_a_description_reads_back_and_damage_is_refused(tiny: Any) -> None:
    info = tiny.info(limits=["far <= 3"], options={"epsilon": 0.02})
    assert StudyInfo.from_json(info.to_json()) == info
    for text in ("", "{}", "[1]", info.to_json().replace("seed", "sead")):
        with pytest.raises(UserError, match="the description of the study is damaged"):
            StudyInfo.from_json(text)


def test_results_of_two_versions_of_an_evaluator_are_never_mixed(tiny: Any, tmp_path: Path) -> None:
    with Store.create(tmp_path, tiny.info()) as store:
        evaluated(store, 1, done(1, 1))
        store.enqueue(asked(2))
    with Store.create(tmp_path, tiny.info(evaluator_version="tiny-2")) as store:
        assert [(one.number, one.state) for one in store.trials()] == [(1, "queued")]
        assert store.front() == []
        assert store.enqueue(asked(1)).number == 2
        evaluated(store, 2, done(7, 7))
    with Store.create(tmp_path, tiny.info()) as store:
        assert [(one.number, one.state) for one in store.trials()] == [(0, "done")]


FIGURE = st.integers(0, 6).map(float)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.lists(st.tuples(FIGURE, FIGURE, st.booleans()), max_size=15))
def test_the_front_is_of_what_no_trial_betters_and_no_limit_forbids(
    tiny: Any, tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, float, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("study")
    with Store.create(folder, tiny.info(limits=["far <= 5"])) as store:
        for at, (far, high, able) in enumerate(rows):
            outcome = done(far, high)
            evaluated(store, at, outcome if able else replace(outcome, state="infeasible"))
        able = {at: row[:2] for at, row in enumerate(rows) if row[2] and row[0] <= 5}
        best = {
            at
            for at, (far, high) in able.items()
            if not any(f <= far and h >= high and (f, h) != (far, high) for f, h in able.values())
        }
        front = store.front()
        assert {one.number for one in front} == best
        order = [(able[one.number][0], -able[one.number][1], one.number) for one in front]
        assert order == sorted(order)
        assert store.front("cheap") == []


def test_many_fronts_agree_whether_trials_are_few_or_hundreds(store: Store) -> None:
    rng = np.random.default_rng(0)
    worth = rng.random((700, 2))
    worth[:, 1] = 1 - worth[:, 0]
    for at, (far, high) in enumerate(worth):
        evaluated(store, at, done(far, -high))
    assert len(store.front()) == 700


def test_what_was_ruled_out_is_kept_with_the_proof_once(store: Store) -> None:
    first = Exclusion(Design.of({"at": 1.0}), 3, (1.0, 2.0))
    hopeless = Exclusion(Design.of({"at": 2.0}), None, (float("inf"), 2.0))
    assert store.exclude([first]) == 1
    assert store.exclude(iter([first, hopeless])) == 2
    assert list(store.exclusions()) == [first, hopeless]


def test_a_study_is_read_while_another_process_writes_it(tiny: Any, tmp_path: Path) -> None:
    with Store.create(tmp_path, tiny.info()) as writer, Store.open(tmp_path) as reader:
        with writer._database.writing() as connection:
            connection.exec_driver_sql("DELETE FROM trials")
            assert reader.trials() == []
        evaluated(writer, 1, done(1, 1))
        assert len(reader.trials()) == 1
        with pytest.raises(UserError, match="cannot be written"):
            reader.enqueue(asked(2))


def test_two_processes_may_enqueue_at_once(tiny: Any, tmp_path: Path) -> None:
    with Store.create(tmp_path, tiny.info()) as one, Store.open(tmp_path, write=True) as other:
        numbers = [store.enqueue(asked(at)).number for at in range(4) for store in (one, other)]
        assert numbers == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("schema", "said"),
    [("0", "an older wscc .schema 0.; this one reads 1"), ("2", "a newer wscc .schema 2.")],
)
def test_a_study_of_another_schema_is_refused(
    tiny: Any, tmp_path: Path, schema: str, said: str
) -> None:
    Store.create(tmp_path, tiny.info()).close()
    with sqlite3.connect(tmp_path / "study.db") as connection:
        connection.execute("UPDATE wscc_study SET value = ? WHERE key = 'schema'", [schema])
    for use in (lambda: Store.open(tmp_path), lambda: Store.create(tmp_path, tiny.info())):
        with pytest.raises(UserError, match=said):
            use()


def test_what_is_no_study_is_refused_in_one_line(tiny: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "study.db").write_bytes(b"no database at all" * 100)
    (tmp_path / "other").mkdir()
    sqlite3.connect(tmp_path / "other" / "study.db").execute("CREATE TABLE t (x)").close()
    for where, said in {
        tmp_path / "none": "no study there",
        tmp_path / "broken": "not a database, or damaged",
        tmp_path / "other": "no study there",
        "mysql://somewhere/study": "expected a folder, or postgresql://",
        "nonsense://": "expected a folder, or postgresql://",
    }.items():
        with pytest.raises(UserError, match=said) as raised:
            Store.open(where)
        assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match="cannot be made"):
        Store.create(tmp_path / "file", tiny.info())
    assert not (tmp_path / "none").exists()


def test_a_password_in_a_url_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError) as raised:
        Store.open("postgresql://me:secret@127.0.0.1:1/study")
    assert "secret" not in str(raised.value)
    assert "me:***@127.0.0.1:1/study" in str(raised.value)


def test_odd_names_of_folders_are_only_names(tiny: Any, tmp_path: Path) -> None:
    folder = tmp_path / "what? 100% #1 größe"
    with Store.create(folder, tiny.info()) as store:
        evaluated(store, 1, done(1, 1))
    with Store.open(folder) as store:
        assert len(store.trials()) == 1
    assert (folder / "study.db").exists()


def test_a_locked_database_is_one_clear_message(
    store: Store, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    other = sqlite3.connect(store.folder / "study.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with (
        Store.open(store.folder, write=True) as waiting,
        pytest.raises(UserError, match=r"study.db: locked by another process"),
    ):
        waiting.enqueue(asked(1))
    other.execute("ROLLBACK")
    assert store.enqueue(asked(1)).number == 0


def test_a_full_disk_is_one_clear_message_and_loses_nothing(store: Store) -> None:
    for at in range(3):
        evaluated(store, at, done(at, at))
    before = store.trials()
    with store._database.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    trial = store.start(store.enqueue(asked(99)), "here")
    large = Outcome("done", {"far": 1.0, "high": 1.0, **{f"f{i}": i / 7 for i in range(3000)}})
    with pytest.raises(UserError, match=r"study.db: the disk is full. What had ended is kept"):
        store.finish(trial, large)
    assert store.trials()[:3] == before
    assert store.trial(3).state == "running"
    with store._database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 100000")
    assert store.finish(trial, large).state == "done"


def test_only_a_fidelity_of_the_study_may_be_asked_for(store: Store) -> None:
    with pytest.raises(UserError, match="no fidelity 'dearest', expected one of cheap, dear"):
        store.enqueue(asked(1, "dearest"))
    with pytest.raises(UserError, match="no trial 7, it has none yet"):
        store.trial(7)


def test_figures_are_plain_json_for_other_tools(store: Store) -> None:
    evaluated(store, 1, done(1, 2))
    rows = sqlite3.connect(store.folder / "study.db").execute("SELECT figures FROM figures")
    assert json.loads(rows.fetchone()[0]) == {"far": 1, "high": 2}


def test_a_second_coordinator_is_refused_until_the_first_is_gone(tiny: Any, tmp_path: Path) -> None:
    with Store.create(tmp_path, tiny.info()) as one, Store.open(tmp_path, write=True) as other:
        assert other.holder is None
        with one.guard():
            assert other.holder is not None
            with pytest.raises(UserError, match="is being searched by process"), other.guard():
                pass
        assert other.holder is None
        with other.guard() as guard:
            guard.check()
