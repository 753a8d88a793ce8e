"""Bayesian optimization that climbs the fidelities: screen widely, narrow, then spend.

Designs climb one rung at a time; below the first is what is expected of any design without an
evaluation (prior.py). What a rung adds to the one below is learned by Gaussian processes that see
the lower rung's outputs among their inputs (after M. Kennedy and A. O'Hagan, Predicting
the output from a complex computer code when fast approximations are available, Biometrika 87(1),
2000; P. Perdikaris et al., Proc. R. Soc. A 473, 2017). Few evaluations, as those of the top are,
go one by one where qLogNEHVI (surrogate.py) promises most; many at once, as those of cheap rungs,
to designs that a random weighing of the optimistic expectation prefers (J. Knowles, ParEGO, IEEE
TEVC 10(1), 2006).
"""

from collections.abc import Sequence

import numpy as np

from ..design import Design, Floats
from ..evaluator import Rung
from ..pareto import nondominated, reference_point
from ..strategy import Problem
from ..trial import Suggestion
from .bo import BayesianSearch, beside, first_designs
from .history import Remembering, unseen
from .prior import Prior
from .scaling import Scaling
from .surrogate import FIRST_FIT, Data, Knowledge, Learner

PRIOR = "prior"
"""In place of a rung's name: what is expected without an evaluation."""

WORTH = 0.3
"""The most that a lower rung may cost, in evaluations of the next one that is climbed, where
something is expected without it."""

NOMINAL_BUDGET = 100.0
"""Evaluations at the top that are planned for where a time was given."""

FIRST_COST, FIRST_SHARE = 2.0, 0.1
"""Spent at each lower rung before anything is evaluated at the top: evaluations at the top, and no
more than a share of the budget."""

LATER_SHARE = 0.25
"""Of each evaluation at the top, spent at each lower rung besides."""

FEWEST, MOST = 32, 2048
"""Designs evaluated at the lowest rung before anything is at the top."""

FEWEST_EXPECTED = 8
"""The same, where they are chosen by what is expected of them."""

NARROWING = 8
"""How many times fewer designs each next rung has at most."""

ROUND = 4
"""Evaluations at the top between two looks at what should climb."""

MOST_LATER = 256
"""Designs evaluated at a lower rung in a later round."""

SINGLY = 0.03
"""The least that a rung costs, in evaluations at the top, of which each is chosen after the one
before is known."""

LEAST_GAIN = 0.002
"""Of the hypervolume at such a rung, for the cost of an evaluation at the top, for another design
to be evaluated there."""

MOST_SHARE, MOST_LATER_SHARE = 0.25, 0.5
"""Spent at such a rung at most: of the budget, and besides of each evaluation at the top."""

LEARNED = 256
"""Evaluations of a lower rung that are learned from: the last ones."""

_STRAY = 4
"""Every so many designs climb by chance, so that what a rung adds is learned everywhere."""


