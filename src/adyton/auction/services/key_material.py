"""The keys of one process: its own private ones and the public ones that it seals requests to peers with.

A holder, so that rotation changes what the next request uses while requests in flight keep what they started with.
"""

from __future__ import annotations

from adyton.kernel.chance import OsRandom, RandomSource, randbelow
from adyton.protocol.keys import TEST_MODE_KEY, KeyRing, PublicKey


class KeyMaterial:
    """Current private keys and peers' public keys."""

    def __init__(
        self, ring: KeyRing, public_keys: tuple[PublicKey, ...], *, source: RandomSource | None = None
    ) -> None:
        self.ring = ring
        self.public_keys = public_keys
        self._source: RandomSource = source or OsRandom()

    @classmethod
    def test_mode(cls) -> KeyMaterial:
        """The published test pair for every key id. It protects nothing."""
        return cls(KeyRing.test_mode(), (TEST_MODE_KEY.public_key,))

    def replace(self, ring: KeyRing, public_keys: tuple[PublicKey, ...]) -> None:
        """Use these from the next request on."""
        self.ring, self.public_keys = ring, public_keys

    def sealing_key(self) -> PublicKey:
        """One of the peers' public keys, at random (§14.1)."""
        return self.public_keys[randbelow(self._source, len(self.public_keys))]
