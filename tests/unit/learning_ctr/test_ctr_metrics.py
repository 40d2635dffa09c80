"""Metrics refuse what they are not defined on, and intervals mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from adyton.learning import metrics
from adyton.learning.ctr.calibration import platt
from adyton.learning.errors import MetricError
from adyton.learning.metrics import Metric


def test_a_known_small_case() -> None:
    """Users a (AUC 1, 3 rows) and b (AUC 0, 2 rows); c has one class and is skipped."""
    labels = [1, 0, 0, 1, 0, 1]
    scores = [0.9, 0.1, 0.2, 0.3, 0.4, 0.5]
    users = list("aaabbc")

    assert metrics.gauc(labels, scores, users) == pytest.approx(3 / 5)
    assert metrics.auc(labels, scores) == pytest.approx(8 / 9)
    assert metrics.evaluate(labels, scores, users).users == 2


def test_gauc_is_the_same_to_the_last_bit_under_other_pseudonyms() -> None:
    """Each clean-room job names users anew; a figure that moves with the names would not repeat with the seed."""
    rng = np.random.default_rng(8)
    users, labels, scores = rng.integers(0, 400, 6_000), rng.integers(0, 2, 6_000), rng.random(6_000)

    values = {metrics.gauc(labels, scores, rng.permutation(400)[users]) for _ in range(20)}

    assert len(values) == 1


@pytest.mark.parametrize(
    ("labels", "scores"),
    [([], []), ([1, 1], [0.1, 0.2]), ([0, 2], [0.1, 0.2]), ([0, 1], [0.1]), ([0, 1], [0.1, float("nan")])],
)
def test_undefined_metrics_raise_instead_of_returning_a_number(labels: list[int], scores: list[float]) -> None:
    with pytest.raises(MetricError):
        metrics.auc(labels, scores)


def test_log_loss_refuses_logits() -> None:
    with pytest.raises(MetricError):
        metrics.logloss([0, 1], [-2.0, 3.0])


@pytest.mark.parametrize("metric", Metric)
def test_the_interval_of_a_model_with_itself_is_zero(metric: Metric) -> None:
    rng = np.random.default_rng(1)
    users, labels, scores = rng.integers(0, 50, 500), rng.integers(0, 2, 500), rng.random(500)

    interval = metrics.paired_user_bootstrap(labels, users, scores, scores, rng=rng, metric=metric, draws=20)

    assert (interval.value, interval.low, interval.high) == (0, 0, 0)


def test_a_clearly_better_model_has_an_interval_above_zero_and_noise_has_not() -> None:
    rng = np.random.default_rng(2)
    users, labels = rng.integers(0, 200, 2_000), rng.integers(0, 2, 2_000)
    noise, signal = rng.random(2_000), labels * 0.5 + rng.random(2_000)

    better = metrics.paired_user_bootstrap(labels, users, noise, signal, rng=rng, draws=100)
    same = metrics.paired_user_bootstrap(labels, users, noise, rng.random(2_000), rng=rng, draws=100)

    assert better.low > 0.2
    assert better.low <= better.value <= better.high
    assert same.low < 0 < same.high


def test_calibration_is_logistic_regression_on_one_score() -> None:
    """scikit-learn is the slow twin; on many rows the weak prior is not felt."""
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 1.5, 40_000)
    labels = (rng.random(40_000) < 1 / (1 + np.exp(-(0.6 * logits - 1)))).astype(np.int64)

    scale, shift = platt(labels, logits)
    twin = LogisticRegression(C=np.inf).fit(logits[:, None], labels)

    assert scale == pytest.approx(twin.coef_[0, 0], abs=1e-3)
    assert shift == pytest.approx(twin.intercept_[0], abs=1e-3)


def test_calibration_stays_finite_on_separated_rows() -> None:
    scale, shift = platt(np.array([0, 0, 1, 1]), np.array([-9.0, -8.0, 8.0, 9.0]))

    assert 0 < scale < 10
    assert abs(shift) < 10
