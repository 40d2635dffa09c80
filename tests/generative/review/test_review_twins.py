"""Compiled policies and their slow twins take the same decisions on generated days."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adyton.kernel.chance import stream
from adyton.review.day import Day, DayConfig, draw_day
from adyton.review.engine.moves import Schedule, value_rank
from adyton.review.engine.priced_online import run_priced_online
from adyton.review.engine.priced_pull import run_priced_pull
from adyton.review.engine.priced_queues import run_priced_queues
from adyton.review.generator import generate_workbook
from adyton.review.naive import Task, play
from adyton.review.naive_prices import play_priced_online, play_priced_pull, play_priced_queues
from adyton.review.simulation import simulate

WORKBOOK = generate_workbook(800, 120, stream(11, "twins"))
DAYS = st.builds(
    lambda seed, n_moderators, horizon, volume, break_minutes, sigma, is_by_time_zone: draw_day(
        WORKBOOK,
        DayConfig(
            n_moderators=n_moderators,
            horizon=horizon,
            volume=volume,
            break_minutes=break_minutes,
            handling_sigma=sigma,
            no_show=0.1,
            is_shift_by_time_zone=is_by_time_zone,
        ),
        seed=seed,
    ),
    seed=st.integers(0, 10_000),
    n_moderators=st.integers(1, 15),
    horizon=st.integers(10, 300),
    volume=st.sampled_from([0.05, 0.15]),
    break_minutes=st.sampled_from([0, 20]),
    sigma=st.sampled_from([0.0, 0.5]),
    is_by_time_zone=st.booleans(),
)
UNSERVED = st.sampled_from([0.0, 1.0])


def assert_equal(compiled: Schedule, tasks: list[Task]) -> None:
    """Event for event: who, decided when, begun when, done when."""
    by_ad = {task.ad: task for task in tasks}
    assert len(by_ad) == len(tasks)
    assert set(np.flatnonzero(compiled.moderator >= 0)) == set(by_ad)
    for ad, task in by_ad.items():
        found = (compiled.moderator[ad], compiled.committed[ad], compiled.start[ad], compiled.done[ad])
        assert found == (task.moderator, task.committed, task.start, task.done)


def random_prices(day: Day, bin_minutes: int, level: float) -> np.ndarray:
    """float64[M, B]: from nothing to a few times what an ad is worth per minute; a fifth of the bins are free."""
    shape = (day.n_moderators, -(-day.arrays.horizon // bin_minutes))
    rng = stream(day.n_ads, "prices")
    return level * rng.gamma(1.0, 1.0, shape) * (rng.random(shape) > 0.2)


@pytest.mark.parametrize("allocator", ["random", "greedy_idle", "greedy", "greedy_farseeing", "fifo", "edf", "gcmu"])
@settings(max_examples=15, deadline=None)
@given(day=DAYS)
def test_compiled_and_naive_schedules_are_equal(allocator: str, day: Day) -> None:
    assert_equal(simulate(day, allocator=allocator).schedule, play(day.arrays, allocator))


@settings(max_examples=30, deadline=None)
@given(
    day=DAYS,
    level=st.sampled_from([0.0, 0.02, 0.2]),
    bin_minutes=st.sampled_from([10, 60]),
    patience=st.integers(0, 60),
    refresh=st.integers(1, 20),
    hold=st.sampled_from([0.0, 0.5, 1.0]),
    unserved=UNSERVED,
)
def test_the_pull_index_agrees_with_its_twin(
    day: Day, level: float, bin_minutes: int, patience: int, refresh: int, hold: float, unserved: float
) -> None:
    price = random_prices(day, bin_minutes, level)

    compiled = run_priced_pull(day.arrays, price, bin_minutes, patience, unserved, refresh, hold)

    assert_equal(compiled, play_priced_pull(day.arrays, price.tolist(), bin_minutes, patience, unserved, refresh, hold))


@settings(max_examples=30, deadline=None)
@given(
    day=DAYS,
    level=st.sampled_from([0.0, 0.02, 0.2]),
    bin_minutes=st.sampled_from([10, 60]),
    replan=st.integers(1, 12),
    max_queue=st.sampled_from([1, 2, 5, 64]),
    overtaking=st.sampled_from([0.0, 1.0, 2.5]),
    old_after=st.sampled_from([0, 10, 1440]),
    unserved=UNSERVED,
)
def test_priced_queues_agree_with_their_twin(
    day: Day,
    level: float,
    bin_minutes: int,
    replan: int,
    max_queue: int,
    overtaking: float,
    old_after: int,
    unserved: float,
) -> None:
    price = random_prices(day, bin_minutes, level)

    rules = (bin_minutes, replan, unserved, max_queue, overtaking, old_after)
    compiled = run_priced_queues(day.arrays, value_rank(day.arrays), price, *rules)

    assert_equal(compiled, play_priced_queues(day.arrays, price.tolist(), *rules))


@settings(max_examples=20, deadline=None)
@given(
    day=DAYS,
    replan=st.integers(1, 12),
    max_queue=st.sampled_from([2, 64]),
    overtaking=st.sampled_from([0.0, 1.0]),
    old_after=st.sampled_from([0, 10, 1440]),
    memory=st.sampled_from([100.0, 6000.0]),
    unserved=UNSERVED,
)
def test_prices_learnt_online_agree_with_their_twin(
    day: Day, replan: int, max_queue: int, overtaking: float, old_after: int, memory: float, unserved: float
) -> None:
    rules = (replan, unserved, max_queue, overtaking, old_after, memory)
    compiled = run_priced_online(day.arrays, value_rank(day.arrays), *rules)

    assert_equal(compiled, play_priced_online(day.arrays, *rules))
