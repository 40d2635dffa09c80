"""Chance is an argument.

Two kinds that must never be confused:

* `stream(seed, *names)`: a numpy generator for simulation and training. The same seed and names give the same numbers,
  and different names give independent streams (common random numbers across policies).
* `RandomSource`: bytes for keys, nonces and privacy noise. Production uses `OsRandom`; `InsecureFixedRandom` repeats
  itself and exists for tests and for `--insecure-fixed-noise`, whose output carries no privacy guarantee.
"""

from __future__ import annotations

import hashlib
import os
from typing import Protocol

import numpy as np

from adyton.kernel.errors import BadInputError


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """An independent generator for each (seed, names)."""
    digest = hashlib.sha256("\x1f".join([str(seed), *map(str, names)]).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))


class RandomSource(Protocol):
    """A source of uniformly random bytes."""

    is_secure: bool

    def token(self, n_bytes: int) -> bytes:
        """`n_bytes` >= 0 random bytes."""
        ...


class OsRandom:
    """The operating system's generator."""

    is_secure = True

    def token(self, n_bytes: int) -> bytes:
        return os.urandom(n_bytes)


class InsecureFixedRandom:
    """SHAKE-256 over a seed and a counter: the same bytes on every run. Protects nothing."""

    is_secure = False

    def __init__(self, seed: int, *names: str | int) -> None:
        self._prefix = "\x1f".join([str(seed), *map(str, names)]).encode()
        self._counter = 0

    def token(self, n_bytes: int) -> bytes:
        block = hashlib.shake_256(self._prefix + self._counter.to_bytes(8, "big")).digest(n_bytes)
        self._counter += 1
        return block


def randbelow(source: RandomSource, bound: int) -> int:
    """A uniform integer in [0, bound), by rejection so that no value is favoured. `bound` >= 1."""
    if bound < 1:
        raise BadInputError(f"bound must be at least 1, got {bound}")
    n_bits = (bound - 1).bit_length()
    n_bytes = (n_bits + 7) // 8
    while True:
        candidate = int.from_bytes(source.token(n_bytes), "big") >> (8 * n_bytes - n_bits)
        if candidate < bound:
            return candidate


def bernoulli(source: RandomSource, numerator: int, denominator: int) -> bool:
    """True with probability exactly numerator / denominator."""
    return randbelow(source, denominator) < numerator
