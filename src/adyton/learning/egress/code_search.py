"""Which learned code serves best at each size: judged on later training rows, never on test rows.

Searched are the trees behind the propensity and how the bits are shared out. Of all ways that do as well as the best
one, but for half a standard error of the difference, the one with the fewest bits is taken (after the rule of one
standard error, Breiman et al. 1984, §3.4.3; a whole one cost small tables half of their lift): bits that do not clearly
help should not leave the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from adyton.learning.egress.features import EgressData, UserFeature
from adyton.learning.egress.machine import FactorizationTrainer
from adyton.learning.egress.trees import Forest
from adyton.learning.egress.user_code import LearnedNumbers, UserCode, learn_numbers, propensity_loss

FORESTS = (Forest(30, 8), Forest(200, 31), Forest(300, 63))
_TOLERANCE = 0.5
_PROPENSITY_BITS = (1, 2, 3, 4, 5, 6, 8)

Losses = Callable[[EgressData, tuple[UserFeature, ...]], npt.NDArray[np.float64]]


@dataclass(frozen=True)
class _Shares:
    """How bits are shared out; see `LearnedNumbers.code`."""

    propensity_bits: int | None
    further: bool

    def code(self, learned: LearnedNumbers, size: int) -> UserCode:
        return learned.code(size, propensity_bits=self.propensity_bits, further=self.further)


def search_codes(
    data: EgressData,
    reported: EgressData,
    validation: EgressData,
    sizes: Sequence[int],
    coder: FactorizationTrainer,
    losses: Losses,
    *,
    seed: int,
) -> list[tuple[UserCode, tuple[UserFeature, ...]]]:
    """For each size a code, and what it makes of each row of `data` (training rows cross-fitted).

    reported: `data` as the collector sees it.   validation: training rows of `reported` alone, the last ones as test
    rows.   losses: log loss of each test row of what it is given, by a model trained on its payloads.
    """
    forest = min(FORESTS, key=lambda f: propensity_loss(validation, coder, f, seed=seed))
    tried = learn_numbers(validation, coder, forest, seed=seed)
    learned = learn_numbers(reported, coder, forest, true_features=data.user_features, seed=seed)
    known: dict[tuple[tuple[int, int], ...], npt.NDArray[np.float64]] = {}

    def judged(shares: _Shares, size: int) -> npt.NDArray[np.float64]:
        code = shares.code(tried, size)
        key = tuple((which, edges.size) for which, edges in code.edges)
        if key not in known:
            known[key] = losses(validation, code.quantised(tried.rows))
        return known[key]

    found = []
    for size in sizes:
        options = [(shares, judged(shares, size)) for shares in _options(size)]
        _, best = min(options, key=lambda option: float(option[1].mean()))
        good = [shares for shares, loss in options if _is_as_good(loss, best)]
        code = min(good, key=lambda shares: shares.code(tried, size).bits).code(learned, size)
        found.append((code, code.quantised(learned.rows)))
    return found


def _is_as_good(losses: npt.NDArray[np.float64], best: npt.NDArray[np.float64]) -> bool:
    difference = losses - best
    return bool(difference.mean() <= _TOLERANCE * difference.std() / np.sqrt(difference.size))


def _options(size: int) -> Iterator[_Shares]:
    yield _Shares(None, further=True)
    for bits in _PROPENSITY_BITS:
        if bits <= size:
            yield _Shares(bits, further=False)
        if bits < size:
            yield _Shares(bits, further=True)
