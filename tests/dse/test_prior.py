"""What a search expects of designs before any is evaluated."""

from dataclasses import replace

import numpy as np
import pytest
from wscc.dse.design import designs_of
from wscc.dse.evaluator import Rung
from wscc.dse.objective import Limit, losses, read_objective
from wscc.dse.strategies import make
from wscc.dse.strategies.prior import Prior
from wscc.dse.strategy import Problem
from wscc.dse.table import Table, TableSpace
from wscc.dse.trial import Trial

OBJECTIVES = (read_objective("latency_s"), read_objective("cost_usd"))


@pytest.fixture(scope="module")
def table() -> Table:
    """A hundred designs whose times are between one and two times what is expected."""
    cores, width = (each.ravel().astype(float) for each in np.meshgrid(range(1, 11), range(1, 11)))
    space = TableSpace(("cores", "width"), {"cores": cores, "width": width})
    expected = {"latency_s": 1 / cores + 1 / width, "cost_usd": cores + width}
    expected["latency_s"] = np.where(cores == 1, np.nan, expected["latency_s"])
    found = {**expected, "latency_s": expected["latency_s"] * (1.5 + 0.4 * np.sin(cores * width))}
    rungs = (Rung("bound", 0.9), Rung("fluid", 1.0))
    return Table(space, rungs, {"bound": found, "fluid": found}, expected)


def problem_of(table: Table, *limits: Limit) -> Problem:
    return Problem(table.space, OBJECTIVES, limits, table.rungs, 40.0, table.optimist)


def trials_of(table: Table, rows: list[int]) -> list[Trial]:
    designs = designs_of(table.space.columns, np.array(rows))
    outcomes = [table.evaluator.evaluate(design, "fluid") for design in designs]
    return [
        Trial(at, design, "fluid", outcome.state, outcome)
        for at, (design, outcome) in enumerate(zip(designs, outcomes, strict=True))
    ]


def test_designs_that_cannot_do_the_work_or_are_bettered_for_certain_are_not_drawn(
    table: Table,
) -> None:
    problem = problem_of(table)
    prior = Prior.of(problem, 0)
    assert prior is not None
    strategy = make("mfbo", problem, 0)
    trials = trials_of(table, [33, 44, 77])
    strategy.tell(trials)
    history = getattr(strategy, "history")  # noqa: B009 - of no interest to other strategies
    drawn = prior.drawn(lambda _: False, history.results("fluid"), 0, np.random.default_rng(0))
    known = losses([t.outcome.figures for t in trials if t.outcome], OBJECTIVES)
    best = problem.optimist.optimistic(table.space.columns, OBJECTIVES) if problem.optimist else []
    for design, hope in zip(table.space.designs, best, strict=True):
        bettered = any((one <= hope).all() and (one < hope).any() for one in known)
        assert (design in drawn) == (np.isfinite(hope).all() and not bettered)


def test_nothing_is_expected_where_a_figure_does_not_follow(table: Table) -> None:
    assert Prior.of(problem_of(table), 0) is not None
    assert Prior.of(problem_of(table, Limit("power_w", "<=", 5.0)), 0) is None
    assert Prior.of(replace(problem_of(table), optimist=None), 0) is None


def test_a_rung_nearly_as_dear_as_the_top_is_climbed_only_where_nothing_is_expected(
    table: Table,
) -> None:
    def asked(problem: Problem) -> str:
        return make("mfbo", problem, 0).ask(1)[0].fidelity

    cheap = (replace(table.rungs[0], cost=0.1), table.rungs[1])
    assert asked(problem_of(table)) == "fluid"
    assert asked(replace(problem_of(table), rungs=cheap)) == "bound"
    assert asked(replace(problem_of(table), optimist=None)) == "bound"


def test_of_two_rungs_that_cost_nearly_the_same_the_upper_one_is_climbed(table: Table) -> None:
    figures = {**table.figures, "flit": table.figures["fluid"]}
    rungs = (Rung("bound", 0.04), Rung("fluid", 0.05), Rung("flit", 1.0))
    three = replace(table, rungs=rungs, figures=figures)
    strategy = make("mfbo", replace(problem_of(three), budget=4.0), 0)
    asked: list[str] = []
    for at in range(25):
        (one,) = strategy.ask(1)
        asked.append(one.fidelity)
        outcome = three.evaluator.evaluate(one.design, one.fidelity)
        strategy.tell([Trial(at, one.design, one.fidelity, outcome.state, outcome)])
    assert set(asked) == {"fluid", "flit"}
    assert asked.index("flit") >= 8


def test_what_a_rung_costs_is_what_its_evaluations_took(table: Table) -> None:
    """A fidelity that was thought to be cheap, and takes what the top does, is soon left alone."""
    cheap = replace(table, rungs=(Rung("bound", 0.004), Rung("fluid", 1.0)))
    taken = {"bound": 90.0, "fluid": 100.0}
    strategy = make("mfbo", replace(problem_of(cheap), budget=40.0), 0)
    asked: list[str] = []
    for at in range(30):
        (one,) = strategy.ask(1)
        asked.append(one.fidelity)
        outcome = replace(
            cheap.evaluator.evaluate(one.design, one.fidelity), seconds=taken[one.fidelity]
        )
        strategy.tell([Trial(at, one.design, one.fidelity, outcome.state, outcome)])
    assert asked.count("bound") <= 8
    assert set(asked[9:]) == {"fluid"}
