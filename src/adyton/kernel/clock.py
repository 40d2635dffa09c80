"""Time is an argument. Rules take a `Clock`; only the edge of the program makes a `SystemClock`."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

from adyton.kernel.errors import InternalError


class Clock(Protocol):
    """Wall time for records and monotonic time for deadlines."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        ...

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start; never runs backwards."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that stands still until it is moved, and refuses to run backwards."""

    def __init__(self, start_ms: int = 0) -> None:
        self._now_ms = start_ms
        self._start_ms = start_ms

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic_s(self) -> float:
        return (self._now_ms - self._start_ms) / 1000

    def advance_ms(self, delta_ms: int) -> None:
        """Move forward by `delta_ms` >= 0 milliseconds."""
        if delta_ms < 0:
            raise InternalError(f"a clock cannot run backwards (asked for {delta_ms} ms)")
        self._now_ms += delta_ms


def iso_utc(at_ms: int) -> str:
    """`2026-11-22T18:47:42.000Z` for a number of milliseconds since the epoch."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
