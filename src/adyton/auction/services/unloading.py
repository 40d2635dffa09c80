"""Unloading a script that a newer one replaced, once no request can still have begun with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from adyton.sandbox.pool import SandboxPool
from adyton.sandbox.values import UdfHandle


class LateUnloading:
    """grace_s: longer than any request.   is_used: whether a script is in force (again) when that time is over."""

    def __init__(self, pool: SandboxPool, *, grace_s: float, is_used: Callable[[UdfHandle], bool]) -> None:
        self._pool = pool
        self._grace_s = grace_s
        self._is_used = is_used
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, handle: UdfHandle) -> None:
        task = asyncio.create_task(self._unload(handle))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop waiting to unload."""
        for task in self._tasks:
            task.cancel()

    async def _unload(self, handle: UdfHandle) -> None:
        await asyncio.sleep(self._grace_s)
        if not self._is_used(handle):
            await self._pool.unload(handle)
