"""A hash chain of events: nothing can be changed, dropped or reordered without breaking every later link.

The chain is a pure value; `review`, `cleanroom` and the key brokers store it where they like. What the chain cannot
see is a *truncated tail*: keep the newest hash somewhere else (a receipt, a TPM counter) to notice that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from adyton.kernel.canonical import Json, canonical_hash
from adyton.kernel.errors import RefusedError

GENESIS_HASH = "0" * 64


class BrokenChainError(RefusedError):
    """An audit chain does not verify."""


@dataclass(frozen=True)
class AuditEntry:
    """One link. `entry_hash` = SHA-256 over the canonical bytes of everything else, the previous hash included."""

    sequence: int
    at_ms: int
    kind: str
    body: Mapping[str, Json]
    previous_hash: str
    entry_hash: str

    def as_json(self) -> dict[str, Json]:
        return {
            "sequence": self.sequence,
            "at_ms": self.at_ms,
            "kind": self.kind,
            "body": dict(self.body),
            "previous_hash": self.previous_hash,
            "entry_hash": self.entry_hash,
        }


def link(previous: AuditEntry | None, *, at_ms: int, kind: str, body: Mapping[str, Json]) -> AuditEntry:
    """The entry that follows `previous` (None for the first one)."""
    sequence = 0 if previous is None else previous.sequence + 1
    previous_hash = GENESIS_HASH if previous is None else previous.entry_hash
    entry_hash = _hash(sequence, at_ms, kind, body, previous_hash)
    return AuditEntry(sequence, at_ms, kind, dict(body), previous_hash, entry_hash)


def verify_chain(entries: Iterable[AuditEntry]) -> str:
    """Check every link and give back the newest hash (`GENESIS_HASH` for an empty chain).

    Raises BrokenChainError naming the first entry that does not fit.
    """
    newest, expected_sequence = GENESIS_HASH, 0
    for entry in entries:
        computed = _hash(entry.sequence, entry.at_ms, entry.kind, entry.body, entry.previous_hash)
        if entry.sequence != expected_sequence or entry.previous_hash != newest or entry.entry_hash != computed:
            raise BrokenChainError(
                "the audit chain is broken",
                where=f"entry {expected_sequence}",
                hint="restore the log from a copy",
            )
        newest, expected_sequence = entry.entry_hash, expected_sequence + 1
    return newest


def _hash(sequence: int, at_ms: int, kind: str, body: Mapping[str, Json], previous_hash: str) -> str:
    return canonical_hash(
        {
            "sequence": sequence,
            "at_ms": at_ms,
            "kind": kind,
            "body": dict(body),
            "previous_hash": previous_hash,
        }
    )
