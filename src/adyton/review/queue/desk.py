"""The desk: a database, a clock, chance and rules. Every change is one transaction that appends its events.

SQLite: one writer at a time (BEGIN IMMEDIATE), write-ahead log. PostgreSQL: READ COMMITTED, rows locked in the order
person, ad, head of the event chain, so that two transactions never wait for each other; the event chain's head is the
last lock and held only until commit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import ConnectionPoolEntry

from adyton.kernel.chance import OsRandom, RandomSource
from adyton.kernel.clock import Clock, SystemClock
from adyton.review.queue.clocks import DeskRules
from adyton.review.queue.errors import QueueInputError, StoreUnavailableError
from adyton.review.queue.waiting_book import WaitingBook

_READING = "adyton_reading"
_HINT_URL = "sqlite:///queue.db or postgresql://USER@HOST/DATABASE"


@dataclass(frozen=True, eq=False)
class Tx:
    """One transaction. now_ms: the desk's time at its start, the same for everything in it.   book: the desk's."""

    conn: sa.Connection
    rules: DeskRules
    random: RandomSource
    now_ms: int
    book: WaitingBook

    @property
    def is_postgres(self) -> bool:
        return self.conn.dialect.name == "postgresql"

    def new_secret(self) -> str:
        """256 random bits as 64 hex digits."""
        return self.random.token(32).hex()


@dataclass(frozen=True, eq=False)
class Desk:
    """Where the queue is kept and by which rules it runs. Safe to use from several threads."""

    engine: sa.Engine
    rules: DeskRules = field(default_factory=DeskRules)
    clock: Clock = field(default_factory=SystemClock)
    random: RandomSource = field(default_factory=OsRandom)
    book: WaitingBook = field(default_factory=WaitingBook)

    @contextmanager
    def writing(self) -> Iterator[Tx]:
        """A transaction that may change things: all of it or, after an exception, nothing.

        Raises StoreUnavailableError when the database is missing, busy or does not answer.
        """
        with _database_errors(), self.engine.begin() as conn:
            yield Tx(conn, self.rules, self.random, self.clock.now_ms(), self.book)

    @contextmanager
    def reading(self) -> Iterator[Tx]:
        """A transaction that sees one moment and changes nothing."""
        with _database_errors(), self.engine.connect() as plain:
            conn = plain.execution_options(**{_READING: True})
            with conn.begin():
                if conn.dialect.name == "postgresql":
                    conn.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                yield Tx(conn, self.rules, self.random, self.clock.now_ms(), self.book)


_SQLITE_TROUBLE = {
    "SQLITE_FULL": ("the disk of the database is full", "make room, then try again; nothing was changed"),
    "SQLITE_IOERR": ("the disk of the database failed", "see whether it is full or broken; nothing was changed"),
    "SQLITE_READONLY": ("the database cannot be written", "check the owner and rights of the file and of its folder"),
    "SQLITE_BUSY": ("another program keeps the database locked", "try again; end that program if it hangs"),
    "SQLITE_CANTOPEN": ("the database cannot be opened", "check that it is a file, and its rights"),
    "SQLITE_NOTADB": ("this file is not a database", "check the address; a damaged one comes back from a backup"),
    "SQLITE_CORRUPT": ("the database is damaged", "stop every server, then bring back a backup"),
}
"""SQLite's names of errors, without what follows a second underscore, in our words."""


@contextmanager
def _database_errors() -> Iterator[None]:
    """Database trouble as our own error, without values or statements."""
    try:
        yield
    except (sa.exc.IntegrityError, sa.exc.DataError):
        raise  # a defect of ours
    except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
        orig = getattr(error, "orig", None)
        name = "_".join(getattr(orig, "sqlite_errorname", "").split("_")[:2])
        if name in _SQLITE_TROUBLE:
            what, hint = _SQLITE_TROUBLE[name]
            raise StoreUnavailableError(what, hint=hint) from error
        if isinstance(error, sa.exc.ProgrammingError):
            raise StoreUnavailableError("the database lacks a table", hint="run: adyton queue migrate") from error
        kind = type(orig or error).__name__
        raise StoreUnavailableError(
            f"the database did not answer ({kind})", hint="check that it runs and is migrated, then try again"
        ) from error


