"""Requests that hide which buyers have data on the device (protected-auction §7.5).

Everything random here is drawn from the generation id, so that an ad server that replays a ciphertext sees the same
buyers called with the same sizes and learns nothing from the difference. What chaff hides it hides from the seller's
operator and from a watcher of the network; it does not hide how many buyers the seller has.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from adyton.kernel.chance import stream

_FEW_BUYERS = 5
_SKIP_WITH_FEW_BUYERS = 0.99
_SKIP_WITH_MANY_BUYERS = 0.95
MIN_CHAFF_REQUEST_BYTES = 9_000
MAX_CHAFF_REQUEST_BYTES = 95_000
MEDIAN_WINDOW = 10_000
MEDIAN_SAMPLING_PROBABILITY = 0.1
SIZE_BEFORE_MEDIAN_BYTES = 100_000


class ChaffSizes(Protocol):
    """How large requests to a buyer are."""

    def request_size(self, buyer: str, generator: np.random.Generator) -> int:
        """Bytes of the padded GetBids frame of a chaff request."""
        ...

    def least_real_size(self, buyer: str) -> int:
        """Bytes that the frame of a real request is padded to; 0 for none."""
        ...


class UniformChaffSizes:
    """Version 1: uniform in 9,000...95,000 bytes."""

    def request_size(self, buyer: str, generator: np.random.Generator) -> int:  # noqa: ARG002
        return int(generator.integers(MIN_CHAFF_REQUEST_BYTES, MAX_CHAFF_REQUEST_BYTES + 1))

    def least_real_size(self, buyer: str) -> int:  # noqa: ARG002
        return 0


class MedianChaffSizes:
    """Version 2: the median of a buyer's own real requests, so that chaff looks like them.

    One in ten real sizes is kept, in a moving window of 10,000; until the window is full, chaff has 100,000 bytes and
    real requests are padded to as many, or the two could be told apart.
    """

    def __init__(
        self,
        *,
        window: int = MEDIAN_WINDOW,
        sampling_probability: float = MEDIAN_SAMPLING_PROBABILITY,
        size_before_bytes: int = SIZE_BEFORE_MEDIAN_BYTES,
    ) -> None:
        self._window = window
        self._sampling_probability = sampling_probability
        self._size_before_bytes = size_before_bytes
        self._sizes: dict[str, deque[int]] = {}
        self._medians: dict[str, tuple[int, int]] = {}
        self._n_seen: dict[str, int] = {}

    def observe(self, buyer: str, size_bytes: int, generator: np.random.Generator) -> None:
        """Tell the size of a real request to `buyer`; kept with the sampling probability."""
        if generator.random() < self._sampling_probability:
            self._sizes.setdefault(buyer, deque(maxlen=self._window)).append(size_bytes)
            self._n_seen[buyer] = self._n_seen.get(buyer, 0) + 1

    def request_size(self, buyer: str, generator: np.random.Generator) -> int:  # noqa: ARG002
        if not self._is_full(buyer):
            return self._size_before_bytes
        sizes = self._sizes[buyer]
        n_seen = self._n_seen[buyer]
        known = self._medians.get(buyer)
        if known is None or known[0] != n_seen:
            known = (n_seen, int(statistics.median_low(sizes)))
            self._medians[buyer] = known
        return known[1]

    def least_real_size(self, buyer: str) -> int:
        return 0 if self._is_full(buyer) else self._size_before_bytes

    def _is_full(self, buyer: str) -> bool:
        return len(self._sizes.get(buyer, ())) >= self._window


@dataclass(frozen=True)
class PlannedRequest:
    """One GetBids call. `chaff_size_bytes` is the padded size of a chaff frame, None for a real request."""

    buyer: str
    chaff_size_bytes: int | None

    @property
    def is_chaff(self) -> bool:
        return self.chaff_size_bytes is not None


def chaff_generator(generation_id: str) -> np.random.Generator:
    """The generator of one auction's chaff decisions; equal for equal ids."""
    return stream(0, "chaff", generation_id)


def plan_requests(
    *,
    real: Sequence[str],
    candidates: Sequence[str],
    n_configured: int,
    sizes: ChaffSizes,
    generator: np.random.Generator,
) -> tuple[PlannedRequest, ...]:
    """Real and chaff requests in the order in which they are sent.

    real: buyers to call.   candidates: buyers that may get chaff, in an order that does not depend on the caller.
    n_configured: number of buyers that this front end knows; it decides how often chaff is skipped.
    """
    planned = [PlannedRequest(buyer, None) for buyer in real]
    skip_probability = _SKIP_WITH_FEW_BUYERS if n_configured <= _FEW_BUYERS else _SKIP_WITH_MANY_BUYERS
    is_skipped = generator.random() < skip_probability
    if candidates and not is_skipped:
        lowest = min(1 if real else 2, len(candidates))
        n_chaff = int(generator.integers(lowest, len(candidates) + 1))
        chosen = [candidates[i] for i in generator.permutation(len(candidates))[:n_chaff]]
        planned += [PlannedRequest(buyer, sizes.request_size(buyer, generator)) for buyer in chosen]
    return tuple(planned[i] for i in generator.permutation(len(planned)))


def within_limit(planned: Sequence[PlannedRequest], max_requests: int | None) -> tuple[PlannedRequest, ...]:
    """The first `max_requests` of a plan whose real requests are no more than that: chaff gives way to them."""
    if max_requests is None or len(planned) <= max_requests:
        return tuple(planned)
    room = max_requests - sum(not request.is_chaff for request in planned)
    kept = []
    for request in planned:
        room -= request.is_chaff
        if not request.is_chaff or room >= 0:
            kept.append(request)
    return tuple(kept)


def plan_replay(
    *, remembered: Collection[str], with_input: Collection[str], sizes: ChaffSizes, generator: np.random.Generator
) -> tuple[PlannedRequest, ...]:
    """The requests of a replayed ciphertext: the same buyers as the first time, chaff for those without data."""
    planned = [
        PlannedRequest(buyer, None if buyer in with_input else sizes.request_size(buyer, generator))
        for buyer in sorted(remembered)
    ]
    return tuple(planned[i] for i in generator.permutation(len(planned)))
