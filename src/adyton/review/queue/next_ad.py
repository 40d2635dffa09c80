"""Which ad a moderator gets next: the priced pull index of spec/review §2.3 over arrays of waiting ads.

Gain of ad i with moderator j now = cost of i's best alternative − cost with j now, per minute of j's time. The
alternative is the cheapest of not being reviewed within the horizon and of any other eligible moderator after
`patience` minutes, that moderator's time paid at its price. `engine.priced_pull` simulates the same index over a day,
and a test keeps the two equal. Differences, because a live queue never says "empty" while an eligible ad waits: an ad
without gain is given as well when there is no better one, and ads past their promised time come first.

Axes: A waiting ads, M moderators. Values are in one unit of revenue, times in minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from adyton.kernel.errors import InternalError
from adyton.review.estimators import WAIT_COST_PER_MINUTE
from adyton.review.queue.clocks import MINUTE_MS
from adyton.review.tables import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class WaitingAds:
    """value, stake, work: float64[A], as in `review.estimators`.   market: int64[A].   queued_at, due_at: int64[A]."""

    value: FloatArray
    stake: FloatArray
    work: FloatArray
    market: IntArray
    queued_at_ms: IntArray
    due_at_ms: IntArray

    def __post_init__(self) -> None:
        lengths = {len(self.value), len(self.stake), len(self.work), len(self.market)}
        if lengths != {len(self.queued_at_ms)} or lengths != {len(self.due_at_ms)}:
            raise InternalError("the columns of waiting ads differ in length")


@dataclass(frozen=True, eq=False)
class Judges:
    """error: float64[M] in [0, 1].   pace: float64[M], minutes per unit of work.   price: float64[M] per minute.

    is_eligible: bool[M, K], whether the moderator judges the market. Row 0 is the one who asks.
    """

    error: FloatArray
    pace: FloatArray
    price: FloatArray
    is_eligible: np.ndarray[tuple[int, int], np.dtype[np.bool_]]


@dataclass(frozen=True)
class PullTerms:
    """patience: minutes until another moderator is thought to be free.   horizon: minutes until an ad counts as not
    reviewed.   unserved_value: share of the value lost then (1 for loss A2, 0 for A1).   hold: share of the price of
    its own time that counts against a moderator's gain."""

    patience: int
    horizon: int
    unserved_value: float
    hold: float = 1.0


def gains(ads: WaitingAds, judges: Judges, terms: PullTerms) -> FloatArray:
    """Gain per minute of each ad with the moderator of row 0, float64[A]; −inf where that moderator is not eligible."""
    rate = ads.value * WAIT_COST_PER_MINUTE
    unserved = rate * terms.horizon + terms.unserved_value * ads.value
    minutes = _whole_minutes(judges.pace[0] * ads.work)
    own = ads.stake * judges.error[0] + (rate + terms.hold * judges.price[0]) * minutes
    other = np.full(len(rate), np.inf)
    for market in np.unique(ads.market):
        rows = np.flatnonzero(ads.market == market)
        others = 1 + np.flatnonzero(judges.is_eligible[1:, market])
        if len(others):
            other[rows] = _cheapest(ads, judges, rows, others) + rate[rows] * terms.patience
    gain = (np.minimum(other, unserved) - own) / minutes
    return np.where(judges.is_eligible[0, ads.market], gain, -np.inf)


def _cheapest(ads: WaitingAds, judges: Judges, rows: IntArray, others: IntArray) -> FloatArray:
    """Least cost of each row's ad over the other moderators, without the wait before it."""
    rate = ads.value[rows] * WAIT_COST_PER_MINUTE
    best = np.full(len(rows), np.inf)
    for other in others:
        minutes = _whole_minutes(judges.pace[other] * ads.work[rows])
        cost = ads.stake[rows] * judges.error[other] + (rate + judges.price[other]) * minutes
        np.minimum(best, cost, out=best)
    return best


def _whole_minutes(minutes: FloatArray) -> FloatArray:
    return np.maximum(1.0, np.ceil(minutes - 1e-9))


def order(ads: WaitingAds, judges: Judges, terms: PullTerms, now_ms: int) -> IntArray:
    """Rows of the ads that the moderator of row 0 may get, best first: late ones, then by gain, then the oldest.

    An ad is late when it cannot be finished by this moderator before `due_at_ms`.
    """
    gain = gains(ads, judges, terms)
    minutes = _whole_minutes(judges.pace[0] * ads.work)
    is_on_time = now_ms + minutes * MINUTE_MS <= ads.due_at_ms
    ranking = np.lexsort((ads.queued_at_ms, -gain, is_on_time))
    return np.asarray(ranking[np.isfinite(gain[ranking])], dtype=np.int64)


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
