"""What is known of a study: its trials, its front, what was excluded and what happened.

Read while a coordinator writes, and without torch. Writing is in store.py.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Row, Select, func, select

from ..ir.errors import UserError
from .database import Database
from .design import Design, Floats
from .guard import Holder, elapsed_s, holder
from .pareto import nondominated
from .schema import DESIGNS, EVENTS, EXCLUSIONS, FIGURES, TRIALS
from .study import StudyInfo
from .trial import Outcome, State, Trial

WAITING: tuple[State, ...] = ("queued", "lost")
"""What a coordinator starts next."""
BATCH = 10_000
"""Exclusions that are read or written at a time."""
_FLOAT = np.dtype("<f8")
MOST_NUMBERS = 500
"""Trials that are asked for by number at a time."""


@dataclass(frozen=True)
class Exclusion:
    """A design that needed no dear evaluation, as it was stored."""

    design: Design
    trial: int | None
    """Whose figures better all that the design could reach; None: its own bounds rule it out."""
    optimistic: tuple[float, ...]
    """Losses, one an objective, that no evaluation of it betters."""


@dataclass(frozen=True)
class StudyEvent:
    """What happened beside the ends of trials."""

    at: float
    """Seconds since 1970."""
    kind: str
    """"began", "stopped", "lost", "retry", "version"."""
    trial: int | None
    text: str


class Reader:
    """A study in a folder or at a URL, to be read; its mistakes are UserErrors."""

    def __init__(self, database: Database, info: StudyInfo) -> None:
        self._database = database
        self.info = info
        self._mine = TRIALS.c.version == info.evaluator_version

    def close(self) -> None:
        self._database.close()

    @property
    def shown(self) -> str:
        """Where it is, for messages."""
        return self._database.shown

    @property
    def folder(self) -> Path:
        """Where files of trials go."""
        return self._database.folder

    def trials(
        self,
        *,
        fidelity: str | None = None,
        state: State | None = None,
        numbers: Sequence[int] | None = None,
    ) -> list[Trial]:
        """Trials of the study's evaluator version, in their order, with all figures."""
        query = whole_trials().where(self._mine)
        if fidelity is not None:
            query = query.where(TRIALS.c.fidelity == fidelity)
        if state is not None:
            query = query.where(TRIALS.c.state == state)
        if numbers is None:
            return self._read(query)
        found: list[Trial] = []
        for start in range(0, len(numbers), MOST_NUMBERS):
            some = list(numbers[start : start + MOST_NUMBERS])
            found += self._read(query.where(TRIALS.c.number.in_(some)))
        return sorted(found, key=lambda trial: trial.number)

    def _read(self, query: "Select[Any]") -> list[Trial]:
        with self._database.reading() as connection:
            return [read_trial(row) for row in connection.execute(query.order_by(TRIALS.c.number))]

    def trial(self, number: int) -> Trial:
        """Raises UserError where there is none."""
        found = self._read(whole_trials().where(TRIALS.c.number == number))
        if not found:
            raise UserError(f"{self.shown}: no trial {number}, {self._extent()}")
        return found[0]

    def _extent(self) -> str:
        with self._database.reading() as connection:
            last = connection.execute(select(func.max(TRIALS.c.number))).scalar()
        return "it has none yet" if last is None else f"they end at {last}"

    def waiting(self) -> list[int]:
        """Numbers of what is to be started, in their order."""
        query = select(TRIALS.c.number).where(
            self._mine, TRIALS.c.fidelity.in_(list(self.info.rungs)), TRIALS.c.state.in_(WAITING)
        )
        with self._database.reading() as connection:
            return list(connection.execute(query.order_by(TRIALS.c.number)).scalars())

    def counts(self) -> dict[tuple[str, State], int]:
        """How many trials there are, by fidelity and state."""
        columns = TRIALS.c.fidelity, TRIALS.c.state
        query = select(*columns, func.count()).where(self._mine).group_by(*columns)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return {(fidelity, state): count for fidelity, state, count in rows}

    def spent(self) -> dict[str, float]:
        """Seconds of one core by fidelity, attempts that were lost included."""
        spent = func.sum(TRIALS.c.seconds + TRIALS.c.lost_s).label("spent")
        query = select(TRIALS.c.fidelity, spent).where(self._mine).group_by(TRIALS.c.fidelity)
        with self._database.reading() as connection:
            return {row.fidelity: row.spent for row in connection.execute(query)}

    def front(self, fidelity: str | None = None) -> list[Trial]:
        """The trials at a fidelity (default: the top) that hold every limit and that no other
        betters, ties kept, the best by the first objective first."""
        query = select(TRIALS.c.number, TRIALS.c.losses).where(
            self._mine,
            TRIALS.c.fidelity == (fidelity or self.info.rungs[-1]),
            TRIALS.c.state == "done",
            TRIALS.c.losses.is_not(None),
        )
        with self._database.reading() as connection:
            # Plain tuples of the driver: rows of SQLAlchemy take longer than all the rest.
            cursor = connection.execute(query.order_by(TRIALS.c.number)).cursor
            rows = [] if cursor is None else cursor.fetchall()
        if not rows:
            return []
        numbers, packed = zip(*rows, strict=True)
        losses = np.frombuffer(b"".join(packed), _FLOAT).reshape(len(rows), -1)
        kept = np.flatnonzero(nondominated(losses)).tolist()
        best = {numbers[at]: tuple(losses[at]) for at in kept}
        found = self.trials(numbers=list(best))
        return sorted(found, key=lambda trial: (best[trial.number], trial.number))

    def events(self) -> list[StudyEvent]:
        """What happened, the oldest first."""
        columns = EVENTS.c.at, EVENTS.c.kind, EVENTS.c.trial, EVENTS.c.text
        with self._database.reading() as connection:
            rows = connection.execute(select(*columns).order_by(EVENTS.c.id)).all()
        return [StudyEvent(*row) for row in rows]

    def exclusions(self) -> Iterator[Exclusion]:
        """Designs that needed no dear evaluation, and why."""
        mine = EXCLUSIONS.c.version == self.info.evaluator_version
        with self._database.reading() as connection:
            for row in connection.execute(EXCLUSIONS.select().where(mine)).yield_per(BATCH):
                optimistic = tuple(json.loads(row.optimistic))
                yield Exclusion(Design.of(json.loads(row.parameters)), row.trial, optimistic)

    @property
    def excluded(self) -> int:
        """How many designs needed no dear evaluation."""
        mine = EXCLUSIONS.c.version == self.info.evaluator_version
        with self._database.reading() as connection:
            return connection.execute(select(func.count()).where(mine)).scalar_one()

    def mean_seconds(self) -> dict[str, float]:
        """Of one core, of a trial that is done, by fidelity."""
        mean = func.avg(TRIALS.c.seconds).label("mean")
        done = TRIALS.c.state == "done"
        query = select(TRIALS.c.fidelity, mean).where(self._mine, done)
        with self._database.reading() as connection:
            rows = connection.execute(query.group_by(TRIALS.c.fidelity)).all()
        return {row.fidelity: row.mean for row in rows}

    @property
    def elapsed_s(self) -> float:
        """How long the study has been searched for, by all its coordinators."""
        with self._database.reading() as connection:
            return elapsed_s(connection)

    @property
    def holder(self) -> Holder | None:
        """Who searches it now."""
        return holder(self._database)


def pack(losses: Floats) -> bytes:
    """Losses as they are stored."""
    return losses.astype(_FLOAT).tobytes()


def whole_trials() -> "Select[Any]":
    """Rows of trials with their designs and figures."""
    return (
        select(TRIALS, DESIGNS.c.parameters, FIGURES.c.figures)
        .join_from(TRIALS, DESIGNS)
        .join(FIGURES, FIGURES.c.number == TRIALS.c.number, isouter=True)
    )


def read_trial(row: "Row[Any]") -> Trial:
    """Of such a row, the trial."""
    state: State = row.state
    outcome = None
    if state == "done" or state == "infeasible" or state == "failed":
        figures = json.loads(row.figures) if row.figures else {}
        outcome = Outcome(state, figures, row.seconds, row.reason)
    return Trial(
        row.number,
        Design.of(json.loads(row.parameters)),
        row.fidelity,
        row.state,
        outcome,
        row.attempts,
        row.note,
        row.worker,
    )
