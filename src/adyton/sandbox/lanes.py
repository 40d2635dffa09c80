"""Bookkeeping of the pool: the workers of one owner's code in one version, and who waits for one."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from adyton.kernel.errors import AdytonError
from adyton.sandbox.process import WorkerProcess
from adyton.sandbox.request import ScriptRequest
from adyton.sandbox.values import UdfKind


class Lane:
    """The workers of one owner's code in one version. `live` counts idle, busy, resting and starting ones.

    label: owner and version, for messages.   uses: what the code is loaded for now.   kinds: what its workers are told
    that it may be called for; that only grows, since calls of a use that was unloaded may still wait.
    failure: why the last start of a worker failed; None while one is starting.
    """

    def __init__(self, label: str, code: str) -> None:
        self.label = label
        self.code = code
        self.uses: frozenset[UdfKind] = frozenset()
        self.kinds: frozenset[UdfKind] = frozenset()
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

    def take(self, request: ScriptRequest | None) -> WorkerProcess | None:
        """An idle worker: the one that keeps a context for `request`, else the one that was busy last, whose memory is
        still in the processor's caches; one that keeps a context for somebody else only where there is no other."""
        if not self.idle:
            return None
        worker = max(reversed(self.idle), key=lambda worker: self._fitness(worker, request))
        self.idle.remove(worker)
        return worker

    @staticmethod
    def _fitness(worker: WorkerProcess, request: ScriptRequest | None) -> int:
        if worker.kept_for is None:
            return 1
        return 2 if worker.kept_for is request else 0

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
