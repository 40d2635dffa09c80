"""How many calls are worked on at once, and how many may wait for their turn.

Twenty auctions that share two cores all end late; the same twenty, two at a time and in the order in which they came,
end early one after the other, and the last no later. When more come than can ever be served, waiting only makes every
one of them late, so that beyond a limit they are told at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from adyton.auction.errors import OverloadedError


class Admission:
    """Turns in the order of arrival. at_once: None for no limit; then nothing waits.   max_waiting: of one process."""

    def __init__(self, at_once: int | None, max_waiting: int) -> None:
        self._turns = None if at_once is None else asyncio.Semaphore(at_once)
        self._max_waiting = max_waiting
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Held while a call is worked on; a caller that is cancelled leaves the queue. Raises OverloadedError."""
        if self._turns is None:
            yield
            return
        if self._turns.locked() and self._waiting >= self._max_waiting:
            raise OverloadedError("Too many requests.", hint="try again later, or let more wait in the configuration")
        self._waiting += 1
        try:
            await self._turns.acquire()  # at once where a turn is free
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._turns.release()
