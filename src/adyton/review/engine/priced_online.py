"""Prices learnt while the day runs, without a forecast: shadow routing (Stolyar & Tezcan 2010).

Every arriving ad is sent, in thought, to the moderator where it would cost least at the prices of this minute. That
moderator's price rises with the minutes taken and falls with the minutes that pass: the steps of a dual descent, one
for each arrival. Routing is then that of `priced_queues` at these prices.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from adyton.review.day import DayArrays
from adyton.review.engine.moves import (
    Schedule,
    earliest_starts,
    empty_schedule,
    whole_minutes,
)
from adyton.review.engine.priced_pull import cumulate
from adyton.review.engine.priced_queues import begin_heads, plan
from adyton.review.tables import IntArray


@njit(cache=True)
def run_priced_online(
    day: DayArrays,
    rank: IntArray,
    replan: int,
    unserved_value: float,
    max_queue: int,
    overtaking: float,
    old_after: int,
    memory: float,
) -> Schedule:
    """The schedule of one day.

    memory: minutes of one moderator's time that move its price by the mean value per minute of the ads seen so far.
    The other arguments are those of `run_priced_queues`.
    """
    n_ads, n_moderators = len(day.arrival), len(day.shift_start)
    schedule = empty_schedule(n_ads)
    free_at, starts = np.zeros(n_moderators, np.int64), np.zeros(n_moderators, np.int64)
    open_ads = np.empty(n_ads, np.int64)
    queue = np.empty((n_moderators, max_queue), np.int64)
    length = np.zeros(n_moderators, np.int64)
    price = np.zeros((n_moderators, 1))
    is_left_out = np.zeros(n_ads, np.bool_)
    n_open, next_ad, total_density = 0, 0, 0.0
    for minute in range(day.horizon):
        end_ad = next_ad
        while end_ad < n_ads and day.arrival[end_ad] == minute:
            total_density += _learn(day, price, end_ad, minute, unserved_value, total_density / max(end_ad, 1) / memory)
            end_ad += 1
        step = total_density / max(end_ad, 1) / memory
        for moderator in range(n_moderators):
            if day.shift_start[moderator] <= minute < day.shift_end[moderator]:
                price[moderator, 0] = max(0.0, price[moderator, 0] - step)
        cumulated = cumulate(price, day.horizon)
        earliest_starts(day, free_at, minute, starts)
        n_open = plan(
            day,
            schedule,
            rank,
            cumulated,
            price,
            day.horizon,
            starts,
            queue,
            length,
            open_ads,
            n_open,
            next_ad,
            end_ad,
            minute,
            replan,
            unserved_value,
            overtaking,
            is_left_out,
            old_after,
        )
        next_ad = end_ad
        begin_heads(day, schedule, free_at, starts, queue, length, minute)
    return schedule


@njit(cache=True)
def _learn(day, price, ad, minute, unserved_value, step):  # type: ignore[no-untyped-def]
    """Raise the price of the moderator where the ad would cost least; the ad's value per minute of work there."""
    market, value = day.market[ad], day.value[ad]
    best = value * (day.wait_cost * (day.horizon - minute) + unserved_value)
    best_moderator, best_minutes, fastest = -1, 0, day.horizon
    for slot in range(day.first[market], day.first[market + 1]):
        moderator = day.members[slot]
        minutes = whole_minutes(day.pace[moderator, market] * day.work[ad])
        start = max(minute, day.shift_start[moderator])
        if start + minutes > day.shift_end[moderator]:
            continue
        fastest = min(fastest, minutes)
        cost = day.stake[ad] * day.error[moderator, market] + price[moderator, 0] * minutes
        cost += value * day.wait_cost * (start - minute + minutes)
        if cost < best:
            best, best_moderator, best_minutes = cost, moderator, minutes
    if best_moderator >= 0:
        price[best_moderator, 0] += step * best_minutes
    return value / fastest
