"""The clairvoyant lower bound of a day: no allocator can lose less (spec/review §2.2; see `engine.dual`)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from adyton.review.day import Day, DayArrays
from adyton.review.engine.dual import ascend
from adyton.review.tables import FloatArray

BIN_MINUTES = 60
FINE_BIN_MINUTES = 10
_FINE_STEP = 0.2
"""First step of the refinement, as a share of the first step by the hour."""


@dataclass(frozen=True)
class Bound:
    """Lower bounds of the losses A1 and A2 of one day, in the revenue unit."""

    a1: float
    a2: float


def lower_bound(day: Day, *, n_steps: int = 300) -> Bound:
    """Valid for any `n_steps` >= 1; more steps give a tighter bound (300: about 6 s for a day at volume 1).

    Three quarters of the steps look for prices by the hour, the rest refines them in bins of `FINE_BIN_MINUTES`.
    """

    def best(unserved_value: float) -> float:
        return _refined_bound(day.arrays, unserved_value, n_steps)

    # The compiled ascent lets go of the interpreter's lock, so two threads use two cores.
    with ThreadPoolExecutor(2) as pool:
        a1, a2 = pool.map(best, (0.0, 1.0))
    return Bound(a1=max(a1, 0.0), a2=max(a2, 0.0))


def _refined_bound(arrays: DayArrays, unserved_value: float, n_steps: int) -> float:
    n_fine = n_steps // 4
    start, step = start_and_step(arrays, unserved_value, BIN_MINUTES)
    unserved = unserved_cost(arrays, unserved_value)
    bound, price, _ = ascend(arrays, unserved, start, BIN_MINUTES, n_steps - n_fine, step)
    if not n_fine:
        return bound
    n_bins = -(-arrays.horizon // FINE_BIN_MINUTES)
    start = np.repeat(price, BIN_MINUTES // FINE_BIN_MINUTES, axis=1)[:, :n_bins]
    fine, _, _ = ascend(arrays, unserved, start, FINE_BIN_MINUTES, n_fine, _FINE_STEP * step)
    return max(bound, fine)


def unserved_cost(arrays: DayArrays, unserved_value: float) -> FloatArray:
    """Loss of each ad that nobody reviews: its wait to the horizon, plus `unserved_value` times its value."""
    wait = arrays.wait_cost * (arrays.horizon - arrays.arrival)
    return np.asarray(arrays.value * (wait + unserved_value))


def dual_prices(
    arrays: DayArrays, unserved_value: float, *, n_steps: int, bin_minutes: int = BIN_MINUTES
) -> tuple[float, FloatArray]:
    """(best bound found, float64[M, B] mean prices of the last steps); unserved_value: 0 for A1, 1 for A2."""
    start, step = start_and_step(arrays, unserved_value, bin_minutes)
    bound, _, mean = ascend(arrays, unserved_cost(arrays, unserved_value), start, bin_minutes, n_steps, step)
    return bound, mean


def start_and_step(arrays: DayArrays, unserved_value: float, bin_minutes: int) -> tuple[FloatArray, float]:
    """Prices to begin with, float64[M, B], and the first step of `engine.dual.climb`."""
    level, step = (share * _value_density(arrays) for share in _START_AND_STEP[unserved_value > 0])
    return np.full((len(arrays.shift_start), -(-arrays.horizon // bin_minutes)), level), step


_START_AND_STEP = {False: (0.1, 0.4), True: (0.5, 1.0)}
"""First price and first step as shares of the value density; by whether leaving an ad unserved costs its value."""


def _value_density(arrays: DayArrays) -> float:
    """A typical price of a minute: median value over median handling time of the day."""
    if not len(arrays.value):
        return 1.0
    minutes = float(np.median(arrays.pace)) * float(np.median(arrays.work))
    return float(max(np.median(arrays.value), 1e-6)) / minutes
