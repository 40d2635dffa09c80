"""Which buyers a generation id called, so that a replayed ciphertext calls the same (protected-auction §7.5)."""

from __future__ import annotations

from collections import OrderedDict

DEFAULT_CAPACITY = 100_000
DEFAULT_LIFETIME_S = 24 * 3600


class BuyerCache:
    """Remembers the first set of buyers of each generation id, for a time and up to a number of ids."""

    def __init__(self, *, capacity: int = DEFAULT_CAPACITY, lifetime_s: float = DEFAULT_LIFETIME_S) -> None:
        self._capacity = capacity
        self._lifetime_s = lifetime_s
        self._entries: OrderedDict[str, tuple[float, frozenset[str]]] = OrderedDict()

    def recall_or_remember(self, generation_id: str, buyers: frozenset[str], *, now_s: float) -> frozenset[str]:
        """The buyers of the first call with this id that still lives; `buyers` itself if this is the first.

        now_s: monotonic seconds. The oldest ids leave first when the cache is full.
        """
        known = self._entries.get(generation_id)
        if known is not None and now_s - known[0] < self._lifetime_s:
            return known[1]
        self._entries[generation_id] = (now_s, buyers)
        self._entries.move_to_end(generation_id)
        while len(self._entries) > self._capacity:
            self._entries.popitem(last=False)
        return buyers
