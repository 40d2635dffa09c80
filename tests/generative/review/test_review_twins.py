"""Compiled policies and their slow twins take the same decisions on generated days."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adyton.kernel.chance import stream
from adyton.review.day import Day, DayConfig, draw_day
from adyton.review.generator import generate_workbook
from adyton.review.naive import play
from adyton.review.simulation import simulate

WORKBOOK = generate_workbook(800, 120, stream(11, "twins"))


@pytest.mark.parametrize("allocator", ["random", "greedy_idle", "greedy", "greedy_farseeing"])
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_moderators=st.integers(1, 15),
    horizon=st.integers(1, 300),
    break_minutes=st.sampled_from([0, 20]),
    sigma=st.sampled_from([0.0, 0.5]),
    is_staggered=st.booleans(),
)
def test_compiled_and_naive_schedules_are_equal(
    allocator: str, seed: int, n_moderators: int, horizon: int, break_minutes: int, sigma: float, is_staggered: bool
) -> None:
    config = DayConfig(
        n_moderators=n_moderators,
        horizon=horizon,
        volume=0.1,
        break_minutes=break_minutes,
        handling_sigma=sigma,
        no_show=0.1,
        is_shift_staggered=is_staggered,
    )
    day: Day = draw_day(WORKBOOK, config, seed=seed)

    compiled = simulate(day, allocator=allocator).schedule

    tasks = {task.ad: task for task in play(day.arrays, allocator)}
    assert set(np.flatnonzero(compiled.moderator >= 0)) == set(tasks)
    for ad, task in tasks.items():
        found = (compiled.moderator[ad], compiled.committed[ad], compiled.start[ad], compiled.done[ad])
        assert found == (task.moderator, task.committed, task.start, task.done)
