"""A connection to the database of a study, and what its errors mean to a user.

SQLite in a folder, in WAL mode: many may read while one writes. Or PostgreSQL by URL. What is kept
in it is in schema.py.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, inspect, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError

from ..ir.errors import UserError
from ..ir.store import default_folder, digest
from .schema import META, metadata

FILE = "study.db"
BUSY_S = 10.0
"""How long a write waits for another process's."""

MEANINGS = {
    "disk is full": "the disk is full. What had ended is kept: make room and go on",
    "disk i/o error": "the disk cannot be read or written. What had ended is kept",
    "is locked": "locked by another process, which writes without end",
    "readonly database": "cannot be written",
    "unable to open": "cannot be opened",
    "not a database": "not a database, or damaged",
    "malformed": "damaged",
}
"""Of SQLite's errors, by what they say."""


@dataclass(frozen=True)
class Database:
    """Where a study is; every error of the database is a UserError."""

    engine: Engine
    shown: str
    """For messages: a path, or a URL without its password."""
    folder: Path
    """Where files beside the database go."""
    shared: bool
    """Whether processes of other hosts may have it open."""

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent view of the database."""
        with self._said(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """All or nothing, whenever the process is killed."""
        with (
            self._said(),
            self.engine.connect().execution_options(writing=True) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except (DBAPIError, sqlite3.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            said = str(cause).strip().split("\n")[0]
            meaning = next((m for sign, m in MEANINGS.items() if sign in said.lower()), said)
            raise UserError(f"{self.shown}: {meaning}") from None

    def tables(self) -> bool:
        """Whether it has those of a study."""
        with self._said():
            return inspect(self.engine).has_table(META.name)

    def create_tables(self, connection: Connection) -> None:
        """Those that are not there; of two that create them at once one waits."""
        if self.shared:
            connection.execute(select(func.pg_advisory_xact_lock(0x77736363)))
        metadata.create_all(connection)

    def sync(self) -> None:
        """Have the disk keep what was written, even through a power cut."""
        if not self.shared:
            with suppress(OSError):
                file = os.open(f"{self.folder / FILE}-wal", os.O_RDONLY)
                try:
                    os.fsync(file)
                finally:
                    os.close(file)

    def close(self) -> None:
        self.engine.dispose()


def is_url(where: str | Path) -> bool:
    """Whether a study is named by a URL, not by a folder."""
    return isinstance(where, str) and "://" in where


def connect(where: str | Path, *, write: bool, create: bool = False) -> Database:
    """The database of a study in a folder or at a URL; raises UserError.

    Args:
        create: Whether a database that is not there is made.
    """
    if is_url(where):
        return _postgresql(str(where))
    return _sqlite(Path(where), write, create)


def _sqlite(folder: Path, write: bool, create: bool) -> Database:
    path = folder / FILE
    if create:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{folder}: the study's folder cannot be made: {error.strerror}"
            ) from None
    elif not path.is_file():
        raise UserError(f"{folder}: no study there ({FILE} is missing)")
    mode = "rwc" if create else "rw" if write else "ro"
    query = {"uri": "true", "mode": mode}
    if mode == "ro" and not os.access(folder, os.W_OK) and not Path(f"{path}-wal").exists():
        query["immutable"] = "1"
    url = URL.create("sqlite+pysqlite", database=path.absolute().as_uri(), query=query)
    engine = create_engine(url, connect_args={"timeout": BUSY_S})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        if write:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get("writing")
        own: Any = connection.connection.driver_connection
        own.execute("BEGIN IMMEDIATE" if writing else "BEGIN")

    return Database(engine, str(path), folder, shared=False)


def _postgresql(where: str) -> Database:
    try:
        url = make_url(where)
        if url.get_backend_name() != "postgresql":
            raise ArgumentError
    except ArgumentError:
        raise UserError(f"{where}: expected a folder, or postgresql://USER@HOST/DATABASE") from None
    shown = url.render_as_string(hide_password=True)
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    try:
        engine = create_engine(url)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{shown}: needs the module {error.name}: pip install 'wscc[postgresql]'"
        ) from None
    return Database(engine, shown, default_folder() / "studies" / digest(shown)[:16], shared=True)
