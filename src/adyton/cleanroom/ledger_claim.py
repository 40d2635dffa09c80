"""What an enclave says of its privacy ledger to an owner's broker, and whether the broker takes it. Pure.

    broker    remembers a head: how many entries the ledger had when an enclave last spoke of it, and the newest's hash
    enclave   is told that head, and answers with its own ledger's head and the hash that its own ledger has there

The answer is part of what the enclave's evidence is bound to, so it is the word of measured code about the ledger that
this code works on; whoever runs the enclave can hold it back and not change it. A ledger of which an older copy was put
back, or a new one, cannot give the hash. A broker that remembers nothing yet takes the first ledger that it is told of.
"""

from __future__ import annotations

from dataclasses import dataclass

from adyton.cleanroom.attestation.errors import LedgerMovedError, LedgerNotContinuedError
from adyton.cleanroom.ledger_store import CounterValue
from adyton.kernel.canonical import Json, canonical_bytes


@dataclass(frozen=True)
class LedgerClaim:
    """head: of the enclave's ledger.   known: the broker's, as the enclave was told.   hash_at_known: of the entry
    that the enclave's ledger has at that length, None if it is shorter."""

    head: CounterValue
    known: CounterValue
    hash_at_known: str | None

    def statement(self) -> bytes:
        """What evidence is bound to."""
        return canonical_bytes(self.as_json())

    def as_json(self) -> dict[str, Json]:
        return {"head": self.head.as_json(), "known": self.known.as_json(), "hash_at_known": self.hash_at_known}


def check_claim(claim: LedgerClaim | None, remembered: CounterValue | None, where: str) -> None:
    """Whether the claimed ledger goes on from what the broker remembers.

    Raises LedgerMovedError if the enclave answered for another head than the newest, and may answer again;
    LedgerNotContinuedError if its ledger does not go on from that head, or it says nothing of its ledger.
    """
    if remembered is None:
        return
    if claim is None:
        raise LedgerNotContinuedError(
            "the enclave says nothing of its privacy ledger", where=where, hint="run code that does"
        )
    if claim.known != remembered:
        raise LedgerMovedError("another enclave settled meanwhile", where=where, hint="ask for a new nonce")
    if claim.head.entries < remembered.entries or claim.hash_at_known != remembered.newest_hash:
        raise LedgerNotContinuedError(
            f"the enclave's ledger has {claim.head.entries} entries and does not go on from the {remembered.entries} "
            "that this owner's broker was told of",
            where=where,
            hint="whoever runs the enclave put an older or another ledger there: restore the newest; if it is lost, "
            "its owner decides with `adyton broker ledger --forget`",
        )
