"""Accuracy and risk estimated from verdicts: the estimates come near the truth, and the regret falls."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from adyton.review.day import DayConfig, draw_day
from adyton.review.errors import DayConfigError
from adyton.review.learning import Beliefs, Prior, learn_over_days, risk_classes
from adyton.review.simulation import simulate
from adyton.review.tables import Workbook

CONFIG = DayConfig(volume=0.15, n_moderators=40)


def test_without_any_verdict_the_prior_is_believed() -> None:
    beliefs = Beliefs(np.zeros((3, 2)), np.zeros((3, 2)))

    np.testing.assert_allclose(beliefs.error(None), 0.15)
    np.testing.assert_allclose(beliefs.risk(None), 0.05)


def test_a_market_not_seen_takes_after_the_moderators_other_markets() -> None:
    beliefs = Beliefs(np.array([[300.0, 0.0], [0.0, 0.0]]), np.array([[600.0, 0.0], [600.0, 0.0]]))
    error = beliefs.error(None)

    assert error[0, 1] == pytest.approx(0.5, abs=0.02)
    assert error[1, 1] == pytest.approx(0.0, abs=0.01)


def test_little_seen_rates_are_drawn_wider_than_well_known_ones() -> None:
    beliefs = Beliefs(np.array([[0.0], [100.0]]), np.array([[0.0], [1000.0]]), Prior(1.0, 9.0))
    rng = np.random.default_rng(1)
    draws = np.array([beliefs.error(rng) for _ in range(400)])[:, :, 0]

    assert np.std(draws[:, 0]) > 4 * np.std(draws[:, 1])
    np.testing.assert_allclose(np.mean(draws, axis=0), 0.1, atol=0.02)


def test_counts_are_those_of_the_revealed_finished_ads(small_workbook: Workbook) -> None:
    day = draw_day(small_workbook, CONFIG, seed=3)
    schedule = simulate(day, allocator="greedy").schedule
    beliefs = Beliefs(np.zeros(day.arrays.error.shape), np.zeros(day.arrays.error.shape))
    beliefs.learn(day, schedule, risk_classes(day), 1.0, seed=3)

    finished = np.sum((schedule.moderator >= 0) & (schedule.done <= 1440))
    assert np.sum(beliefs.seen) == np.sum(beliefs.judged) == finished
    who = schedule.moderator[schedule.moderator >= 0]
    expected = np.mean(day.arrays.error[who, day.arrays.market[schedule.moderator >= 0]])
    assert np.sum(beliefs.wrong) / finished == pytest.approx(expected, abs=0.03)


def test_estimates_improve_when_the_truth_comes_to_light_and_only_then(small_workbook: Workbook) -> None:
    learnt = learn_over_days(small_workbook, CONFIG, allocator="greedy_farseeing", n_days=6, revealed_share=1.0)
    blind = learn_over_days(small_workbook, CONFIG, allocator="greedy_farseeing", n_days=3, revealed_share=0.0)

    assert learnt[-1].accuracy_error < 0.75 * learnt[0].accuracy_error
    assert blind[-1].accuracy_error == pytest.approx(blind[0].accuracy_error)


def test_one_seed_gives_the_same_days_twice(small_workbook: Workbook) -> None:
    config = replace(CONFIG, volume=0.05)
    first, second = (learn_over_days(small_workbook, config, allocator="greedy", n_days=2) for _ in range(2))

    assert first == second


@pytest.mark.parametrize("bad", [{"n_days": 0}, {"revealed_share": 1.5}])
def test_what_cannot_be_learnt_is_refused(small_workbook: Workbook, bad: dict[str, float]) -> None:
    with pytest.raises(DayConfigError):
        learn_over_days(small_workbook, CONFIG, **bad)  # type: ignore[arg-type]


@pytest.mark.slow
def test_regret_falls_over_twenty_days(small_workbook: Workbook) -> None:
    regret = np.array(
        [
            [day.regret for day in learn_over_days(small_workbook, CONFIG, allocator="priced_pull", seed=seed)]
            for seed in (1, 101, 201)
        ]
    )
    known = regret.mean(axis=0)

    assert np.mean(known[-5:]) < 0.6 * np.mean(known[:3])
