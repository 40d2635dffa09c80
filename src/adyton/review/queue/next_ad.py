"""Which ad a moderator gets next: the priced pull index of spec/review §2.3 over the ads that wait in one market.

Gain of ad i with moderator j now = cost of i's best alternative − cost with j now, per minute of j's time. The
alternative is the cheapest of not being reviewed within the horizon and of any other eligible moderator after
`patience` minutes, that moderator's time paid at its price. `engine.priced_pull` simulates the same index over a day,
and a test keeps the two equal. Differences, because a live queue never says "empty" while an eligible ad waits: an ad
without gain is given as well when there is no better one, and ads past their promised time come first.

Axes: A waiting ads, M moderators who judge their market. Values are in one unit of revenue, times in minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from adyton.kernel.errors import InternalError
from adyton.review.estimators import WAIT_COST_PER_MINUTE
from adyton.review.queue.clocks import MINUTE_MS
from adyton.review.tables import FloatArray, IntArray

_BLOCK = 512
"""Ads that are compared with all moderators at once: a block of costs stays in the processor's cache."""


@dataclass(frozen=True, eq=False)
class WaitingAds:
    """value, stake, work: float64[A], as in `review.estimators`."""

    value: FloatArray
    stake: FloatArray
    work: FloatArray

    def __post_init__(self) -> None:
        if not len(self.value) == len(self.stake) == len(self.work):
            raise InternalError("the columns of waiting ads differ in length")


@dataclass(frozen=True, eq=False)
class Judges:
    """Moderators of one market. error: float64[M] in [0, 1].   pace: float64[M], minutes per unit of work.
    price: float64[M] per minute."""

    error: FloatArray
    pace: FloatArray
    price: FloatArray


@dataclass(frozen=True)
class Asker:
    """The moderator who asks; `error`, `pace`, `price` as in `Judges`.   position: row in `Judges`, −1 for none."""

    error: float
    pace: float
    price: float
    position: int


@dataclass(frozen=True)
class PullTerms:
    """patience: minutes until another moderator is thought to be free.   horizon: minutes until an ad counts as not
    reviewed.   unserved_value: share of the value lost then (1 for loss A2, 0 for A1).   hold: share of the price of
    its own time that counts against a moderator's gain."""

    patience: int
    horizon: int
    unserved_value: float
    hold: float = 1.0


@dataclass(frozen=True, eq=False)
class Alternatives:
    """For each ad the least cost over all moderators, without the wait before it. best, second: float64[A], infinite
    where there is none.   best_is: int64[A], row in `Judges`, −1 for none."""

    best: FloatArray
    second: FloatArray
    best_is: IntArray


def alternatives(ads: WaitingAds, judges: Judges) -> Alternatives:
    """The cheapest and the second cheapest moderator of each ad: whoever asks is never its own alternative."""
    n_ads, n_judges = len(ads.value), len(judges.error)
    found = Alternatives(np.full(n_ads, np.inf), np.full(n_ads, np.inf), np.full(n_ads, -1, dtype=np.int64))
    for begin in range(0, n_ads if n_judges else 0, _BLOCK):
        rows = slice(begin, begin + _BLOCK)
        rate = ads.value[rows, None] * WAIT_COST_PER_MINUTE
        cost = (rate + judges.price) * _whole_minutes(judges.pace * ads.work[rows, None])
        cost += ads.stake[rows, None] * judges.error
        cheapest = np.argmin(cost, axis=1)
        every = np.arange(len(cheapest))
        found.best_is[rows] = cheapest
        found.best[rows] = cost[every, cheapest]
        cost[every, cheapest] = np.inf
        found.second[rows] = np.min(cost, axis=1)
    return found


def gains(ads: WaitingAds, found: Alternatives, asker: Asker, terms: PullTerms) -> FloatArray:
    """Gain per minute of each ad with the moderator who asks, float64[A]."""
    rate = ads.value * WAIT_COST_PER_MINUTE
    unserved = rate * terms.horizon + terms.unserved_value * ads.value
    minutes = minutes_of(asker, ads.work)
    own = ads.stake * asker.error + (rate + terms.hold * asker.price) * minutes
    is_own = (found.best_is == asker.position) & (asker.position >= 0)
    other = np.where(is_own, found.second, found.best) + rate * terms.patience
    return np.asarray((np.minimum(other, unserved) - own) / minutes)


def minutes_of(asker: Asker, work: FloatArray) -> FloatArray:
    """Whole minutes that the moderator who asks needs for each ad, float64[A]."""
    return _whole_minutes(asker.pace * work)


def _whole_minutes(minutes: FloatArray) -> FloatArray:
    return np.maximum(1.0, np.ceil(minutes - 1e-9))


def best_first(
    gain: FloatArray, minutes: FloatArray, queued_at_ms: IntArray, due_at_ms: IntArray, now_ms: int, most: int
) -> IntArray:
    """At most `most` rows, best first: late ads, then by gain, then the oldest.

    An ad is late when this moderator cannot finish it before `due_at_ms`, given `minutes` for it.
    """
    is_on_time = now_ms + minutes * MINUTE_MS <= due_at_ms
    chosen = _highest(np.flatnonzero(~is_on_time), gain, most)
    if len(chosen) < most:
        chosen = np.concatenate([chosen, _highest(np.flatnonzero(is_on_time), gain, most - len(chosen))])
    ranking = np.lexsort((queued_at_ms[chosen], -gain[chosen], is_on_time[chosen]))
    return np.asarray(chosen[ranking[:most]], dtype=np.int64)


def _highest(rows: IntArray, gain: FloatArray, most: int) -> IntArray:
    """The rows with the `most` highest gains, more of them where the last ones are equal; in no order."""
    if len(rows) <= most:
        return rows
    least = np.partition(gain[rows], -most)[-most]
    return np.asarray(rows[gain[rows] >= least])


class Bar(Enum):
    """Why a waiting ad is not given to a moderator who judges its market."""

    SKIPPED = "skipped"
    """The moderator skipped it in this round."""
    JUDGED = "judged"
    """The moderator has already judged it, and another opinion is wanted."""
    EXPOSURE = "exposure"
    """Its severity does not fit into what is left of the day's exposure budget."""


def bar(*, is_skipped: bool, has_judged: bool, severity: int, exposure_left: int) -> Bar | None:
    """The first reason why this ad is not for this moderator, None when it is. Harmless ads need no budget."""
    if has_judged:
        return Bar.JUDGED
    if is_skipped:
        return Bar.SKIPPED
    if severity > 0 and severity > exposure_left:
        return Bar.EXPOSURE
    return None
