"""What CTR predictions are measured by.

AUC, GAUC and xAUC as in the DIGIX 2022 challenge (learning §1): xAUC = 0.7 GAUC + 0.3 AUC, where GAUC is the mean AUC
of the users with both classes, weighted by their impressions. Log loss and expected calibration error need
probabilities; the ranking metrics take any score. B is the number of impressions everywhere.

Intervals come from resampling *users* with replacement, since impressions of one user are not independent, and from
the same draws for both models of a comparison.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adyton.learning.errors import MetricError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

GAUC_SHARE_OF_XAUC = 0.7
_SMALLEST_PROBABILITY = 1e-12


class Metric(Enum):
    """A metric to stop on or to report. The stored values are what the command line takes."""

    AUC = "auc"
    GAUC = "gauc"
    XAUC = "xauc"
    LOGLOSS = "logloss"

    @property
    def higher_is_better(self) -> bool:
        return self is not Metric.LOGLOSS


@dataclass(frozen=True)
class Evaluation:
    """All metrics of one set of predictions.   users: number of users with both classes, the base of `gauc`."""

    auc: float
    gauc: float
    xauc: float
    logloss: float
    ece: float
    rows: int
    clicks: int
    users: int

    def value(self, metric: Metric) -> float:
        return float(getattr(self, metric.value))

    def as_json(self) -> dict[str, float | int]:
        return {
            "auc": self.auc,
            "gauc": self.gauc,
            "xauc": self.xauc,
            "logloss": self.logloss,
            "ece": self.ece,
            "rows": self.rows,
            "clicks": self.clicks,
            "users": self.users,
        }


@dataclass(frozen=True)
class Interval:
    """A difference with the percentile interval of its bootstrap distribution at `confidence`."""

    value: float
    low: float
    high: float
    confidence: float
    draws: int

    def __str__(self) -> str:
        return f"{self.value:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"

    def as_json(self) -> dict[str, float | int]:
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "confidence": self.confidence,
            "draws": self.draws,
        }


def evaluate(labels: ArrayLike, probabilities: ArrayLike, users: ArrayLike) -> Evaluation:
    """All metrics at once.   labels: 0/1 [B]; probabilities: in [0, 1] [B]; users: any hashable ids [B].

    Raises MetricError when there is one class only, or no user with both.
    """
    y, p = _labels_and_scores(labels, probabilities)
    groups = _UserGroups(y, p, users)
    auc_value, gauc_value = auc(y, p), groups.gauc()
    return Evaluation(
        auc=auc_value,
        gauc=gauc_value,
        xauc=_xauc(auc_value, gauc_value),
        logloss=logloss(y, p),
        ece=ece(y, p),
        rows=len(y),
        clicks=int(y.sum()),
        users=int(groups.two_class.sum()),
    )


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """The chance that a click scores above a non-click, ties counting one half. O(B log B).   Raises MetricError."""
    y, s = _labels_and_scores(labels, scores)
    return _WeightedAuc(y, s).value(np.ones(len(y)))


def gauc(labels: ArrayLike, scores: ArrayLike, users: ArrayLike) -> float:
    """Mean AUC of users weighted by impressions; users with one class are skipped.   Raises MetricError."""
    y, s = _labels_and_scores(labels, scores)
    return _UserGroups(y, s, users).gauc()


def xauc(labels: ArrayLike, scores: ArrayLike, users: ArrayLike) -> float:
    """0.7 GAUC + 0.3 AUC.   Raises MetricError.   Source: DIGIX 2022 (learning §1)."""
    return _xauc(auc(labels, scores), gauc(labels, scores, users))


def logloss(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean negative log likelihood in nats; probabilities are kept 1e-12 away from 0 and 1.   Raises MetricError."""
    y, p = _labels_and_scores(labels, probabilities)
    _check_probabilities(p)
    p = np.clip(p, _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)
    return float(-np.mean(np.where(y == 1, np.log(p), np.log1p(-p))))


@dataclass(frozen=True)
class ReliabilityBin:
    """One bar of a reliability figure: impressions whose predictions are near `mean_prediction`."""

    rows: int
    mean_prediction: float
    click_rate: float


def reliability(labels: ArrayLike, probabilities: ArrayLike, *, bins: int = 15) -> tuple[ReliabilityBin, ...]:
    """Bins of equal row counts in order of prediction (equal predictions may share a bin).   Raises MetricError."""
    y, p = _labels_and_scores(labels, probabilities)
    parts = quantile_bins(y, p, bins=bins)
    return tuple(ReliabilityBin(len(part), float(p[part].mean()), float(y[part].mean())) for part in parts)


def quantile_bins(labels: ArrayLike, probabilities: ArrayLike, *, bins: int) -> tuple[Ints, ...]:
    """Row numbers of each bin of `reliability`; no bin is empty.   Raises MetricError."""
    _, p = _labels_and_scores(labels, probabilities)
    _check_probabilities(p)
    order = np.argsort(p, kind="stable")
    return tuple(part for part in np.array_split(order, bins) if len(part))


def ece(labels: ArrayLike, probabilities: ArrayLike, *, bins: int = 15) -> float:
    """Expected calibration error: mean |click rate - prediction| over bins of equal row counts.   Raises MetricError.

    Source: Naeini, Cooper, Hauskrecht 2015, with equal-mass bins (Nixon et al. 2019).
    """
    parts = reliability(labels, probabilities, bins=bins)
    total = sum(part.rows for part in parts)
    return sum(part.rows * abs(part.click_rate - part.mean_prediction) for part in parts) / total


