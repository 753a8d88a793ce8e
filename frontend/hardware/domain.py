"""A parameter and the values that it may take, in SI: a list, powers of two, or an interval.

How they are read from a spec is parameters.py. A value may be an array, one entry a point of a
batch, and so may the ends of a domain that depends on other parameters.
"""

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from .units import Quantity

TOLERANCE = 1e-9
"""Relative, so that 0.3 GHz is the third step of 0.1 GHz in floating point."""


@dataclass(frozen=True)
class Choices:
    values: tuple[float | str, ...]
    text: str

    @property
    def size(self) -> Any:
        """How many values there are."""
        return len(self.values)

    def at(self, places: np.ndarray) -> np.ndarray:
        """The values at some places in the list, from 0; one of every point."""
        if not any(isinstance(value, np.ndarray) for value in self.values):
            return np.asarray(self.values)[places]
        each = [np.broadcast_to(np.asarray(value), places.shape) for value in self.values]
        return np.stack(each)[places, np.arange(len(places))]

    def place(self, values: np.ndarray) -> np.ndarray:
        """The places of the values that are nearest to some."""
        if values.dtype.kind in "US":
            return np.argmax([values == str(other) for other in self.values], axis=0)
        apart = [abs(values - other) for other in self.values if not isinstance(other, str)]
        return np.argmin(apart, axis=0)

    def holds(self, value: Any) -> Any:
        """Whether a value is one of the list."""
        if isinstance(value, str):
            return value in self.values
        near = [_close(value, other) for other in self.values if not isinstance(other, str)]
        return np.any(near, axis=0) if isinstance(value, np.ndarray) else any(near)


@dataclass(frozen=True)
class Powers:
    """`low` doubled again and again up to `high`."""

    low: Any
    high: Any
    text: str

    @property
    def size(self) -> Any:
        """How many values there are."""
        return np.floor(np.log2(self.high / self.low) + TOLERANCE) + 1

    def at(self, places: np.ndarray) -> np.ndarray:
        """The values at some places in the list, from 0; one of every point."""
        return self.low * 2.0**places

    def place(self, values: np.ndarray) -> np.ndarray:
        """The places of the values that are nearest to some."""
        return np.round(np.log2(values / self.low))

    def holds(self, value: Any) -> Any:
        """Whether a value is one of the powers."""
        if isinstance(value, str):
            return False
        with np.errstate(all="ignore"):
            steps = np.log2(value / self.low)
            whole = _plain(abs(steps - np.round(steps)) < TOLERANCE)
        return _between(self.low, value, self.high) & whole


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`, both included; every value between them where there is no step."""

    low: Any
    high: Any
    step: Any
    text: str

    @property
    def size(self) -> Any:
        """How many values there are; infinite where there is no step."""
        if self.step is None:
            return np.inf
        return np.floor((self.high - self.low) / self.step * (1 + 1e-12) + TOLERANCE) + 1

    def at(self, places: np.ndarray) -> np.ndarray:
        """The values at some places in the list, from 0, or, without a step, at some shares of the
        way from the low end to the high one; one of every point."""
        step = self.high - self.low if self.step is None else self.step
        return self.low + places * step

    def place(self, values: np.ndarray) -> np.ndarray:
        """The places of the values that are nearest to some; shares of the way without a step."""
        if self.step is not None:
            return np.round((values - self.low) / self.step)
        width = np.asarray(self.high - self.low, float)
        return np.where(width > 0, (values - self.low) / np.where(width > 0, width, 1.0), 0.5)

    def holds(self, value: Any) -> Any:
        """Whether a value is in the interval, and a whole number of steps from its low end."""
        if isinstance(value, str):
            return False
        within = _between(self.low, value, self.high)
        if self.step is None:
            return within
        steps = (value - self.low) / self.step
        return within & _plain(
            np.isfinite(steps)
            & (abs(steps - np.round(steps)) < TOLERANCE * np.maximum(1.0, abs(steps)))
        )


Domain: TypeAlias = Choices | Powers | Interval


@dataclass(frozen=True)
class Parameter:
    """An open value of a spec: a number in SI, or a word."""

    name: str
    default: float | str
    like: Quantity | str
    """The default with what it measures."""
    dimension: str | None
    """What the number measures, `bytes` for instance; None for a word."""
    domain: Domain | None
    """None: any value of that dimension. Where it `depends`, as it is at the defaults."""
    when: str | None
    source: str | None
    depends: bool = False
    """Whether other parameters change the domain."""


def _plain(holds: Any) -> Any:
    return holds if isinstance(holds, np.ndarray) else bool(holds)


def _close(value: Any, other: Any) -> Any:
    if isinstance(value, np.ndarray) or isinstance(other, np.ndarray):
        return np.isclose(value, other, rtol=TOLERANCE, atol=0.0)
    return math.isclose(value, other, rel_tol=TOLERANCE)


def _between(low: Any, value: Any, high: Any) -> Any:
    inside = (low <= value) & (value <= high)
    return inside | _close(value, low) | _close(value, high)
