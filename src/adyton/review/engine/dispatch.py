"""Index rules: whenever an eligible moderator is idle, an ad is begun (spec/review §2.4, step 1).

`run_ranked` looks at ads in a fixed order, `run_gcmu` at moderators; neither weighs what a moderator's time is worth.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from adyton.review.day import DayArrays
from adyton.review.engine.moves import (
    Schedule,
    can_begin,
    commit,
    earliest_starts,
    empty_schedule,
    merge_arrivals,
    whole_minutes,
)
from adyton.review.tables import FloatArray


@njit(cache=True)
def run_ranked(day: DayArrays, key: FloatArray) -> Schedule:
    """Open ads by `key` (float64[A], smallest first), each to the eligible moderator who has been idle longest."""
    n_ads, n_moderators = len(day.arrival), len(day.shift_start)
    schedule = empty_schedule(n_ads)
    free_at, starts = np.zeros(n_moderators, np.int64), np.zeros(n_moderators, np.int64)
    able = np.zeros(len(day.first) - 1, np.int64)
    rank = np.empty(n_ads, np.int64)
    rank[np.argsort(key, kind="mergesort")] = np.arange(n_ads)
    open_ads = np.empty(n_ads, np.int64)
    n_open, next_ad = 0, 0
    for minute in range(day.horizon):
        end_ad = next_ad
        while end_ad < n_ads and day.arrival[end_ad] == minute:
            end_ad += 1
        n_open = merge_arrivals(open_ads, n_open, next_ad, end_ad, rank)
        next_ad, n_left = end_ad, 0
        earliest_starts(day, free_at, minute, starts)
        can_begin(day, starts, minute, able)
        for position in range(n_open):
            ad = open_ads[position]
            market, best = day.market[ad], -1
            if able[market]:
                for slot in range(day.first[market], day.first[market + 1]):
                    moderator = day.members[slot]
                    if starts[moderator] != minute or (best >= 0 and free_at[moderator] >= free_at[best]):
                        continue
                    minutes = whole_minutes(day.pace[moderator, market] * day.work[ad])
                    if minute + minutes <= day.shift_end[moderator]:
                        best = moderator
            if best >= 0:
                commit(day, schedule, free_at, starts, minute, ad, best)
            else:
                open_ads[n_left] = ad
                n_left += 1
        n_open = n_left
    return schedule


@njit(cache=True)
def run_gcmu(day: DayArrays) -> Schedule:
    """Each idle moderator in turn takes the open ad with the largest cost of delay per minute of its own time."""
    n_ads, n_moderators = len(day.arrival), len(day.shift_start)
    schedule = empty_schedule(n_ads)
    free_at, starts = np.zeros(n_moderators, np.int64), np.zeros(n_moderators, np.int64)
    n_markets = len(day.first) - 1
    is_member = np.zeros((n_moderators, n_markets), np.bool_)
    for market in range(n_markets):
        for slot in range(day.first[market], day.first[market + 1]):
            is_member[day.members[slot], market] = True
    open_ads = np.empty(n_ads, np.int64)
    n_open, next_ad = 0, 0
    for minute in range(day.horizon):
        while next_ad < n_ads and day.arrival[next_ad] == minute:
            open_ads[n_open] = next_ad
            n_open += 1
            next_ad += 1
        earliest_starts(day, free_at, minute, starts)
        for moderator in range(n_moderators):
            if starts[moderator] != minute or minute >= day.shift_end[moderator]:
                continue
            best, best_rate = -1, -1.0
            for position in range(n_open):
                ad = open_ads[position]
                market = day.market[ad]
                if not is_member[moderator, market]:
                    continue
                minutes = whole_minutes(day.pace[moderator, market] * day.work[ad])
                rate = day.value[ad] / minutes
                if rate > best_rate and minute + minutes <= day.shift_end[moderator]:
                    best, best_rate = position, rate
            if best >= 0:
                commit(day, schedule, free_at, starts, minute, open_ads[best], moderator)
                n_open -= 1
                for position in range(best, n_open):
                    open_ads[position] = open_ads[position + 1]
    return schedule
