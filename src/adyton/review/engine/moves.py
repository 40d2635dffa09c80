"""The rules of the simulated day that every compiled policy shares.

A day runs in rounds of one minute. In minute t: ads with arrival t appear; the policy commits ads to moderators;
every committed task runs to its end without interruption. A policy may commit a task only where it is expected to end
by the end of the shift. State is one number for each moderator, `free_at`: the first minute with nothing left to do.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from adyton.review.day import DayArrays
from adyton.review.tables import IntArray


class Schedule(NamedTuple):
    """Who does what when; int64[A] each, −1 for an ad that nobody took.

    committed: the minute of the decision.   start, done: first minute of work and the minute after the last.
    """

    moderator: IntArray
    committed: IntArray
    start: IntArray
    done: IntArray


@njit(cache=True)
def empty_schedule(n_ads: int) -> Schedule:
    """Nothing done yet."""
    return Schedule(
        np.full(n_ads, -1, np.int64),
        np.full(n_ads, -1, np.int64),
        np.full(n_ads, -1, np.int64),
        np.full(n_ads, -1, np.int64),
    )


@njit(cache=True)
def whole_minutes(minutes: float) -> int:
    """The whole minutes that a task occupies, at least 1."""
    return max(1, math.ceil(minutes - 1e-9))


@njit(cache=True)
def earliest_starts(day: DayArrays, free_at: IntArray, minute: int, starts: IntArray) -> None:
    """Fill `starts`, int64[M]: the first minute, from `minute` on, in which each moderator can begin another task."""
    for moderator in range(len(free_at)):
        start = max(minute, free_at[moderator], day.shift_start[moderator])
        if day.break_start[moderator] <= start < day.break_end[moderator]:
            start = day.break_end[moderator]
        starts[moderator] = start


@njit(cache=True)
def commit(
    day: DayArrays, schedule: Schedule, free_at: IntArray, starts: IntArray, minute: int, ad: int, moderator: int
) -> None:
    """Give the ad to the moderator, behind what is already committed there; `free_at` and `starts` follow."""
    start = starts[moderator]
    work = day.work[ad] * day.effort[ad]
    done = start + whole_minutes(day.pace[moderator, day.market[ad]] * work)
    schedule.moderator[ad] = moderator
    schedule.committed[ad] = minute
    schedule.start[ad] = start
    schedule.done[ad] = done
    free_at[moderator] = done
    starts[moderator] = (
        day.break_end[moderator] if day.break_start[moderator] <= done < day.break_end[moderator] else done
    )


@njit(cache=True)
def can_begin(day: DayArrays, starts: IntArray, minute: int, able: IntArray) -> None:
    """Fill `able`, int64[K]: whether any moderator of each market could begin a task in this minute."""
    for market in range(len(day.first) - 1):
        able[market] = 0
        for slot in range(day.first[market], day.first[market + 1]):
            moderator = day.members[slot]
            if starts[moderator] == minute and minute < day.shift_end[moderator]:
                able[market] = 1
                break


def value_rank(day: DayArrays) -> IntArray:
    """Place of each ad by value, int64[A], 0 the largest; equal values in order of arrival.

    Not compiled: numba takes seconds to compile a stable sort.
    """
    rank = np.empty(len(day.value), dtype=np.int64)
    rank[np.argsort(-day.value, kind="stable")] = np.arange(len(day.value))
    return rank


@njit(cache=True)
def merge_arrivals(open_ads: IntArray, n_open: int, first_ad: int, end_ad: int, rank: IntArray) -> int:
    """Insert the ads first_ad..end_ad−1 into open_ads[:n_open], which is ascending in `rank`; gives the new length."""
    n_new = end_ad - first_ad
    new = np.empty(n_new, np.int64)
    for ad in range(first_ad, end_ad):
        position = ad - first_ad
        while position > 0 and rank[new[position - 1]] > rank[ad]:
            new[position] = new[position - 1]
            position -= 1
        new[position] = ad
    old = n_open - 1
    for position in range(n_new - 1, -1, -1):
        while old >= 0 and rank[open_ads[old]] > rank[new[position]]:
            open_ads[old + position + 1] = open_ads[old]
            old -= 1
        open_ads[old + position + 1] = new[position]
    return n_open + n_new
