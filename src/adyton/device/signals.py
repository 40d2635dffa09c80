"""Signal records and what an update does to them: pure functions over records (protected-auction §2.3-2.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from adyton.protocol.signal_updates import Append, Put, PutIfNotPresent, SignalUpdate

SOFT_QUOTA_BYTES = 10 * 1024
HARD_QUOTA_BYTES = 15 * 1024
TIME_TO_LIVE_MS = 60 * 24 * 3600 * 1000
"""60 days: signals, encoders and encoded payloads."""


@dataclass(frozen=True)
class Signal:
    """One stored signal of one buyer. `row` is its number in the store, None before it is stored.

    key: 4 bytes.   value: at most 100 bytes.   Neither appears in the repr.
    """

    key: bytes = field(repr=False)
    value: bytes = field(repr=False)
    package: str
    created_at_ms: int
    row: int | None = None

    @property
    def size_bytes(self) -> int:
        """What counts against the quota."""
        return len(self.key) + len(self.value)


@dataclass(frozen=True)
class Change:
    """What to write: rows to delete and signals to add, in order of insertion. `evicted` counts both kinds."""

    removed_rows: tuple[int, ...]
    added: tuple[Signal, ...]
    evicted: int

    @property
    def is_empty(self) -> bool:
        return not self.removed_rows and not self.added


def apply_update(stored: Sequence[Signal], update: SignalUpdate, *, package: str, now_ms: int) -> Change:
    """The change that `update` from `package` makes to one buyer's signals.

    stored: every signal of the buyer, oldest first (creation time, then insertion).
    """
    signals = [signal for signal in stored if not is_expired(signal.created_at_ms, now_ms)]
    for command in update.commands:
        present = [signal for signal in signals if signal.key == command.key]
        if isinstance(command, PutIfNotPresent):
            values: tuple[bytes, ...] = () if present else (command.value,)
            dropped = 0
        elif isinstance(command, Append):
            values = command.values
            dropped = max(0, len(present) + len(values) - command.max_signals)
        else:
            values = (command.value,) if isinstance(command, Put) else ()
            dropped = len(present)
        gone = {id(signal) for signal in present[:dropped]}
        signals = [signal for signal in signals if id(signal) not in gone]
        signals += [Signal(command.key, value, package, now_ms) for value in values]
    kept = evict(signals)
    kept_rows = {signal.row for signal in kept if signal.row is not None}
    return Change(
        tuple(signal.row for signal in stored if signal.row is not None and signal.row not in kept_rows),
        tuple(signal for signal in kept if signal.row is None),
        len(signals) - len(kept),
    )


def evict(signals: Sequence[Signal]) -> list[Signal]:
    """All of them up to the hard quota; beyond it, the newest ones that fit into the soft quota.

    signals: oldest first by insertion. Eviction goes by creation time, then by insertion.
    """
    ordered = sorted(signals, key=lambda signal: signal.created_at_ms)
    total = sum(signal.size_bytes for signal in ordered)
    if total <= HARD_QUOTA_BYTES:
        return list(signals)
    n_evicted = 0
    while total > SOFT_QUOTA_BYTES:
        total -= ordered[n_evicted].size_bytes
        n_evicted += 1
    kept = {id(signal) for signal in ordered[n_evicted:]}
    return [signal for signal in signals if id(signal) in kept]


def is_expired(created_at_ms: int, now_ms: int) -> bool:
    """Whether something made then is older than 60 days."""
    return now_ms - created_at_ms > TIME_TO_LIVE_MS
