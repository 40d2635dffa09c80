"""What every trainer works on: encoded rows, their split, and the rule for stopping early.

CTR models with id embeddings overfit after about one epoch in AUC while GAUC still rises (learning §3, lesson a), which
is why the stop follows the metric that will be reported and looks more often than once an epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from adyton.learning.ctr.calibration import probabilities
from adyton.learning.errors import ModelError
from adyton.learning.metrics import Metric, auc, gauc, logloss, xauc

Weights = TypeVar("Weights")


@dataclass(frozen=True)
class RowSplit:
    """Row numbers of a table's training and validation part; the test part is whatever the caller kept away."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]

    def __post_init__(self) -> None:
        if len(self.train) == 0 or len(self.validation) == 0:
            raise ModelError("training needs training rows and validation rows")
        if len(np.intersect1d(self.train, self.validation)):
            raise ModelError("a row cannot be in training and in validation")

    @classmethod
    def of_dates(cls, dates: Sequence[int], *, last_train: int, last_validation: int) -> RowSplit:
        """Rows up to `last_train`, then rows up to `last_validation`; later rows are the test's.   dates: yyyymmdd."""
        days = np.asarray(dates, np.int64)
        return cls(np.flatnonzero(days <= last_train), np.flatnonzero((days > last_train) & (days <= last_validation)))

    @classmethod
    def of_times(cls, times_ms: NDArray[np.int64], *, validation_from_ms: int, test_from_ms: int) -> RowSplit:
        """Rows before `validation_from_ms`, then rows before `test_from_ms`; later rows are the test's."""
        return cls(
            np.flatnonzero(times_ms < validation_from_ms),
            np.flatnonzero((times_ms >= validation_from_ms) & (times_ms < test_from_ms)),
        )

    def only(self, is_kept: NDArray[np.bool_]) -> RowSplit:
        """The split without rows where `is_kept` (one value per table row) is false, such as held-out users' rows."""
        return RowSplit(self.train[is_kept[self.train]], self.validation[is_kept[self.validation]])


@dataclass(frozen=True)
class Check:
    """One look at the validation rows after `rows_seen` training rows."""

    member: int
    rows_seen: int
    value: float


@dataclass(frozen=True)
class TrainData:
    """Encoded rows of the whole table.

    inputs: int64[B, width] of each side, in `Side` order.   labels: 0/1 [B].   users: [B], codes for GAUC.
    weights: float64[B], of each row in the loss.
    """

    inputs: Sequence[NDArray[np.int64]]
    labels: NDArray[np.int64]
    users: NDArray[np.float64]
    weights: NDArray[np.float64]
    split: RowSplit

    @property
    def click_rate(self) -> float:
        """Share of clicks in the training rows, in (0, 1)."""
        return float(self.labels[self.split.train].mean())

    def validation_value(self, logits: NDArray[np.float64], metric: Metric) -> float:
        """`metric` of the validation rows' logits, in the order of `split.validation`."""
        scores = probabilities(logits)
        labels, users = self.labels[self.split.validation], self.users[self.split.validation]
        match metric:
            case Metric.AUC:
                return auc(labels, scores)
            case Metric.GAUC:
                return gauc(labels, scores, users)
            case Metric.XAUC:
                return xauc(labels, scores, users)
            case Metric.LOGLOSS:
                return logloss(labels, scores)


@dataclass
class EarlyStop(Generic[Weights]):
    """Keeps the best weights of one member and says when to stop.   patience: checks without a better value."""

    member: int
    metric: Metric
    patience: int
    progress: Callable[[Check], None] | None
    best: Weights
    checks: list[Check] = field(default_factory=list)
    _best_value: float = -np.inf
    _since_best: int = 0

    def is_over(self, rows_seen: int, value: float, weights: Callable[[], Weights]) -> bool:
        """Note one check; take a copy of the weights if they are the best so far."""
        check = Check(self.member, rows_seen, value)
        self.checks.append(check)
        if self.progress is not None:
            self.progress(check)
        signed = value if self.metric.higher_is_better else -value
        if signed > self._best_value:
            self._best_value, self._since_best, self.best = signed, 0, weights()
        else:
            self._since_best += 1
        return self._since_best >= self.patience
