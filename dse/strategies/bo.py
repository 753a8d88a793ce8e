"""Bayesian optimization at one fidelity: a surrogate of the figures picks from legal designs.

S. Daulton, M. Balandat and E. Bakshy, Parallel Bayesian optimization of multiple noisy objectives
with expected hypervolume improvement, NeurIPS 2021.
"""

import numpy as np

from ..design import Design, DesignSpace
from ..pareto import nondominated
from ..strategy import Problem
from ..trial import Suggestion
from .history import History, Remembering, Results, unseen
from .scaling import Scaling
from .sobol import sequence
from .surrogate import Data, Learner

POOL = 1024
"""Designs from the whole space among which each choice is made."""

NEIGHBOURS = 16
"""Designs beside each design of the front that are among them too."""


class BayesianSearch(Remembering):
    """A few designs spread over the space, then those that promise most hypervolume."""

    def __init__(self, problem: Problem, seed: int) -> None:
        super().__init__(problem, seed)
        self._spread = sequence(problem, seed)
        self._learner: Learner | None = None
        self._initial = first_designs(problem)

    def choose(self) -> Suggestion | None:
        results = self.history.results(self.top)
        if self.history.count(self.top) < self._initial or len(results.designs) < 2:
            for design in self._spread:
                if not self.history.knows(design, self.top):
                    return Suggestion(design, self.top, "spread")
            return self.anything("random")
        pool = self._pool(results)
        if not pool:
            return self.anything("random")
        features = self.problem.space.features
        if self._learner is None:
            scaling = Scaling.of(self.problem, self.history.figures(self.top, self._initial))
            self._learner = Learner(scaling, [None] * len(scaling.figures))
        knowledge = self._learner.learn(data_of(self.history, self.top, self._learner.scaling))
        running = features(self.history.running(self.top))
        seed = int(self.history.rng().integers(1 << 31))
        at, _ = knowledge.best(features(pool), running, seed)
        return Suggestion(pool[at], self.top, "gain")

    def _pool(self, results: Results) -> list[Design]:
        """Designs to judge: some of the whole space, and what is near the front."""
        rng = self.history.rng()
        known = self.history.knows
        far = unseen(self.problem.space, lambda design: known(design, self.top), POOL, rng)
        near = beside(results, self.problem.space, rng)
        return [*far, *(design for design in near if not known(design, self.top))]


def first_designs(problem: Problem) -> int:
    """How many designs to spread over the space before anything is learned."""
    return max(2 * (len(problem.objectives) + 1), min(len(problem.space.names) + 1, 12))


def beside(results: Results, space: DesignSpace, rng: np.random.Generator) -> list[Design]:
    """Designs next to those of the front."""
    allowed = np.flatnonzero(results.allowed)
    front = allowed[nondominated(results.losses[allowed])]
    near = (
        design
        for row in front
        for design in space.neighbours(results.designs[row], NEIGHBOURS, rng)
    )
    return list({design.key: design for design in near}.values())


def data_of(history: History, fidelity: str, scaling: Scaling) -> Data:
    """What there is to learn from at a fidelity, by the designs' features."""
    results = history.results(fidelity)
    ended = history.ended(fidelity)
    features = history.problem.space.features
    return Data(
        features(results.designs),
        scaling.outputs(history.figures(fidelity)),
        features([trial.design for trial in ended]),
        np.array([-1.0 if history.usable(trial) else 1.0 for trial in ended]),
    )
