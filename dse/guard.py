"""One coordinator of a study at a time, however the one before it ended.

In a folder a lock of the operating system holds, which dies with its process. At a URL a row is
beaten like a heart, and one that has not been for long is free. Either way the beat makes what
was written durable, and counts the time that the study was searched for.
"""

import fcntl
import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from secrets import token_hex
from threading import Event, Thread
from typing import TYPE_CHECKING

from ..ir.errors import UserError
from .schema import META, TRIALS

if TYPE_CHECKING:
    from types import TracebackType

    from sqlalchemy import Connection

    from .database import Database

LOCK_FILE = "study.lock"
BEAT_S = 5.0
STALE_S = 60.0
"""A coordinator elsewhere that has not beaten for so long is gone."""
PATIENCE_S = 0.5
"""How long a lock is tried for: a reader may hold it for a moment."""


@dataclass(frozen=True)
class Holder:
    """Who searches a study."""

    host: str
    pid: int
    token: str
    since: float
    beat: float
    """Seconds since 1970."""

    @classmethod
    def me(cls) -> "Holder":
        now = time.time()
        return cls(socket.gethostname(), os.getpid(), token_hex(8), now, now)

    @property
    def alive(self) -> bool:
        """Whether it still searches, as far as its last beat says."""
        if self.host == socket.gethostname() and not _runs(self.pid):
            return False
        return time.time() - self.beat < STALE_S

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.pid} on {self.host}, since {since}"


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def holder(database: "Database") -> Holder | None:
    """Who searches a study now; None where nobody does."""
    with database.reading() as connection:
        found = _read(connection)
    if found is None or database.shared:
        return found if found is not None and found.alive else None
    file = _locked(database, fcntl.LOCK_SH)
    if file is None:
        return found
    os.close(file)
    return None


def _read(connection: "Connection", claim: bool = False) -> Holder | None:
    query = META.select().where(META.c.key == "coordinator")
    row = connection.execute(query.with_for_update() if claim else query).one()
    return Holder(**json.loads(row.value)) if row.value else None


def _locked(database: "Database", kind: int) -> int | None:
    """The lock file, open and locked; None where another process has it."""
    path = database.folder / LOCK_FILE
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        if kind == fcntl.LOCK_SH:
            return None
        raise UserError(f"{path}: cannot be locked: {error.strerror}") from None
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file


class Guard:
    """Held by the coordinator for as long as it runs: `with Guard(database) as guard`."""

    def __init__(self, database: "Database") -> None:
        self._database = database
        self._me = Holder.me()
        self._file: int | None = None
        self._stop = Event()
        self._thread: Thread | None = None
        self._began = time.monotonic()
        self._before_s = 0.0
        self._beaten = self._began
        self._taken: Holder | None = None

    def __enter__(self) -> "Guard":
        """Raises UserError where the study is being searched."""
        if not self._database.shared:
            self._lock()
        try:
            with self._database.writing() as connection:
                other = _read(connection, claim=True)
                if self._database.shared and other is not None and other.alive:
                    raise UserError(self._refusal(other))
                _write(connection, "coordinator", json.dumps(asdict(self._me)))
                self._before_s = elapsed_s(connection)
        except BaseException:
            self._unlock()
            raise
        self._began = self._beaten = time.monotonic()
        self._thread = Thread(target=self._beat_on, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: "TracebackType | None",
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with suppress(UserError):
            self._beat(leave=True)
        self._unlock()

    def _lock(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while (file := _locked(self._database, fcntl.LOCK_EX)) is None:
            if time.monotonic() > deadline:
                with self._database.reading() as connection:
                    raise UserError(self._refusal(_read(connection)))
            time.sleep(0.02)
        self._file = file

    def _unlock(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _refusal(self, other: Holder | None) -> str:
        who = "another process" if other is None else str(other)
        return f"{self._database.shown}: is being searched by {who}; wait for it, or stop it"

    @property
    def elapsed_s(self) -> float:
        """How long the study has been searched for, by all its coordinators."""
        return self._before_s + time.monotonic() - self._began

    def check(self) -> None:
        """Raises UserError where another coordinator has taken the study over, which happens to
        one that slept or was cut off for long."""
        if self._database.shared and time.monotonic() - self._beaten > STALE_S / 2:
            self._beat()
        if self._taken is not None:
            raise UserError(self._refusal(self._taken))

    def _beat_on(self) -> None:
        while not self._stop.wait(BEAT_S):
            with suppress(UserError):  # The coordinator's own writes say what is wrong.
                self._beat()

    def _beat(self, leave: bool = False) -> None:
        with self._database.writing() as connection:
            other = _read(connection, claim=True)
            if other is not None and other.token != self._me.token:
                self._taken = other
                return
            me = replace(self._me, beat=time.time())
            _write(connection, "coordinator", "" if leave else json.dumps(asdict(me)))
            _write(connection, "elapsed_s", repr(self.elapsed_s))
            running = TRIALS.update().where(TRIALS.c.state == "running")
            connection.execute(running.values(lease_until=me.beat + STALE_S))
        self._database.sync()
        self._beaten = time.monotonic()


def _write(connection: "Connection", key: str, value: str) -> None:
    connection.execute(META.update().where(META.c.key == key).values(value=value))


def elapsed_s(connection: "Connection") -> float:
    """How long a study had been searched for at the last beat."""
    return float(connection.execute(META.select().where(META.c.key == "elapsed_s")).one().value)
