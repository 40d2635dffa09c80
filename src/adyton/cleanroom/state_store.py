"""Where incremental runs keep what they remember: one sealed file beside the ledger, and its hash in the ledger.

    12 bytes   nonce, fresh
    rest       AES-256-GCM of the state; associated data = contract hash, code measurement, lineage and sequence

The key comes from a share of every owner (`appended`) and from the same facts, so a state opens for code that every
owner's broker has checked, under the contract it was made for, and for the very code that made it. The ledger's chain
says which state is the newest: an older file, a changed one or another lineage's is refused; putting the ledger back
too is refused by its counter. A file is written whole before the ledger names it, so a crash leaves the old one in use.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from adyton.cleanroom.errors import LedgerUnavailableError, StateRefusedError
from adyton.cleanroom.join_state import JoinState
from adyton.cleanroom.ledger_store import LedgerStore, StateRecord
from adyton.cleanroom.secret_bytes import SecretBytes
from adyton.kernel.canonical import Json, canonical_bytes
from adyton.kernel.chance import RandomSource
from adyton.kernel.ids import ContractHash

NONCE_BYTES = 12
MAX_BYTES = (1 << 31) - 1
"""What one AES-GCM call takes."""


@dataclass(frozen=True)
class StateOrigin:
    """Whose state it is: the contract, the code, and the jobs that continue from one another (`lineage`)."""

    contract_hash: ContractHash
    measurement: str
    lineage: str

    def bound(self, sequence: int) -> bytes:
        facts: dict[str, Json] = {
            "domain": "adyton join state v1",
            "contract_hash": str(self.contract_hash),
            "measurement": self.measurement,
            "lineage": self.lineage,
            "sequence": sequence,
        }
        return canonical_bytes(facts)


class StateStore:
    """The states of one contract's jobs, in the folder of the ledger.

    shares: one per owner, in the order of their names; wiped by the caller.
    """

    def __init__(self, folder: Path, ledger: LedgerStore, origin: StateOrigin, shares: Sequence[SecretBytes]) -> None:
        self._folder, self._ledger, self._origin, self._shares = folder, ledger, origin, shares

    def newest(self) -> JoinState | None:
        """The state that the run before left; None for a first run.

        Raises StateRefusedError if its file is gone, older, changed, or does not open.
        """
        record = self._ledger.newest_state(self._origin.lineage)
        if record is None:
            return None
        path = self._path(record.sequence)
        try:
            sealed = path.read_bytes()
        except OSError as error:
            raise StateRefusedError("the newest state is not there", where=path.name) from error
        if hashlib.sha256(sealed).hexdigest() != record.sha256:
            raise StateRefusedError(
                "this is not the state that the ledger names",
                where=path.name,
                hint="an older or changed file lies here",
            )
        return JoinState.from_bytes(self._open(sealed, record.sequence))

    def keep(self, state: JoinState, random: RandomSource) -> StateRecord:
        """Write `state` and make it the newest. Durable when it returns; the one before is removed.

        Raises StateRefusedError if it is too large, LedgerUnavailableError if it cannot be written, LedgerStateError if
        another run was faster.
        """
        before = self._ledger.newest_state(self._origin.lineage)
        sequence = (before.sequence if before else 0) + 1
        plain = state.to_bytes()
        if len(plain) > MAX_BYTES:
            raise StateRefusedError("the state is larger than 2 GiB", hint="start anew, or train on fewer rows")
        nonce = random.token(NONCE_BYTES)
        sealed = nonce + self._cipher(sequence).encrypt(nonce, plain, self._origin.bound(sequence))
        path = self._path(sequence)
        partial = path.with_name(f".{path.name}.partial")
        try:
            with partial.open("wb") as file:
                file.write(sealed)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError as error:
            raise LedgerUnavailableError("the state cannot be written", where=path.name) from error
        record = StateRecord(self._origin.lineage, sequence, hashlib.sha256(sealed).hexdigest())
        self._ledger.record_state(record)
        if before is not None:
            self._path(before.sequence).unlink(missing_ok=True)
        return record

    def _open(self, sealed: bytes, sequence: int) -> bytes:
        nonce, body = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            return self._cipher(sequence).decrypt(nonce, body, self._origin.bound(sequence))
        except InvalidTag as error:
            raise StateRefusedError(
                "the state does not open", where=self._path(sequence).name, hint="was it made by other code?"
            ) from error

    def _cipher(self, sequence: int) -> AESGCM:
        # The label makes the joined bytes an object of their own: joining one share alone gives that very share, and
        # leaving this block would wipe it.
        with SecretBytes(b"".join((b"adyton state shares v1\x00", *(share.data for share in self._shares)))) as secret:
            return AESGCM(HKDF(SHA256(), 32, salt=None, info=self._origin.bound(sequence)).derive(secret.data))

    def _path(self, sequence: int) -> Path:
        return self._folder / f"{self._origin.lineage}.{sequence}.state"
