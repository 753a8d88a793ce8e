"""Figures as a surrogate learns them: by their logarithm where they are positive."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..design import Floats
from ..objective import Limit, Objective
from ..pareto import nondominated
from ..strategy import Problem

OPTIMISM = 1.0
"""Standard deviations by which a design is thought better than expected, to be tried."""

_TINY = 1e-12
"""In place of a figure that is not positive, where the others are, as a share of their mean."""


@dataclass(frozen=True)
class Link:
    """What is expected of an output before anything is learned: offset + slope x an input."""

    column: int
    offset: float
    slope: float


@dataclass(frozen=True)
class Scaling:
    """The figures of the objectives and limits, each once, and how each is learned."""

    objectives: tuple[Objective, ...]
    limits: tuple[Limit, ...]
    figures: tuple[str, ...]
    logarithmic: tuple[bool, ...]
    middle: Floats
    """Of the outputs, over the first designs evaluated: (outputs,)"""
    spread: Floats
    """Standard deviation of the same, not zero: (outputs,)"""

    @classmethod
    def of(cls, problem: Problem, rows: Sequence[Mapping[str, float]]) -> "Scaling":
        """From the figures of some designs."""
        wanted = dict.fromkeys(one.figure for one in (*problem.objectives, *problem.limits))
        figures = tuple(wanted)
        values = np.array([[row[name] for name in figures] for row in rows])
        logarithmic = tuple(np.logical_and.reduce(values > 0, axis=0).tolist())
        one = np.ones(len(figures))
        plain = cls(problem.objectives, problem.limits, figures, logarithmic, 0 * one, one)
        outputs = plain.outputs(rows)
        spread = outputs.std(axis=0)
        spread = np.where(spread > 1e-9, spread, 1.0)
        return cls(
            problem.objectives, problem.limits, figures, logarithmic, outputs.mean(axis=0), spread
        )

    def outputs(self, rows: Sequence[Mapping[str, float]]) -> Floats:
        """What is learned of each design: (designs, outputs)."""
        values = np.array([[row[name] for name in self.figures] for row in rows], dtype=np.float64)
        values = values.reshape(len(rows), len(self.figures))
        least = _TINY * np.abs(values).mean(axis=0, keepdims=True) + 1e-300 if len(rows) else _TINY
        return np.where(self.logarithmic, np.log(np.maximum(values, least)), values)

    def unit(self, outputs: Floats) -> Floats:
        """Outputs as inputs of another surrogate, most of them within 0..1."""
        return 0.5 + (outputs - self.middle) / (4 * self.spread)

    def losses(self, outputs: Any) -> list[Any]:
        """What is to be minimized, one entry an objective; arrays or tensors (..., outputs)."""
        return [one.sign * self._figure(outputs, one.figure) for one in self.objectives]

    def excess(self, outputs: Any) -> list[Any]:
        """How far each limit is broken, as a share of it, one entry a limit."""
        return [
            (1 if limit.relation == "<=" else -1)
            * (self._figure(outputs, limit.figure) - limit.value)
            / (abs(limit.value) or 1.0)
            for limit in self.limits
        ]

    def judged(self, outputs: Floats) -> tuple[Floats, Floats]:
        """Losses (designs, objectives), and by how much of them limits are broken (designs,)."""
        losses = np.array(self.losses(outputs)).T
        broken = [np.maximum(excess, 0) for excess in self.excess(outputs)]
        return losses, np.sum(broken, axis=0) if broken else np.zeros(len(losses))

    def lucky(self, mean: Floats, deviation: Floats) -> Floats:
        """Outputs better than expected by OPTIMISM standard deviations."""
        better = {
            limit.figure: 1.0 if limit.relation == "<=" else -1.0 for limit in self.limits
        } | {one.figure: one.sign for one in self.objectives}
        signs = np.array([better[name] for name in self.figures])
        return mean - OPTIMISM * signs * deviation

    def promising(self, outputs: Floats, count: int) -> list[int]:
        """Rows of the best fronts, one after the other, until there are so many."""
        losses, broken = self.judged(outputs)
        left = np.flatnonzero(broken <= broken.min())
        found: list[int] = []
        while len(left) and len(found) < count:
            front = nondominated(losses[left])
            found += left[front].tolist()
            left = left[~front]
        return found[:count]

    def links(self, first: int) -> list[Link]:
        """Each output is expected to be what the rung below says of it, in the input columns from
        `first` on."""
        return [
            Link(first + at, float(middle - 2 * spread), float(4 * spread))
            for at, (middle, spread) in enumerate(zip(self.middle, self.spread, strict=True))
        ]

    def _figure(self, outputs: Any, name: str) -> Any:
        at = self.figures.index(name)
        output = outputs[..., at]
        if not self.logarithmic[at]:
            return output
        return np.exp(output) if isinstance(output, np.ndarray) else output.exp()
