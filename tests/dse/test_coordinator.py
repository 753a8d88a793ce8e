"""The loop of a search: what it asks for, counts, refuses, and why it stops."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from wscc.dse.budget import Budget, Ledger, read_budget
from wscc.dse.coordinator import trusted
from wscc.dse.design import Design
from wscc.dse.evaluator import Rung
from wscc.dse.store import Store
from wscc.dse.trial import Outcome, Suggestion, Trial
from wscc.ir.errors import UserError, VerificationError

Tiny = Any


def whole(tiny: Tiny, folder: Path, **how: Any) -> Any:
    """A study with its evaluator's troubles, run to its end."""
    trouble = how.pop("trouble", {})
    return tiny.search(folder, tiny.Tiny(str(folder), trouble), **how)


class Listed:
    """Asks for numbers of a list at the top."""

    def __init__(self, *numbers: float, fidelity: str = "dear") -> None:
        self._left = list(numbers)
        self._fidelity = fidelity
        self.told: list[Trial] = []

    @property
    def finished(self) -> bool:
        return not self._left

    def tell(self, trials: list[Trial]) -> None:
        self.told += trials
        known = {one.design["at"] for one in trials}
        self._left = [at for at in self._left if at not in known]

    def ask(self, count: int) -> list[Suggestion]:
        asked, self._left = self._left[:count], self._left[count:]
        return [Suggestion(Design.of({"at": at}), self._fidelity) for at in asked]


def test_the_same_seed_makes_the_same_trials_in_the_same_order(tiny: Tiny, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        stopped = whole(tiny, tmp_path / name)
        assert (stopped.reason, stopped.text) == ("budget", "the budget is spent")
    (tmp_path / "c").mkdir()
    whole(tiny, tmp_path / "c", strategy=tiny.Hill(seed=1))
    assert tiny.trials(tmp_path / "a") == tiny.trials(tmp_path / "b")
    assert tiny.trials(tmp_path / "a") != tiny.trials(tmp_path / "c")
    assert {row[2] for row in tiny.trials(tmp_path / "a")} == {"cheap", "dear"}


def test_a_longer_budget_goes_on_as_if_it_had_been_given_at_once(
    tiny: Tiny, tmp_path: Path
) -> None:
    for name, budgets in {"parts": (1, 2.5, 6), "whole": (6,)}.items():
        (tmp_path / name).mkdir()
        for evaluations in budgets:
            whole(tiny, tmp_path / name, budget=Budget(evaluations=evaluations))
    assert tiny.trials(tmp_path / "parts") == tiny.trials(tmp_path / "whole")
    assert set(tiny.evaluations(tmp_path / "parts").values()) == {1}


def test_a_spent_budget_is_not_spent_again(tiny: Tiny, tmp_path: Path) -> None:
    whole(tiny, tmp_path)
    before = tiny.trials(tmp_path)
    assert whole(tiny, tmp_path).reason == "budget"
    assert tiny.trials(tmp_path) == before


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("nan", "no finite figure: other is nan"),
        ("inf", "no finite figure: far is inf"),
        ("missing", "no figure high; there are: far, pid"),
        ("raise", "ValueError: no such wafer"),
        ("exit", "SystemExit: bye"),
    ],
)
def test_a_broken_evaluation_is_a_failed_trial_and_never_a_figure(
    tiny: Tiny, tmp_path: Path, kind: str, said: str
) -> None:
    strategy = Listed(1, 2, 3)
    stopped = whole(tiny, tmp_path, strategy=strategy, trouble={2: kind})
    assert stopped.reason == "finished"
    with Store.open(tmp_path) as store:
        good, broken, other = store.trials()
        assert (good.state, broken.state, other.state) == ("done", "failed", "done")
        assert broken.outcome is not None
        assert (broken.outcome.figures, broken.outcome.reason) == ({}, said)
        assert broken.number not in {one.number for one in store.front()}
    assert [one.state for one in strategy.told] == ["done", "failed", "done"]


def test_designs_that_cannot_do_the_work_are_counted_and_end_the_search(
    tiny: Tiny, tmp_path: Path
) -> None:
    trouble = dict.fromkeys(range(1000), "infeasible")
    stopped = whole(tiny, tmp_path, trouble=trouble, budget=Budget(evaluations=3))
    assert stopped.reason == "budget"
    with Store.open(tmp_path) as store:
        assert store.front() == []
        assert store.counts() == {("cheap", "infeasible"): 12}
        first = store.trial(0).outcome
        assert first is not None
        assert (first.reason, dict(first.figures)) == ("it does not fit", {})


