"""`--compat seed`: every fault of the source's accounting (spec/review §1.5) is there, and only there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from adyton.review.arrivals import Pattern
from adyton.review.compat import SOURCE_POLICIES, draw_source_day, simulate_as_source
from adyton.review.day import DayConfig, draw_day
from adyton.review.engine.source_accounting import GREEDY_IDLE, SourceArrays, play_source_day
from adyton.review.errors import DayConfigError, UnknownAllocatorError
from adyton.review.simulation import simulate
from adyton.review.tables import Workbook
from adyton.review.workbook import load_default_workbook

PUBLISHED = {
    "random": (274_985, 1_295_652, 1_409_513, 206_028, 1_697_634),
    "greedy_idle": (79_986, 113_323, 117_268, 92_796, 331_771),
    "greedy": (76_503, 83_996, 79_964, 72_265, 67_943),
    "greedy_farseeing": (33_330, 39_590, 54_985, 50_810, 29_520),
}
"""Losses of the source's own code on its own workbook, five seeds, even, v = 1, p = 1 (spec/review §1.3)."""
SMALL = DayConfig(volume=0.15, n_moderators=40)


@pytest.fixture(scope="module")
def arrays(small_workbook: Workbook) -> SourceArrays:
    return draw_source_day(small_workbook, SMALL, seed=2)


def one_moderator(n_minutes: int, arriving: dict[int, list[int]], *, limit: float, value: list[float]) -> SourceArrays:
    """Ads of two minutes' work and one moderator who is wrong half of the time."""
    n = len(value)
    counts = [len(arriving.get(minute, [])) for minute in range(n_minutes)]
    return SourceArrays(
        value=np.array(value),
        stake=np.array(value),
        work=np.full(n, 2.0),
        market=np.zeros(n, np.int64),
        arrival_of=np.cumsum([0, *counts]).astype(np.int64),
        arriving=np.array([ad for minute in sorted(arriving) for ad in arriving[minute]], dtype=np.int64),
        pace=np.ones((1, 1)),
        error=np.full((1, 1), 0.5),
        limit=np.array([limit]),
        first=np.array([0, 1]),
        members=np.array([0]),
        wait_cost=0.01,
    )


def test_a_dropped_ad_costs_the_source_nothing() -> None:
    day = one_moderator(10, {0: [0]}, limit=1.0, value=[100.0])

    result = simulate_as_source(day, allocator="greedy")

    assert (result.n_dropped, result.loss) == (1, 0.0)


def test_a_refused_assignment_is_charged_again_every_minute() -> None:
    day = one_moderator(10, {0: [0]}, limit=1.5, value=[100.0])

    tally = play_source_day(day, GREEDY_IDLE)

    # The moderator is idle and listed until its clock has passed the limit: three minutes, three charges of 50.
    assert tally.inaccuracy == pytest.approx(50 * tally.n_refused)
    assert tally.n_refused == 3


def test_the_day_ends_in_the_first_minute_without_an_open_ad() -> None:
    day = one_moderator(10, {5: [0]}, limit=100.0, value=[100.0])

    result = simulate_as_source(day, allocator="greedy")

    assert (result.n_minutes, result.loss, result.n_arrivals) == (1, 0.0, 0)


def test_an_uneven_day_of_the_source_mostly_ends_at_once(small_workbook: Workbook) -> None:
    config = replace(SMALL, pattern=Pattern.UNEVEN)
    results = [
        simulate_as_source(draw_source_day(small_workbook, config, seed=s), allocator="greedy") for s in range(10)
    ]

    assert sum(r.n_minutes < 1440 and r.loss < 1 for r in results) >= 8
    corrected = simulate(draw_day(small_workbook, config, seed=0), allocator="greedy")
    assert corrected.schedule.committed.max() > 1000


