"""Ways to search a space, behind one interface: asked for designs, told what became of them.

Each is a module that cites its source. What a strategy needs (torch, pymoo) is imported when it is
made, so that listing them costs nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from ...ir.errors import UserError, nearest
from ..strategy import Problem, Strategy


@dataclass(frozen=True)
class Maker:
    """Where a strategy is, what it does, and what may be set."""

    module: str
    name: str
    doc: str
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    """What each option means."""


STRATEGIES: Mapping[str, Maker] = {
    "random": Maker("random", "RandomSearch", "uniform random designs at the top fidelity"),
    "sobol": Maker("sobol", "SobolSearch", "a scrambled Sobol sequence at the top fidelity"),
    "nsga2": Maker("nsga2", "GeneticSearch", "a genetic search at the top fidelity (NSGA-II)"),
    "bo": Maker("bo", "BayesianSearch", "Bayesian optimization at the top fidelity (qLogNEHVI)"),
    "mfbo": Maker("mfbo", "LadderSearch", "Bayesian optimization that climbs the fidelities"),
    "exhaustive": Maker("exhaustive", "Exhaustive", "every design of a finite space"),
    "certified": Maker(
        "certified",
        "Certified",
        "the exact front of a finite space, by pruning that loses nothing",
        {"epsilon": "the front within this share, for fewer evaluations (0.02 for 2%)"},
    ),
}

DEFAULT = "mfbo"
"""The best of benchmarks/search_spaces.py."""


def make(name: str, problem: Problem, seed: int, **options: Any) -> Strategy:
    """A strategy by name, ready to be asked or to be told of earlier trials.

    Raises:
        UserError: An unknown strategy or option, or a problem that the strategy does not fit.
    """
    if name not in STRATEGIES:
        known = ", ".join(STRATEGIES)
        raise UserError(f"--strategy {name}: expected one of {known}{nearest(name, STRATEGIES)}")
    maker = STRATEGIES[name]
    for option in options:
        if option not in maker.options:
            raise UserError(
                f"--{option}: --strategy {name} has no such option{nearest(option, maker.options)}"
            )
    made = getattr(import_module(f".{maker.module}", __name__), maker.name)
    return made(problem, seed, **options)
