"""Hypervolume against cost, of every strategy, on spaces of which everything is known.

    python benchmarks/search_spaces.py [--seeds 5] [--strategies bo,mfbo] [--budget 120] [TABLE...]

Every evaluation of every fidelity is counted, in evaluations at the top. A table is a file that
search_tables.py wrote; without one the spaces are those of search_synthetic.py.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from search_synthetic import CASES, true_losses
from wscc.dse.design import Floats
from wscc.dse.objective import losses, read_objective
from wscc.dse.pareto import hypervolume, nondominated, reference_point
from wscc.dse.strategies import STRATEGIES, make
from wscc.dse.strategies.certified import Certified
from wscc.dse.strategy import Problem, Strategy
from wscc.dse.table import Table, read_table
from wscc.dse.trial import Trial

SHARES = (0.8, 0.9, 0.95, 0.99)
"""Of the true hypervolume, at which the cost is told."""


@dataclass(frozen=True)
class Race:
    """One strategy, one seed."""

    cost: Floats
    """Spent when each design was known at the top."""
    share: Floats
    """Of the true hypervolume, then."""
    own_s: float
    """CPU seconds of the strategy itself, per evaluation at the top."""
    strategy: Strategy
    trials: list[Trial]

    def cost_of(self, share: float) -> float:
        reached = np.flatnonzero(self.share >= share)
        return float(self.cost[reached[0]]) if len(reached) else np.inf

    def share_at(self, cost: float) -> float:
        before = np.flatnonzero(self.cost <= cost)
        return float(self.share[before[-1]]) if len(before) else 0.0


def race(table: Table, problem: Problem, name: str, seed: int) -> Race:
    """One worker, until the budget is spent or the strategy has nothing more to ask."""
    truth = true_losses(table, problem.objectives)
    reference = reference_point(truth)
    whole = hypervolume(truth, reference)
    strategy = make(name, problem, seed)
    price = {rung.name: rung.cost for rung in problem.rungs}
    top = problem.rungs[-1].name
    front = np.empty((0, len(problem.objectives)))
    trials: list[Trial] = []
    costs, shares = [0.0], [0.0]
    spent, own = 0.0, 0.0
    evaluator = table.evaluator
    while spent < problem.budget:
        start = time.process_time()
        asked = strategy.ask(1)
        own += time.process_time() - start
        if not asked:
            break
        one = asked[0]
        outcome = evaluator.evaluate(one.design, one.fidelity)
        trial = Trial(len(trials), one.design, one.fidelity, outcome.state, outcome)
        trials.append(trial)
        spent += price[one.fidelity]
        if one.fidelity == top:
            if outcome.state == "done":
                found = losses([outcome.figures], problem.objectives)
                front = np.concatenate([front, found])
                front = front[nondominated(front)]
            costs.append(spent)
            shares.append(hypervolume(front, reference) / whole)
        start = time.process_time()
        strategy.tell([trial])
        own += time.process_time() - start
    dear = sum(trial.fidelity == top for trial in trials)
    return Race(np.array(costs), np.array(shares), own / max(dear, 1), strategy, trials)


def spaces(paths: list[Path]) -> Iterator[tuple[str, Table, tuple[str, ...]]]:
    """Name, table and objectives."""
    for path in paths:
        name, _, wanted = str(path).partition(":")
        yield Path(name).stem, read_table(Path(name)), tuple(wanted.split(","))
    if not paths:
        for case in CASES:
            yield case.name, case.table(), case.objectives


def main(arguments: list[str]) -> None:
    """A table a space, a row a strategy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--budget", type=float, default=120)
    parser.add_argument("tables", nargs="*", type=Path, help="FILE:objective,objective")
    given = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    for space, table, wanted in spaces(given.tables):
        objectives = tuple(map(read_objective, wanted))
        truth = true_losses(table, objectives)
        count, front = len(table.space.designs), int(nondominated(truth).sum())
        print(f"\n{space}: {count} designs, {front} on the front of {', '.join(wanted)}")
        print(f"{'':12}" + "".join(f"{f'cost of {s:.0%}':>14}" for s in SHARES), end="")
        print(f"{'at cost 40':>12}{'at the end':>12}{'own s/dear':>12}")
        for name in given.strategies.split(","):
            budget = given.budget if name not in ("exhaustive", "certified") else np.inf
            problem = Problem(table.space, objectives, (), table.rungs, budget, table.optimist)
            races = [race(table, problem, name, seed) for seed in range(given.seeds)]
            report(name, races)


def report(name: str, races: list[Race]) -> None:
    """A row: medians over seeds."""
    cells = [np.median([one.cost_of(share) for one in races]) for share in SHARES]
    text = "".join(f"{cell:14.1f}" if np.isfinite(cell) else f"{'-':>14}" for cell in cells)
    forty = np.mean([one.share_at(40) for one in races])
    last = np.mean([one.share[-1] for one in races])
    own = np.mean([one.own_s for one in races])
    print(f"{name:12}{text}{forty:12.3f}{last:12.3f}{own:12.2f}", flush=True)
    for one in races:
        if isinstance(one.strategy, Certified):
            print(f"{'':12}{one.strategy.certificate()}; exact: {one.share[-1] > 1 - 1e-12}")


if __name__ == "__main__":
    main(sys.argv[1:])
