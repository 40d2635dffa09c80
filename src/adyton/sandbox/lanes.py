"""Bookkeeping of the pool: the workers of one script, and the health of one owner."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from adyton.kernel.errors import AdytonError
from adyton.sandbox.process import WorkerProcess
from adyton.sandbox.values import UdfHandle


class OwnerHealth:
    """Failures in a row of one owner's scripts, and until when they are not run."""

    def __init__(self) -> None:
        self.failures = 0
        self.blocked_until_s = float("-inf")


class Lane:
    """The workers of one script. `live` counts idle, busy, resting and starting ones.

    failure: why the last start of a worker failed; None while one is starting.
    """

    def __init__(self, handle: UdfHandle, code: str) -> None:
        self.handle = handle
        self.code = code
        self.idle: deque[WorkerProcess] = deque()
        self.live = 0
        self.users = 0
        self.unloaded = False
        self.failure: AdytonError | None = None
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def is_over(self) -> bool:
        """True once the script is unloaded and the last request that took it has ended."""
        return self.unloaded and self.users == 0

    async def wait_free(self, until: float) -> None:
        """Return when a worker may have become free, or at loop time `until`."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout_at(until):
                await waiter
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.wake()  # the news was for whoever still waits
            raise
        finally:
            # `wake` may have taken it off in the same turn of the loop in which the time ran out.
            with contextlib.suppress(ValueError):
                self._waiters.remove(waiter)

    def wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def wake_all(self) -> None:
        """For news that concern everyone who waits."""
        for _ in range(len(self._waiters)):
            self.wake()
