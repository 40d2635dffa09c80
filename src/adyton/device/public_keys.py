"""The seller's public keys on the device, with the lifetime their server gave them (protected-auction §14.1)."""

from __future__ import annotations

from collections.abc import Sequence

from adyton.device.web import Web
from adyton.kernel.chance import RandomSource, randbelow
from adyton.kernel.clock import Clock
from adyton.protocol.keys import TEST_MODE_KEY, PublicKey, key_list_lifetime_s, parse_public_key_list

KEY_FETCH_TIMEOUT_S = 3.0
_MAX_LIST_BYTES = 64 * 1024


class PublicKeyCache:
    """Keys given at the start, or fetched. A test key given at the start means that fetched ones are accepted too."""

    def __init__(self, keys: Sequence[PublicKey], web: Web, clock: Clock, *, accepts_test_key: bool = False) -> None:
        self._keys = tuple(keys)
        self._web = web
        self._clock = clock
        self._test_mode = accepts_test_key or any(key.public == TEST_MODE_KEY.public for key in keys)
        self._fresh_until_ms: int | None = None

    def empty_like(self) -> PublicKeyCache:
        """A cache without keys for another coordinator, in the same mode."""
        return PublicKeyCache((), self._web, self._clock, accepts_test_key=self._test_mode)

    async def refresh(self, url: str) -> None:
        """Fetch the list unless it is fresh.

        Raises AdTechServerError, KeyListError, TestKeyRefusedError.
        """
        now_ms = self._clock.now_ms()
        if self._fresh_until_ms is not None and now_ms < self._fresh_until_ms:
            return
        reply = await self._web.get(url, max_bytes=_MAX_LIST_BYTES, total_timeout_s=KEY_FETCH_TIMEOUT_S)
        self._keys = parse_public_key_list(reply.body, test_mode=self._test_mode)
        lifetime_s = key_list_lifetime_s(cache_control=reply.headers.get("cache-control"), age=reply.headers.get("age"))
        self._fresh_until_ms = now_ms + lifetime_s * 1000

    def pick(self, source: RandomSource) -> PublicKey | None:
        """One of the keys at random; None if there are none."""
        return self._keys[randbelow(source, len(self._keys))] if self._keys else None
