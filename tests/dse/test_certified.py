"""The exact front by pruning: against all of the truth, on spaces that hypothesis makes."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wscc.dse.evaluator import Rung
from wscc.dse.objective import Limit, losses, read_objective
from wscc.dse.pareto import nondominated
from wscc.dse.strategies.certified import Certified
from wscc.dse.strategy import Problem
from wscc.dse.table import Table, TableOptimist, TableSpace
from wscc.dse.trial import Outcome, Trial
from wscc.ir.errors import UserError

OBJECTIVES = (read_objective("latency_s"), read_objective("tokens_per_j"))


@st.composite
def tables(draw: st.DrawFn, rung_proven: bool = True) -> Table:
    """Up to 40 designs, small whole figures so that ties occur, optimistic figures below them,
    a lower rung's in between; some designs cannot do the work."""
    count = draw(st.integers(1, 40))
    seed = draw(st.integers(0, 1 << 16))
    rng = np.random.default_rng(seed)
    latency = rng.integers(1, 8, count).astype(float)
    per_j = rng.integers(1, 8, count).astype(float)
    latency[rng.random(count) < 0.1] = np.nan
    loose = rng.integers(0, 3, (2, count))
    tight = rng.integers(0, 2, (2, count))
    top = {"latency_s": latency, "tokens_per_j": per_j, "area": per_j}
    bound = {
        "latency_s": latency - np.minimum(tight[0], loose[0]),
        "tokens_per_j": per_j + np.minimum(tight[1], loose[1]),
        "area": per_j,
    }
    best = {"latency_s": latency - loose[0], "tokens_per_j": per_j + loose[1], "area": per_j}
    space = TableSpace(("x",), {"x": np.arange(count, dtype=float)})
    proven = ("latency_s", "tokens_per_j") if rung_proven else ()
    rungs = (Rung("bound", 0.01, proven), Rung("fluid", 1.0))
    return Table(space, rungs, {"bound": bound, "fluid": top}, best)


def problem_of(table: Table, limits: tuple[Limit, ...] = ()) -> Problem:
    return Problem(table.space, OBJECTIVES, limits, table.rungs, np.inf, table.optimist)


def certify(
    table: Table, problem: Problem, workers: int = 1, **options: float
) -> tuple[list[Trial], Certified]:
    """Runs to the end; the trials, and the strategy."""
    strategy = Certified(problem, 0, **options)
    trials: list[Trial] = []
    while True:
        asked = strategy.ask(workers)
        if not asked:
            break
        ended: list[Trial] = []
        for one in asked:
            outcome = table.evaluator.evaluate(one.design, one.fidelity)
            number = len(trials) + len(ended)
            ended.append(Trial(number, one.design, one.fidelity, outcome.state, outcome))
        strategy.tell(ended)
        trials += ended
    assert strategy.finished
    return trials, strategy


def figures(trial: Trial) -> Mapping[str, float]:
    assert trial.outcome is not None
    return trial.outcome.figures


def front(trials: list[Trial], limits: tuple[Limit, ...] = ()) -> set[str]:
    done = [t for t in trials if t.fidelity == "fluid" and t.state == "done"]
    done = [t for t in done if all(one.excess(figures(t)) <= 0 for one in limits)]
    if not done:
        return set()
    kept = nondominated(losses([figures(t) for t in done], OBJECTIVES))
    return {str(trial.design) for trial, on in zip(done, kept, strict=True) if on}


def everything(table: Table) -> list[Trial]:
    found: list[Trial] = []
    for number, design in enumerate(table.space.designs):
        outcome = table.evaluator.evaluate(design, "fluid")
        found.append(Trial(number, design, "fluid", outcome.state, outcome))
    return found


@given(tables(), st.sampled_from([1, 3]), st.booleans())
@settings(max_examples=150, deadline=None)
def test_the_front_is_exact_and_keeps_ties(table: Table, workers: int, limited: bool) -> None:
    limits = (Limit("area", "<=", 5.0),) if limited else ()
    trials, strategy = certify(table, problem_of(table, limits), workers)
    assert front(trials, limits) == front(everything(table), limits)
    settled = strategy.certificate()
    assert settled.open == 0
    assert settled.designs == settled.evaluated + settled.hopeless + settled.excluded


