"""The privacy ledger on disk: SQLite, hash-chained, guarded by a counter that is kept elsewhere.

Every change is one entry of an audit chain (`kernel.audit`), written in one transaction that first replays the chain
through the rules of `kernel.ledger`. Spending belongs to the account (owner, population) and adds up over all
contracts; the ceiling comes from the contract that asks, so a new contract never renews what was spent.

Rollback: putting an older copy of the file back would give budget back. The counter holds how many entries there were
and the hash of the newest; a file that is shorter, or differs there, is refused. A file that is one entry ahead is
the trace of a crash between the two writes and is accepted. The guard is as good as the place where the counter lives:
in a file it stops accidents and whoever cannot write there, not the machine's administrator.

Crash: a job holds a lock while it lives and lets nothing out before it commits all that it held, in one step. An open
reservation whose lock is free belongs to a dead job that released nothing, and `settle_crashed` cancels it.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from adyton.cleanroom.errors import LedgerRollbackError, LedgerUnavailableError
from adyton.kernel.audit import GENESIS_HASH, AuditEntry, link, verify_chain
from adyton.kernel.canonical import Json
from adyton.kernel.clock import Clock, SystemClock
from adyton.kernel.ledger import Account, Ledger, LedgerStateError, PrivacyLoss, Reservation

BUSY_TIMEOUT_S = 30.0
STATE_KIND = "state"
_TABLE = """
CREATE TABLE IF NOT EXISTS ledger_entry (
  sequence INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL,
  previous_hash TEXT NOT NULL, entry_hash TEXT NOT NULL
) STRICT
"""


@dataclass(frozen=True)
class CounterValue:
    """How many entries the ledger had, and the newest one's hash."""

    entries: int
    newest_hash: str

    def as_json(self) -> dict[str, Json]:
        return {"entries": self.entries, "newest_hash": self.newest_hash}


NO_ENTRIES = CounterValue(0, GENESIS_HASH)


class MonotonicCounter(Protocol):
    """Remembers the ledger's length apart from the ledger; never goes back."""

    def read(self) -> CounterValue: ...

    def advance(self, value: CounterValue) -> None:
        """Remember a value with more entries. Raises LedgerRollbackError for fewer."""
        ...


