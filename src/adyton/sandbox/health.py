"""Which owners' scripts are not run for a while, because they failed again and again."""

from __future__ import annotations

from adyton.kernel.clock import Clock
from adyton.sandbox.errors import OwnerBackedOffError
from adyton.sandbox.values import SandboxLimits, UdfHandle, UdfKind


class _Record:
    """Failures in a row of one owner's scripts of one kind, and until when they are not run."""

    def __init__(self) -> None:
        self.failures = 0
        self.blocked_until_s = float("-inf")


class ScriptHealth:
    """Timeouts, crashes and bad frames by owner and kind, so that one broken function does not stop the others."""

    def __init__(self, limits: SandboxLimits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._records: dict[tuple[str, UdfKind], _Record] = {}

    def check(self, handle: UdfHandle) -> None:
        """Raises OwnerBackedOffError while the script is not to be run."""
        record = self._records.get(handle.slot)
        if record is not None and self._clock.monotonic_s() < record.blocked_until_s:
            raise OwnerBackedOffError(
                "the owner's scripts failed repeatedly and are not run for a while",
                where=f"{handle.owner}/{handle.kind.value}",
                hint="fix the script; the pause ends by itself",
            )

    def count_success(self, handle: UdfHandle) -> None:
        """Failures before this one no longer count."""
        self._records.pop(handle.slot, None)

    def count_failure(self, handle: UdfHandle) -> None:
        """From the limit on, each failure in a row doubles the pause."""
        record = self._records.setdefault(handle.slot, _Record())
        record.failures += 1
        excess = record.failures - self._limits.failures_before_backoff
        if excess >= 0:
            pause_ms = min(self._limits.backoff_ms * 2 ** min(excess, 30), self._limits.backoff_max_ms)
            record.blocked_until_s = self._clock.monotonic_s() + pause_ms / 1000