def test_a_space_with_nothing_left_ends_the_search(tiny: Tiny, tmp_path: Path) -> None:
    stopped = whole(tiny, tmp_path, strategy=Listed(1, 2), budget=Budget(evaluations=9))
    assert (stopped.reason, stopped.text) == (
        "finished",
        "the strategy has nothing more to ask for",
    )
    assert whole(tiny, tmp_path, strategy=Listed(1, 2)).reason == "finished"
    assert len(tiny.trials(tmp_path)) == 2


def test_a_strategy_that_waits_for_nothing_does_not_hang_the_search(
    tiny: Tiny, tmp_path: Path
) -> None:
    idle = SimpleNamespace(ask=lambda _: [], tell=lambda _: None, finished=False)
    stopped = whole(tiny, tmp_path, strategy=idle)
    assert stopped.text.endswith("waits for nothing that runs")


def test_when_everything_fails_the_search_says_so_and_stops(tiny: Tiny, tmp_path: Path) -> None:
    trouble = dict.fromkeys(range(1000), "raise")
    stopped = whole(tiny, tmp_path, trouble=trouble, budget=Budget(evaluations=1000))
    assert stopped.reason == "failures"
    assert stopped.text == ("20 evaluations in a row failed, the last: ValueError: no such wafer")


def test_a_strategy_that_repeats_itself_is_a_fault_of_ours(tiny: Tiny, tmp_path: Path) -> None:
    again = SimpleNamespace(
        ask=lambda _: [Suggestion(tiny.design(1), "dear")], tell=lambda _: None, finished=False
    )
    with pytest.raises(VerificationError, match="asked again for trial 0"):
        whole(tiny, tmp_path, strategy=again)


def test_what_a_user_enqueues_is_evaluated_first_and_whatever_the_budget(
    tiny: Tiny, tmp_path: Path
) -> None:
    with Store.create(tmp_path, tiny.info()) as store:
        store.enqueue(Suggestion(tiny.design(7), "dear", "mine"))
    strategy = Listed(1, 2, 3, 7)
    whole(tiny, tmp_path, strategy=strategy, budget=Budget(evaluations=2))
    assert [row[1] for row in tiny.trials(tmp_path)] == [7, 1]
    with Store.open(tmp_path, write=True) as store:
        store.enqueue(Suggestion(tiny.design(8), "dear", "mine"))
    assert (
        whole(tiny, tmp_path, strategy=Listed(1), budget=Budget(evaluations=2)).reason == "budget"
    )
    assert [row[1:4] for row in tiny.trials(tmp_path)][-1] == [8, "dear", "done"]


def test_what_is_retried_is_evaluated_again_by_the_next_run(tiny: Tiny, tmp_path: Path) -> None:
    whole(tiny, tmp_path, strategy=Listed(1, 2), trouble={2: "raise"})
    with Store.open(tmp_path, write=True) as store:
        assert store.retry() == [1]
    strategy = Listed(1, 2)
    whole(tiny, tmp_path, strategy=strategy)
    assert [row[3] for row in tiny.trials(tmp_path)] == ["done", "done"]
    assert tiny.evaluations(tmp_path) == {"1 dear": 1, "2 dear": 2}
    assert strategy.told[-1].state == "done"


def test_an_interrupted_search_keeps_what_had_ended_and_goes_on(tiny: Tiny, tmp_path: Path) -> None:
    class Interrupted(tiny.Tiny):
        def evaluate(self, design: Design, fidelity: str) -> Outcome:
            if design["at"] == 2:
                raise KeyboardInterrupt
            return super().evaluate(design, fidelity)

    with pytest.raises(KeyboardInterrupt):
        tiny.search(tmp_path, Interrupted(str(tmp_path)), strategy=Listed(1, 2, 3))
    with Store.open(tmp_path) as store:
        assert [one.state for one in store.trials()] == ["done", "lost"]
        assert store.holder is None
    whole(tiny, tmp_path, strategy=Listed(1, 2, 3))
    assert [row[3] for row in tiny.trials(tmp_path)] == ["done"] * 3
    assert tiny.evaluations(tmp_path)["1 dear"] == 1


