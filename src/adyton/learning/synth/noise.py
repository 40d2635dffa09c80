"""Integer noise for counts and private choices.

With a secure source the draws are OpenDP's (exact discrete Gaussian and exact Gumbel noisy-max, over the operating
system's generator). With an insecure fixed source they come from that source, approximately and repeatably: such output
looks the same and protects nobody.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from adyton.kernel.chance import RandomSource

Ints = npt.NDArray[np.int64]


class Noise(Protocol):
    """Adds noise; knows nothing of budgets."""

    is_secure: bool

    def gaussian(self, counts: Ints, scale: float) -> Ints:
        """`counts` plus one discrete Gaussian of parameter `scale` for each, same shape."""
        ...

    def noisy_max(self, scores: Ints, scale: float) -> int:
        """The index of the largest of `scores` after Gumbel noise of `scale` on each."""
        ...

    def keys(self, n: int) -> npt.NDArray[np.uint64]:
        """`n` uniform 64-bit keys."""
        ...


def noise_from(source: RandomSource) -> Noise:
    """Exact noise for a secure source, repeatable noise for an insecure one."""
    return OpenDpNoise(source) if source.is_secure else FixedNoise(source)


@cache
def _opendp() -> Any:
    import opendp.prelude as dp

    dp.enable_features("contrib")
    return dp


class OpenDpNoise:
    """OpenDP's exact samplers. Its generator is the operating system's, so only `keys` takes bytes of `source`.

    A source that keeps watch is told of every other draw too, by a request for no bytes.
    """

    is_secure = True

    def __init__(self, source: RandomSource) -> None:
        self._source = source

    def gaussian(self, counts: Ints, scale: float) -> Ints:
        dp = _opendp()
        self._source.token(0)
        space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T=float)
        draw = dp.m.make_gaussian(*space, scale)
        return np.asarray(draw(counts.ravel().tolist()), np.int64).reshape(counts.shape)

    def noisy_max(self, scores: Ints, scale: float) -> int:
        dp = _opendp()
        self._source.token(0)
        space = dp.vector_domain(dp.atom_domain(T="i64")), dp.linf_distance(T="i64")
        choose = dp.m.make_noisy_max(*space, dp.zero_concentrated_divergence(), scale)
        return int(choose(scores.tolist()))

    def keys(self, n: int) -> npt.NDArray[np.uint64]:
        return np.frombuffer(self._source.token(8 * n), np.uint64)


class FixedNoise:
    """The same noise on every run, by table look-up in a discrete Gaussian cut at 12 scales. Protects nothing."""

    is_secure = False

    def __init__(self, source: RandomSource) -> None:
        self._source = source

    def _uniform(self, n: int) -> npt.NDArray[np.float64]:
        return ((self.keys(n) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53

    def gaussian(self, counts: Ints, scale: float) -> Ints:
        reach = int(12 * scale) + 1
        support = np.arange(-reach, reach + 1)
        cumulative = np.cumsum(np.exp(-(support.astype(float) ** 2) / (2 * scale**2)))
        drawn = np.searchsorted(cumulative, self._uniform(counts.size) * cumulative[-1])
        return np.asarray(counts + support[drawn].reshape(counts.shape), np.int64)

    def noisy_max(self, scores: Ints, scale: float) -> int:
        gumbel = -np.log(-np.log(self._uniform(scores.size)))
        return int(np.argmax(scores + scale * gumbel))

    def keys(self, n: int) -> npt.NDArray[np.uint64]:
        return np.frombuffer(self._source.token(8 * n), np.uint64)
