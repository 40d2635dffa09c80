"""The source document's simulation with its faults left in (spec/review §1.1, §1.5); for comparison only.

Axes: O ads of the pool, E arrivals (an ad of the pool may arrive several times), M moderators, T minutes. The faults,
each marked below: (1) a dropped ad counts as done; (2) an assignment that the moderator refuses is charged, and tried
again next minute; (3) the day ends when no ad is open; (4) an ad arrives again, is then reviewed again, and its loss is
counted once for each arrival; (5) a moderator is skipped for a minute when the one before it leaves.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from adyton.review.tables import FloatArray, IntArray

RANDOM, GREEDY_IDLE, GREEDY, GREEDY_FARSEEING = range(4)


class SourceArrays(NamedTuple):
    """value, stake, work: float64[O].   market: int64[O].   arrival_of: int64[T + 1] and arriving: int64[E], the ads of
    minute t are arriving[arrival_of[t]:arrival_of[t + 1]].   pace, error: float64[M, K].   limit: float64[M], minutes
    of the shift's clock, NaN is none.   first, members: as in `DayArrays`.   wait_cost: share of value per minute.
    """

    value: FloatArray
    stake: FloatArray
    work: FloatArray
    market: IntArray
    arrival_of: IntArray
    arriving: IntArray
    pace: FloatArray
    error: FloatArray
    limit: FloatArray
    first: IntArray
    members: IntArray
    wait_cost: float


class SourceTally(NamedTuple):
    """wait, inaccuracy: the two parts of the published loss.   n_refused: assignments refused, each charged.
    n_dropped: arrivals dropped.   n_minutes: minutes played.   clock, worked: float64[M].   done_at: int64[E], the
    minute after an arrival's review, −1 when it was not reviewed.
    """

    wait: float
    inaccuracy: float
    n_refused: int
    n_dropped: int
    n_minutes: int
    clock: FloatArray
    worked: FloatArray
    done_at: IntArray


@njit(cache=True)
def play_source_day(arrays: SourceArrays, policy: int) -> SourceTally:
    """The tally of one day under one of the four policies."""
    n_ads, n_arrivals, n_moderators = len(arrays.value), len(arrays.arriving), len(arrays.limit)
    n_minutes = len(arrays.arrival_of) - 1
    is_done, is_assigned = np.zeros(n_ads, np.bool_), np.zeros(n_ads, np.bool_)
    ad_loss = np.zeros(n_ads)
    clock, worked = np.zeros(n_moderators), np.zeros(n_moderators)
    queued = np.zeros(n_moderators)
    pretended = np.zeros(n_moderators)
    is_working, is_listed = np.ones(n_moderators, np.bool_), np.ones(n_moderators, np.bool_)
    listed, n_listed = np.arange(n_moderators), n_moderators
    head, tail = np.full(n_moderators, -1, np.int64), np.full(n_moderators, -1, np.int64)
    behind, left = np.full(n_arrivals, -1, np.int64), np.zeros(n_arrivals)
    done_at = np.full(n_arrivals, -1, np.int64)
    undone, unassigned = np.empty(n_arrivals, np.int64), np.empty(n_arrivals, np.int64)
    n_undone, n_unassigned, n_refused, n_dropped, n_played = 0, 0, 0, 0, 0
    inaccuracy = 0.0
    for minute in range(n_minutes):
        if n_listed == 0 or (minute > 0 and n_undone == 0):
            break  # (3)
        n_played += 1
        kept = 0
        for position in range(n_undone):
            arrival = undone[position]
            ad = arrays.arriving[arrival]
            if not is_done[ad]:
                ad_loss[ad] += arrays.value[ad] * arrays.wait_cost
                undone[kept] = arrival
                kept += 1
        n_undone, kept = kept, 0
        for position in range(n_unassigned):
            if not is_assigned[arrays.arriving[unassigned[position]]]:
                unassigned[kept] = unassigned[position]
                kept += 1
        n_unassigned = kept
        for arrival in range(arrays.arrival_of[minute], arrays.arrival_of[minute + 1]):
            undone[n_undone], unassigned[n_unassigned] = arrival, arrival  # (4)
            n_undone += 1
            n_unassigned += 1
        order = np.arange(n_unassigned)
        if policy != RANDOM:
            order = np.argsort(arrays.value[arrays.arriving[unassigned[:n_unassigned]]], kind="mergesort")
        pretended[:] = 0.0
        for position in range(n_unassigned):
            arrival = unassigned[order[n_unassigned - 1 - position]]
            ad = arrays.arriving[arrival]
            chosen, has_market = _choose(arrays, policy, ad, is_listed, is_working, head, clock, queued, pretended)
            if chosen < 0:
                if not has_market or policy in (GREEDY, GREEDY_FARSEEING):
                    is_assigned[ad] = is_done[ad] = True  # (1)
                    n_dropped += 1
                continue
            minutes = arrays.pace[chosen, arrays.market[ad]] * arrays.work[ad]
            if policy == GREEDY_FARSEEING and head[chosen] >= 0:
                pretended[chosen] += minutes
                continue
            inaccuracy += arrays.stake[ad] * arrays.error[chosen, arrays.market[ad]]
            if clock[chosen] + minutes > arrays.limit[chosen]:
                n_refused += 1  # (2)
                continue
            is_assigned[ad] = True
            if head[chosen] < 0:
                head[chosen] = arrival
            else:
                behind[tail[chosen]] = arrival
            tail[chosen], left[arrival] = arrival, minutes
            queued[chosen] += math.ceil(minutes)
            clock[chosen] += minutes
            worked[chosen] += minutes
        position = 0
        while position < n_listed:
            moderator = listed[position]
            if not is_working[moderator]:
                is_listed[moderator] = False
                n_listed -= 1
                for later in range(position, n_listed):
                    listed[later] = listed[later + 1]
                position += 1  # (5)
                continue
            position += 1
            if clock[moderator] > arrays.limit[moderator] and head[moderator] < 0:
                is_working[moderator] = False
            elif head[moderator] < 0:
                clock[moderator] += 1
            else:
                arrival = head[moderator]
                left[arrival] -= 1
                queued[moderator] -= 1
                if left[arrival] <= 0:
                    is_done[arrays.arriving[arrival]] = True
                    done_at[arrival] = minute + 1
                    head[moderator] = behind[arrival]
    wait = 0.0
    for arrival in range(arrays.arrival_of[n_played]):
        wait += ad_loss[arrays.arriving[arrival]]  # (4)
    return SourceTally(wait, inaccuracy, n_refused, n_dropped, n_played, clock, worked, done_at)


@njit(cache=True)
def _choose(arrays, policy, ad, is_listed, is_working, head, clock, queued, pretended):  # type: ignore[no-untyped-def]
    """(moderator or −1, whether any listed moderator reviews the ad's market)."""
    market = arrays.market[ad]
    has_market, chosen, best = False, -1, -np.inf
    for slot in range(arrays.first[market], arrays.first[market + 1]):
        moderator = arrays.members[slot]
        if not is_listed[moderator]:
            continue
        has_market = True
        is_idle = is_working[moderator] and head[moderator] < 0
        if policy == RANDOM:
            if is_idle:
                chosen = moderator
            continue
        minutes = arrays.pace[moderator, market] * arrays.work[ad]
        ahead = 0.0
        if policy == GREEDY_IDLE:
            if not is_idle:
                continue
        else:
            if clock[moderator] + minutes + pretended[moderator] > arrays.limit[moderator]:
                continue
            ahead = queued[moderator] + pretended[moderator]
        score = (arrays.value[ad] - arrays.stake[ad] * arrays.error[moderator, market]) / (minutes + ahead)
        if score > best:
            chosen, best = moderator, score
    return chosen, has_market
