"""When ads arrive: a minute for each ad, by one of three patterns or from a file (spec/review §1.1).

Every pattern fills the day [0, horizon): a minute without any arrival is normal, and the first minute is not special.
"""

from __future__ import annotations

from enum import Enum

import numpy as np

from adyton.review.errors import DayConfigError
from adyton.review.tables import FloatArray, IntArray

MINUTES_PER_DAY = 1440
ADS_PER_DAY = 15_000
"""Ads of one day at volume 1."""


class Pattern(Enum):
    """How arrivals spread over the day."""

    EVEN = "even"
    """Per minute a normal number around the mean, cut to whole ads as in the source (about 5 % fewer than asked)."""
    UNEVEN = "uneven"
    """Per minute in proportion to the absolute value of a random walk with drift."""
    PEAK = "peak"
    """Per minute by the hourly profile of the workbook's `start_time`, sharpened."""


PEAK_SHARPNESS = 2.0
"""Exponent on the hourly profile; 1 is the profile itself."""


def arrivals_per_minute(
    pattern: Pattern, n_ads: int, rng: np.random.Generator, start_hour: FloatArray, horizon: int = MINUTES_PER_DAY
) -> IntArray:
    """How many ads arrive in each minute, int64[horizon], about `n_ads` in all.

    start_hour: hours 0-23 of the workbook's ads, NaN allowed; only PEAK looks at them.
    """
    if n_ads < 1:
        raise DayConfigError(f"a day needs at least one ad, got {n_ads}")
    if pattern is Pattern.EVEN:
        mean = n_ads / horizon
        drawn = np.maximum(rng.normal(mean, mean / 5, horizon), 0)
        # Cutting costs half an ad a minute: 5 % at volume 1, but most of the day when few ads are asked for.
        return drawn.astype(np.int64) if mean >= 3 else _whole(drawn, n_ads)
    if pattern is Pattern.UNEVEN:
        walk = np.abs(np.cumsum(rng.normal(_walk_drift(rng), 1.0, horizon)))
        return _whole(walk, n_ads)
    return rng.multinomial(n_ads, _peak_share(start_hour, horizon)).astype(np.int64)


def _walk_drift(rng: np.random.Generator) -> float:
    """A drift small against the walk's own spread over a day, either way."""
    return float(rng.normal(0.0, 0.02))


def _whole(weights: FloatArray, n_ads: int) -> IntArray:
    """Whole numbers in proportion to `weights` that add up to `n_ads`: cumulated, then rounded."""
    cumulated = np.cumsum(weights) * (n_ads / np.sum(weights))
    return np.diff(np.rint(cumulated), prepend=0.0).astype(np.int64)


def _peak_share(start_hour: FloatArray, horizon: int) -> FloatArray:
    hours = start_hour[~np.isnan(start_hour)].astype(np.int64)
    if not len(hours):
        raise DayConfigError("pattern 'peak' needs start times", hint="give the ads a start_time column, or use 'even'")
    hourly = np.bincount(hours, minlength=24).astype(np.float64) ** PEAK_SHARPNESS
    minute = np.arange(horizon) % MINUTES_PER_DAY
    share = np.interp(minute, np.arange(24) * 60 + 30, hourly, period=MINUTES_PER_DAY)
    return np.asarray(share / np.sum(share))
