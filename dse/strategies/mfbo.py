"""Bayesian optimization that climbs the fidelities: screen widely, narrow, then spend.

Designs climb one rung at a time. What a rung adds to the one below is learned by Gaussian processes
that see the lower rung's outputs among their inputs (after M. Kennedy and A. O'Hagan, Predicting
the output from a complex computer code when fast approximations are available, Biometrika 87(1),
2000; P. Perdikaris et al., Proc. R. Soc. A 473, 2017). The top's evaluations go where qLogNEHVI
(surrogate.py) promises most; the lower rungs' to designs that a random weighing of the optimistic
expectation prefers (J. Knowles, ParEGO, IEEE TEVC 10(1), 2006).
"""

from collections.abc import Sequence

import numpy as np

from ..design import Design, Floats, columns_of
from ..evaluator import Rung
from ..pareto import nondominated, reference_point
from ..strategy import Problem
from ..trial import Suggestion
from .bo import BayesianSearch, beside
from .history import Remembering, unseen
from .scaling import Scaling
from .surrogate import FIRST_FIT, Data, Knowledge, Learner

NOMINAL_BUDGET = 100.0
"""Evaluations at the top that are planned for where a time was given."""

FIRST_SHARE = 0.1
"""Of the budget, spent at each lower rung before anything is evaluated at the top."""

LATER_SHARE = 0.25
"""Of each evaluation at the top, spent at each lower rung besides."""

FEWEST, MOST = 32, 2048
"""Designs evaluated at the lowest rung before anything is at the top."""

NARROWING = 8
"""How many times fewer designs each next rung has at most."""

DRAWN = 2048
"""Designs drawn for a round's screening, where optimistic figures tell which are worth it."""

ROUND = 4
"""Evaluations at the top between two looks at what should climb."""

MOST_LATER = 256
"""Designs evaluated at a lower rung in a later round."""

LEARNED = 256
"""Evaluations of a lower rung that are learned from: the last ones."""

_STRAY = 4
"""Every so many designs climb by chance, so that what a rung adds is learned everywhere."""


