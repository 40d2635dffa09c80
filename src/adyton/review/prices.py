"""Forecast prices of moderators' time: the dual of *other* days drawn from the same workbook, for the same roster.

One dual is solved for all forecast days, each step looking at the next of them (stochastic subgradients, averaged:
Nemirovski et al. 2009): the prices of a usual day, at the cost of one.

The policy knows who comes to work and what days usually look like; it never sees the day it is judged on. An uneven
day cannot be forecast (its profile is a random walk), so an even one stands in.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from adyton.kernel.chance import stream
from adyton.review.arrivals import Pattern
from adyton.review.bound import BIN_MINUTES, start_and_step, unserved_cost
from adyton.review.day import Day, DayArrays, DayConfig, draw_day, planned_minutes
from adyton.review.engine.dual import capacity, climb, evaluate
from adyton.review.tables import FloatArray

FORECAST_SEED = 20_230_910


@dataclass(frozen=True)
class Forecast:
    """How prices are forecast: `n_steps` steps of the dual that go round `n_days` drawn days.

    n_ads: most ads looked at in a step; of more, a sample, with as much less capacity.
    """

    n_days: int = 8
    n_steps: int = 200
    n_ads: int = 30_000


DEFAULT_FORECAST = Forecast()
_CACHE_SIZE = 64
_cache: OrderedDict[tuple[object, ...], FloatArray] = OrderedDict()


def forecast_prices(day: Day, unserved_value: float, forecast: Forecast = DEFAULT_FORECAST) -> FloatArray:
    """float64[M, B], price per minute of each moderator's time in bins of `BIN_MINUTES`; remembered by roster."""
    config = day.config
    pattern = Pattern.EVEN if config.pattern is Pattern.UNEVEN else config.pattern
    config = replace(config, pattern=pattern, handling_sigma=0.0)
    error = hash(day.arrays.error.tobytes())  # estimated accuracies have prices of their own
    key = (id(day.workbook), config, day.moderator_row.tobytes(), error, unserved_value, forecast)
    if key in _cache:
        _cache.move_to_end(key)
        return _cache[key]
    prices = usual_prices([draw_forecast(day, config, k) for k in range(forecast.n_days)], unserved_value, forecast)
    _cache[key] = prices
    while len(_cache) > _CACHE_SIZE:
        _cache.popitem(last=False)
    return prices


def usual_prices(days: list[DayArrays], unserved_value: float, forecast: Forecast) -> FloatArray:
    """float64[M, B], the mean of the last half of the steps; `days` have one roster."""
    samples = [_sample(day, forecast.n_ads, k) for k, day in enumerate(days)]
    price, step = start_and_step(days[0], unserved_value, BIN_MINUTES)
    room = capacity(days[0], price.shape[1], BIN_MINUTES)
    unserved = [unserved_cost(sample, unserved_value) for sample in samples]
    hints = [np.full(len(sample.arrival), -1, np.int64) for sample in samples]
    squares, used, total = np.full(price.shape, 1e-12), np.empty(price.shape), np.zeros(price.shape)
    n_first = forecast.n_steps // 2
    for k in range(forecast.n_steps):
        d = k % len(days)
        if k >= n_first:
            total += price
        evaluate(samples[d], unserved[d], price, BIN_MINUTES, hints[d], used)
        share = len(samples[d].arrival) / max(len(days[d].arrival), 1)
        climb(price, squares, used, share * room, BIN_MINUTES, step)
    return total / (forecast.n_steps - n_first)


def _sample(day: DayArrays, n_most: int, k: int) -> DayArrays:
    """The day with `n_most` of its ads, for the dual alone."""
    n_ads = len(day.arrival)
    if n_ads <= n_most:
        return day
    kept = np.sort(stream(FORECAST_SEED + k, "review", "forecast sample").choice(n_ads, n_most, replace=False))
    fields = ("arrival", "value", "stake", "work", "market", "effort", "ticket")
    ads: dict[str, Any] = {name: getattr(day, name)[kept] for name in fields}
    return day._replace(**ads)


def draw_forecast(day: Day, config: DayConfig, k: int) -> DayArrays:
    """The k-th forecast day: other ads, the same roster as planned (absence is not known beforehand)."""
    other = draw_day(day.workbook, config, seed=FORECAST_SEED + k)
    arrays = day.arrays
    return other.arrays._replace(
        pace=arrays.pace,
        error=arrays.error,
        shift_start=arrays.shift_start,
        shift_end=arrays.shift_start + planned_minutes(day.workbook, config, day.moderator_row),
        break_start=arrays.break_start,
        break_end=arrays.break_end,
        first=arrays.first,
        members=arrays.members,
    )
