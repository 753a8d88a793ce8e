"""A measured figure beside the predicted one, and the errors of many."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Figure:
    """One row of a cohort, both figures in `unit`."""

    cohort: str
    name: str
    unit: str
    measured: float
    predicted: float
    fitted: bool
    """Whether it may have fixed constants; all others are predictions."""
    source: str
    kind: str = ""
    """Where a cohort holds several kinds of figures: which."""

    @property
    def error(self) -> float:
        """Of the predicted figure, as a share of the measured one."""
        return self.predicted / self.measured - 1


@dataclass(frozen=True)
class Cohort:
    """Measurements of one kind, predicted in the same way."""

    key: str
    """What `--cohort` takes."""
    name: str
    figures: Callable[[Path | None], Iterator[Figure]]
    """The rows that a folder holds, or those carried here; none where the folder has no such
    file. They come as they are computed."""


@dataclass(frozen=True)
class Errors:
    """Unsigned errors of some figures, as shares."""

    figures: int
    mean: float
    median: float
    p95: float
    worst: float
    """With its sign."""


def errors(figures: Sequence[Figure]) -> Errors:
    """Over at least one figure."""
    signed = np.array([figure.error for figure in figures])
    size = np.abs(signed)
    return Errors(
        figures=len(size),
        mean=float(size.mean()),
        median=float(np.median(size)),
        p95=float(np.percentile(size, 95)),
        worst=float(signed[size.argmax()]),
    )
