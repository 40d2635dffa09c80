"""Forecast prices of moderators' time: the dual of *other* days drawn from the same workbook, for the same roster.

One dual is solved over the ads of all forecast days, each with its own capacity but at the same prices: the prices of
an average day, where the mean of each day's own prices would also hold each day's accidents.
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
from adyton.review.bound import dual_prices
from adyton.review.day import Day, DayArrays, DayConfig, draw_day
from adyton.review.tables import FloatArray

FORECAST_SEED = 20_230_910


@dataclass(frozen=True)
class Forecast:
    """How prices are forecast: over `n_days` drawn days, `n_steps` steps of the dual.

    n_ads: most ads looked at; of more, a sample, and as much less capacity.
    """

    n_days: int = 4
    n_steps: int = 150
    n_ads: int = 90_000


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
    n_days = max(1, min(forecast.n_days, forecast.n_ads // max(day.n_ads, 1)))
    ads, share = _together([draw_forecast(day, config, k) for k in range(n_days)], forecast.n_ads)
    _, prices = dual_prices(ads, unserved_value, n_steps=forecast.n_steps, n_days=n_days * share)
    _cache[key] = prices
    while len(_cache) > _CACHE_SIZE:
        _cache.popitem(last=False)
    return prices


def _together(days: list[DayArrays], n_most: int) -> tuple[DayArrays, float]:
    """The ads of all days with the roster of the first, for the dual alone, and the share of them that was kept."""
    fields = ("arrival", "value", "stake", "work", "market", "effort", "ticket")
    ads: dict[str, Any] = {name: np.concatenate([getattr(day, name) for day in days]) for name in fields}
    n_ads = len(ads["arrival"])
    if n_ads <= n_most:
        return days[0]._replace(**ads), 1.0
    kept = stream(FORECAST_SEED, "review", "forecast sample").choice(n_ads, n_most, replace=False)
    return days[0]._replace(**{name: column[kept] for name, column in ads.items()}), n_most / n_ads


def draw_forecast(day: Day, config: DayConfig, k: int) -> DayArrays:
    """The k-th forecast day: other ads, the same roster as planned (absence is not known beforehand)."""
    other = draw_day(day.workbook, config, seed=FORECAST_SEED + k)
    arrays = day.arrays
    return other.arrays._replace(
        pace=arrays.pace,
        error=arrays.error,
        shift_start=arrays.shift_start,
        shift_end=arrays.shift_end,
        break_start=arrays.break_start,
        break_end=arrays.break_end,
        first=arrays.first,
        members=arrays.members,
    )