class LadderSearch(Remembering):
    """Without a rung below the top, and nothing expected, it is BayesianSearch."""

    def __init__(self, problem: Problem, seed: int) -> None:
        super().__init__(problem, seed)
        self._alone = BayesianSearch(problem, seed)
        self._alone.history = self.history
        self._prior = Prior.of(problem, seed)
        self._scaling: Scaling | None = None
        self._learners: dict[tuple[str, str], Learner] = {}
        self._plans: dict[str, tuple[tuple[int, int], list[Design]]] = {}

    def choose(self) -> Suggestion | None:
        if len(self._levels) == 1:
            suggestion = self._alone.choose()
            self._exhausted = self._alone.finished
            return suggestion
        for rung in self._lower:
            design = self._left_behind(rung) or self._climber(rung)
            if design is not None:
                return Suggestion(design, rung.name, self._note(rung))
        design, _ = self._promising(len(self._levels) - 1)
        if design is not None:
            return Suggestion(design, self.top, "gain")
        return self._beyond()

    @property
    def _lower(self) -> list[Rung]:
        """The rungs below the top that give the figures that are searched for, at a price that is
        worth it."""
        worth, cost = 1.0 if self._prior is None else WORTH, self.history.cost
        found = [self.problem.rungs[-1]]
        for rung in reversed(self.problem.rungs[:-1]):
            if cost(rung) <= worth * cost(found[0]) and not self._silent(rung):
                found.insert(0, rung)
        return found[:-1]

    @property
    def _levels(self) -> list[str]:
        """Names of what designs climb, up to the top."""
        first = [] if self._prior is None else [PRIOR]
        return [*first, *(rung.name for rung in self._lower), self.top]

    def _silent(self, rung: Rung) -> bool:
        """Whether a rung's first evaluations that are done lack a figure."""
        first = self.history.first_done(rung.name)
        return first is not None and not self.history.usable(first)

    def _note(self, rung: Rung) -> str:
        return "screen" if rung is self._lower[0] else "narrow"

    @property
    def _round(self) -> int:
        return self.history.count(self.top) // ROUND

    def _quota(self, rung: Rung, turn: int) -> int:
        """How many designs to have evaluated at a lower rung in a round; none before the first."""
        if turn < 0:
            return 0
        narrower = NARROWING ** self._lower.index(rung)
        fewest = FEWEST if self._prior is None else FEWEST_EXPECTED
        cost = min(FIRST_COST, FIRST_SHARE * self._budget)
        each = self.history.cost(rung)
        if self._singly(rung) or not self.history.timed():
            return fewest
        first = min(max(round(cost / each), fewest), MOST // narrower)
        later = min(round(LATER_SHARE * ROUND / each), MOST_LATER // narrower)
        return first + turn * later

    @property
    def _budget(self) -> float:
        """Evaluations at the top."""
        return self.problem.budget if np.isfinite(self.problem.budget) else NOMINAL_BUDGET

    def _singly(self, rung: Rung) -> bool:
        """Whether a rung's designs are chosen one by one; of what nothing is known they are not."""
        known = self._prior is not None or rung is not self._lower[0]
        return known and self.history.cost(rung) >= SINGLY

    def _affordable(self, rung: Rung) -> bool:
        """Whether a rung at which designs are chosen one by one may have another."""
        most = MOST_SHARE * self._budget + MOST_LATER_SHARE * self.history.count(self.top)
        return (self.history.count(rung.name) + 1) * self.history.cost(rung) <= most

    def _left_behind(self, rung: Rung) -> Design | None:
        """A design that others had evaluated at the top, and that this rung has not seen."""
        above = self.history.known(self.top)
        return next((d for d in above if not self.history.knows(d, rung.name)), None)

    def _climber(self, rung: Rung) -> Design | None:
        """The next design for a lower rung, of this round's plan where it is for many; None where
        enough are known."""
        missing = self.history.count(rung.name) < self._quota(rung, self._round)
        if self._singly(rung):
            if not missing and not self._affordable(rung):
                return None
            design, gain = self._promising(self._levels.index(rung.name))
            return design if missing or gain >= LEAST_GAIN * self.history.cost(rung) else None
        if not missing:
            return None
        wanted = self._round, self._quota(rung, self._round)
        planned, plan = self._plans.get(rung.name, (None, []))
        if planned != wanted:
            plan = self._planned(rung, self._round)
            self._plans[rung.name] = (wanted, plan)
        return next((d for d in plan if not self.history.knows(d, rung.name)), None)

    def _planned(self, rung: Rung, turn: int) -> list[Design]:
        """Designs to evaluate at a lower rung in a round: of those of the level below the ones that
        may be good at the top, and a few by chance."""
        at = self._levels.index(rung.name)
        rng = np.random.default_rng([self.history.seed, turn, at])
        before = self._quota(rung, turn - 1)
        wanted = self._quota(rung, turn) - before
        if at == 0:
            return self._by_chance(rung, turn, wanted, rng)
        designs = self._climbing(at, turn, before, rng)
        scaling = self._scaled()
        if not designs or scaling is None:
            return []
        losses, broken = scaling.judged(self._optimistic(designs, at, turn))
        return [designs[row] for row in weighed(losses, broken, min(wanted, len(designs)), rng)]

    def _climbing(self, at: int, turn: int, before: int, rng: np.random.Generator) -> list[Design]:
        """Designs of the level below that a rung had not seen before this round."""
        rung, below = self._levels[at], self._levels[at - 1]
        seen = {design.key for design in self.history.known(rung)[:before]}
        if below == PRIOR and self._prior is not None:
            results = self.history.results(self.top, turn * ROUND)
            return self._prior.drawn(lambda d: d.key in seen, results, turn * ROUND, rng)
        designs = self.history.results(below).designs
        return [design for design in designs if design.key not in seen]

    def _by_chance(
        self, rung: Rung, turn: int, wanted: int, rng: np.random.Generator
    ) -> list[Design]:
        """New to every rung: at first from the whole space, later half of them near the front."""
        before = {d.key for d in self.history.known(rung.name)[: self._quota(rung, turn - 1)]}
        near = beside(self.history.results(self.top, turn * ROUND), self.problem.space, rng)
        near = [near[row] for row in rng.permutation(len(near)) if near[row].key not in before]
        far = unseen(self.problem.space, lambda design: design.key in before, wanted, rng)
        return [*near[: wanted // 2], *far]

    def _optimistic(self, designs: Sequence[Design], at: int, turn: int) -> Floats:
        """Outputs at the top that designs of the level below may have with some luck: what each
        level from here on adds, as far as it is known. (designs, outputs)"""
        levels = self._levels
        mean = self._outputs(designs, levels[at - 1])
        variance = np.zeros_like(mean)
        for step in range(at, len(levels)):
            knowledge = self._knowledge(step, self._first(step, turn))
            if knowledge is not None:
                mean, deviation = knowledge.moments(self._inputs(designs, mean))
                variance += deviation**2
        scaling = self._scaled()
        return mean if scaling is None else scaling.lucky(mean, np.sqrt(variance))

    def _first(self, level: int, turn: int) -> int | None:
        """How many evaluations at a level a round's plan is made from; None: all."""
        name = self._levels[level]
        if name == self.top:
            return turn * ROUND
        rung = next(rung for rung in self._lower if rung.name == name)
        return None if self._singly(rung) else self._quota(rung, turn - 1)

    def _promising(self, at: int) -> tuple[Design | None, float]:
        """What to evaluate next at a level, of what the level below knows, and the hypervolume that
        it is expected to gain there (Knowledge.best); 0 while that cannot be told."""
        rung, below = self._levels[at], self._levels[at - 1]
        rng, scaling, count = self.history.rng(), self._scaled(), self.history.count(rung)
        pool = self._pool(rung, below, rng)
        if not pool or scaling is None:
            return None, 0.0
        if below == PRIOR and count < first_designs(self.problem) and count % 2:
            return pool[int(rng.integers(len(pool)))], 0.0
        outputs, knowledge = self._outputs(pool, below), self._knowledge(at, None)
        if knowledge is None or count < self._least_known(below):
            return pool[weighed(*scaling.judged(outputs), 1, rng)[0]], 0.0
        inputs = self._inputs(pool, outputs)
        running = [d for d in self.history.running(rung) if self._seen(d, below)]
        known = self._inputs(running, self._outputs(running, below))
        row, gain = knowledge.best(inputs, known, int(rng.integers(1 << 31)))
        return pool[row], gain

    def _pool(self, rung: str, below: str, rng: np.random.Generator) -> list[Design]:
        """Designs of the level below that may be evaluated at a rung."""
        history = self.history
        if below == PRIOR and self._prior is not None:
            results = history.results(rung)
            return self._prior.drawn(lambda d: history.knows(d, rung), results, history.trials, rng)
        return [
            design for design in history.results(below).designs if not history.knows(design, rung)
        ]

    def _least_known(self, below: str) -> int:
        """Evaluations at a level before what it adds is learned; where it is to be learned of what
        is merely expected, half of them are drawn by chance."""
        return first_designs(self.problem) if below == PRIOR else len(self.problem.objectives) + 2

    def _beyond(self) -> Suggestion | None:
        """Where nothing waits for the top: the next design to climb at any rung."""
        rungs = self._lower
        for at in range(len(rungs) - 1, 0, -1):
            for design in self.history.results(rungs[at - 1].name).designs:
                if not self.history.knows(design, rungs[at].name):
                    return Suggestion(design, rungs[at].name, "narrow")
        name = rungs[0].name if rungs else self.top
        new = unseen(
            self.problem.space, lambda d: self.history.knows(d, name), 1, self.history.rng()
        )
        if new:
            return Suggestion(new[0], name, "screen")
        self._exhausted = not any(self.history.running(rung.name) for rung in rungs)
        return None

    def _scaled(self) -> Scaling | None:
        """From what is expected, or from the first designs screened; None before there are two."""
        if self._scaling is None:
            if self._prior is not None:
                rows = self._prior.known_rows()
            else:
                rung = self._lower[0]
                rows = self.history.figures(rung.name, self._quota(rung, 0))
            self._scaling = Scaling.of(self.problem, rows) if len(rows) > 1 else None
        return self._scaling

    def _seen(self, design: Design, level: str) -> bool:
        if level == PRIOR and self._prior is not None:
            return self._prior.able([design])[0]
        trial = self.history.outcome(design, level)
        return trial is not None and self.history.usable(trial)

    def _outputs(self, designs: Sequence[Design], level: str) -> Floats:
        """What a level says of designs: (designs, outputs)."""
        scaling = self._scaled()
        if scaling is None:
            return np.empty((0, 0))
        if level == PRIOR and self._prior is not None:
            return scaling.outputs(self._prior.rows(designs))
        trials = [self.history.outcome(design, level) for design in designs]
        return scaling.outputs([t.outcome.figures for t in trials if t and t.outcome])

    def _inputs(self, designs: Sequence[Design], outputs: Floats) -> Floats:
        """Features of designs and, scaled, what the level below says of them."""
        scaling = self._scaled()
        features = self.problem.space.features(designs)
        return features if scaling is None else np.hstack([features, scaling.unit(outputs)])

    def _knowledge(self, at: int, first: int | None) -> Knowledge | None:
        """What a level adds to the one below, from the first so many trials that ended there (None:
        all); None while too little is known."""
        rung, below, scaling = self._levels[at], self._levels[at - 1], self._scaled()
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
        if (rung, below) not in self._learners:
            width = len(data.inputs[0]) - len(scaling.figures)
            self._learners[rung, below] = Learner(scaling, scaling.links(width))
        return self._learners[rung, below].learn(data)


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
