"""Which learned code serves best at each size: judged on later training rows, never on test rows.

Searched are the trees behind the propensity and how the bits are shared out. A code that is best with fewer bits than
the size allows uses fewer: bits that do not help should not leave the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from adyton.learning.egress.features import EgressData, UserFeature
from adyton.learning.egress.machine import FactorizationTrainer
from adyton.learning.egress.trees import Forest
from adyton.learning.egress.user_code import LearnedNumbers, UserCode, learn_numbers, propensity_loss

FORESTS = (Forest(30, 8), Forest(200, 31), Forest(300, 63))
_PROPENSITY_BITS = (2, 3, 4, 5, 6, 8)

Loss = Callable[[EgressData, tuple[UserFeature, ...]], float]


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
    loss: Loss,
    *,
    seed: int,
) -> list[tuple[UserCode, tuple[UserFeature, ...]]]:
    """For each size a code, and what it makes of each row of `data` (training rows cross-fitted).

    reported: `data` as the collector sees it.   validation: training rows of `reported` alone, the last ones as test
    rows.   loss: of a model trained on payloads, on the test rows of what it is given.
    """
    forest = min(FORESTS, key=lambda f: propensity_loss(validation, coder, f, seed=seed))
    tried = learn_numbers(validation, coder, forest, seed=seed)
    learned = learn_numbers(reported, coder, forest, true_features=data.user_features, seed=seed)
    known: dict[tuple[tuple[int, int], ...], float] = {}

    def judged(shares: _Shares, size: int) -> float:
        code = shares.code(tried, size)
        key = tuple((which, edges.size) for which, edges in code.edges)
        if key not in known:
            known[key] = loss(validation, code.quantised(tried.rows))
        return known[key]

    found = []
    for size in sizes:
        best = min(_options(size), key=lambda shares: judged(shares, size))
        code = best.code(learned, size)
        found.append((code, code.quantised(learned.rows)))
    return found


def _options(size: int) -> Iterator[_Shares]:
    yield _Shares(None, further=True)
    for bits in _PROPENSITY_BITS:
        if bits <= size:
            yield _Shares(bits, further=False)
        if bits < size:
            yield _Shares(bits, further=True)
