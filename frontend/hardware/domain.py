"""A parameter and the values that it may take, in SI: a list, powers of two, or an interval.

How they are read from a spec is parameters.py.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

TOLERANCE = 1e-9
"""Relative, so that 0.3 GHz is the third step of 0.1 GHz in floating point."""


@dataclass(frozen=True)
class Choices:
    values: tuple[float | str, ...]
    text: str

    def __contains__(self, value: float | str) -> bool:
        if isinstance(value, str):
            return value in self.values
        return any(_close(value, other) for other in self.values if not isinstance(other, str))


@dataclass(frozen=True)
class Powers:
    """`low` doubled again and again up to `high`."""

    low: float
    high: float
    text: str

    def __contains__(self, value: float | str) -> bool:
        if isinstance(value, str) or value <= 0 or not _between(self.low, value, self.high):
            return False
        steps = math.log2(value / self.low)
        return abs(steps - round(steps)) < TOLERANCE


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`, both included; every value between them where there is no step."""

    low: float
    high: float
    step: float | None
    text: str

    def __contains__(self, value: float | str) -> bool:
        if isinstance(value, str) or not _between(self.low, value, self.high):
            return False
        if self.step is None:
            return True
        steps = (value - self.low) / self.step
        return math.isfinite(steps) and abs(steps - round(steps)) < TOLERANCE * max(1.0, steps)


Domain: TypeAlias = Choices | Powers | Interval


@dataclass(frozen=True)
class Parameter:
    """An open value of a spec: a number in SI, or a word."""

    name: str
    default: float | str
    dimension: str | None
    """What the number measures, `bytes` for instance; None for a word."""
    domain: Domain | None
    """None: any value of that dimension."""
    when: str | None
    source: str | None


def _close(value: float, other: float) -> bool:
    return math.isclose(value, other, rel_tol=TOLERANCE)


def _between(low: float, value: float, high: float) -> bool:
    return low <= value <= high or _close(value, low) or _close(value, high)