class _SqliteFile:
    """One file for the life of an engine. SQLite itself goes on writing to a file that was deleted or replaced, and
    everything decided from then on would be lost without a word."""

    def __init__(self, path: Path, *, makes_file: bool) -> None:
        self._path = path
        self._makes_file = makes_file
        self._identity: tuple[int, int] | None = None

    def before_connect(self, *_: object) -> None:
        """Raises StoreUnavailableError where connecting would make a new, empty database by mistake."""
        if self._identity is not None:
            self.check()
        elif not self._makes_file and not self._path.exists():
            raise StoreUnavailableError(
                "there is no database", where=str(self._path), hint="check the address; adyton queue migrate makes one"
            )

    def after_connect(self, connection: Any, record: ConnectionPoolEntry) -> None:  # noqa: ARG002
        if self._identity is None:
            self._identity = self._look()

    def check(self) -> None:
        """Raises StoreUnavailableError unless the file is still the one that was opened first."""
        if self._look() != self._identity:
            raise StoreUnavailableError(
                "the database file was deleted or replaced while it was in use",
                where=str(self._path),
                hint="start this program again on the file that you want",
            )

    def _look(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


def open_engine(url: str, *, busy_seconds: float = 20.0, connections: int = 40, makes_file: bool = True) -> sa.Engine:
    """An engine for `url`. connections: most that are open at once.   makes_file: whether a missing file is made.

    Raises QueueInputError for another kind of database, StoreUnavailableError when PostgreSQL's driver is missing.
    """
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError) as error:  # a port that is no number is a ValueError
        raise QueueInputError("this is not a database address", hint=_HINT_URL) from error
    if parsed.get_backend_name() == "postgresql":
        return _open_postgres(parsed, busy_seconds, connections)
    if parsed.get_backend_name() != "sqlite":
        raise QueueInputError("the queue is kept in SQLite or PostgreSQL", hint=_HINT_URL)
    if not parsed.database or parsed.database == ":memory:":
        raise QueueInputError("the queue needs a file, several connections share it", hint="sqlite:///queue.db")
    if parsed.query:
        raise QueueInputError("an address of SQLite ends with the file", hint="sqlite:///queue.db")
    if not Path(parsed.database).resolve().parent.is_dir():
        raise StoreUnavailableError("the folder of the database does not exist", hint="make it first")
    engine = sa.create_engine(
        parsed,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=busy_seconds,
        connect_args={"timeout": busy_seconds, "check_same_thread": False, "isolation_level": None},
    )
    file = _SqliteFile(Path(parsed.database).absolute(), makes_file=makes_file)
    sa.event.listen(engine, "do_connect", file.before_connect)
    sa.event.listen(engine, "connect", file.after_connect)
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", lambda conn: _begin_sqlite(conn, file))
    return engine


def _open_postgres(url: sa.URL, busy_seconds: float, connections: int) -> sa.Engine:
    milliseconds = int(busy_seconds * 1000)
    # A client that stalls inside a transaction must not keep the chain locked for longer than others wait for it.
    options = f"-c lock_timeout={milliseconds} -c idle_in_transaction_session_timeout={milliseconds // 2}"
    try:
        return sa.create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_size=connections,
            max_overflow=0,
            pool_timeout=busy_seconds,
            pool_pre_ping=True,
            isolation_level="READ COMMITTED",
            connect_args={"options": options, "connect_timeout": max(2, int(busy_seconds))},
        )
    except ModuleNotFoundError as error:
        raise StoreUnavailableError(
            "PostgreSQL's driver psycopg is not installed", hint="pip install 'adyton[postgres]'"
        ) from error


def _prepare_sqlite(connection: Any, record: ConnectionPoolEntry) -> None:  # noqa: ARG001
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _begin_sqlite(conn: sa.Connection, file: _SqliteFile) -> None:
    file.check()
    # Without IMMEDIATE two readers that both turn writers refuse each other.
    is_reading = conn.get_execution_options().get(_READING, False)
    conn.exec_driver_sql("BEGIN" if is_reading else "BEGIN IMMEDIATE")


def hash_of_secret(secret: str) -> str:
    """SHA-256 of a token with 256 random bits; nothing slower is needed for such a token."""
    return hashlib.sha256(secret.encode()).hexdigest()


def claim_id(token: str) -> str:
    """The name of a claim in events: 16 hex digits that tell nothing about the token."""
    return hash_of_secret(f"claim/{token}")[:16]
