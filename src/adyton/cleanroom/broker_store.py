"""A broker's durable memory: every nonce it ever issued, the newest head of its owner's privacy ledger that it was told
of, and a hash-chained log of what it granted and refused.

One SQLite file. A nonce is used at most once, across threads, processes and restarts: it is looked up and marked
inside one immediate transaction, and rows are never deleted (cleanroom §1.3, "store used nonces durably").
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from adyton.cleanroom.attestation.errors import BrokerUnavailableError
from adyton.cleanroom.ledger_store import NO_ENTRIES, CounterValue, holds_other_tables
from adyton.kernel.audit import AuditEntry, link
from adyton.kernel.canonical import Json, canonical_bytes

_SCHEMA = """
CREATE TABLE IF NOT EXISTS nonces (
    nonce_hash BLOB PRIMARY KEY,
    issued_at_ms INTEGER NOT NULL,
    used_at_ms INTEGER
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS open_nonces ON nonces (issued_at_ms) WHERE used_at_ms IS NULL;
CREATE TABLE IF NOT EXISTS ledger_head (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    entries INTEGER NOT NULL,
    newest_hash TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS log (
    sequence INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    previous_hash TEXT NOT NULL,
    entry_hash TEXT NOT NULL
);
"""


class NonceUse(Enum):
    """What became of an attempt to use a nonce."""

    FIRST = "first use"
    UNKNOWN = "never issued"
    REPLAYED = "used before"
    STALE = "too old"


class BrokerStore:
    """Nonces and log in one SQLite file; safe for threads, and for several processes on the same file."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._path = path
        with _reported(path):
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
            if holds_other_tables(self._db, "nonces"):
                raise BrokerUnavailableError("this is another database, no broker's store", where=path.name)
            self._db.execute("PRAGMA journal_mode=WAL")
            # FULL: a nonce that was used stays used after a power cut.
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def add_nonce(self, nonce: bytes, at_ms: int, *, life_ms: int, most_open: int) -> None:
        """Remember an issued nonce. Raises BrokerUnavailableError if `most_open` fresh ones are out already."""
        with self._transaction() as db:
            (n_open,) = db.execute(
                "SELECT count(*) FROM nonces WHERE used_at_ms IS NULL AND issued_at_ms > ?", (at_ms - life_ms,)
            ).fetchone()
            if n_open >= most_open:
                raise BrokerUnavailableError("too many nonces are waiting to be used", hint="try again in some minutes")
            db.execute("INSERT INTO nonces (nonce_hash, issued_at_ms) VALUES (?, ?)", (_hash(nonce), at_ms))

    def use_nonce(self, nonce: bytes, at_ms: int, *, life_ms: int) -> NonceUse:
        """Use up a nonce. Whatever the answer, the nonce can never be used again."""
        with self._transaction() as db:
            row = db.execute(
                "SELECT issued_at_ms, used_at_ms FROM nonces WHERE nonce_hash = ?", (_hash(nonce),)
            ).fetchone()
            if row is None:
                return NonceUse.UNKNOWN
            issued_at_ms, used_at_ms = row
            if used_at_ms is not None:
                return NonceUse.REPLAYED
            db.execute("UPDATE nonces SET used_at_ms = ? WHERE nonce_hash = ?", (at_ms, _hash(nonce)))
            # A clock that was set back must not give an old nonce a second life.
            return NonceUse.FIRST if 0 <= at_ms - issued_at_ms <= life_ms else NonceUse.STALE

    def ledger_head(self) -> CounterValue | None:
        """The newest head of the owner's ledger that an enclave spoke of; None before the first."""
        with self._lock, _reported(self._path):
            return _head(self._db)

    def move_ledger_head(self, known: CounterValue, head: CounterValue) -> bool:
        """Remember `head` if `known` is still the newest; whether it was. Of two that both go on from one head, the
        second is told no, so that a ledger cannot be forked."""
        with self._transaction() as db:
            if (_head(db) or NO_ENTRIES) != known:
                return False
            db.execute("INSERT OR REPLACE INTO ledger_head VALUES (1, ?, ?)", (head.entries, head.newest_hash))
            return True

    def forget_ledger_head(self, at_ms: int) -> CounterValue | None:
        """Take the next ledger that an enclave speaks of, whatever it is; gives what was forgotten. Goes to the log."""
        forgotten = self.ledger_head()
        if forgotten is not None:
            self.append(at_ms=at_ms, kind="ledger-forgotten", body=forgotten.as_json())
            with self._transaction() as db:
                db.execute("DELETE FROM ledger_head")
        return forgotten

    def append(self, *, at_ms: int, kind: str, body: Mapping[str, Json]) -> AuditEntry:
        """Add one entry to the log and give it back."""
        with self._transaction() as db:
            row = db.execute("SELECT * FROM log ORDER BY sequence DESC LIMIT 1").fetchone()
            entry = link(None if row is None else _entry(row), at_ms=at_ms, kind=kind, body=body)
            db.execute(
                "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)",
                (
                    entry.sequence,
                    entry.at_ms,
                    entry.kind,
                    canonical_bytes(dict(entry.body)).decode(),
                    entry.previous_hash,
                    entry.entry_hash,
                ),
            )
        return entry

    def log(self) -> tuple[AuditEntry, ...]:
        """All entries, oldest first. `kernel.audit.verify_chain` says whether they are whole."""
        with self._lock, _reported(self._path):
            rows = self._db.execute("SELECT * FROM log ORDER BY sequence").fetchall()
        return tuple(_entry(row) for row in rows)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _reported(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")


def _head(db: sqlite3.Connection) -> CounterValue | None:
    row = db.execute("SELECT entries, newest_hash FROM ledger_head").fetchone()
    return None if row is None else CounterValue(*row)


def _hash(nonce: bytes) -> bytes:
    return hashlib.sha256(nonce).digest()


def _entry(row: tuple[int, int, str, str, str, str]) -> AuditEntry:
    sequence, at_ms, kind, body, previous_hash, entry_hash = row
    return AuditEntry(sequence, at_ms, kind, json.loads(body), previous_hash, entry_hash)


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise BrokerUnavailableError(f"the broker's store does not answer: {error}", where=path.name) from error
