"""What an update does to one buyer's signals (protected-auction §2.3-2.4)."""

from __future__ import annotations

from collections.abc import Sequence

from adyton.device.signals import (
    HARD_QUOTA_BYTES,
    SOFT_QUOTA_BYTES,
    TIME_TO_LIVE_MS,
    Change,
    Signal,
    apply_update,
    evict,
)
from adyton.protocol.signal_updates import Append, Command, Put, PutIfNotPresent, Remove, SignalUpdate

A, B = (bytes([0, 0, 0, n]) for n in (1, 2))
NOW_MS = 1_000_000


def stored(*entries: tuple[bytes, bytes, int]) -> list[Signal]:
    return [Signal(key, value, "com.news", at_ms, row) for row, (key, value, at_ms) in enumerate(entries, start=1)]


def apply(signals: Sequence[Signal], *commands: Command, now_ms: int = NOW_MS) -> Change:
    return apply_update(signals, SignalUpdate(commands), package="com.shop", now_ms=now_ms)


def test_put_replaces_every_signal_of_its_key_and_no_other() -> None:
    change = apply(stored((A, b"1", 1), (B, b"2", 2), (A, b"3", 3)), Put(A, b"4"))

    assert change.removed_rows == (1, 3)
    assert change.added == (Signal(A, b"4", "com.shop", NOW_MS),)


def test_put_if_not_present_adds_only_to_an_empty_key() -> None:
    signals = stored((A, b"1", 1))

    assert apply(signals, PutIfNotPresent(A, b"2")).is_empty
    assert [s.value for s in apply(signals, PutIfNotPresent(B, b"2")).added] == [b"2"]


def test_remove_deletes_every_signal_of_its_key() -> None:
    change = apply(stored((A, b"1", 1), (B, b"2", 2), (A, b"3", 3)), Remove(A))

    assert (change.removed_rows, change.added) == ((1, 3), ())


def test_append_drops_the_oldest_beyond_max_signals() -> None:
    signals = stored((A, b"1", 1), (A, b"2", 2), (A, b"3", 3))

    assert apply(signals, Append(A, (b"4",), 4)).removed_rows == ()
    assert apply(signals, Append(A, (b"4", b"5"), 4)).removed_rows == (1,)
    assert apply(signals, Append(A, (b"4", b"5"), 2)).removed_rows == (1, 2, 3)
    assert [s.value for s in apply(signals, Append(A, (b"4", b"5"), 2)).added] == [b"4", b"5"]


def test_append_to_one_value_makes_a_series() -> None:
    change = apply(stored((A, b"1", 1)), Append(A, (b"2",), 5))

    assert (change.removed_rows, [s.value for s in change.added]) == ((), [b"2"])


def test_append_of_nothing_with_a_limit_of_zero_empties_the_key() -> None:
    assert apply(stored((A, b"1", 1)), Append(A, (), 0)).removed_rows == (1,)


def test_signals_older_than_sixty_days_are_gone_at_the_next_update() -> None:
    signals = stored((A, b"1", 0), (B, b"2", 1))

    change = apply(signals, PutIfNotPresent(A, b"3"), now_ms=TIME_TO_LIVE_MS + 1)

    assert change.removed_rows == (1,)
    assert [s.value for s in change.added] == [b"3"]


def sized(n: int, size: int) -> list[Signal]:
    return [Signal(n.to_bytes(4, "big"), bytes(size - 4), "com.news", n, n) for n in range(1, n + 1)]


def test_nothing_is_evicted_up_to_the_hard_quota() -> None:
    signals = sized(HARD_QUOTA_BYTES // 64, 64)

    assert sum(s.size_bytes for s in signals) == HARD_QUOTA_BYTES
    assert evict(signals) == signals


def test_one_byte_over_the_hard_quota_evicts_the_oldest_down_to_the_soft_quota() -> None:
    signals = [*sized(HARD_QUOTA_BYTES // 64, 64), Signal(A, b"", "com.news", 0)]

    kept = evict(signals)

    assert sum(s.size_bytes for s in kept) == SOFT_QUOTA_BYTES
    assert kept == signals[80:240]


def test_among_equal_times_the_first_inserted_go_first() -> None:
    signals = [Signal(bytes(4), bytes([n]) * 100, "com.news", 5, n) for n in range(150)]

    kept = evict(signals)

    assert [s.row for s in kept] == list(range(150 - SOFT_QUOTA_BYTES // 104, 150))


def test_an_update_that_passes_the_quota_evicts_old_rows_and_keeps_its_own() -> None:
    signals = sized(HARD_QUOTA_BYTES // 64, 64)

    change = apply(signals, Put(b"\xff\xff\xff\xff", b"x"))

    assert change.evicted == 81
    assert [s.value for s in change.added] == [b"x"]
