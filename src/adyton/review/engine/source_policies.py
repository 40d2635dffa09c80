"""The four policies of the source document under honest accounting (spec/review §1.1, faults of §1.5 left out).

Each gives back the schedule of one day. Minutes are whole; `score` is expected profit per minute.
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
from adyton.review.tables import IntArray


@njit(cache=True)
def run_random(day: DayArrays) -> Schedule:
    """In random order, each open ad to a random one of the eligible idle moderators with room."""
    n_ads, n_moderators = len(day.arrival), len(day.shift_start)
    schedule = empty_schedule(n_ads)
    free_at, starts = np.zeros(n_moderators, np.int64), np.zeros(n_moderators, np.int64)
    able, fits = np.zeros(len(day.first) - 1, np.int64), np.empty(n_moderators, np.int64)
    rank = np.empty(n_ads, np.int64)
    rank[np.argsort(day.ticket[:, 0], kind="mergesort")] = np.arange(n_ads)
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
            market, n_able, work = day.market[ad], 0, day.work[ad]
            if able[market]:
                for slot in range(day.first[market], day.first[market + 1]):
                    moderator = day.members[slot]
                    minutes = whole_minutes(day.pace[moderator, market] * work)
                    if starts[moderator] == minute and minute + minutes <= day.shift_end[moderator]:
                        fits[n_able] = moderator
                        n_able += 1
            if n_able == 0:
                open_ads[n_left] = ad
                n_left += 1
                continue
            commit(day, schedule, free_at, starts, minute, ad, fits[int(day.ticket[ad, 1] * n_able)])
        n_open = n_left
    return schedule


@njit(cache=True)
def run_greedy_idle(day: DayArrays, rank: IntArray) -> Schedule:
    """Open ads by value, each to the idle eligible moderator with room whose score is best; the others wait."""
    n_ads, n_moderators = len(day.arrival), len(day.shift_start)
    schedule = empty_schedule(n_ads)
    free_at, starts = np.zeros(n_moderators, np.int64), np.zeros(n_moderators, np.int64)
    able = np.zeros(len(day.first) - 1, np.int64)
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
            market, best, best_score = day.market[ad], -1, -np.inf
            if not able[market]:
                open_ads[n_left] = ad
                n_left += 1
                continue
            for slot in range(day.first[market], day.first[market + 1]):
                moderator = day.members[slot]
                if starts[moderator] != minute:
                    continue
                minutes = whole_minutes(day.pace[moderator, market] * day.work[ad])
                if minute + minutes > day.shift_end[moderator]:
                    continue
                score = (day.value[ad] - day.stake[ad] * day.error[moderator, market]) / minutes
                if score > best_score:
                    best, best_score = moderator, score
            if best >= 0:
                commit(day, schedule, free_at, starts, minute, ad, best)
            else:
                open_ads[n_left] = ad
                n_left += 1
        n_open = n_left
    return schedule


@njit(cache=True)
def run_greedy(day: DayArrays, rank: IntArray, looks_ahead: bool) -> Schedule:
    """Ads by value, each to the moderator of best profit / (duration + work queued there); no room anywhere: dropped.

    looks_ahead False (`greedy`): the choice is final at once, idle or not. True (`greedy_farseeing`): it is final only
    when the chosen moderator is idle; otherwise it reserves that moderator's time for this minute and is planned anew.
    """
    n_ads, n_moderators = len(day.arrival), len(day.shift_start)
    schedule = empty_schedule(n_ads)
    free_at, starts = np.zeros(n_moderators, np.int64), np.zeros(n_moderators, np.int64)
    planned_until = np.zeros(n_moderators, np.int64)
    open_ads = np.empty(n_ads, np.int64)
    n_open, next_ad = 0, 0
    for minute in range(day.horizon):
        end_ad = next_ad
        while end_ad < n_ads and day.arrival[end_ad] == minute:
            end_ad += 1
        n_open = merge_arrivals(open_ads, n_open, next_ad, end_ad, rank)
        next_ad, n_left = end_ad, 0
        earliest_starts(day, free_at, minute, starts)
        planned_until[:] = starts
        for position in range(n_open):
            ad = open_ads[position]
            market, best, best_score, best_minutes = day.market[ad], -1, -np.inf, 0
            value, stake, work = day.value[ad], day.stake[ad], day.work[ad]
            for slot in range(day.first[market], day.first[market + 1]):
                moderator = day.members[slot]
                until = planned_until[moderator]
                minutes = whole_minutes(day.pace[moderator, market] * work)
                if until + minutes > day.shift_end[moderator]:
                    continue
                score = (value - stake * day.error[moderator, market]) / (minutes + until - minute)
                if score > best_score:
                    best, best_score, best_minutes = moderator, score, minutes
            if best < 0:
                continue
            if not looks_ahead or planned_until[best] == minute:
                commit(day, schedule, free_at, starts, minute, ad, best)
                planned_until[best] = starts[best]
            else:
                planned_until[best] += best_minutes
                open_ads[n_left] = ad
                n_left += 1
        n_open = n_left
    return schedule
