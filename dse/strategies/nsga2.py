"""A genetic search that keeps the front and spreads over it: NSGA-II, through pymoo's ask/tell.

K. Deb, A. Pratap, S. Agarwal and T. Meyarivan, A fast and elitist multiobjective genetic algorithm:
NSGA-II, IEEE TEVC 6(2), 2002; pymoo: J. Blank and K. Deb, IEEE Access 8, 2020.
"""

from typing import Any

import numpy as np

from ..design import Design, Floats
from ..strategy import Problem
from ..trial import Suggestion
from .history import Remembering, unseen

POPULATION = 24
"""Least designs of a generation, few because evaluations are dear; else a tenth of the budget."""

_BROKEN = 1e6
"""Constraint violation of a design that cannot do the work: worse than any limit broken."""


class GeneticSearch(Remembering):
    """Genes are points of the unit cube, one axis a parameter, so numbers and words mix; children
    that are illegal or were there before are born again."""

    def __init__(self, problem: Problem, seed: int) -> None:
        super().__init__(problem, seed)
        self._seen: set[str] = set()
        self._algorithm: Any = None
        self._births = 0
        self._parents: Any = None
        self._generation: list[Design] = []

    def choose(self) -> Suggestion | None:
        """Generations follow from the outcomes of those before, so a resumed search breeds the
        same ones and finds their outcomes in its history."""
        while True:
            for design in self._generation:
                if not self.history.knows(design, self.top):
                    return Suggestion(design, self.top, f"generation {self._births}")
            if any(self.history.outcome(d, self.top) is None for d in self._generation):
                return None
            self._breed()
            if not self._generation:
                self._exhausted = True
                return None

    def _breed(self) -> None:
        """The next generation, from how the last one did."""
        algorithm = self._algorithm
        if algorithm is None:
            self._algorithm = algorithm = self._start()
        else:
            figures, broken = self._judged()
            self._parents.set("F", figures)
            self._parents.set("G", broken)
            algorithm.tell(infills=self._parents)
        self._births += 1
        self._parents = algorithm.ask()
        if self._parents is None or not len(self._parents):
            self._parents = self._strangers()
        genes = self._parents.get("X") if len(self._parents) else np.empty((0, 0))
        found = self.problem.space.from_unit(genes) if len(genes) else []
        self._generation = [design for design in found if design is not None]
        self._seen.update(design.key for design in self._generation)

    def _start(self) -> Any:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.problem import Problem as Cube
        from pymoo.core.termination import NoTermination

        axes = len(self.problem.space.names)
        cube = Cube(n_var=axes, n_obj=len(self.problem.objectives), n_ieq_constr=1, xl=0.0, xu=1.0)
        budget = self.problem.budget
        size = max(POPULATION, round(budget / 10) if np.isfinite(budget) else 0)
        rng = np.random.default_rng(self.history.seed)
        first = unseen(self.problem.space, lambda design: False, size, rng)
        genes: Any = self.problem.space.to_unit(first)
        algorithm: Any = NSGA2(size, sampling=genes, eliminate_duplicates=_newborn(self))
        algorithm.setup(cube, termination=NoTermination(), seed=self.history.seed)
        return algorithm

    def _strangers(self) -> Any:
        """Random designs, where breeding gives nothing new."""
        from pymoo.core.population import Population

        rng = np.random.default_rng([self.history.seed, self._births])
        found = unseen(self.problem.space, lambda d: d.key in self._seen, POPULATION, rng)
        genes = self.problem.space.to_unit(found) if found else np.empty((0, 0))
        return Population.new(X=genes) if found else Population()

    def _judged(self) -> tuple[Floats, Floats]:
        """Losses of the generation, and how far each breaks what is asked: (designs, objectives)
        and (designs, 1)."""
        results = self.history.results(self.top)
        at = {design.key: row for row, design in enumerate(results.designs)}
        scale = np.array([max(abs(limit.value), 1e-300) for limit in self.problem.limits])
        figures = np.zeros((len(self._generation), len(self.problem.objectives)))
        broken = np.full((len(self._generation), 1), _BROKEN)
        for row, design in enumerate(self._generation):
            found = at.get(design.key)
            if found is not None:
                figures[row] = results.losses[found]
                broken[row] = np.maximum(results.excess[found] / scale, 0).sum()
        return figures, broken

    def seen(self, design: Design) -> bool:
        return design.key in self._seen


def _newborn(search: GeneticSearch) -> Any:
    """What pymoo leaves out of a generation: points that stand for no legal design, and designs
    that were there before."""
    from pymoo.core.duplicate import DuplicateElimination

    class Newborn(DuplicateElimination):
        def _do(self, pop: Any, other: Any, is_duplicate: np.ndarray) -> np.ndarray:
            space = search.problem.space
            others = space.from_unit(other.get("X")) if other is not None else []
            born = {design.key for design in others if design is not None}
            for row, design in enumerate(space.from_unit(pop.get("X"))):
                is_duplicate[row] = design is None or design.key in born or search.seen(design)
                if design is not None:
                    born.add(design.key)
            return is_duplicate

    return Newborn()
