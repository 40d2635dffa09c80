"""Priced pull: an idle moderator asks "what next?" and gets the ad that gains most from *this* moderator, per minute.

Gain of ad i with moderator j now = cost of i's best alternative − cost with j now. The alternative is the cheapest of
not being reviewed at all and of any other eligible moderator after `patience` minutes, that moderator's time paid at
its price. A moderator takes an ad only when the gain is at least a share of the price of its own time (spec/review
§2.3, "pull").
"""

from __future__ import annotations

import numpy as np
from numba import njit

from adyton.review.day import DayArrays
from adyton.review.engine.dual import price_until
from adyton.review.engine.moves import Schedule, commit, earliest_starts, empty_schedule, whole_minutes
from adyton.review.tables import FloatArray


@njit(cache=True)
def cumulate(price: FloatArray, bin_minutes: int) -> FloatArray:
    """Price of a moderator's time from minute 0 to each bin's edge, float64[M, B + 1]."""
    cumulated = np.zeros((price.shape[0], price.shape[1] + 1))
    for b in range(price.shape[1]):
        cumulated[:, b + 1] = cumulated[:, b] + price[:, b] * bin_minutes
    return cumulated


@njit(cache=True)
def run_priced_pull(
    day: DayArrays,
    price: FloatArray,
    bin_minutes: int,
    patience: int,
    unserved_value: float,
    refresh: int,
    hold: float,
) -> Schedule:
    """The schedule of one day.

    price: float64[M, B].   patience: minutes until an alternative moderator is thought to be free.   unserved_value:
    share of the value that is lost when an ad is not reviewed at all, on top of its wait (1 for loss A2, 0 for A1).
    hold: share of the price of its own time that a moderator's gain must reach, 0 never leaves one idle.
    refresh: minutes between two looks at the alternatives of all open ads, >= 1.
    """
    n_ads, n_moderators = len(day.arrival), len(day.shift_start)
    n_markets = len(day.first) - 1
    schedule = empty_schedule(n_ads)
    free_at, starts = np.zeros(n_moderators, np.int64), np.zeros(n_moderators, np.int64)
    cumulated = cumulate(price, bin_minutes)
    best_other = np.full(n_ads, np.inf)
    best_other_is = np.full(n_ads, -1, np.int64)
    second_other = np.full(n_ads, np.inf)
    looked_at = np.full(n_ads, -1, np.int64)
    n_in_market = np.zeros(n_markets, np.int64)
    for ad in range(n_ads):
        n_in_market[day.market[ad]] += 1
    offset = np.zeros(n_markets + 1, np.int64)
    offset[1:] = np.cumsum(n_in_market)
    open_ads = np.empty(n_ads, np.int64)
    n_open = np.zeros(n_markets, np.int64)
    n_markets_of = np.zeros(n_moderators, np.int64)
    for moderator in day.members:
        n_markets_of[moderator] += 1
    markets_of = np.empty((n_moderators, max(1, n_markets_of.max())), np.int64)
    n_markets_of[:] = 0
    for market in range(n_markets):
        for slot in range(day.first[market], day.first[market + 1]):
            moderator = day.members[slot]
            markets_of[moderator, n_markets_of[moderator]] = market
            n_markets_of[moderator] += 1
    next_ad = 0
    for minute in range(day.horizon):
        while next_ad < n_ads and day.arrival[next_ad] == minute:
            market = day.market[next_ad]
            open_ads[offset[market] + n_open[market]] = next_ad
            n_open[market] += 1
            next_ad += 1
        earliest_starts(day, free_at, minute, starts)
        for moderator in range(n_moderators):
            if starts[moderator] != minute or minute >= day.shift_end[moderator]:
                continue
            best_ad, best_at, best_rate = -1, -1, 0.0
            for m in range(n_markets_of[moderator]):
                market = markets_of[moderator, m]
                for position in range(offset[market], offset[market] + n_open[market]):
                    ad = open_ads[position]
                    minutes = whole_minutes(day.pace[moderator, market] * day.work[ad])
                    end = minute + minutes
                    if end > day.shift_end[moderator]:
                        continue
                    if looked_at[ad] < 0 or minute - looked_at[ad] >= refresh:
                        looked_at[ad] = minute
                        best_other[ad], second_other[ad], best_other_is[ad] = _alternatives(
                            day, price, cumulated, bin_minutes, ad, minute + patience
                        )
                    rate = day.value[ad] * day.wait_cost
                    unserved = rate * (day.horizon - minute) + unserved_value * day.value[ad]
                    other = second_other[ad] if best_other_is[ad] == moderator else best_other[ad]
                    other = min(other + rate * (looked_at[ad] + patience - minute), unserved)
                    own = day.stake[ad] * day.error[moderator, market] + rate * minutes
                    own_price = price_until(cumulated, price, moderator, end, bin_minutes)
                    own_price -= price_until(cumulated, price, moderator, minute, bin_minutes)
                    gain = (other - own - hold * own_price) / minutes
                    if gain > best_rate or (best_ad < 0 and gain == 0.0):
                        best_ad, best_at, best_rate = ad, position, gain
            if best_ad >= 0:
                commit(day, schedule, free_at, starts, minute, best_ad, moderator)
                market = day.market[best_ad]
                n_open[market] -= 1
                # Keep the open ads of a market in order of arrival, so that ties go to the oldest.
                for position in range(best_at, offset[market] + n_open[market]):
                    open_ads[position] = open_ads[position + 1]
    return schedule


@njit(cache=True)
def _alternatives(day, price, cumulated, bin_minutes, ad, minute):  # type: ignore[no-untyped-def]
    """Cheapest and second cheapest cost of the ad from `minute` on, without the wait before it, and who is cheapest."""
    best, second, best_is = np.inf, np.inf, -1
    market = day.market[ad]
    rate = day.value[ad] * day.wait_cost
    for slot in range(day.first[market], day.first[market + 1]):
        moderator = day.members[slot]
        minutes = whole_minutes(day.pace[moderator, market] * day.work[ad])
        if minute + minutes > day.shift_end[moderator]:
            continue
        start = max(minute, day.shift_start[moderator])
        cost = day.stake[ad] * day.error[moderator, market] + rate * (start - minute + minutes)
        if cost >= second:
            continue
        cost += price_until(cumulated, price, moderator, start + minutes, bin_minutes)
        cost -= price_until(cumulated, price, moderator, start, bin_minutes)
        if cost < best:
            best, second, best_is = cost, best, moderator
        elif cost < second:
            second = cost
    return best, second, best_is