class FileCounter:
    """A counter in a file of its own, replaced whole and forced to disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> CounterValue:
        try:
            record = json.loads(self._path.read_text())
            value = CounterValue(int(record["entries"]), str(record["newest_hash"]))
            is_guarded = "tpm" in record
        except FileNotFoundError:
            return NO_ENTRIES
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LedgerUnavailableError("the ledger's counter cannot be read", where=self._path.name) from error
        if is_guarded:
            raise LedgerUnavailableError(
                "a TPM guards the ledger's counter, and was not asked", where=self._path.name, hint="give --tpm FOLDER"
            )
        return value

    def advance(self, value: CounterValue) -> None:
        if value.entries < self.read().entries:
            raise LedgerRollbackError("the ledger's counter does not go back")
        partial = self._path.with_name(f".{self._path.name}.partial")
        try:
            with partial.open("w") as file:
                json.dump(value.as_json(), file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._path)
        except OSError as error:
            raise LedgerUnavailableError("the ledger's counter cannot be written", where=self._path.name) from error


@dataclass(frozen=True)
class StateRecord:
    """Which state an incremental run left: its number among those of its `lineage`, and the hash of its file."""

    lineage: str
    sequence: int
    sha256: str


def holds_other_tables(db: sqlite3.Connection, own: str) -> bool:
    """Whether this is another program's or store's database: it has tables, and `own` is none of them."""
    names = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return bool(names) and own not in names


class LedgerStore:
    """One ledger file. Safe to use from several processes at once."""

    def __init__(self, path: Path, counter: MonotonicCounter, clock: Clock | None = None) -> None:
        """Open or create. Raises LedgerUnavailableError, LedgerRollbackError, BrokenChainError."""
        self._path, self._counter, self._clock = path, counter, clock or SystemClock()
        self._seen = NO_ENTRIES
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # One connection, always in autocommit: transactions are written out below.
            self._db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
            if holds_other_tables(self._db, "ledger_entry"):
                raise LedgerUnavailableError("this is another database, no privacy ledger", where=path.name)
            self._db.execute("PRAGMA journal_mode=DELETE")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(_TABLE)
        except (OSError, sqlite3.Error) as error:
            raise LedgerUnavailableError("the ledger cannot be opened", where=path.name) from error
        self.ledger({})

    @property
    def folder(self) -> Path:
        """Where the ledger lies, and states beside it."""
        return self._path.parent

    def close(self) -> None:
        self._db.close()

    def ledger(self, budgets: Mapping[Account, PrivacyLoss]) -> Ledger:
        """The verified state, with the budgets of one contract. Raises BrokenChainError, LedgerRollbackError."""
        with self._transaction():
            return _replay(self._verified_entries(), budgets)

    def head(self) -> CounterValue:
        """Number of entries and newest hash, for a receipt."""
        with self._transaction():
            entries = self._verified_entries()
            return CounterValue(len(entries), entries[-1].entry_hash if entries else GENESIS_HASH)

    def hash_at(self, entries: int) -> tuple[CounterValue, str | None]:
        """The head, and the hash of the newest of the first `entries`; None if there are fewer. Both at one moment."""
        with self._transaction():
            chain = self._verified_entries()
        hashes = [GENESIS_HASH, *(entry.entry_hash for entry in chain)]
        return CounterValue(len(chain), hashes[-1]), hashes[entries] if entries < len(hashes) else None

    def entries(self) -> list[AuditEntry]:
        """All entries, verified."""
        with self._transaction():
            return self._verified_entries()

    def reserve(
        self, reservation_id: str, account: Account, purpose: str, loss: PrivacyLoss, budget: PrivacyLoss
    ) -> PrivacyLoss:
        """Hold `loss` under `budget`; gives what is left. Durable when it returns.

        Raises OverBudgetError, LedgerStateError, LedgerUnavailableError.
        """
        body: dict[str, Json] = {
            "reservation_id": reservation_id,
            "owner": account.owner,
            "population": account.population,
            "purpose": purpose,
            "loss": loss.as_json(),
        }
        with self._transaction():
            entries = self._verified_entries()
            after = _replay(entries, {account: budget}).reserve(reservation_id, account, purpose, loss)
            self._append(entries, "reserved", body)
            return after.left(account)

    def commit(self, reservation_id: str, spent: PrivacyLoss | None = None) -> None:
        """Settle at `spent` (all of it if None). Raises OverBudgetError, LedgerStateError."""
        self._settle("committed", [reservation_id], spent)

    def commit_all(self, reservation_ids: Sequence[str]) -> None:
        """Settle several in full: all of them, or none if the process dies meanwhile. Raises LedgerStateError."""
        self._settle("committed", reservation_ids, None)

    def cancel(self, reservation_id: str) -> None:
        """Give back a reservation whose job released nothing. Raises LedgerStateError."""
        self._settle("cancelled", [reservation_id], None)

    def newest_state(self, lineage: str) -> StateRecord | None:
        """The state that the next incremental run continues from. In the chain, so a rollback of it shows."""
        with self._transaction():
            return _newest_state(self._verified_entries(), lineage)

    def record_state(self, record: StateRecord) -> None:
        """From here on `record` is the newest. Raises LedgerStateError unless it follows the newest."""
        with self._transaction():
            entries = self._verified_entries()
            newest = _newest_state(entries, record.lineage)
            if record.sequence != (newest.sequence if newest else 0) + 1:
                raise LedgerStateError("another run recorded a state meanwhile", where=record.lineage)
            self._append(
                entries,
                STATE_KIND,
                {"lineage": record.lineage, "sequence": record.sequence, "sha256": record.sha256},
            )

    @contextmanager
    def job_lock(self, job_id: str) -> Iterator[None]:
        """Held by a job while it lives; the kernel frees it when the process dies.

        Raises LedgerUnavailableError if another process holds it.
        """
        path = self._lock_path(job_id)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise LedgerUnavailableError("another process runs this job", where=job_id) from error
        try:
            yield
        finally:
            # The file stays: removing it could give the lock to two processes, one on the old file and one on a new.
            os.close(descriptor)

    def settle_crashed(self) -> list[str]:
        """Give back what dead jobs held, which released nothing; gives the reservations' ids.

        A reservation id is `JOB/what`; jobs that still hold their lock are left alone.
        """
        settled = []
        for reservation in self.ledger({}).open_reservations():
            job_id = reservation.reservation_id.partition("/")[0]
            try:
                with self.job_lock(job_id):
                    self.cancel(reservation.reservation_id)
                    settled.append(reservation.reservation_id)
            except LedgerUnavailableError:
                continue
        return settled

    def _settle(self, kind: str, reservation_ids: Sequence[str], spent: PrivacyLoss | None) -> None:
        with self._transaction():
            entries = self._verified_entries()
            ledger = _replay(entries, {})
            for reservation_id in reservation_ids:
                body: dict[str, Json] = {"reservation_id": reservation_id}
                if spent is not None:
                    body["loss"] = spent.as_json()
                ledger = _apply(ledger, kind, body)
                entries.append(self._append(entries, kind, body))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """One change of ledger and counter together, alone among all processes and threads."""
        with self._alone():
            try:
                self._db.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                raise LedgerUnavailableError("the ledger is locked or gone", where=self._path.name) from error
            try:
                yield
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                self._db.execute("ROLLBACK")
                raise LedgerUnavailableError("the ledger cannot be written", where=self._path.name) from error
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._advance_counter()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            descriptor = os.open(self._lock_path("all"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise LedgerUnavailableError("the ledger's folder cannot be written", where=self._path.name) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _advance_counter(self) -> None:
        row = self._db.execute(
            "SELECT sequence, entry_hash FROM ledger_entry ORDER BY sequence DESC LIMIT 1"
        ).fetchone()
        if row is None:
            return
        self._seen = CounterValue(row[0] + 1, row[1])
        if self._seen.entries > self._counter.read().entries:
            self._counter.advance(self._seen)

    def _verified_entries(self) -> list[AuditEntry]:
        try:
            rows = self._db.execute(
                "SELECT sequence, at_ms, kind, body, previous_hash, entry_hash FROM ledger_entry ORDER BY sequence"
            ).fetchall()
            entries = [AuditEntry(r[0], r[1], r[2], json.loads(r[3]), r[4], r[5]) for r in rows]
        except (sqlite3.Error, ValueError) as error:
            raise LedgerUnavailableError("the ledger cannot be read", where=self._path.name) from error
        verify_chain(entries)
        # What this process has read itself counts too: brokers were told of it, and files can be changed meanwhile.
        for seen in (self._counter.read(), self._seen):
            n_seen = seen.entries
            if n_seen > len(entries) or (n_seen and entries[n_seen - 1].entry_hash != seen.newest_hash):
                raise LedgerRollbackError(
                    f"the ledger has {len(entries)} entries and does not continue the {n_seen} that were counted",
                    where=self._path.name,
                    hint="an older copy was put back; restore the newest one",
                )
        return entries

    def _append(self, entries: list[AuditEntry], kind: str, body: Mapping[str, Json]) -> AuditEntry:
        entry = link(entries[-1] if entries else None, at_ms=self._clock.now_ms(), kind=kind, body=body)
        try:
            self._db.execute(
                "INSERT INTO ledger_entry VALUES (?, ?, ?, ?, ?, ?)",
                (entry.sequence, entry.at_ms, kind, json.dumps(dict(body)), entry.previous_hash, entry.entry_hash),
            )
        except sqlite3.Error as error:
            raise LedgerUnavailableError("the ledger cannot be written", where=self._path.name) from error
        return entry

    def _lock_path(self, job_id: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{job_id}.lock")


def _replay(entries: list[AuditEntry], budgets: Mapping[Account, PrivacyLoss]) -> Ledger:
    """The state after `entries`; old spending is replayed without a ceiling, then the budgets are put on."""
    ledger = Ledger.open({})
    for entry in entries:
        ledger = _apply(ledger, entry.kind, entry.body)
    return replace(ledger, budgets=MappingProxyType(dict(budgets)))


def _apply(ledger: Ledger, kind: str, body: Mapping[str, Json]) -> Ledger:
    if kind == STATE_KIND:
        return ledger
    reservation_id = str(body["reservation_id"])
    if kind == "reserved":
        account = Account(str(body["owner"]), str(body["population"]))
        loss = _loss(body["loss"])
        ceiling = ledger.spent(account) + loss
        unlimited = replace(ledger, budgets=MappingProxyType({account: ceiling}))
        return unlimited.reserve(reservation_id, account, str(body["purpose"]), loss)
    if kind == "committed":
        return ledger.commit(reservation_id, _loss(body["loss"]) if "loss" in body else None)
    assert kind == "cancelled", f"unknown kind of ledger entry {kind}"
    return ledger.cancel(reservation_id)


def _newest_state(entries: list[AuditEntry], lineage: str) -> StateRecord | None:
    for entry in reversed(entries):
        if entry.kind == STATE_KIND and entry.body["lineage"] == lineage:
            return StateRecord(lineage, int(str(entry.body["sequence"])), str(entry.body["sha256"]))
    return None


def _loss(value: Json) -> PrivacyLoss:
    assert isinstance(value, Mapping), "the chain was verified, so its bodies are ours"
    return PrivacyLoss(Fraction(str(value["epsilon"])), Fraction(str(value["delta"])))


def open_reservations(store: LedgerStore) -> list[Reservation]:
    """Reservations that no job has settled yet."""
    return list(store.ledger({}).open_reservations())
