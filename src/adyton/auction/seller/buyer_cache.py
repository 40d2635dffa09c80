"""Which buyers a generation id called, so that a replayed ciphertext calls the same (protected-auction §7.5)."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

DEFAULT_CAPACITY = 100_000
DEFAULT_LIFETIME_S = 24 * 3600


class BuyerCache:
    """Remembers the first set of buyers of each generation id, for a time and up to a number of ids."""

    def __init__(self, *, capacity: int = DEFAULT_CAPACITY, lifetime_s: float = DEFAULT_LIFETIME_S) -> None:
        self._capacity = capacity
        self._lifetime_s = lifetime_s
        self._entries: OrderedDict[bytes, tuple[float, frozenset[str]]] = OrderedDict()

    def recall_or_remember(self, generation_id: str, buyers: frozenset[str], *, now_s: float) -> frozenset[str]:
        """The buyers of the first call with this id that still lives; `buyers` itself if this is the first.

        now_s: monotonic seconds. The oldest ids leave first when the cache is full.
        """
        # Ids come from clients and may be megabytes long.
        key = hashlib.sha256(generation_id.encode()).digest()
        known = self._entries.get(key)
        if known is not None and now_s - known[0] < self._lifetime_s:
            return known[1]
        self._entries[key] = (now_s, buyers)
        self._entries.move_to_end(key)
        while len(self._entries) > self._capacity:
            self._entries.popitem(last=False)
        return buyers