def test_an_ad_that_arrives_twice_is_reviewed_and_charged_twice() -> None:
    day = one_moderator(20, {0: [0], 1: [0]}, limit=100.0, value=[100.0])

    result = simulate_as_source(day, allocator="greedy")

    # Assigned in minute 0 and, as a new arrival, again in minute 1; done two minutes after each start.
    assert result.inaccuracy_loss == pytest.approx(2 * 50)
    assert (result.n_arrivals, result.n_distinct) == (2, 1)
    # One minute of waiting, seen by one entry, counted for both arrivals.
    assert result.wait_loss == pytest.approx(2 * 1.0)


def test_a_moderator_loses_a_minute_when_the_one_before_it_leaves() -> None:
    """Two moderators; the first may work one minute only. The second's task is done one minute late."""
    alone = one_moderator(40, {0: [0], 1: [1], 2: [2]}, limit=np.nan, value=[9.0, 8.0, 7.0])
    both = alone._replace(
        pace=np.ones((2, 1)),
        error=np.full((2, 1), 0.5),
        limit=np.array([1.0, np.nan]),
        first=np.array([0, 2]),
        members=np.array([0, 1]),
    )

    first, second = play_source_day(alone, 2), play_source_day(both, 2)

    np.testing.assert_array_equal(second.done_at - first.done_at, [0, 1, 1])


def test_the_stream_repeats_ads_in_compatibility_only(arrays: SourceArrays, small_workbook: Workbook) -> None:
    result = simulate_as_source(arrays, allocator="greedy")
    corrected = draw_day(small_workbook, SMALL, seed=2)

    assert result.n_distinct < 0.75 * result.n_arrivals
    assert len(set(zip(corrected.ad_row, corrected.copy, strict=True))) == corrected.n_ads


def test_punishment_changes_no_priority_in_the_source(small_workbook: Workbook) -> None:
    mild, harsh = (draw_source_day(small_workbook, replace(SMALL, punishment=p), seed=2) for p in (1.0, 5.0))

    np.testing.assert_array_equal(mild.value, harsh.value)
    assert np.any(mild.stake < harsh.stake)


def test_the_same_seed_gives_the_same_loss_and_another_seed_another(small_workbook: Workbook) -> None:
    losses = [
        simulate_as_source(draw_source_day(small_workbook, SMALL, seed=s), allocator="random").loss for s in (1, 1, 2)
    ]

    assert losses[0] == losses[1] != losses[2]


def test_more_ads_than_the_workbook_holds_fail_as_in_the_source(small_workbook: Workbook) -> None:
    with pytest.raises(DayConfigError, match="different ads"):
        draw_source_day(small_workbook, DayConfig(volume=1.0), seed=1)


def test_only_the_four_allocators_of_the_source_take_part(arrays: SourceArrays) -> None:
    with pytest.raises(UnknownAllocatorError, match="priced_queues"):
        simulate_as_source(arrays, allocator="priced_queues")


@pytest.mark.parametrize("option", [{"handling_sigma": 0.1}, {"break_minutes": 5}, {"no_show": 0.1}])
def test_chance_that_the_source_does_not_have_is_refused(small_workbook: Workbook, option: dict[str, float]) -> None:
    with pytest.raises(DayConfigError, match="source's day"):
        draw_source_day(small_workbook, replace(SMALL, **option), seed=1)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("allocator", list(SOURCE_POLICIES))
def test_published_losses_are_met_within_their_95_percent_intervals(allocator: str) -> None:
    """On the shipped workbook, which has the shape of the source's but not its rows."""
    workbook = load_default_workbook()
    losses = [
        simulate_as_source(draw_source_day(workbook, DayConfig(), seed=s), allocator=allocator).loss
        for s in range(1, 11)
    ]
    published = np.array(PUBLISHED[allocator])
    half_width = 2.776 * np.std(published, ddof=1) / np.sqrt(len(published))

    assert abs(np.mean(losses) - np.mean(published)) <= half_width
