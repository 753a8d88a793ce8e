"""What judges a design: at which fidelities, what each costs, and what is certain without it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from .design import Columns, Design, Floats
from .objective import Objective
from .trial import Outcome

PROVEN = "proven."
"""Before a figure's name: what is proven of it, where that is less than what is expected."""


@dataclass(frozen=True)
class Rung:
    """A fidelity of an evaluator."""

    name: str
    cost: float
    """Of one evaluation, in evaluations at the top; refined by what evaluations take."""
    proven: tuple[str, ...] = ()
    """Figures that no later rung betters: what it says of them is optimistic of the top, and what
    cannot do the work at this rung cannot at the top. Of one workload: "decode/latency_s"."""

    def proof(self, figures: Mapping[str, float]) -> dict[str, float]:
        """What an outcome of this rung proves, by figure."""
        found: dict[str, float] = {}
        for name in self.proven:
            task, slash, own = name.rpartition("/")
            value = figures.get(f"{task}{slash}{PROVEN}{own}", figures.get(name))
            if value is not None:
                found[name] = value
        return found


class Evaluator(Protocol):
    """Sent to workers by pickling, so it holds what it needs and no open file."""

    @property
    def version(self) -> str:
        """Of everything but the design that a figure rests on: results of two versions are never
        mixed."""
        ...

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """The cheapest first; the last is what is reported."""
        ...

    def evaluate(self, design: Design, fidelity: str) -> Outcome:
        """Raises nothing for a design that is merely bad; what it raises is a failed trial."""
        ...


class Optimist(Protocol):
    """Figures that no evaluation of a design can beat."""

    def proven(self, objective: Objective) -> str | None:
        """None where `optimistic` holds for an objective, else why it has none and what to use in
        its place."""
        ...

    def optimistic(self, columns: Columns, objectives: Sequence[Objective]) -> Floats:
        """Of each design and objective the best conceivable figure, to be minimized (a maximized
        figure is negated): (designs, objectives); inf where a design certainly cannot do the
        work."""
        ...

    def expected(self, columns: Columns, figures: Sequence[str]) -> Floats | None:
        """Figures of designs from the same sums, without proof: (designs, figures); nan for a
        design that certainly cannot do the work. None where one of them does not follow."""
        ...
