"""What every strategy keeps to, one suite for all of them, on a table of sixty designs."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from wscc.dse.evaluator import Rung
from wscc.dse.objective import Limit, losses, read_objective
from wscc.dse.pareto import nondominated
from wscc.dse.strategies import DEFAULT, STRATEGIES, make
from wscc.dse.strategy import Problem, Strategy
from wscc.dse.table import Table, TableSpace
from wscc.dse.trial import Outcome, Suggestion, Trial
from wscc.ir.errors import UserError


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    """Short fits and few samples: what is kept to does not rest on how well is learned."""
    from wscc.dse.strategies import bo, surrogate

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surrogate, "ITERATIONS", 6)
        patch.setattr(surrogate, "SAMPLES", 16)
        patch.setattr(bo, "POOL", 32)
        patch.setattr(bo, "NEIGHBOURS", 4)
        yield


pytestmark = pytest.mark.filterwarnings("ignore")

ALL = sorted(STRATEGIES)
GUIDED = ("bo", "mfbo")
OBJECTIVES = (read_objective("latency_s"), read_objective("tokens_per_j"))
Runs = dict[str, list[Trial]]
DEAR = 11
"""Evaluations at the top after which a run is cut short."""


def small_space() -> TableSpace:
    rows = [
        (cores, clock, kind, width)
        for cores, clock, kind in product((1, 2, 4, 8), (1, 2, 3), ("plain", "wide", "deep"))
        for width in ((np.nan,) if kind == "plain" else (16, 32))
    ]
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    names = ("cores", "clock", "kind", "width")
    return TableSpace(names, dict(zip(names, columns, strict=True)))


def small_table(*, works: float = 0.9) -> Table:
    """Sixty designs; a share of them can do the work."""
    space = small_space()
    cores, clock = space.columns["cores"].astype(float), space.columns["clock"].astype(float)
    width = np.nan_to_num(space.columns["width"].astype(float), nan=8)
    deep = space.columns["kind"] == "deep"
    bound = 10 / (cores * clock) + 8 / width
    fluid = bound * (1 + 0.2 * deep) + 0.05 * cores
    flit = fluid * (1.1 + 0.2 * np.sin(cores + width))
    joules = 0.5 * cores * clock**2 + 0.02 * width + 1
    lame = np.random.default_rng(5).random(len(cores)) > works
    figures = {
        name: {
            "latency_s": np.where(lame, np.nan, latency),
            "tokens_per_j": 1 / (joules + latency),
            "area": cores * width,
        }
        for name, latency in (("bound", bound), ("fluid", fluid), ("flit", flit))
    }
    optimistic = {"latency_s": 0.9 * bound, "tokens_per_j": 1 / (joules + 0.9 * bound)}
    proven = ("latency_s", "tokens_per_j")
    rungs = (Rung("bound", 0.05 / 120, proven), Rung("fluid", 1 / 120), Rung("flit", 1.0))
    return Table(space, rungs, figures, optimistic)


def problem_of(table: Table, limits: tuple[Limit, ...] = (), rungs: int = 3) -> Problem:
    ladder = table.rungs[3 - rungs :]
    return Problem(table.space, OBJECTIVES, limits, ladder, 40.0, table.optimist)


def ended(table: Table, number: int, one: Suggestion) -> Trial:
    outcome = table.evaluator.evaluate(one.design, one.fidelity)
    return Trial(number, one.design, one.fidelity, outcome.state, outcome, note=one.note)


def search(
    strategy: Strategy, table: Table, trials: list[Trial], dear: float = DEAR, workers: int = 1
) -> list[Trial]:
    """Goes on until so many designs were evaluated at the top, or there is nothing more to ask."""
    trials = list(trials)
    running: list[tuple[int, Suggestion]] = []
    number = len(trials)
    while sum(trial.fidelity == "flit" for trial in trials) < dear:
        asked = strategy.ask(workers - len(running))
        running += [(number + at, one) for at, one in enumerate(asked)]
        number += len(asked)
        if not running:
            break
        done = ended(table, *running.pop(0))
        strategy.tell([done])
        trials.append(done)
    return trials


def steps(trials: list[Trial]) -> list[tuple[str, str]]:
    return [(str(trial.design), trial.fidelity) for trial in trials]


@pytest.fixture(scope="module")
def runs(quick: None) -> Runs:
    """A run of each strategy, one worker."""
    table = small_table()
    return {name: search(make(name, problem_of(table), 3), table, []) for name in ALL}


@pytest.mark.parametrize("name", ALL)
def test_only_legal_designs_and_none_twice(name: str, runs: Runs) -> None:
    asked = steps(runs[name])
    assert len(set(asked)) == len(asked)
    legal = set(map(str, small_space().designs))
    assert {design for design, _ in asked} <= legal
    assert {fidelity for _, fidelity in asked} <= {"bound", "fluid", "flit"}


@pytest.mark.parametrize("name", ALL)
def test_the_same_seed_chooses_the_same_and_a_killed_search_goes_on_as_it_would_have(
    name: str, runs: Runs
) -> None:
    table, whole = small_table(), runs[name]
    half = len(whole) * 5 // 6
    resumed = make(name, problem_of(table), 3)
    resumed.tell(whole[:half])
    assert steps(search(resumed, table, whole[:half])) == steps(whole)


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("exhaustive", "certified")])
def test_another_seed_chooses_otherwise(name: str, runs: Runs) -> None:
    table = small_table()
    assert steps(search(make(name, problem_of(table), 4), table, [], dear=6)) != steps(
        runs[name][: len(runs[name])]
    )


@pytest.mark.parametrize("name", ALL)
def test_what_runs_is_not_asked_again(name: str) -> None:
    table = small_table()
    trials = search(make(name, problem_of(table), 0), table, [], dear=9, workers=4)
    assert len(set(steps(trials))) == len(trials)


@pytest.mark.parametrize("name", ALL)
def test_what_others_enqueued_is_not_asked_again(name: str) -> None:
    table = small_table()
    strategy = make(name, problem_of(table), 0)
    design = table.space.designs[7]
    queued = Trial(0, design, "flit", "queued")
    strategy.tell([queued])
    trials = search(strategy, table, [], dear=5)
    assert (str(design), "flit") not in steps(trials)


@pytest.mark.parametrize("name", ALL)
def test_an_exhausted_space_ends_the_search(name: str) -> None:
    """On twelve designs, three of which cannot do the work."""
    whole = small_table()
    rows = np.flatnonzero(whole.space.columns["cores"].astype(float) == 8)[:12]
    table = part(whole, rows)
    strategy = make(name, problem_of(table), 0)
    trials = search(strategy, table, [], dear=np.inf)
    assert strategy.finished
    assert not strategy.ask(3)
    assert best(trials) == best(
        [ended(table, 0, Suggestion(d, "flit")) for d in table.space.designs]
    )


def part(table: Table, rows: np.ndarray) -> Table:
    """Some rows of a table."""
    space = replace(
        table.space, columns={name: column[rows] for name, column in table.space.columns.items()}
    )
    figures = {
        rung: {name: column[rows] for name, column in columns.items()}
        for rung, columns in table.figures.items()
    }
    optimistic = {name: column[rows] for name, column in table.optimistic.items()}
    return Table(space, table.rungs, figures, optimistic)


def figures(trial: Trial) -> Mapping[str, float]:
    assert trial.outcome is not None
    return trial.outcome.figures


def best(trials: list[Trial]) -> set[str]:
    """The front, of what was evaluated at the top."""
    done = [trial for trial in trials if trial.fidelity == "flit" and trial.state == "done"]
    kept = nondominated(losses([figures(trial) for trial in done], OBJECTIVES))
    return {str(trial.design) for trial, on in zip(done, kept, strict=True) if on}


@pytest.mark.parametrize("name", ALL)
def test_a_space_where_nothing_works_ends_the_search(name: str) -> None:
    table = small_table(works=0.0)
    strategy = make(name, problem_of(table), 0)
    trials = search(strategy, table, [], dear=np.inf)
    assert strategy.finished
    assert all(trial.state == "infeasible" for trial in trials)


@pytest.mark.parametrize("name", ALL)
def test_failures_and_missing_figures_are_lived_with(name: str) -> None:
    """Every third trial breaks, every fifth lacks what is searched for."""
    table = small_table()
    strategy = make(name, problem_of(table), 0)
    trials: list[Trial] = []
    dear = 0
    while dear < DEAR and (asked := strategy.ask(1)):
        trial = ended(table, len(trials), asked[0])
        if len(trials) % 3 == 1:
            trial = replace(trial, state="failed", outcome=Outcome("failed", reason="broke"))
        elif len(trials) % 5 == 3:
            trial = replace(trial, state="done", outcome=Outcome("done", {"area": 1.0}))
        strategy.tell([trial])
        trials.append(trial)
        dear += trial.fidelity == "flit"
    assert len(set(steps(trials))) == len(trials)
    assert dear >= 6


@pytest.mark.parametrize("name", ALL)
def test_limits_that_nothing_holds_are_lived_with(name: str) -> None:
    table = small_table()
    limits = (Limit("area", "<=", 1.0),)
    trials = search(make(name, problem_of(table, limits), 0), table, [], dear=9)
    assert sum(trial.fidelity == "flit" for trial in trials) == 9


@pytest.mark.parametrize("name", GUIDED)
def test_a_learned_limit_is_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once there is something to learn from, few designs break a limit that half of them break."""
    monkeypatch.setattr("wscc.dse.strategies.surrogate.ITERATIONS", 40)
    table = small_table(works=1.0)
    limits = (Limit("area", "<=", 32.0),)
    trials = search(make(name, problem_of(table, limits), 1), table, [], dear=14)
    late = [trial for trial in trials if trial.note == "gain" and trial.fidelity == "flit"][-4:]
    assert sum(figures(trial)["area"] > 32 for trial in late) <= 1