def paired_user_bootstrap(
    labels: ArrayLike,
    users: ArrayLike,
    scores_base: ArrayLike,
    scores_new: ArrayLike,
    *,
    rng: np.random.Generator,
    metric: Metric = Metric.AUC,
    draws: int = 500,
    confidence: float = 0.95,
) -> Interval:
    """metric(new) - metric(base) with an interval over users, both models on the same draws.

    scores: probabilities if `metric` is log loss.   Raises MetricError when `metric` is not defined on the whole set.
    """
    y, base = _labels_and_scores(labels, scores_base)
    _, new = _labels_and_scores(labels, scores_new)
    names, user_of_row = np.unique(np.asarray(users), return_inverse=True)
    base_metric, new_metric = _by_user_weights(metric, y, base, users), _by_user_weights(metric, y, new, users)
    ones = np.ones(len(names))
    value = new_metric(ones[user_of_row], ones) - base_metric(ones[user_of_row], ones)
    differences = np.empty(draws)
    for draw in range(draws):
        weights = rng.multinomial(len(names), ones / len(names)).astype(np.float64)
        rows = weights[user_of_row]
        differences[draw] = new_metric(rows, weights) - base_metric(rows, weights)
    tail = (1 - confidence) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    return Interval(float(value), float(low), float(high), confidence, draws)


def _xauc(auc_value: float, gauc_value: float) -> float:
    return GAUC_SHARE_OF_XAUC * gauc_value + (1 - GAUC_SHARE_OF_XAUC) * auc_value


def _by_user_weights(metric: Metric, y: Ints, s: Floats, users: ArrayLike) -> Callable[[Floats, Floats], float]:
    """The metric as a function of row weights and the same weights per user (in sorted order of users)."""
    if metric is Metric.LOGLOSS:
        _check_probabilities(s)
        p = np.clip(s, _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)
        losses = -np.where(y == 1, np.log(p), np.log1p(-p))
        return lambda rows, _: float(np.average(losses, weights=rows))
    ranked = _WeightedAuc(y, s)
    if metric is Metric.AUC:
        return lambda rows, _: ranked.value(rows)
    groups = _UserGroups(y, s, users)
    if metric is Metric.GAUC:
        return lambda _, per_user: groups.gauc(per_user)
    return lambda rows, per_user: _xauc(ranked.value(rows), groups.gauc(per_user))


class _WeightedAuc:
    """AUC under changing row weights: sorted once, O(B) per call."""

    def __init__(self, y: Ints, s: Floats) -> None:
        self._order = np.argsort(s, kind="stable")
        ordered = s[self._order]
        self._starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        self._positive = y[self._order] == 1

    def value(self, weights: Floats) -> float:
        w = weights[self._order]
        positive = np.add.reduceat(np.where(self._positive, w, 0.0), self._starts)
        negative = np.add.reduceat(np.where(self._positive, 0.0, w), self._starts)
        below = np.cumsum(negative) - negative
        total = positive.sum() * negative.sum()
        if total == 0:
            raise MetricError("AUC needs clicks and non-clicks")
        return float((positive * (below + 0.5 * negative)).sum() / total)


class _UserGroups:
    """Per-user AUC by ranks inside each user; users are in sorted order of their ids."""

    def __init__(self, y: Ints, s: Floats, users: ArrayLike) -> None:
        ids = np.asarray(users)
        if len(ids) != len(y):
            raise MetricError(f"got {len(y)} labels and {len(ids)} user ids")
        _, user = np.unique(ids, return_inverse=True)
        n_users = int(user.max()) + 1
        order = np.lexsort((s, user))
        u, v, clicked = user[order], s[order], y[order] == 1
        starts = np.flatnonzero(np.r_[True, (u[1:] != u[:-1]) | (v[1:] != v[:-1])])
        lengths = np.diff(np.r_[starts, len(u)])
        first_row = np.searchsorted(u, np.arange(n_users))
        ranks = np.repeat(starts + (lengths + 1) / 2, lengths) - first_row[u]
        self.impressions = np.bincount(u, minlength=n_users).astype(np.float64)
        positives = np.bincount(u, weights=clicked, minlength=n_users)
        negatives = self.impressions - positives
        rank_sum = np.bincount(u, weights=ranks * clicked, minlength=n_users)
        self.two_class = (positives > 0) & (negatives > 0)
        pairs = np.where(self.two_class, positives * negatives, 1.0)
        self._auc = (rank_sum - positives * (positives + 1) / 2) / pairs

    def gauc(self, user_weights: Floats | None = None) -> float:
        weights = self.impressions * self.two_class
        if user_weights is not None:
            weights = weights * user_weights
        if weights.sum() == 0:
            raise MetricError("GAUC needs a user with clicks and non-clicks")
        # Exact sums: users are in the order of their ids, and those are other pseudonyms in each clean-room job.
        return math.fsum(self._auc * weights) / math.fsum(weights)


def _labels_and_scores(labels: ArrayLike, scores: ArrayLike) -> tuple[Ints, Floats]:
    y, s = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if y.ndim != 1 or y.shape != s.shape:
        raise MetricError(f"labels and scores must be one row each, got shapes {y.shape} and {s.shape}")
    if len(y) == 0:
        raise MetricError("no rows to measure")
    y = y.astype(np.int64)
    if not np.isin(y, (0, 1)).all():
        raise MetricError("labels must be 0 or 1")
    if not np.isfinite(s).all():
        raise MetricError("scores must be finite")
    return y, s


def _check_probabilities(p: Floats) -> None:
    if p.min() < 0 or p.max() > 1:
        raise MetricError("probabilities must lie in [0, 1]")