class LadderSearch(Remembering):
    """Needs no rung but the top: without others it is BayesianSearch."""

    def __init__(self, problem: Problem, seed: int) -> None:
        super().__init__(problem, seed)
        self._alone = BayesianSearch(problem, seed)
        self._alone.history = self.history
        self._scaling: Scaling | None = None
        self._learners: dict[str, Learner] = {}
        self._plans: dict[str, tuple[int, list[Design]]] = {}

    def choose(self) -> Suggestion | None:
        if not self._lower:
            suggestion = self._alone.choose()
            self._exhausted = self._alone.finished
            return suggestion
        for at, rung in enumerate(self._lower):
            design = self._left_behind(rung)
            if design is None and self.history.count(rung.name) < self._quota(rung, self._round):
                design = self._climber(at)
            if design is not None:
                return Suggestion(design, rung.name, "screen" if at == 0 else "narrow")
        design = self._dear()
        if design is not None:
            return Suggestion(design, self.top, "gain")
        return self._beyond()

    @property
    def _lower(self) -> list[Rung]:
        """The rungs below the top that give the figures that are searched for."""
        return [rung for rung in self.problem.rungs[:-1] if not self._silent(rung)]

    def _silent(self, rung: Rung) -> bool:
        """Whether a rung's first evaluations that are done lack a figure."""
        first = self.history.first_done(rung.name)
        return first is not None and not self.history.usable(first)

    @property
    def _round(self) -> int:
        return self.history.count(self.top) // ROUND

    def _quota(self, rung: Rung, turn: int) -> int:
        """How many designs to have evaluated at a lower rung in a round; none before the first."""
        if turn < 0:
            return 0
        budget = self.problem.budget if np.isfinite(self.problem.budget) else NOMINAL_BUDGET
        narrower = NARROWING ** self._lower.index(rung)
        first = min(max(round(FIRST_SHARE * budget / rung.cost), FEWEST), MOST // narrower)
        later = min(round(LATER_SHARE * ROUND / rung.cost), MOST_LATER // narrower)
        return first + turn * later

    def _left_behind(self, rung: Rung) -> Design | None:
        """A design that others had evaluated at the top, and that this rung has not seen."""
        above = self.history.known(self.top)
        return next((d for d in above if not self.history.knows(d, rung.name)), None)

    def _climber(self, at: int) -> Design | None:
        """The next design of this round's plan for a lower rung."""
        rung, turn = self._lower[at], self._round
        planned, plan = self._plans.get(rung.name, (-1, []))
        if planned != turn:
            plan = self._screened(rung, turn) if at == 0 else self._narrowed(at, turn)
            self._plans[rung.name] = (turn, plan)
        return next((d for d in plan if not self.history.knows(d, rung.name)), None)

    def _screened(self, rung: Rung, turn: int) -> list[Design]:
        """New to every rung: at first from the whole space, later half of them near the front."""
        rng = np.random.default_rng([self.history.seed, turn, 0])
        wanted = self._quota(rung, turn) - self._quota(rung, turn - 1)
        before = {d.key for d in self.history.known(rung.name)[: self._quota(rung, turn - 1)]}
        near = beside(self.history.results(self.top, turn * ROUND), self.problem.space, rng)
        near = [near[row] for row in rng.permutation(len(near)) if near[row].key not in before]
        return [*near[: wanted // 2], *self._far(before, wanted, rng)]

    def _far(self, before: set[str], wanted: int, rng: np.random.Generator) -> list[Design]:
        """New designs from the whole space: those that optimistic figures prefer, a few by chance;
        all by chance where there are none."""
        problem, optimist = self.problem, self.problem.optimist
        if optimist is None or any(optimist.proven(one) for one in problem.objectives):
            return unseen(problem.space, lambda d: d.key in before, wanted, rng)
        drawn = unseen(problem.space, lambda d: d.key in before, max(DRAWN, wanted), rng)
        if not drawn:
            return []
        best = optimist.optimistic(columns_of(drawn, problem.space.names), problem.objectives)
        hopeful = np.flatnonzero(np.isfinite(best).all(axis=1))
        chosen = weighed(best[hopeful], np.zeros(len(hopeful)), wanted, rng)
        return [drawn[hopeful[row]] for row in chosen]

    def _narrowed(self, at: int, turn: int) -> list[Design]:
        """Designs of the rung below that may be good at the top, and a few by chance."""
        rung, below = self._lower[at], self._lower[at - 1]
        rng = np.random.default_rng([self.history.seed, turn, at])
        before = self._quota(rung, turn - 1)
        climbed = {trial.design.key for trial in self.history.ended(rung.name)[:before]}
        results = self.history.results(below.name)
        designs = [design for design in results.designs if design.key not in climbed]
        scaling = self._scaled()
        if not designs or scaling is None:
            return []
        wanted = min(self._quota(rung, turn) - before, len(designs))
        losses, broken = scaling.judged(self._optimistic(designs, at, turn))
        chosen = weighed(losses, broken, wanted, rng)
        return [designs[row] for row in chosen]

    def _optimistic(self, designs: Sequence[Design], at: int, turn: int) -> Floats:
        """Outputs at the top that designs of the rung below may have with some luck: what each
        rung from here on adds, as far as it is known. (designs, outputs)"""
        mean = self._outputs(designs, self._lower[at - 1].name)
        variance = np.zeros_like(mean)
        rungs = [*self._lower, self.problem.rungs[-1]]
        for step in range(at, len(rungs)):
            rung = rungs[step]
            top = rung.name == self.top
            first = turn * ROUND if top else self._quota(rung, turn - 1)
            knowledge = self._knowledge(step, first)
            if knowledge is not None:
                mean, deviation = knowledge.moments(self._inputs(designs, mean))
                variance += deviation**2
        scaling = self._scaled()
        return mean if scaling is None else scaling.lucky(mean, np.sqrt(variance))

    def _dear(self) -> Design | None:
        """What to evaluate at the top, of what the rung below knows."""
        below = self._lower[-1]
        results, scaling = self.history.results(below.name), self._scaled()
        pool = [d for d in results.designs if not self.history.knows(d, self.top)]
        if not pool or scaling is None:
            return None
        rng = self.history.rng()
        at = len(self._lower)
        outputs = self._outputs(pool, below.name)
        knowledge = self._knowledge(at, None)
        if knowledge is None or len(knowledge.data.inputs) < len(self.problem.objectives) + 2:
            return pool[weighed(*scaling.judged(outputs), 1, rng)[0]]
        inputs = self._inputs(pool, outputs)
        running = [d for d in self.history.running(self.top) if self._seen(d, below.name)]
        known = self._inputs(running, self._outputs(running, below.name))
        return pool[knowledge.best(inputs, known, int(rng.integers(1 << 31)))]

    def _beyond(self) -> Suggestion | None:
        """Where nothing waits for the top: the next design to climb at any rung."""
        rungs = self._lower
        for at in range(len(rungs) - 1, 0, -1):
            for design in self.history.results(rungs[at - 1].name).designs:
                if not self.history.knows(design, rungs[at].name):
                    return Suggestion(design, rungs[at].name, "narrow")
        name = rungs[0].name
        new = unseen(
            self.problem.space, lambda d: self.history.knows(d, name), 1, self.history.rng()
        )
        if new:
            return Suggestion(new[0], name, "screen")
        self._exhausted = not any(self.history.running(rung.name) for rung in rungs)
        return None

    def _scaled(self) -> Scaling | None:
        """From the first designs screened; None before there are two."""
        rung = self._lower[0]
        if self._scaling is None:
            rows = self.history.figures(rung.name, self._quota(rung, 0))
            self._scaling = Scaling.of(self.problem, rows) if len(rows) > 1 else None
        return self._scaling

    def _seen(self, design: Design, fidelity: str) -> bool:
        trial = self.history.outcome(design, fidelity)
        return trial is not None and self.history.usable(trial)

    def _outputs(self, designs: Sequence[Design], fidelity: str) -> Floats:
        """What a rung says of designs: (designs, outputs)."""
        scaling = self._scaled()
        trials = [self.history.outcome(design, fidelity) for design in designs]
        rows = [trial.outcome.figures for trial in trials if trial and trial.outcome]
        return scaling.outputs(rows) if scaling else np.empty((0, 0))

    def _inputs(self, designs: Sequence[Design], outputs: Floats) -> Floats:
        """Features of designs and, scaled, what the rung below says of them."""
        scaling = self._scaled()
        features = self.problem.space.features(designs)
        return features if scaling is None else np.hstack([features, scaling.unit(outputs)])

    def _knowledge(self, at: int, first: int | None) -> Knowledge | None:
        """What a rung adds to the one below, from the first so many trials that ended there (None:
        all); None while too little is known."""
        rungs, scaling = [*self._lower, self.problem.rungs[-1]], self._scaled()
        rung, below = rungs[at].name, rungs[at - 1].name
        ended = [t for t in self.history.ended(rung)[:first] if self._seen(t.design, below)]
        ended = ended if rung == self.top else ended[-LEARNED:]
        done = [trial.design for trial in ended if self.history.usable(trial)]
        if scaling is None or len(done) < FIRST_FIT:
            return None
        tried = [trial.design for trial in ended]
        data = Data(
            self._inputs(done, self._outputs(done, below)),
            self._outputs(done, rung),
            self._inputs(tried, self._outputs(tried, below)),
            np.array([-1.0 if self.history.usable(trial) else 1.0 for trial in ended]),
        )
        if rung not in self._learners:
            width = len(data.inputs[0]) - len(scaling.figures)
            self._learners[rung] = Learner(scaling, scaling.links(width))
        return self._learners[rung].learn(data)


def weighed(losses: Floats, broken: Floats, count: int, rng: np.random.Generator) -> list[int]:
    """Rows that random weighings of the losses prefer, one each, and some rows by chance; those
    that break limits by `broken` last."""
    if not len(losses):
        return []
    front = losses[nondominated(losses)]
    width = reference_point(front) - front.min(axis=0)
    scaled = (losses - front.min(axis=0)) / width
    left = np.ones(len(losses), dtype=bool)
    found: list[int] = []
    for turn in range(min(count, len(losses))):
        weights = rng.dirichlet(np.ones(losses.shape[1]))
        regret = scaled * weights
        score = regret.max(axis=1) + 0.05 * regret.sum(axis=1) + 1e3 * broken
        if count > _STRAY and turn % _STRAY == _STRAY - 1:
            score = rng.random(len(losses))
        row = int(np.where(left, score, np.inf).argmin())
        left[row] = False
        found.append(row)
    return found
