"""Private keys in two shares, so that no single coordinator can open a request (protected-auction §14.2).

key = share of coordinator A XOR share of coordinator B, byte by byte. One share alone is uniformly random: it says
nothing about the key, whatever its holder computes. Both coordinators together can open everything.
"""

from __future__ import annotations

from adyton.auction.errors import ConfigError
from adyton.kernel.chance import RandomSource


def split_key(secret: bytes, source: RandomSource) -> tuple[bytes, bytes]:
    """Two shares of `secret`, each as long as it. The first is drawn from `source`."""
    first = source.token(len(secret))
    return first, _xor(secret, first)


def join_shares(first: bytes, second: bytes) -> bytes:
    """The secret of two shares.

    Raises ConfigError if their lengths differ or one is empty.
    """
    if len(first) != len(second) or not first:
        raise ConfigError("the shares of a key must have the same length")
    return _xor(first, second)


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
