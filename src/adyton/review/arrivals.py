"""When ads arrive: a minute for each ad, by one of three patterns or from a file (spec/review §1.1).

Every pattern fills the day [0, horizon): a minute without any arrival is normal, and the first minute is not special.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

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


@dataclass(frozen=True, eq=False)
class ArrivalStream:
    """Arrivals given instead of drawn. per_minute: int64[horizon].   ad_ids: of each arrival, in order of time, when
    the stream names its ads.
    """

    per_minute: IntArray
    ad_ids: tuple[str, ...] | None = None


def read_arrivals(path: Path, horizon: int = MINUTES_PER_DAY) -> ArrivalStream:
    """The stream of a CSV with the heading `minute`, and `ads` (how many) or `ad_id` (which one of the workbook).

    minute: whole number in [0, horizon), in any order.   ads: whole number >= 0, several rows of one minute add up; 1
    when there is neither column, so that a list of arrival minutes works too.
    Raises DayConfigError for a file that cannot be read or a row that is not like this, naming the row.
    """
    per_minute = np.zeros(horizon, dtype=np.int64)
    named: list[tuple[int, str]] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            headings = set(reader.fieldnames or ())
            if "minute" not in headings or {"ads", "ad_id"} <= headings:
                raise DayConfigError(
                    "the arrivals need a column 'minute', and one of 'ads' and 'ad_id' at most", where=str(path)
                )
            for row in reader:
                minute, n_ads = _whole_number(row["minute"]), _whole_number(row.get("ads", "1"))
                ad_id = (row.get("ad_id") or "").strip()
                if minute is None or n_ads is None or minute >= horizon or ("ad_id" in headings and not ad_id):
                    raise DayConfigError(
                        f"minute must be a whole number below {horizon}, ads one that is not negative, ad_id not empty",
                        where=f"{path} line {reader.line_num}",
                    )
                per_minute[minute] += n_ads
                named.append((minute, ad_id))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DayConfigError("the arrivals cannot be read", where=str(path)) from error
    if not np.any(per_minute):
        raise DayConfigError("no ad arrives", where=str(path))
    in_time = tuple(ad_id for _, ad_id in sorted(named, key=lambda pair: pair[0]))
    return ArrivalStream(per_minute, in_time if "ad_id" in headings else None)


def _whole_number(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
