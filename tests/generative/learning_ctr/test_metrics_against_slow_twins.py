"""Fast metrics agree with their definitions, pair by pair and user by user."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adyton.learning import metrics
from adyton.learning.errors import MetricError
from adyton.learning.metrics import Metric

ROWS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 6).map(lambda v: v / 6), st.sampled_from("abcd")),
    min_size=1,
    max_size=40,
)


def slow_auc(labels: list[int], scores: list[float]) -> float | None:
    pairs = [
        1.0 if p > n else 0.5 if p == n else 0.0
        for p, y in zip(scores, labels, strict=True)
        if y == 1
        for n, z in zip(scores, labels, strict=True)
        if z == 0
    ]
    return sum(pairs) / len(pairs) if pairs else None


def slow_gauc(labels: list[int], scores: list[float], users: list[str]) -> float | None:
    total, weight = 0.0, 0
    for user in sorted(set(users)):
        rows = [i for i, u in enumerate(users) if u == user]
        value = slow_auc([labels[i] for i in rows], [scores[i] for i in rows])
        if value is not None:
            total, weight = total + value * len(rows), weight + len(rows)
    return total / weight if weight else None


@given(ROWS)
def test_ranking_metrics_agree_with_counting_pairs(rows: list[tuple[int, float, str]]) -> None:
    labels, scores, users = map(list, zip(*rows, strict=True))
    expected_auc, expected_gauc = slow_auc(labels, scores), slow_gauc(labels, scores, users)

    if expected_auc is None:
        with pytest.raises(MetricError):
            metrics.auc(labels, scores)
    else:
        assert metrics.auc(labels, scores) == pytest.approx(expected_auc)
    if expected_gauc is None:
        with pytest.raises(MetricError):
            metrics.gauc(labels, scores, users)
    else:
        assert expected_auc is not None
        assert metrics.gauc(labels, scores, users) == pytest.approx(expected_gauc)
        assert metrics.xauc(labels, scores, users) == pytest.approx(0.7 * expected_gauc + 0.3 * expected_auc)


@given(ROWS)
def test_log_loss_and_calibration_agree_with_their_definitions(rows: list[tuple[int, float, str]]) -> None:
    labels, p, _ = map(list, zip(*rows, strict=True))
    clipped = [min(max(v, 1e-12), 1 - 1e-12) for v in p]
    expected = -sum(math.log(v) if y else math.log1p(-v) for y, v in zip(labels, clipped, strict=True)) / len(p)
    order = sorted(range(len(p)), key=lambda i: p[i])
    parts = [part for part in np.array_split(order, 4) if len(part)]
    error = sum(abs(sum(labels[i] for i in part) - sum(p[i] for i in part)) for part in parts) / len(p)

    assert metrics.logloss(labels, p) == pytest.approx(expected)
    assert metrics.ece(labels, p, bins=4) == pytest.approx(error)


@given(ROWS, st.lists(st.integers(1, 3), min_size=4, max_size=4), st.sampled_from(Metric))
def test_weighted_users_count_like_repeated_users(
    rows: list[tuple[int, float, str]], weights: list[int], metric: Metric
) -> None:
    """The bootstrap weights users instead of copying their rows; copies of a user are users of their own."""
    labels, scores, users = map(list, zip(*rows, strict=True))
    weight_of = dict(zip(sorted(set(users)), weights, strict=False))
    copies = [(y, s, f"{u}{i}") for y, s, u in rows for i in range(weight_of[u])]
    many_labels, many_scores, many_users = map(list, zip(*copies, strict=True))
    assume(slow_gauc(labels, scores, users) is not None)

    by_weight = metrics._by_user_weights(metric, np.array(labels), np.array(scores), users)
    row_weights = np.array([float(weight_of[u]) for u in users])
    value = by_weight(row_weights, np.array([float(weight_of[u]) for u in sorted(set(users))]))

    expected = {
        Metric.AUC: lambda: slow_auc(many_labels, many_scores),
        Metric.GAUC: lambda: slow_gauc(many_labels, many_scores, many_users),
        Metric.XAUC: lambda: metrics.xauc(many_labels, many_scores, many_users),
        Metric.LOGLOSS: lambda: metrics.logloss(many_labels, many_scores),
    }[metric]()
    assert value == pytest.approx(expected)
