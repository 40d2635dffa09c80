"""The reference rules of the ladder (spec/review §2.4), on days small enough to work out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from adyton.review.allocators.priced import effort
from adyton.review.allocators.registry import allocator_names
from adyton.review.bound import lower_bound
from adyton.review.day import Day, DayConfig, draw_day
from adyton.review.engine.moves import value_rank
from adyton.review.engine.priced_queues import run_priced_queues
from adyton.review.simulation import simulate
from adyton.review.tables import Workbook


@pytest.fixture
def hand_day(small_day: Day) -> Day:
    """One moderator who needs a minute per unit of work, and three ads that arrive in minutes 0, 1 and 1."""
    arrays = small_day.arrays._replace(
        arrival=np.array([0, 1, 1]),
        value=np.array([10.0, 1.0, 2000.0]),
        stake=np.array([10.0, 1.0, 2000.0]),
        work=np.array([5.0, 1.0, 40.0]),
        market=np.zeros(3, np.int64),
        pace=np.ones((1, 1)),
        error=np.full((1, 1), 0.01),
        shift_start=np.array([0]),
        shift_end=np.array([1440]),
        break_start=np.array([0]),
        break_end=np.array([0]),
        first=np.array([0, 1]),
        members=np.array([0]),
        effort=np.ones(3),
        ticket=np.full((3, 2), 0.5),
        horizon=1440,
    )
    zeros = np.zeros(3, np.int64)
    return replace(small_day, arrays=arrays, ad_row=zeros, copy=zeros, moderator_row=zeros[:1], risk=np.zeros(3))


@pytest.mark.parametrize(
    ("allocator", "starts"),
    [
        ("fifo", [0, 5, 6]),
        ("edf", [0, 45, 5]),
        ("gcmu", [0, 45, 5]),
        ("myopic_assignment", [0, 45, 5]),
    ],
)
def test_the_rules_by_hand(hand_day: Day, allocator: str, starts: list[int]) -> None:
    np.testing.assert_array_equal(simulate(hand_day, allocator=allocator).schedule.start, starts)


def test_gcmu_prefers_value_per_minute_to_value(hand_day: Day) -> None:
    value = np.array([10.0, 100.0, 200.0])
    day = replace(hand_day, arrays=hand_day.arrays._replace(value=value, stake=value))

    np.testing.assert_array_equal(simulate(day, allocator="gcmu").schedule.start, [0, 5, 6])
    np.testing.assert_array_equal(simulate(day, allocator="greedy_idle").schedule.start, [0, 45, 5])


def test_myopic_assignment_finds_the_pair_that_a_greedy_rule_misses(hand_day: Day) -> None:
    """Two ads, two moderators; the best single pair leaves a bad rest."""
    arrays = hand_day.arrays._replace(
        arrival=np.array([0, 0]),
        value=np.array([100.0, 99.0]),
        stake=np.array([100.0, 99.0]),
        work=np.array([1.0, 1.0]),
        market=np.array([0, 1]),
        pace=np.ones((2, 2)),
        error=np.array([[0.0, 0.1], [0.05, 1.0]]),
        shift_start=np.array([0, 0]),
        shift_end=np.array([1440, 1440]),
        break_start=np.array([0, 0]),
        break_end=np.array([0, 0]),
        first=np.array([0, 2, 3]),
        members=np.array([0, 1, 0]),
        effort=np.ones(2),
        ticket=np.full((2, 2), 0.5),
    )
    two = np.zeros(2, np.int64)
    day = replace(hand_day, arrays=arrays, ad_row=two, copy=two, moderator_row=two, risk=np.zeros(2))

    np.testing.assert_array_equal(simulate(day, allocator="myopic_assignment").schedule.moderator, [1, 0])
    assert simulate(day, allocator="greedy_idle").schedule.moderator[0] == 0


def test_learnt_prices_beat_every_rule_without_prices(small_workbook: Workbook) -> None:
    losses: dict[str, list[float]] = {}
    for seed in range(3):
        day = draw_day(small_workbook, DayConfig(volume=0.3, n_moderators=40), seed=seed)
        for name in ("priced_online", "fifo", "edf", "gcmu", "greedy_farseeing"):
            losses.setdefault(name, []).append(simulate(day, allocator=name).loss.a2)

    best = np.mean(losses.pop("priced_online"))
    assert all(best < np.mean(others) for others in losses.values())


@pytest.mark.slow
@pytest.mark.parametrize("allocator", allocator_names())
def test_no_allocator_beats_the_bound_on_many_seeds(small_workbook: Workbook, allocator: str) -> None:
    for seed in range(20):
        config = DayConfig(volume=0.1, n_moderators=40, handling_sigma=0.3 * (seed % 2), break_minutes=20 * (seed % 3))
        day = draw_day(small_workbook, config, seed=seed)
        bound = lower_bound(day, n_steps=40)
        result = simulate(day, allocator=allocator)

        assert bound.a1 <= result.loss.a1
        assert bound.a2 <= result.loss.a2


def test_plans_of_the_sources_day_are_full_and_those_of_larger_runs_are_rarer_and_shorter(hand_day: Day) -> None:
    def effort_of(ads_a_day: int, moderators: int, days: int = 1) -> tuple[int, int]:
        n_ads = ads_a_day * days
        arrays = hand_day.arrays._replace(arrival=np.zeros(n_ads, np.int64), horizon=1440 * days)
        rows, people = np.zeros(n_ads, np.int64), np.zeros(moderators, np.int64)
        return effort(replace(hand_day, arrays=arrays, ad_row=rows, copy=rows, moderator_row=people), 5, 64)

    assert effort_of(15_000, 350) == effort_of(30_000, 350) == effort_of(15_000, 350, days=3) == (5, 64)
    assert effort_of(40_000, 1_414) == effort_of(40_000, 1_414, days=2) == (48, 8)
    assert effort_of(1_000_000, 1_414) == (60, 8)
    assert effort_of(0, 1, days=0) == (5, 64)


def test_an_old_ad_that_found_no_place_still_gets_one_when_there_is_room(hand_day: Day) -> None:
    """The only moderator begins after ten hours: until then nobody can take the ad, and it is looked at seldom."""
    arrays = hand_day.arrays._replace(shift_start=np.array([600]), shift_end=np.array([660]))
    prices = np.zeros((1, 144))
    prices[0, :70] = 1e6
    schedule = run_priced_queues(arrays, value_rank(arrays), prices, 10, 1, 1.0, 64, 1.0, 30)

    assert schedule.start.tolist() == [-1, -1, -1]
    prices[0, 62:] = 0
    schedule = run_priced_queues(arrays, value_rank(arrays), prices, 10, 1, 1.0, 64, 1.0, 30)
    assert min(schedule.start[schedule.start >= 0]) >= 620
