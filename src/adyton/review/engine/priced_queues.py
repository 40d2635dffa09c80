"""Priced virtual queues: every open ad waits in the plan of the moderator where it costs least.

Marginal cost of ad i in the queue of j = cost of wrong verdicts + wait behind what is ahead + delay that i causes to
the ads behind + price of j's time. More valuable ads will still come and go ahead, so a planned minute of wait counts
as 1 + `overtaking` minutes. Queues are in order of value per minute, the order that minimises weighted waiting
on one moderator (Smith 1956). Only the ad at the head of an idle moderator's queue is committed; all others stay free
to move, and are planned anew every `replan` minutes (spec/review §2.3, "priced queues"). What found no place and has
waited long is looked at in one plan of `PLANS_PER_OLD_LOOK`, or else the plans of a month would look at nothing else.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from adyton.review.day import DayArrays
from adyton.review.engine.dual import price_until
from adyton.review.engine.moves import (
    Schedule,
    commit,
    earliest_starts,
    empty_schedule,
    merge_arrivals,
    whole_minutes,
)
from adyton.review.engine.priced_pull import cumulate
from adyton.review.tables import FloatArray, IntArray

PLANS_PER_OLD_LOOK = 12


@njit(cache=True)
def run_priced_queues(
    day: DayArrays,
    rank: IntArray,
    price: FloatArray,
    bin_minutes: int,
    replan: int,
    unserved_value: float,
    max_queue: int,
    overtaking: float,
    old_after: int,
) -> Schedule:
    """The schedule of one day.

    rank: see `value_rank`.   price: float64[M, B].   replan: minutes between two complete plans, >= 1; between them new
    ads are inserted.
    unserved_value: share of the value that is lost when an ad is not reviewed, on top of its wait (1: A2, 0: A1).
    max_queue: longest virtual queue; an ad that finds all full waits outside.
    overtaking: minutes that ads still to come are thought to add to each minute of planned wait, >= 0.
    old_after: minutes after which an ad that found no place is looked at seldom.
    """
    n_ads, n_moderators = len(day.arrival), len(day.shift_start)
    schedule = empty_schedule(n_ads)
    free_at, starts = np.zeros(n_moderators, np.int64), np.zeros(n_moderators, np.int64)
    cumulated = cumulate(price, bin_minutes)
    open_ads = np.empty(n_ads, np.int64)
    queue = np.empty((n_moderators, max_queue), np.int64)
    length = np.zeros(n_moderators, np.int64)
    is_left_out = np.zeros(n_ads, np.bool_)
    n_open, next_ad = 0, 0
    for minute in range(day.horizon):
        end_ad = next_ad
        while end_ad < n_ads and day.arrival[end_ad] == minute:
            end_ad += 1
        earliest_starts(day, free_at, minute, starts)
        n_open = plan(
            day,
            schedule,
            rank,
            cumulated,
            price,
            bin_minutes,
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
def plan(  # type: ignore[no-untyped-def]
    day,
    schedule,
    rank,
    cumulated,
    price,
    bin_minutes,
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
):
    """Take in the ads next_ad..end_ad-1 and plan; gives the new number of open ads.

    Every `replan` minutes all queues are emptied and all open ads inserted anew, but for old ones whose turn it is not;
    in between the new ads alone are inserted.
    """
    is_anew = minute % replan == 0
    if is_anew:
        n_open = keep_open(schedule, open_ads, n_open)
    n_open = merge_arrivals(open_ads, n_open, next_ad, end_ad, rank)
    if not is_anew:
        for ad in range(next_ad, end_ad):
            insert(day, cumulated, price, bin_minutes, starts, queue, length, minute, ad, unserved_value, overtaking)
        return n_open
    length[:] = 0
    for ad in open_ads[:n_open]:
        is_old = is_left_out[ad] and minute - day.arrival[ad] >= old_after
        if is_old and (minute // replan + ad) % PLANS_PER_OLD_LOOK != 0:
            continue
        is_left_out[ad] = not insert(
            day, cumulated, price, bin_minutes, starts, queue, length, minute, ad, unserved_value, overtaking
        )
    return n_open


@njit(cache=True)
def keep_open(schedule, open_ads, n_open):  # type: ignore[no-untyped-def]
    """Drop the ads that were committed from open_ads[:n_open]; gives the new length."""
    n_left = 0
    for position in range(n_open):
        if schedule.moderator[open_ads[position]] < 0:
            open_ads[n_left] = open_ads[position]
            n_left += 1
    return n_left


@njit(cache=True)
def begin_heads(day, schedule, free_at, starts, queue, length, minute):  # type: ignore[no-untyped-def]
    """Commit, for each moderator who can begin now, the first ad of its queue that still fits the shift."""
    for moderator in range(len(length)):
        if length[moderator] == 0 or starts[moderator] != minute:
            continue
        for position in range(length[moderator]):
            ad = queue[moderator, position]
            minutes = whole_minutes(day.pace[moderator, day.market[ad]] * day.work[ad])
            if minute + minutes <= day.shift_end[moderator]:
                commit(day, schedule, free_at, starts, minute, ad, moderator)
                length[moderator] -= 1
                for behind in range(position, length[moderator]):
                    queue[moderator, behind] = queue[moderator, behind + 1]
                break


@njit(cache=True)
def insert(day, cumulated, price, bin_minutes, starts, queue, length, minute, ad, unserved_value, overtaking):  # type: ignore[no-untyped-def]
    """Put the ad into the queue where it costs least; False, and left out, when not being reviewed is cheaper."""
    market, value = day.market[ad], day.value[ad]
    rate = value * day.wait_cost
    best = rate * (day.horizon - minute) + unserved_value * value
    best_moderator, best_position = -1, 0
    waiting = rate * (1 + overtaking)
    for slot in range(day.first[market], day.first[market + 1]):
        moderator = day.members[slot]
        if length[moderator] == queue.shape[1]:
            continue
        fixed = day.stake[ad] * day.error[moderator, market]
        if fixed >= best:
            continue
        minutes = whole_minutes(day.pace[moderator, market] * day.work[ad])
        start = starts[moderator]
        if start + minutes > day.shift_end[moderator]:
            continue
        fixed += rate * minutes
        if fixed + waiting * (start - minute) >= best:
            continue
        position = 0
        while position < length[moderator]:
            other = queue[moderator, position]
            other_minutes = whole_minutes(day.pace[moderator, day.market[other]] * day.work[other])
            # Smith's rule, multiplied out: stay behind whoever has more value per minute.
            if day.value[other] * minutes < value * other_minutes:
                break
            start += other_minutes
            position += 1
        end = start + minutes
        if end > day.shift_end[moderator]:
            continue
        cost = fixed + waiting * (start - minute)
        cost += price_until(cumulated, price, moderator, end, bin_minutes)
        cost -= price_until(cumulated, price, moderator, start, bin_minutes)
        if cost >= best:
            continue
        behind = 0.0
        for later in range(position, length[moderator]):
            behind += day.value[queue[moderator, later]]
        cost += behind * day.wait_cost * minutes
        if cost < best:
            best, best_moderator, best_position = cost, moderator, position
    if best_moderator >= 0:
        for position in range(length[best_moderator], best_position, -1):
            queue[best_moderator, position] = queue[best_moderator, position - 1]
        queue[best_moderator, best_position] = ad
        length[best_moderator] += 1
    return best_moderator >= 0