@pytest.mark.parametrize("name", GUIDED)
def test_one_objective_is_enough(name: str) -> None:
    table = small_table()
    problem = replace(problem_of(table), objectives=OBJECTIVES[:1])
    trials = search(make(name, problem, 0), table, [], dear=12)
    dear = [figures(t)["latency_s"] for t in trials if t.fidelity == "flit" if t.state == "done"]
    assert min(dear) < np.nanquantile(table.figures["flit"]["latency_s"], 0.05)


def test_the_ladder_needs_no_lower_rung() -> None:
    table = small_table()
    trials = search(make("mfbo", problem_of(table, rungs=1), 0), table, [], dear=8)
    assert {trial.fidelity for trial in trials} == {"flit"}


def test_a_rung_that_does_not_say_what_is_searched_for_is_left_out() -> None:
    whole = small_table()
    figures = dict(whole.figures) | {"bound": {"area": whole.figures["bound"]["area"]}}
    table = replace(whole, figures=figures)
    trials = search(make("mfbo", problem_of(table), 0), table, [], dear=8)
    assert sum(trial.fidelity == "bound" for trial in trials) < 5
    assert sum(trial.fidelity == "flit" for trial in trials) == 8


def test_climbing_the_ladder_finds_most_of_the_front(runs: Runs) -> None:
    """Where random designs of the same number find a sixth."""
    front = best([ended(small_table(), 0, Suggestion(d, "flit")) for d in small_space().designs])
    assert len(best(runs["mfbo"]) & front) > len(front) / 2


def test_an_unknown_strategy_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"--strategy mfbp: expected one of .* did you mean 'mfbo'"):
        make("mfbp", problem_of(small_table()), 0)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(UserError, match="--epsilo: --strategy certified has no such option"):
        make("certified", problem_of(small_table()), 0, epsilo=1)


def test_the_default_is_one_of_them() -> None:
    assert DEFAULT in STRATEGIES
