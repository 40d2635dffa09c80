"""Reliability bins tell a right model from a wrong one, and their intervals know that users repeat themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adyton.learning.ctr.reliability import effective_rows, measured_reliability, wilson
from adyton.learning.ctr.reliability_figure import write_reliability_figure
from adyton.learning.errors import MetricError
from adyton.learning.metrics import ece, reliability


def _clicks(n_users: int, rows_each: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(n_users), rows_each)
    truth = rng.uniform(0.02, 0.4, users.size)
    return (rng.random(users.size) < truth).astype(np.int64), truth, users


def test_true_probabilities_lie_in_their_intervals_and_doubled_ones_do_not() -> None:
    labels, truth, users = _clicks(4_000, 5, 1)
    right, doubled = (measured_reliability(labels, p, users) for p in (truth, np.minimum(2 * truth, 1)))

    assert sum(part.is_off for part in right.bins) <= 2
    assert sum(part.is_off for part in doubled.bins) >= 14
    assert right.ece < 0.015 < 0.15 < doubled.ece


def test_bins_and_error_are_those_of_the_metrics() -> None:
    labels, truth, users = _clicks(300, 3, 2)
    measured = measured_reliability(labels, truth, users, bins=7)

    plain = [(b.rows, b.mean_prediction, b.click_rate) for b in reliability(labels, truth, bins=7)]
    assert [(b.rows, b.mean_prediction, b.click_rate) for b in measured.bins] == plain
    assert measured.ece == ece(labels, truth, bins=7)
    assert all(b.low <= b.click_rate <= b.high for b in measured.bins)


def test_users_who_always_do_the_same_count_once() -> None:
    """Each user clicks always or never: 100 users with 20 rows each are 100 coins, not 2,000."""
    rng = np.random.default_rng(3)
    covered = naive = 0
    for _ in range(200):
        users = np.repeat(np.arange(100), 20)
        labels = (rng.random(100) < 0.3).astype(np.int64)[users]
        low, high = wilson(float(labels.mean()), effective_rows(labels, users))
        covered += low <= 0.3 <= high
        low, high = wilson(float(labels.mean()), len(labels))
        naive += low <= 0.3 <= high

    assert covered >= 180
    assert naive < 120


def test_independent_rows_count_as_they_are_and_no_clicks_leave_room_above_zero() -> None:
    labels, _, _ = _clicks(5_000, 1, 4)

    assert effective_rows(labels, np.arange(5_000)) == pytest.approx(5_000, rel=0.01)
    low, high = wilson(0.0, effective_rows(np.zeros(50, np.int64), np.repeat(np.arange(10), 5)))
    assert low == 0
    assert high == pytest.approx(0.2775, abs=1e-3)  # Wilson's upper end of 0 in 10


def test_users_of_another_length_are_refused() -> None:
    with pytest.raises(MetricError):
        measured_reliability([0, 1], [0.1, 0.2], ["one"])


def test_the_figure_names_each_curve_with_its_error_and_repeats_byte_for_byte(tmp_path: Path) -> None:
    labels, truth, users = _clicks(500, 3, 5)
    curves = {
        "right": measured_reliability(labels, truth, users),
        "constant": measured_reliability(labels, np.full(len(labels), 0.2), users),
    }
    for name in ("a.svg", "b.svg", "c.png"):
        write_reliability_figure(curves, tmp_path / name)

    text = (tmp_path / "a.svg").read_text()
    assert f"right, ECE {curves['right'].ece:.4f}" in text
    assert f"constant, ECE {curves['constant'].ece:.4f}" in text
    assert text == (tmp_path / "b.svg").read_text()
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
