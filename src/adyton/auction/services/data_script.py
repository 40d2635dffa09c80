"""The retrieval script that arrives in data files (protected-auction §10.5): the newest that loads is the one in force.

As with scripts from elsewhere, a request keeps the script that it began with, and a newer one that does not load leaves
the older one in charge.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from adyton.auction.retrieval.records import UdfRecord
from adyton.auction.services.unloading import LateUnloading
from adyton.kernel.errors import AdytonError, UnavailableError
from adyton.sandbox.pool import SandboxPool
from adyton.sandbox.values import UdfHandle, UdfKind

_log = logging.getLogger(__name__)


class DataScript:
    """Loads what `newest` names on the first request after it changed. `grace_s`: longer than any request."""

    def __init__(
        self, pool: SandboxPool, *, owner: str, newest: Callable[[], UdfRecord | None], grace_s: float = 60.0
    ) -> None:
        self._pool = pool
        self._owner = owner
        self._newest = newest
        self._tried: UdfRecord | None = None
        self._current: tuple[UdfHandle, str] | None = None
        self._swapping = asyncio.Lock()
        self._unloading = LateUnloading(
            pool, grace_s=grace_s, is_used=lambda handle: self._current is not None and self._current[0] == handle
        )

    async def current(self) -> tuple[UdfHandle, str] | None:
        """The script in force and its handler's name; None if the files brought none.

        Raises the sandbox's errors if the only script there is does not load.
        """
        record = self._newest()
        # While one request swaps, the others need not wait for it.
        if record is not None and record is not self._tried and not (self._current and self._swapping.locked()):
            async with self._swapping:
                if record is not self._tried:
                    await self._swap(record)
        return self._current

    async def close(self) -> None:
        """Stop waiting to unload old scripts."""
        await self._unloading.close()

    async def _swap(self, record: UdfRecord) -> None:
        try:
            handle = await self._pool.load(self._owner, record.code_snippet, UdfKind.RETRIEVAL)
        except AdytonError as error:
            if self._current is None:
                raise
            if not isinstance(error, UnavailableError):  # else the next request tries again
                self._tried = record
            _log.warning("retrieval script version %d is not loaded: %s", record.version, error)
            return
        old, self._current, self._tried = self._current, (handle, record.handler_name), record
        if old is not None and old[0] != handle:
            self._unloading.begin(old[0])
