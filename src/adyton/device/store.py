"""The device's SQLite store: an adapter that reads and writes records and decides nothing.

Signals, encoded payloads and auction contexts are sealed with the device key (`vault`); names of ad techs and apps,
times, sizes and counters are in the clear, since the user's controls list them. Every change of several rows happens
inside `transaction()`.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from adyton.device.errors import DeviceStoreError
from adyton.device.records import AppUse, EncodedPayload, Encoder, SignalFacts
from adyton.device.signals import Change, Signal
from adyton.device.vault import Vault
from adyton.kernel.ids import BuyerId

_VERSION = 1
_SCHEMA = """
CREATE TABLE device (one INTEGER PRIMARY KEY CHECK (one = 1), key_check BLOB NOT NULL, opted_out INTEGER NOT NULL);
CREATE TABLE app (package TEXT PRIMARY KEY, consented_at_ms INTEGER, blocked INTEGER NOT NULL DEFAULT 0);
CREATE TABLE signal (
    row INTEGER PRIMARY KEY AUTOINCREMENT, buyer TEXT NOT NULL, package TEXT NOT NULL, created_at_ms INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL, sealed BLOB NOT NULL);
CREATE INDEX signal_buyer ON signal (buyer, row);
CREATE INDEX signal_package ON signal (package);
CREATE TABLE revision (buyer TEXT PRIMARY KEY, n INTEGER NOT NULL);
CREATE TABLE encoder (
    buyer TEXT PRIMARY KEY, endpoint TEXT NOT NULL, code TEXT, version INTEGER NOT NULL DEFAULT 0,
    downloaded_at_ms INTEGER, registered_at_ms INTEGER NOT NULL, failures INTEGER NOT NULL DEFAULT 0,
    revision INTEGER NOT NULL DEFAULT 0);
CREATE TABLE payload (
    buyer TEXT PRIMARY KEY, sealed BLOB NOT NULL, size_bytes INTEGER NOT NULL, version INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL, signal_revision INTEGER NOT NULL, encoder_revision INTEGER NOT NULL);
CREATE TABLE selection (
    ad_selection_id INTEGER PRIMARY KEY, created_at_ms INTEGER NOT NULL, sealed_context BLOB, sealed_result BLOB,
    n_beacons INTEGER NOT NULL DEFAULT 0);
