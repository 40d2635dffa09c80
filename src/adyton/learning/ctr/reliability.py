"""Are the probabilities right? Clicks predicted against clicks seen, by quantile of the prediction, with intervals.

Impressions of one user are not independent, so that a bin of `n` rows tells less than `n` coins would. Its interval is
Wilson's at the effective number of rows: the rows that independent coins would need for the variance between users that
the bin shows.   Source: Wilson 1927; effective size as in Korn and Graubard 1998, method of Dean and Pagano 2015.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adyton.learning.errors import MetricError
from adyton.learning.metrics import ece, quantile_bins

_Z95 = 1.96


@dataclass(frozen=True)
class MeasuredBin:
    """Impressions with predictions from `lowest` to `highest`; low, high: 95 % interval of the click rate."""

    rows: int
    lowest: float
    highest: float
    mean_prediction: float
    click_rate: float
    low: float
    high: float

    @property
    def is_off(self) -> bool:
        """True when chance does not explain the distance between prediction and click rate."""
        return not self.low <= self.mean_prediction <= self.high

    def as_json(self) -> dict[str, float | int]:
        return {
            "rows": self.rows,
            "prediction": self.mean_prediction,
            "click_rate": self.click_rate,
            "low": self.low,
            "high": self.high,
        }


@dataclass(frozen=True)
class Reliability:
    """Bins in order of prediction, and the expected calibration error over the same bins."""

    bins: tuple[MeasuredBin, ...]
    ece: float


def measured_reliability(
    labels: ArrayLike, probabilities: ArrayLike, users: ArrayLike, *, bins: int = 15
) -> Reliability:
    """Bins of equal row counts with intervals over users.   labels: 0/1 [B]; probabilities [B]; users: any ids [B].

    Raises MetricError for lengths that differ, no rows, or values that are no labels or probabilities.
    """
    parts = quantile_bins(labels, probabilities, bins=bins)
    y, p = np.asarray(labels, np.int64), np.asarray(probabilities, np.float64)
    ids = np.asarray(users)
    if len(ids) != len(y):
        raise MetricError(f"got {len(y)} labels and {len(ids)} user ids")
    user = np.unique(ids, return_inverse=True)[1]
    return Reliability(tuple(_bin(y[part], p[part], user[part]) for part in parts), ece(y, p, bins=bins))


def _bin(y: NDArray[np.int64], p: NDArray[np.float64], user: NDArray[np.int64]) -> MeasuredBin:
    rate = float(y.mean())
    low, high = wilson(rate, effective_rows(y, user))
    return MeasuredBin(len(y), float(p.min()), float(p.max()), float(p.mean()), rate, low, high)


def effective_rows(y: NDArray[np.int64], user: NDArray[np.int64]) -> float:
    """How many independent coins tell as much as these rows, between 1 and their number.

    Where all outcomes are equal the variance between users is unknown, and each user counts once.
    """
    code = np.unique(user, return_inverse=True)[1]
    n_users = int(code.max()) + 1
    rate = float(y.mean())
    if n_users == 1 or rate in (0.0, 1.0):
        return float(n_users)
    residual = np.bincount(code, weights=y - rate)
    variance = float((residual**2).sum()) / len(y) ** 2 * n_users / (n_users - 1)
    if variance == 0:
        return float(len(y))
    return float(np.clip(rate * (1 - rate) / variance, 1.0, len(y)))


def wilson(rate: float, n: float) -> tuple[float, float]:
    """The 95 % score interval of a share `rate` of `n` > 0 coins; never empty, within [0, 1]."""
    z2 = _Z95**2
    middle = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 * float(np.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # At 0 and 1 the ends meet the share up to rounding.
    return max(0.0, min(rate, middle - half)), min(1.0, max(rate, middle + half))
