"""Intervals, paired differences and profiles of a comparison."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adyton.review.comparison.plan import PROFILE_MINUTES, Row, profiles
from adyton.review.comparison.summary import interval, summarise
from adyton.review.day import Day
from adyton.review.errors import DayConfigError
from adyton.review.simulation import simulate


def row(allocator: str, seed: int, a2: float) -> Row:
    return Row("even", 1.0, seed, allocator, a2, a2 / 2, a2, 10.0, 20.0, 0.5, 0.6, 1.0, 2.0, 3, 0.0)


def test_the_interval_is_students_t() -> None:
    found = interval([1.0, 2.0, 3.0])

    # t(0.975, 2) = 4.3027, s = 1
    assert found.mean == pytest.approx(2.0)
    assert found.half_width == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)
    assert not found.excludes_zero
    assert math.isnan(interval([1.0]).half_width)


def test_differences_are_paired_by_day_and_not_by_order() -> None:
    rows = [row("base", 1, 100), row("base", 2, 1000), row("other", 2, 990), row("other", 1, 90)]

    best = summarise(rows, "base")[0]

    assert best.allocator == "other"
    assert best.difference_a2.mean == pytest.approx(-10)
    assert best.difference_a2.half_width == pytest.approx(0)
    assert best.difference_a2.excludes_zero
    assert best.worst_a2 == pytest.approx(0.99)
    assert best.gap_a2 == pytest.approx(100 * (540 / 20 - 1))


def test_a_reference_that_is_not_compared_is_refused() -> None:
    with pytest.raises(DayConfigError, match="magic"):
        summarise([row("base", 1, 100)], "magic")


def test_profiles_agree_with_littles_law_and_with_the_utilisation(small_day: Day) -> None:
    result = simulate(small_day, allocator="priced_queues")
    queue, busy = profiles(small_day, result.schedule)
    schedule, arrays = result.schedule, small_day.arrays

    assert len(queue) == len(busy) == 1440 // PROFILE_MINUTES
    end = np.where(schedule.moderator >= 0, np.minimum(schedule.done, 1440), 1440)
    assert sum(queue) * PROFILE_MINUTES == pytest.approx(np.sum(end - arrays.arrival))
    assert 0 <= min(busy) <= max(busy) <= 1
