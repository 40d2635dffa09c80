"""Prices of moderators' time: the dual of the time-indexed assignment problem (spec/review §2.2, made time-dependent).

Axes: M moderators, B bins of equal length that cover the day. price: float64[M, B] >= 0, cost of one minute of a
moderator's time in a bin. For any such prices

    bound(price) = sum over ads of min(unserved, min over moderator j and start t of
                       stake·error + wait cost of (t + minutes − arrival) + price of [t, t + minutes))
                 − sum over moderators and bins of price · capacity

is at most the loss of every schedule: a schedule pays the first line without the prices, and uses no more than the
capacity. There is no queueing in it and the future is known, so it is a bound, not a target. Prices are piecewise
constant, so the best start is the earliest one, or one that puts the beginning or the end of the task on a bin's edge.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from adyton.review.day import DayArrays
from adyton.review.tables import FloatArray


@njit(cache=True, nogil=True)
def capacity(day: DayArrays, n_bins: int, bin_minutes: int) -> FloatArray:
    """Minutes of each shift in each bin, float64[M, B]."""
    minutes = np.zeros((len(day.shift_start), n_bins))
    for moderator in range(len(day.shift_start)):
        for b in range(n_bins):
            low = max(b * bin_minutes, day.shift_start[moderator])
            high = min((b + 1) * bin_minutes, day.shift_end[moderator])
            minutes[moderator, b] = max(high - low, 0)
    return minutes


@njit(cache=True, nogil=True)
def price_until(cumulated, price, moderator, minute, bin_minutes):  # type: ignore[no-untyped-def]
    """Price of the moderator's time from minute 0 to `minute`."""
    b = min(int(minute // bin_minutes), price.shape[1] - 1)
    return cumulated[moderator, b] + price[moderator, b] * (minute - b * bin_minutes)


@njit(cache=True, nogil=True)
def evaluate(
    day: DayArrays, unserved: FloatArray, price: FloatArray, bin_minutes: int, hint: np.ndarray, used: FloatArray
) -> float:
    """The bound at `price`, and in `used` (float64[M, B], overwritten) the minutes that its minimiser takes.

    hint: int64[A], the moderator to try first for each ad, −1 for none; overwritten with the minimiser.
    """
    n_moderators, n_bins = price.shape
    cumulated = np.zeros((n_moderators, n_bins + 1))
    cheapest = np.empty((n_moderators, n_bins))
    for moderator in range(n_moderators):
        low = np.inf
        for b in range(n_bins):
            cumulated[moderator, b + 1] = cumulated[moderator, b] + price[moderator, b] * bin_minutes
            low = min(low, price[moderator, n_bins - 1 - b])
            cheapest[moderator, n_bins - 1 - b] = low
    used[:] = 0.0
    is_exact = True
    for ad in range(len(day.arrival)):
        if day.effort[ad] != 1.0:
            is_exact = False
            break
    total = 0.0
    for ad in range(len(day.arrival)):
        market = day.market[ad]
        first, n_members = day.first[market], day.first[market + 1] - day.first[market]
        best, best_moderator, best_start, best_minutes = unserved[ad], -1, 0, 0
        rate = day.value[ad] * day.wait_cost
        arrival = day.arrival[ad]
        work = day.work[ad] * day.effort[ad]
        for slot in range(-1, n_members):
            moderator = hint[ad] if slot < 0 else day.members[first + slot]
            if moderator < 0 or (slot >= 0 and moderator == hint[ad]):
                continue
            fixed = day.stake[ad] * day.error[moderator, market]
            if fixed >= best:
                continue
            minutes = max(1, math.ceil(day.pace[moderator, market] * work - 1e-9))
            # A task that takes longer than expected may end after the shift, but it begins within it.
            last = day.shift_end[moderator] - (minutes if is_exact else 1)
            start = max(arrival, day.shift_start[moderator])
            if start > last:
                continue
            fixed += rate * (minutes - arrival)
            b = start // bin_minutes
            edge = (b + 1) * bin_minutes
            back = ((start + minutes) // bin_minutes + 1) * bin_minutes - minutes
            while start <= last:
                cost = fixed + rate * start
                # No later start is cheaper: prices from here on are at least `cheapest`, which only rises.
                paid_minutes = min(minutes, day.shift_end[moderator] - start)
                if cost + cheapest[moderator, start // bin_minutes] * paid_minutes >= best:
                    break
                # Overtime is free: minutes after the shift are nobody's capacity.
                end = min(start + minutes, day.shift_end[moderator])
                cost += price_until(cumulated, price, moderator, end, bin_minutes)
                cost -= price_until(cumulated, price, moderator, start, bin_minutes)
                if cost < best:
                    best, best_moderator, best_start, best_minutes = cost, moderator, start, minutes
                if edge <= back:
                    start = edge
                    edge += bin_minutes
                    if start == back:
                        back += bin_minutes
                else:
                    start = back
                    back += bin_minutes
        total += best
        hint[ad] = best_moderator
        if best_moderator >= 0:
            end = min(best_start + best_minutes, day.shift_end[best_moderator])
            b = best_start // bin_minutes
            while b < n_bins and b * bin_minutes < end:
                low, high = max(best_start, b * bin_minutes), min(end, (b + 1) * bin_minutes)
                used[best_moderator, b] += high - low
                b += 1
    return total


@njit(cache=True, nogil=True)
def climb(
    price: FloatArray, squares: FloatArray, used: FloatArray, room: FloatArray, bin_minutes: int, step: float
) -> None:
    """Move `price` up where more minutes are used than there are, down where fewer; never below 0.

    squares: float64[M, B], sum of the squared slopes so far, updated: moves shrink as in AdaGrad (Duchi et al. 2011).
    step: size of the first move of a price, in loss per minute.
    """
    for moderator in range(price.shape[0]):
        for b in range(price.shape[1]):
            slope = (used[moderator, b] - room[moderator, b]) / bin_minutes
            squares[moderator, b] += slope * slope
            move = step * slope / math.sqrt(squares[moderator, b])
            price[moderator, b] = max(0.0, price[moderator, b] + move)


@njit(cache=True, nogil=True)
def ascend(
    day: DayArrays, unserved: FloatArray, start_price: FloatArray, bin_minutes: int, n_steps: int, step: float
) -> tuple[float, FloatArray, FloatArray]:
    """The best bound found in `n_steps` projected steps, its prices, and the mean price of the last half of the steps.

    step: see `climb`.
    """
    n_moderators, n_bins = start_price.shape
    room = capacity(day, n_bins, bin_minutes)
    price = start_price.copy()
    best_price, mean_price = price.copy(), np.zeros_like(price)
    squares = np.full(price.shape, 1e-12)
    used = np.empty(price.shape)
    hint = np.full(len(day.arrival), -1, np.int64)
    best, n_mean = -np.inf, 0
    for k in range(n_steps):
        bound = evaluate(day, unserved, price, bin_minutes, hint, used)
        for moderator in range(n_moderators):
            for b in range(n_bins):
                bound -= price[moderator, b] * room[moderator, b]
        if bound > best:
            best = bound
            best_price[:] = price
        if 2 * k >= n_steps:
            n_mean += 1
            mean_price += price
        climb(price, squares, used, room, bin_minutes, step)
    if n_mean:
        mean_price /= n_mean
    return best, best_price, mean_price