def test_a_lost_worker_is_retried_so_often_and_then_the_trial_has_failed(
    tiny: Tiny, tmp_path: Path
) -> None:
    for name, retries, states in (("a", 1, ["done", "done"]), ("b", 0, ["done", "failed"])):
        (tmp_path / name).mkdir()
        how = {"strategy": Listed(1, 2), "engine": tiny.Losing(), "retries": retries}
        whole(tiny, tmp_path / name, **how)
        assert [row[3] for row in tiny.trials(tmp_path / name)] == states
    with Store.open(tmp_path / "b") as store:
        outcome = store.trial(1).outcome
        assert outcome is not None
        assert outcome.reason == "its worker left; tried 1 time"
    with Store.open(tmp_path / "a") as store:
        assert [(one.kind, one.text) for one in store.events()][1] == ("lost", "its worker left")
        assert store.spent() == {"dear": 3.0}


def test_proofs_of_the_strategy_are_kept(tiny: Tiny, tmp_path: Path) -> None:
    whole(tiny, tmp_path, strategy=tiny.Proving())
    with Store.open(tmp_path) as store:
        (kept,) = store.exclusions()
    assert (kept.design, kept.trial, kept.optimistic) == (tiny.design(-1), 0, (1.0, 2.0))


def test_every_change_of_a_trial_is_shown(tiny: Tiny, tmp_path: Path) -> None:
    seen: list[Any] = []
    whole(tiny, tmp_path, strategy=Listed(1, 2), on_change=seen.append)
    shown = [(one.trial.number, one.trial.state) for one in seen if one.trial]
    assert shown == [(0, "running"), (0, "done"), (1, "running"), (1, "done")]
    assert [one.used for one in seen if one.trial] == [1, 1, 2, 2]
    assert seen[-1].share == pytest.approx(2 / 6)


def test_a_time_is_a_budget_over_all_runs(tiny: Tiny, tmp_path: Path) -> None:
    assert whole(tiny, tmp_path, budget=Budget(seconds=0.05)).reason == "budget"
    count = len(tiny.trials(tmp_path))
    with Store.open(tmp_path) as store:
        assert store.elapsed_s >= 0.05
    assert whole(tiny, tmp_path, budget=Budget(seconds=0.05)).reason == "budget"
    assert len(tiny.trials(tmp_path)) == count


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("200", Budget(evaluations=200)),
        ("2h", Budget(seconds=7200)),
        ("30m", Budget(seconds=1800)),
        ("1.5d", Budget(seconds=129600)),
    ],
)
def test_a_budget_is_a_time_or_a_number_of_evaluations(text: str, budget: Budget) -> None:
    assert read_budget(text) == budget


@pytest.mark.parametrize("text", ["", "h", "-1", "0", "nan", "inf", "2 weeks", "1e999s"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="expected a time, as 90s, 30m or 2h, or a number"):
        read_budget(text)


def test_a_cheap_evaluation_costs_what_it_takes_once_that_is_known() -> None:
    def ended(number: int, fidelity: str, state: Any, seconds: float) -> Trial:
        outcome = Outcome(state, {}, seconds)
        return Trial(number, Design.of({"at": number}), fidelity, state, outcome)

    ledger = Ledger((Rung("cheap", 0.25), Rung("dear", 1.0)), Budget(evaluations=3))
    ledger.count(ended(0, "cheap", "done", 1.0))
    assert ledger.used() == 0.25
    ledger.count(ended(1, "dear", "done", 10.0))
    assert ledger.used() == pytest.approx(0.1 + 1)
    ledger.count(ended(2, "dear", "infeasible", 0.0))
    ledger.count(ended(3, "cheap", "failed", 0.0))
    ledger.count(ended(3, "cheap", "failed", 0.0))
    assert ledger.used() == pytest.approx(0.2 + 2)
    assert ledger.used(["dear"]) == pytest.approx(0.2 + 3)
    assert (ledger.room(()), ledger.room(["dear"])) == (1, 0)
    assert not ledger.spent(1e9)


def test_only_plain_finite_numbers_are_trusted() -> None:
    figures: Any = {"a": np.float32(0.5), "b": np.int64(3), "c": True}
    found = trusted(Outcome("done", figures, math.nan), ["a"])
    assert found == Outcome("done", {"a": 0.5, "b": 3.0, "c": 1.0}, 0.0)
    assert {type(value) for value in found.figures.values()} == {float}
    words: Any = {"a": "much"}
    assert trusted(Outcome("done", words), ["a"]).state == "failed"
    assert trusted(Outcome("infeasible", {"a": math.inf, "b": 1.0}), ["a"]).figures == {"b": 1.0}