"""


class DeviceStore:
    """One device's store: a file, or memory if `path` is None.

    Raises DeviceStoreError from every method if the file is damaged, of a newer version, or of another device key.
    """

    def __init__(self, path: Path | None, vault: Vault) -> None:
        self._vault = vault
        self._path = path
        self._lock = threading.RLock()
        with _store_errors(path):
            self._db = sqlite3.connect(
                ":memory:" if path is None else path, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA secure_delete = ON")
            if path is not None:
                path.chmod(0o600)
            self._prepare()

    def close(self) -> None:
        """Close the file. The store cannot be used afterwards."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes inside, or none. May be nested; the outermost one decides."""
        with self._lock, _store_errors(self._path):
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    # ---- the user's choices

    @property
    def opted_out(self) -> bool:
        return bool(self._rows("SELECT opted_out FROM device")[0][0])

    def set_opted_out(self, opted_out: bool) -> None:
        self._run("UPDATE device SET opted_out = ?", int(opted_out))

    def is_blocked(self, package: str) -> bool:
        return bool(self._rows("SELECT 1 FROM app WHERE package = ? AND blocked", package))

    def record_consent(self, package: str, now_ms: int) -> None:
        """Remember the first permitted call of an app."""
        self._run(
            "INSERT INTO app (package, consented_at_ms) VALUES (?, ?) ON CONFLICT (package) DO UPDATE "
            "SET consented_at_ms = coalesce(consented_at_ms, excluded.consented_at_ms)",
            package,
            now_ms,
        )

    def set_blocked(self, package: str, blocked: bool) -> None:
        self._run(
            "INSERT INTO app (package, blocked) VALUES (?, ?) ON CONFLICT (package) DO UPDATE "
            "SET blocked = excluded.blocked",
            package,
            int(blocked),
        )

    def blocked_apps(self) -> list[str]:
        return [row[0] for row in self._rows("SELECT package FROM app WHERE blocked ORDER BY package")]

    def forget_app(self, package: str) -> None:
        self._run("DELETE FROM app WHERE package = ?", package)

    # ---- signals

    def signals(self, buyer: BuyerId) -> list[Signal]:
        """Every signal of a buyer, oldest first."""
        rows = self._rows("SELECT row, package, created_at_ms, sealed FROM signal WHERE buyer = ? ORDER BY row", buyer)
        signals = []
        for row, package, created_at_ms, sealed in rows:
            content = self._vault.open(sealed, _signal_place(buyer, package, created_at_ms))
            signals.append(Signal(content[:4], content[4:], package, created_at_ms, row))
        return sorted(signals, key=lambda signal: signal.created_at_ms)

    def write_change(self, buyer: BuyerId, change: Change) -> None:
        """Apply a change of one buyer's signals and count it."""
        if change.is_empty:
            return
        with self.transaction():
            self._db.executemany("DELETE FROM signal WHERE row = ?", [(row,) for row in change.removed_rows])
            for signal in change.added:
                place = _signal_place(buyer, signal.package, signal.created_at_ms)
                self._run(
                    "INSERT INTO signal (buyer, package, created_at_ms, size_bytes, sealed) VALUES (?, ?, ?, ?, ?)",
                    buyer,
                    signal.package,
                    signal.created_at_ms,
                    signal.size_bytes,
                    self._vault.seal(signal.key + signal.value, place),
                )
            self._count_change(buyer)

    def signal_facts(self) -> list[SignalFacts]:
        """Sizes and times of all signals, never their content."""
        rows = self._rows("SELECT buyer, package, created_at_ms, size_bytes FROM signal ORDER BY buyer, row")
        return [SignalFacts(BuyerId(buyer), package, at_ms, size) for buyer, package, at_ms, size in rows]

    def apps(self) -> list[AppUse]:
        """Apps that hold signals or are blocked."""
        rows = self._rows(
            "SELECT p.package, count(s.row), coalesce(sum(s.size_bytes), 0), coalesce(a.blocked, 0), a.consented_at_ms "
            "FROM (SELECT package FROM signal UNION SELECT package FROM app WHERE blocked) p "
            "LEFT JOIN signal s ON s.package = p.package LEFT JOIN app a ON a.package = p.package "
            "GROUP BY p.package ORDER BY p.package"
        )
        return [AppUse(package, n, size, bool(blocked), at_ms) for package, n, size, blocked, at_ms in rows]

    def buyers(self) -> list[BuyerId]:
        """Every ad tech with anything stored."""
        rows = self._rows(
            "SELECT buyer FROM signal UNION SELECT buyer FROM encoder UNION SELECT buyer FROM payload ORDER BY buyer"
        )
        return [BuyerId(row[0]) for row in rows]

    def signal_revision(self, buyer: BuyerId) -> int:
        """Counts the changes of a buyer's signals."""
        rows = self._rows("SELECT n FROM revision WHERE buyer = ?", buyer)
        return int(rows[0][0]) if rows else 0

    def delete_app_signals(self, package: str) -> None:
        """Delete an app's signals, and the payloads that were made from them."""
        self._delete_signals("package = ?", package)

    def delete_expired(self, created_before_ms: int) -> None:
        """Delete what is older: signals, payloads, encoders, and ad selections."""
        with self.transaction():
            self._delete_signals("created_at_ms < ?", created_before_ms)
            self._run("DELETE FROM payload WHERE created_at_ms < ?", created_before_ms)
            self._run(
                "DELETE FROM encoder WHERE max(registered_at_ms, coalesce(downloaded_at_ms, 0)) < ?", created_before_ms
            )

    def delete_buyer(self, buyer: BuyerId) -> None:
        """Delete everything of an ad tech."""
        with self.transaction():
            self._delete_signals("buyer = ?", buyer)
            self.delete_encoder(buyer)

    def delete_buyer_app_signals(self, buyer: BuyerId, package: str) -> None:
        """Delete what one ad tech stored through one app."""
        self._delete_signals("buyer = ? AND package = ?", buyer, package)

    def delete_everything(self) -> None:
        """Delete all signals, payloads, encoders, selections and consents. Blocks and the opt-out stay."""
        with self.transaction():
            for table in ("signal", "payload", "encoder", "selection"):
                self._run(f"DELETE FROM {table}")  # noqa: S608
            self._run("UPDATE revision SET n = n + 1")
            self._run("DELETE FROM app WHERE NOT blocked")
            self._run("UPDATE app SET consented_at_ms = NULL")
        self._run("VACUUM")

    # ---- encoders and payloads

    def encoder(self, buyer: BuyerId) -> Encoder | None:
        rows = self._rows(
            "SELECT buyer, endpoint, code, version, downloaded_at_ms, registered_at_ms, failures, revision "
            "FROM encoder WHERE buyer = ?",
            buyer,
        )
        return Encoder(*rows[0]) if rows else None

    def register_encoder(self, buyer: BuyerId, endpoint: str, now_ms: int) -> None:
        """Set the endpoint; a script that is already there stays until it is refreshed."""
        self._run(
            "INSERT INTO encoder (buyer, endpoint, registered_at_ms) VALUES (?, ?, ?) ON CONFLICT (buyer) DO UPDATE "
            "SET endpoint = excluded.endpoint",
            buyer,
            endpoint,
            now_ms,
        )

    def store_encoder_code(self, buyer: BuyerId, code: str, version: int, now_ms: int) -> None:
        """A downloaded script. If it is another one, its failures start at zero."""
        with self.transaction():
            old = self.encoder(buyer)
            changed = old is None or old.code != code or old.version != version
            self._run(
                "UPDATE encoder SET code = ?, version = ?, downloaded_at_ms = ?, "
                "failures = CASE WHEN ? THEN 0 ELSE failures END, revision = revision + ? WHERE buyer = ?",
                code,
                version,
                now_ms,
                int(changed),
                int(changed),
                buyer,
            )

    def set_encoder_failures(self, buyer: BuyerId, failures: int) -> None:
        self._run("UPDATE encoder SET failures = ? WHERE buyer = ?", failures, buyer)

    def delete_encoder(self, buyer: BuyerId) -> None:
        """Delete a buyer's script, its registration and its payload."""
        with self.transaction():
            self._run("DELETE FROM encoder WHERE buyer = ?", buyer)
            self._run("DELETE FROM payload WHERE buyer = ?", buyer)

    def payload(self, buyer: BuyerId) -> EncodedPayload | None:
        rows = self._rows(
            "SELECT sealed, version, created_at_ms, signal_revision, encoder_revision FROM payload WHERE buyer = ?",
            buyer,
        )
        if not rows:
            return None
        sealed, *rest = rows[0]
        return EncodedPayload(buyer, self._vault.open(sealed, f"payload|{buyer}"), *rest)

    def payloads(self) -> list[EncodedPayload]:
        """All payloads, by buyer."""
        buyers = [BuyerId(row[0]) for row in self._rows("SELECT buyer FROM payload ORDER BY buyer")]
        return [payload for buyer in buyers if (payload := self.payload(buyer)) is not None]

    def store_payload(self, payload: EncodedPayload) -> None:
        """Replace a buyer's payload."""
        self._run(
            "INSERT OR REPLACE INTO payload VALUES (?, ?, ?, ?, ?, ?, ?)",
            payload.buyer,
            self._vault.seal(payload.data, f"payload|{payload.buyer}"),
            len(payload.data),
            payload.version,
            payload.created_at_ms,
            payload.signal_revision,
            payload.encoder_revision,
        )

    # ---- ad selections

    def store_selection(self, ad_selection_id: int, context: bytes, now_ms: int) -> None:
        """Keep the encryption context of a new selection."""
        sealed = self._vault.seal(context, f"selection|{ad_selection_id}")
        self._run(
            "INSERT INTO selection (ad_selection_id, created_at_ms, sealed_context) VALUES (?, ?, ?)",
            ad_selection_id,
            now_ms,
            sealed,
        )

    def selection_context(self, ad_selection_id: int) -> bytes | None:
        return self._selection_part("sealed_context", "selection", ad_selection_id)

    def store_selection_result(self, ad_selection_id: int, result: bytes, *, n_beacons: int) -> None:
        """Keep a result with this many beacons; the context has done its work and goes."""
        sealed = self._vault.seal(result, f"result|{ad_selection_id}")
        self._run(
            "UPDATE selection SET sealed_context = NULL, sealed_result = ?, n_beacons = ? WHERE ad_selection_id = ?",
            sealed,
            n_beacons,
            ad_selection_id,
        )

    def selection_result(self, ad_selection_id: int) -> bytes | None:
        return self._selection_part("sealed_result", "result", ad_selection_id)

    def beacon_count(self) -> int:
        """Beacons of all kept results together."""
        return int(self._rows("SELECT coalesce(sum(n_beacons), 0) FROM selection")[0][0])

    def delete_selections(self, created_before_ms: int) -> None:
        self._run("DELETE FROM selection WHERE created_at_ms < ?", created_before_ms)

    # ---- inside

    def _selection_part(self, column: str, kind: str, number: int) -> bytes | None:
        rows = self._rows(f"SELECT {column} FROM selection WHERE ad_selection_id = ?", number)  # noqa: S608
        return self._vault.open(rows[0][0], f"{kind}|{number}") if rows and rows[0][0] is not None else None

    def _delete_signals(self, where: str, *values: object) -> None:
        with self.transaction():
            rows = self._rows(f"SELECT DISTINCT buyer FROM signal WHERE {where}", *values)  # noqa: S608
            self._run(f"DELETE FROM signal WHERE {where}", *values)  # noqa: S608
            for (buyer,) in rows:
                # A payload made from deleted signals must not outlive them.
                self._run("DELETE FROM payload WHERE buyer = ?", buyer)
                self._count_change(BuyerId(buyer))

    def _count_change(self, buyer: BuyerId) -> None:
        self._run("INSERT INTO revision VALUES (?, 1) ON CONFLICT (buyer) DO UPDATE SET n = n + 1", buyer)

    def _rows(self, sql: str, *values: object) -> Sequence[tuple]:  # type: ignore[type-arg]
        with self._lock, _store_errors(self._path):
            return self._db.execute(sql, values).fetchall()

    def _run(self, sql: str, *values: object) -> None:
        with self._lock, _store_errors(self._path):
            self._db.execute(sql, values)

    def _prepare(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            with self.transaction():
                for statement in _SCHEMA.split(";\n"):
                    self._db.execute(statement)
                self._db.execute("INSERT INTO device VALUES (1, ?, 0)", (self._vault.seal(b"device key", "key check"),))
                self._db.execute(f"PRAGMA user_version = {_VERSION}")
        elif version != _VERSION:
            raise DeviceStoreError(
                f"the store has version {version}, this adyton reads version {_VERSION}", where=str(self._path)
            )
        (sealed,) = self._db.execute("SELECT key_check FROM device").fetchone()
        self._vault.open(sealed, "key check")


def _signal_place(buyer: str, package: str, created_at_ms: int) -> str:
    return f"signal|{buyer!r}|{package!r}|{created_at_ms}"


@contextmanager
def _store_errors(path: Path | None) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise DeviceStoreError(
            f"the store cannot be used ({error.sqlite_errorname if hasattr(error, 'sqlite_errorname') else 'SQLite'})",
            where=None if path is None else str(path),
            hint="check the disk, or reset the device to start over",
        ) from error
