"""The trials of a study, kept so that nothing that was done is lost, and nothing done is repeated.

    with Store.create("wafer-study", info) as store: ...     a new study, or the same gone on with
    with Store.open("wafer-study") as store: store.front()   to read

A trial is unique by design, fidelity and evaluator version, and one that is done is never written
again. Every call that writes is one transaction: whoever is killed, it has happened or it has not.
One process writes at a time; who may, is in guard.py, what the tables hold in schema.py.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from sqlalchemy import (
    Connection,
    Update,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from ..ir.errors import UserError
from .database import Database, connect
from .design import Design
from .guard import STALE_S, Guard
from .objective import losses, read_limit, read_objective
from .reader import BATCH, WAITING, Reader, pack, read_trial, whole_trials
from .schema import DESIGNS, EVENTS, EXCLUSIONS, FIGURES, META, TRIALS
from .study import SCHEMA, StudyInfo
from .trial import Outcome, State, Suggestion, Trial

AGAIN: tuple[State, ...] = ("failed", "lost")
"""What a user may have tried again."""

_ONE_WRITER = META.select().where(META.c.key == "schema").with_for_update()
"""What enqueues waits here for what does too; SQLite has one writer anyway."""

_PLACE = select(
    select(TRIALS.c.number)
    .where(
        TRIALS.c.design == bindparam("design"),
        TRIALS.c.fidelity == bindparam("fidelity"),
        TRIALS.c.version == bindparam("version"),
    )
    .scalar_subquery(),
    select(DESIGNS.c.key).where(DESIGNS.c.key == bindparam("design")).scalar_subquery(),
    func.coalesce(select(func.max(TRIALS.c.number) + 1).scalar_subquery(), 0),
)
"""Of a suggestion: its trial and its design, where they are there, and the next number."""

_NEW_DESIGN, _NEW_TRIAL, _NEW_FIGURES = insert(DESIGNS), insert(TRIALS), insert(FIGURES)


def _from(states: Sequence[State], **values: Any) -> Update:
    """A change of a trial that is in one of some states."""
    able = or_(*(TRIALS.c.state == state for state in states))
    return update(TRIALS).where(TRIALS.c.number == bindparam("trial"), able).values(**values)


_START = _from(
    WAITING,
    state="running",
    worker=bindparam("worker"),
    attempts=bindparam("attempts"),
    lease_until=bindparam("lease_until"),
)
_FINISH = _from(
    ("running",),
    lease_until=None,
    **{name: bindparam(name) for name in ("state", "ended_at", "seconds", "reason", "losses")},
)
_LOSE = _from(
    ("running",), state="lost", lease_until=None, lost_s=TRIALS.c.lost_s + bindparam("spent_s")
)
_RETRY = _from(
    AGAIN,
    state="queued",
    ended_at=None,
    seconds=0.0,
    reason="",
    lost_s=TRIALS.c.lost_s + TRIALS.c.seconds,
)


class Excluded(Protocol):
    """A design that needs no dear evaluation, and the proof."""

    @property
    def design(self) -> Design: ...

    @property
    def trial(self) -> int | None: ...

    @property
    def optimistic(self) -> tuple[float, ...]: ...


class Store(Reader):
    """A study in a folder or at a URL, to be read and written."""

    def __init__(self, database: Database, info: StudyInfo) -> None:
        super().__init__(database, info)
        self._objectives = tuple(read_objective(text) for text in info.objectives)
        self._limits = tuple(read_limit(text) for text in info.limits)

    @classmethod
    def create(cls, where: str | Path, info: StudyInfo) -> "Store":
        """A new study; or the one that is there already, where it is the same search.

        Raises:
            UserError: Another search is there (it says what differs), or nothing can be.
        """
        database = connect(where, write=True, create=True)
        try:
            with database.writing() as connection:
                database.create_tables(connection)
                found = _meta(connection)
                if not found:
                    keys = {"schema": str(SCHEMA), "coordinator": "", "elapsed_s": "0.0"}
                    rows = {**keys, "info": info.to_json()}
                    connection.execute(
                        insert(META), [{"key": k, "value": v} for k, v in rows.items()]
                    )
                else:
                    _go_on(connection, _described(database, found), info, database.shown)
        except BaseException:
            database.close()
            raise
        return cls(database, info)

    @classmethod
    def open(cls, where: str | Path, write: bool = False) -> "Store":
        """A study that is there; raises UserError where none is, or one of another schema."""
        database = connect(where, write=write)
        try:
            if not database.tables():
                raise UserError(f"{database.shown}: no study there")
            with database.reading() as connection:
                return cls(database, _described(database, _meta(connection)))
        except BaseException:
            database.close()
            raise

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def guard(self) -> Guard:
        """What a coordinator holds while it runs; entering it raises UserError for a second one."""
        return Guard(self._database)

    def enqueue(self, suggestion: Suggestion) -> Trial:
        """The trial of a suggestion: a new one that waits, or the one that is there already.

        Raises UserError for a fidelity that the study has not.
        """
        design, fidelity = suggestion.design, suggestion.fidelity
        if fidelity not in self.info.rungs:
            known = ", ".join(self.info.rungs)
            raise UserError(f"{self.shown}: no fidelity '{fidelity}', expected one of {known}")
        version = self.info.evaluator_version
        asked = {"design": design.key, "fidelity": fidelity, "version": version}
        with self._database.writing() as connection:
            if self._database.shared:
                connection.execute(_ONE_WRITER)
            same, designed, number = connection.execute(_PLACE, asked).one()
            if same is not None:
                row = connection.execute(whole_trials().where(TRIALS.c.number == same)).one()
                return read_trial(row)
            if designed is None:
                row = {"key": design.key, "parameters": _text(design)}
                connection.execute(_NEW_DESIGN, row)
            values = {"number": number, "note": suggestion.note, "queued_at": time.time()}
            connection.execute(_NEW_TRIAL, {**asked, **values, "state": "queued"})
        return Trial(number, design, fidelity, "queued", note=suggestion.note)

    def start(self, trial: Trial, worker: str, lease_s: float = STALE_S) -> Trial:
        """A waiting trial runs. The beat of the coordinator renews leases; one that has run out
        says that nobody evaluates the trial."""
        attempts = trial.attempts + 1
        values = {"worker": worker, "attempts": attempts, "lease_until": time.time() + lease_s}
        with self._database.writing() as connection:
            _move(connection, trial.number, _START, values)
        return replace(trial, state="running", worker=worker, attempts=attempts)

    def finish(self, trial: Trial, outcome: Outcome) -> Trial:
        """A running trial has ended; its figures are finite, and complete where it is done."""
        with self._database.writing() as connection:
            values = {
                "state": outcome.state,
                "ended_at": time.time(),
                "seconds": outcome.seconds,
                "reason": outcome.reason,
                "losses": self._losses(outcome),
            }
            _move(connection, trial.number, _FINISH, values)
            if outcome.figures:
                text = json.dumps(dict(outcome.figures), allow_nan=False)
                connection.execute(_NEW_FIGURES, {"number": trial.number, "figures": text})
        return replace(trial, state=outcome.state, outcome=outcome)

    def _losses(self, outcome: Outcome) -> bytes | None:
        figures = outcome.figures
        if outcome.state != "done" or any(limit.excess(figures) > 0 for limit in self._limits):
            return None
        return pack(losses([figures], self._objectives))

    def lose(self, trial: Trial, reason: str, seconds: float) -> Trial:
        """The worker of a running trial is gone; it waits to be tried again."""
        with self._database.writing() as connection:
            _move(connection, trial.number, _LOSE, {"spent_s": seconds})
            _log(connection, "lost", reason, trial.number)
        return replace(trial, state="lost")

    def recover(self) -> list[int]:
        """What ran when an earlier coordinator was stopped waits again; only for who holds the
        guard."""
        running = TRIALS.c.state == "running"
        with self._database.writing() as connection:
            numbers = list(connection.execute(select(TRIALS.c.number).where(running)).scalars())
            connection.execute(update(TRIALS).where(running).values(state="lost", lease_until=None))
            for number in numbers:
                _log(connection, "lost", "the coordinator stopped", number)
        return numbers

    def retry(self, numbers: Sequence[int] | None = None) -> list[int]:
        """Have trials that failed or were lost evaluated once more; default: all such.

        Raises UserError for a trial that is not one of these.
        """
        with self._database.writing() as connection:
            able = connection.execute(
                select(TRIALS.c.number, TRIALS.c.reason)
                .where(self._mine, TRIALS.c.state.in_(AGAIN))
                .order_by(TRIALS.c.number)
            ).all()
            reasons = {row.number: row.reason for row in able}
            for number in [] if numbers is None else numbers:
                if number not in reasons:
                    raise UserError(f"{self.shown}: trial {number} neither failed nor was lost")
            chosen = list(reasons) if numbers is None else sorted(set(numbers))
            for number in chosen:
                _move(connection, number, _RETRY, {})
                connection.execute(delete(FIGURES).where(FIGURES.c.number == number))
                _log(connection, "retry", reasons[number], number)
        return chosen

    def exclude(self, exclusions: Iterable[Excluded]) -> int:
        """Keep which designs need no dear evaluation, in place of what was known of that; how
        many they are."""
        version = self.info.evaluator_version
        rows = (
            {
                "design": each.design.key,
                "version": version,
                "parameters": _text(each.design),
                "trial": each.trial,
                "optimistic": json.dumps(each.optimistic),
            }
            for each in exclusions
        )
        count = 0
        with self._database.writing() as connection:
            connection.execute(delete(EXCLUSIONS).where(EXCLUSIONS.c.version == version))
            while some := list(islice(rows, BATCH)):
                connection.execute(insert(EXCLUSIONS), some)
                count += len(some)
        return count

    def log(self, kind: str, text: str, trial: int | None = None) -> None:
        """Keep what happened."""
        with self._database.writing() as connection:
            _log(connection, kind, text, trial)


def _meta(connection: Connection) -> dict[str, str]:
    return {row.key: row.value for row in connection.execute(META.select())}


def _described(database: Database, found: Mapping[str, str]) -> StudyInfo:
    """The description of a study that is there; raises UserError for another schema."""
    schema = found.get("schema", "0")
    if schema != str(SCHEMA):
        age = "a newer" if schema.isdigit() and int(schema) > SCHEMA else "an older"
        raise UserError(
            f"{database.shown}: written by {age} wscc (schema {schema}); this one reads {SCHEMA}"
        )
    return StudyInfo.from_json(found.get("info", ""))


def _go_on(connection: Connection, before: StudyInfo, info: StudyInfo, shown: str) -> None:
    """The same search again, perhaps longer, or by another version of the evaluator: what waits is
    then evaluated by that one, and what had ended is kept apart."""
    if differences := before.differences(info):
        said = "; ".join(differences)
        raise UserError(f"{shown}: holds another study ({said}); name another folder with --study")
    if before.evaluator_version != info.evaluator_version:
        waits = TRIALS.c.state.in_([*WAITING, "running"])
        mine = TRIALS.c.version == before.evaluator_version
        other = TRIALS.alias()
        twin = (
            other.c.version == info.evaluator_version,
            other.c.design == TRIALS.c.design,
            other.c.fidelity == TRIALS.c.fidelity,
        )
        moved = update(TRIALS).where(waits, mine, ~exists().where(*twin))
        connection.execute(moved.values(version=info.evaluator_version))
        _log(connection, "version", f"{before.evaluator_version} -> {info.evaluator_version}")
    connection.execute(update(META).where(META.c.key == "info").values(value=info.to_json()))


def _log(connection: Connection, kind: str, text: str, trial: int | None = None) -> None:
    row = {"at": time.time(), "kind": kind, "trial": trial, "text": text}
    connection.execute(insert(EVENTS), row)


def _move(connection: Connection, number: int, how: Update, values: Mapping[str, Any]) -> None:
    """Change a trial; raises ValueError where it is not in a state to be changed so."""
    if connection.execute(how, {"trial": number, **values}).rowcount != 1:
        raise ValueError(f"trial {number} is in no state for this")


def _text(design: Design) -> str:
    return json.dumps(dict(design.values))