@given(tables())
@settings(max_examples=60, deadline=None)
def test_every_exclusion_is_proven_by_the_trial_it_names(table: Table) -> None:
    trials, strategy = certify(table, problem_of(table))
    dear = {t.design for t in trials if t.fidelity == "fluid"}
    excluded = {one.design: one for one in strategy.exclusions()}
    assert dear | set(excluded) == set(table.space.designs)
    for one in excluded.values():
        if one.trial is None or trials[one.trial].state == "infeasible":
            assert np.isinf(one.optimistic).any()
            continue
        better = losses([figures(trials[one.trial])], OBJECTIVES)[0]
        assert trials[one.trial].fidelity == "fluid"
        assert (better <= one.optimistic).all()
        assert (better < one.optimistic).any()


@given(tables(rung_proven=False))
@settings(max_examples=60, deadline=None)
def test_no_design_is_evaluated_that_the_front_excludes(table: Table) -> None:
    """With one worker, only designs that no proof from these figures can leave out."""
    trials, _ = certify(table, problem_of(table))
    truth = everything(table)
    best = losses([figures(t) for t in truth if t.state == "done"], OBJECTIVES)
    for trial in trials:
        row = table.space.rows[trial.design.key]
        bound = losses([{k: v[row] for k, v in table.optimistic.items()}], OBJECTIVES)[0]
        assert not ((best <= bound).all(axis=1) & (best < bound).any(axis=1)).any()


@given(tables(), st.sampled_from([0.1, 0.5]))
@settings(max_examples=60, deadline=None)
def test_with_epsilon_every_design_has_one_that_is_at_most_so_much_better(
    table: Table, epsilon: float
) -> None:
    trials, _ = certify(table, problem_of(table), epsilon=epsilon)
    found = [t for t in trials if t.fidelity == "fluid" and t.state == "done"]
    kept = losses([figures(t) for t in found], OBJECTIVES)
    for trial in everything(table):
        if trial.state == "done":
            one = losses([figures(trial)], OBJECTIVES)[0]
            assert (kept <= one + epsilon * np.abs(one) + 1e-9).all(axis=1).any()


def test_a_tight_bound_spares_most_of_the_space() -> None:
    rng = np.random.default_rng(1)
    latency, per_j = rng.random((2, 3000)) + 0.1
    top = {"latency_s": latency, "tokens_per_j": 1 / per_j}
    best = {"latency_s": latency * 0.98, "tokens_per_j": 1 / per_j / 0.98}
    space = TableSpace(("x",), {"x": np.arange(3000.0)})
    table = Table(space, (Rung("fluid", 1.0),), {"fluid": top}, best)
    trials, _ = certify(table, problem_of(table))
    assert front(trials) == front(everything(table))
    assert len(trials) < 60


def test_a_failed_evaluation_leaves_its_design_out_of_the_proof() -> None:
    space = TableSpace(("x",), {"x": np.arange(3.0)})
    figures = {"latency_s": np.array([1.0, 2.0, 3.0]), "tokens_per_j": np.array([1.0, 2.0, 3.0])}
    table = Table(space, (Rung("fluid", 1.0),), {"fluid": figures}, figures)
    strategy = Certified(problem_of(table), 0)
    broken = strategy.ask(1)[0].design
    strategy.tell([Trial(0, broken, "fluid", "failed", Outcome("failed"))])
    assert strategy.certificate().failed == 1
    assert broken not in [one.design for one in strategy.ask(5)]


def test_an_objective_without_an_optimistic_figure_is_refused_with_what_to_use() -> None:
    space = TableSpace(("x",), {"x": np.arange(3.0)})
    refused = {"power_w": "power_w has none: use energy_j or power_nameplate_w"}
    optimist = TableOptimist(space, {"latency_s": np.ones(3)}, refused)
    objectives = (read_objective("latency_s"), read_objective("power_w"))
    problem = Problem(space, objectives, (), (Rung("fluid", 1.0),), np.inf, optimist)
    with pytest.raises(UserError, match="min:power_w: power_w has none: use energy_j"):
        Certified(problem, 0)


def test_without_optimistic_figures_it_is_refused() -> None:
    space = TableSpace(("x",), {"x": np.arange(3.0)})
    problem = Problem(space, OBJECTIVES, (), (Rung("fluid", 1.0),), np.inf)
    with pytest.raises(UserError, match="nothing proves how good latency_s can get"):
        Certified(problem, 0)


def test_epsilon_has_to_be_a_number() -> None:
    space = TableSpace(("x",), {"x": np.arange(3.0)})
    optimist = TableOptimist(space, {"latency_s": np.ones(3), "tokens_per_j": np.ones(3)})
    problem = Problem(space, OBJECTIVES, (), (Rung("fluid", 1.0),), np.inf, optimist)
    with pytest.raises(UserError, match="--epsilon much: expected a number not below 0"):
        Certified(problem, 0, epsilon="much")
