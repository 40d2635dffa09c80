"""The faults of the source's accounting (spec/review §1.5), each shown to be absent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from adyton.review import estimators
from adyton.review.arrivals import ArrivalStream
from adyton.review.bound import lower_bound
from adyton.review.day import Day, DayConfig, draw_day
from adyton.review.simulation import losses, simulate
from adyton.review.tables import Workbook


def test_a_dropped_ad_costs_its_wait_and_its_value(small_workbook: Workbook) -> None:
    day = draw_day(small_workbook, DayConfig(volume=0.3, n_moderators=30), seed=1)
    result = simulate(day, allocator="greedy")
    dropped = result.schedule.moderator < 0
    arrays = day.arrays
    cost = float(np.sum(arrays.value[dropped] * (1 + (1440 - arrays.arrival[dropped]) / 3000)))

    assert np.sum(dropped) > 100
    assert result.loss.a2 - result.loss.seed_loss == pytest.approx(cost)


def test_only_an_accepted_assignment_is_charged_and_only_once(small_day: Day) -> None:
    """Without any shift nothing can be accepted, so no wrong verdict is paid for, however often it was tried."""
    closed = replace(small_day, arrays=small_day.arrays._replace(shift_end=small_day.arrays.shift_start.copy()))
    for allocator in ("random", "greedy_idle", "greedy", "greedy_farseeing"):
        result = simulate(closed, allocator=allocator)

        assert result.finished_fraction == 0
        assert result.loss.seed_loss == 0
        wait = np.sum(small_day.arrays.value * (1440 - small_day.arrays.arrival) / 3000)
        assert result.loss.a1 == pytest.approx(wait)


def test_an_uneven_day_runs_to_its_end_on_every_seed(small_workbook: Workbook) -> None:
    for seed in range(5):
        per_minute = np.zeros(1440, dtype=np.int64)
        per_minute[1 + seed :: 7] = 1
        day = draw_day(small_workbook, DayConfig(n_moderators=150), seed=seed, arrivals=ArrivalStream(per_minute))
        result = simulate(day, allocator="greedy_idle")

        assert np.max(result.schedule.committed) > 1000
        assert result.loss.a2 > 0


def test_no_ad_arrives_twice_on_one_day(small_workbook: Workbook) -> None:
    day = draw_day(small_workbook, DayConfig(volume=0.19, n_moderators=30), seed=2)

    assert day.n_ads > 0.9 * len(small_workbook.ads)
    assert len(set(day.ad_row)) == day.n_ads


def test_a_shift_that_ends_takes_no_minute_from_other_moderators(small_day: Day) -> None:
    """A moderator without a shift, put in front of all others, changes nothing for them."""
    arrays = small_day.arrays
    with_absent = arrays._replace(
        pace=np.vstack([arrays.pace[:1], arrays.pace]),
        error=np.vstack([arrays.error[:1], arrays.error]),
        shift_start=np.concatenate([[0], arrays.shift_start]),
        shift_end=np.concatenate([[0], arrays.shift_end]),
        break_start=np.concatenate([[0], arrays.break_start]),
        break_end=np.concatenate([[0], arrays.break_end]),
        members=arrays.members + 1,
    )
    other = replace(small_day, arrays=with_absent, moderator_row=np.concatenate([[0], small_day.moderator_row]))
    first, second = (simulate(day, allocator="greedy_idle").schedule for day in (small_day, other))

    np.testing.assert_array_equal(first.start, second.start)
    np.testing.assert_array_equal(first.moderator, np.where(second.moderator < 0, -1, second.moderator - 1))


def test_risk_rises_with_punishments_from_the_third_on_and_is_zero_without_a_record() -> None:
    risk = estimators.risk(np.array([np.nan, 0, 1, 2, 3, 4, 12, 16]))

    np.testing.assert_allclose(risk, [0, 0.12, 0.09, 0.06, 0.11, 0.16, 0.56, 0.6])


def test_the_punishment_factor_raises_the_stake_of_risky_ads_only() -> None:
    revenue, risk = np.array([10.0, 10.0]), np.array([0.0, 0.5])

    np.testing.assert_allclose(estimators.stake(revenue, risk, 1.0), [10, 10])
    np.testing.assert_allclose(estimators.stake(revenue, risk, 3.0), [10, 20])


def test_the_inaccuracy_loss_is_value_minus_expected_profit() -> None:
    revenue, risk, accuracy, p = np.array([8.0]), np.array([0.25]), np.array([0.9]), 2.0
    value, stake = estimators.value(revenue, risk), estimators.stake(revenue, risk, p)

    profit = estimators.expected_profit(value, stake, accuracy)
    by_hand = 8.0 * (0.75 * 0.9 - 0.25 * 0.1 * p)
    assert profit[0] == pytest.approx(by_hand)


def test_two_runs_with_one_seed_are_the_same(small_workbook: Workbook) -> None:
    config = DayConfig(volume=0.1, n_moderators=40, handling_sigma=0.4, break_minutes=30, no_show=0.1)
    first, second = (
        simulate(draw_day(small_workbook, config, seed=6), allocator="priced_queues", seed=6) for _ in range(2)
    )

    assert first.loss == second.loss
    assert losses(first.day, first.schedule) == first.loss


@pytest.mark.parametrize("allocator", ["greedy", "greedy_farseeing", "priced_pull", "priced_queues"])
def test_chance_options_keep_the_bound_below_every_loss(small_workbook: Workbook, allocator: str) -> None:
    config = DayConfig(
        volume=0.1, n_moderators=40, handling_sigma=0.6, break_minutes=45, no_show=0.2, is_shift_by_time_zone=True
    )
    for seed in range(3):
        day = draw_day(small_workbook, config, seed=seed)
        bound = lower_bound(day, n_steps=80)
        result = simulate(day, allocator=allocator)

        assert bound.a1 <= result.loss.a1
        assert bound.a2 <= result.loss.a2
