"""A study opened by a verb: its store, and what reports and verbs ask of it first."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ...dse.analysis import losses_of
from ...dse.design import Floats
from ...dse.objective import Limit, Objective
from ...dse.pareto import hypervolume, reference_point
from ...dse.store import Store
from ...dse.trial import Trial
from ...ir.errors import UserError, nearest
from ...report.study_data import StudyHead
from .described import head_of, limits_of, objectives_of


@dataclass(frozen=True)
class Opened:
    """A study and its store."""

    name: str
    store: Store

    @classmethod
    def of(cls, study: str, store: Store) -> "Opened":
        """A study as it is called: by its folder, or by its URL without the password."""
        return cls(store.shown if "://" in study else Path(study).resolve().name, store)

    @cached_property
    def head(self) -> StudyHead:
        return head_of(self.name, self.store.info)

    @cached_property
    def objectives(self) -> tuple[Objective, ...]:
        return objectives_of(self.store.info)

    @cached_property
    def limits(self) -> tuple[Limit, ...]:
        return limits_of(self.store.info)

    @property
    def top(self) -> str:
        """The fidelity that the front is of."""
        return self.store.info.rungs[-1]

    @cached_property
    def best(self) -> list[Trial]:
        """The front at the top."""
        return self.store.front()

    def fidelity(self, name: str | None) -> str:
        """A fidelity of the study, the top where none is named; raises UserError."""
        rungs = self.store.info.rungs
        if name is None or name in rungs:
            return name or self.top
        raise UserError(f"--fidelity: {name} is none of {', '.join(rungs)}{nearest(name, rungs)}")


@contextmanager
def opened(study: str, write: bool = False) -> Iterator[Opened]:
    """A study by its folder or URL; raises UserError where there is none."""
    with Store.open(study, write=write) as store:
        yield Opened.of(study, store)


def dominated_share(worth: Floats) -> float | None:
    """The hypervolume of a front up to its own reference point, as a share of the box between that
    and the best figure of each objective; None where all designs have the same figures, or there
    are none. (designs, objectives)"""
    if not len(worth) or (worth == worth[0]).all():
        return None
    reference = reference_point(worth)
    return hypervolume(worth, reference) / box(worth, reference)


def box(worth: Floats, reference: Floats) -> float:
    """The volume between the best figure of each objective and a reference point."""
    return float(np.prod(reference - worth.min(axis=0)))


def front_share(study: Opened) -> float | None:
    """`dominated_share` of a study's front."""
    return dominated_share(losses_of(study.best, study.objectives))
