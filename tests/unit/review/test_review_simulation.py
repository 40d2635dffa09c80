"""One simulated day: schedules obey the rules, losses are what they say, the bound lies below all of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from adyton.kernel.audit import verify_chain
from adyton.kernel.ids import BuyerId
from adyton.review.allocators.registry import allocator_names
from adyton.review.arrivals import ArrivalStream, Pattern
from adyton.review.bound import lower_bound
from adyton.review.day import Day, DayConfig, draw_day
from adyton.review.engine.moves import Schedule
from adyton.review.errors import DayConfigError, ScheduleError, UnknownAllocatorError
from adyton.review.simulation import SimulationOptions, audit_schedule, losses, simulate
from adyton.review.tables import Workbook
from adyton.review.verdicts import Creative, Verdict, approve, attach_creatives


@pytest.mark.parametrize("allocator", allocator_names())
def test_no_allocator_beats_the_bound(small_day: Day, allocator: str) -> None:
    result = simulate(small_day, allocator=allocator)
    bound = lower_bound(small_day, n_steps=60)

    assert bound.a1 <= result.loss.a1
    assert bound.a2 <= result.loss.a2
    assert 0 < bound.a1 <= bound.a2


@pytest.mark.parametrize("allocator", allocator_names())
def test_decisions_do_not_depend_on_ads_that_have_not_arrived(small_day: Day, allocator: str) -> None:
    """The second half of the day is replaced by other ads; everything committed in the first half stays."""
    arrays = small_day.arrays
    middle = int(np.searchsorted(arrays.arrival, 700))
    value = arrays.value.copy()
    value[middle:] = value[middle:][::-1] * 3
    other = replace(small_day, arrays=arrays._replace(value=value))
    first, second = (simulate(day, allocator=allocator).schedule for day in (small_day, other))

    early = (first.committed >= 0) & (first.committed < 700)
    assert np.sum(early) > 50
    np.testing.assert_array_equal(first.moderator[early], second.moderator[early])
    np.testing.assert_array_equal(first.start[early], second.start[early])


def test_losses_by_hand(small_day: Day) -> None:
    arrays = small_day.arrays
    n = small_day.n_ads
    nobody = Schedule(*(np.full(n, -1) for _ in range(4)))
    wait = float(np.sum(arrays.value * (1440 - arrays.arrival) / 3000))

    loss = losses(small_day, nobody)

    assert loss.seed_loss == 0.0
    assert loss.a1 == pytest.approx(wait)
    assert loss.a2 == pytest.approx(wait + np.sum(arrays.value))


@pytest.mark.parametrize(
    ("field", "change", "rule"),
    [
        ("start", -10_000, "before it is committed"),
        ("committed", -10_000, "before it arrives"),
        ("done", 1, "wrong duration"),
    ],
)
def test_the_audit_finds_a_cheating_schedule(small_day: Day, field: str, change: int, rule: str) -> None:
    schedule = simulate(small_day, allocator="greedy").schedule
    column = getattr(schedule, field).copy()
    column[np.flatnonzero(schedule.moderator >= 0)[3]] += change

    with pytest.raises(ScheduleError, match=rule):
        audit_schedule(small_day, schedule._replace(**{field: column}))


def test_the_audit_finds_overlaps_and_foreign_markets(small_day: Day) -> None:
    schedule = simulate(small_day, allocator="greedy").schedule
    moderator = schedule.moderator.copy()
    moderator[moderator >= 0] = moderator.max()

    with pytest.raises(ScheduleError):
        audit_schedule(small_day, schedule._replace(moderator=moderator))


def test_the_same_seed_gives_the_same_day_and_another_seed_another(small_workbook: Workbook) -> None:
    config = DayConfig(volume=0.05, n_moderators=30)
    first, again, other = (draw_day(small_workbook, config, seed=seed) for seed in (1, 1, 2))

    np.testing.assert_array_equal(first.ad_row, again.ad_row)
    assert not np.array_equal(first.arrays.value[:20], other.arrays.value[:20])


def test_each_ad_arrives_once_until_the_workbook_is_used_up(small_workbook: Workbook) -> None:
    day = draw_day(small_workbook, DayConfig(volume=0.5, n_moderators=30), seed=1)

    ids = [day.ad_id(ad) for ad in range(day.n_ads)]
    assert day.n_ads > len(small_workbook.ads)
    assert len(set(ids)) == len(ids)
    assert max(day.copy) == 2


@pytest.mark.parametrize("pattern", list(Pattern))
def test_every_pattern_brings_about_as_many_ads_as_asked(small_workbook: Workbook, pattern: Pattern) -> None:
    day = draw_day(small_workbook, DayConfig(pattern=pattern, volume=1, n_moderators=30), seed=4)

    assert 0.93 * 15_000 < day.n_ads <= 15_000
    assert np.all(np.diff(day.arrays.arrival) >= 0)


def test_a_minute_without_arrivals_does_not_end_the_day(small_workbook: Workbook) -> None:
    """The source stopped at the first minute in which no ad was open."""
    per_minute = np.zeros(1440, dtype=np.int64)
    per_minute[600] = 5
    day = draw_day(small_workbook, DayConfig(n_moderators=150), seed=1, arrivals=ArrivalStream(per_minute))

    result = simulate(day, allocator="greedy")
    assert result.loss.a2 > 0
    assert result.finished_fraction > 0


@pytest.mark.parametrize(
    "bad", [{"volume": 0}, {"punishment": -1}, {"n_moderators": 0}, {"no_show": 2}, {"handling_sigma": -1}]
)
def test_a_day_that_cannot_be_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(DayConfigError):
        DayConfig(**bad)  # type: ignore[arg-type]


def test_an_unknown_allocator_is_refused_with_the_list(small_day: Day) -> None:
    with pytest.raises(UnknownAllocatorError) as caught:
        simulate(small_day, allocator="magic")
    assert "priced_queues" in str(caught.value.hint)


def test_only_ads_with_an_accepting_verdict_are_approved(small_day: Day) -> None:
    result = simulate(small_day, allocator="priced_pull", seed=2, options=SimulationOptions(draw_verdicts=True))
    creatives = [
        Creative(f"c{i}", BuyerId("buyer.example"), f"https://buyer.example/{i}", 10, "USD") for i in range(300)
    ]
    attached = attach_creatives(small_day, creatives, seed=2)

    approvals = approve(small_day, result.decisions, attached, day_start_ms=1_000)

    accepted = {d.ad for d in result.decisions if d.verdict is Verdict.ACCEPTED and d.ad in attached}
    assert {ad.creative_id for ad in approvals.ads} == {attached[ad].creative_id for ad in accepted}
    assert 0 < len(approvals.ads) < len(approvals.audit) <= len(attached)
    verify_chain(approvals.audit)
    assert {ad.decision_hash for ad in approvals.ads} <= {entry.entry_hash for entry in approvals.audit}


def test_verdicts_are_right_as_often_as_the_moderators_are_accurate(small_workbook: Workbook) -> None:
    day = draw_day(small_workbook, DayConfig(volume=0.3, n_moderators=150), seed=8)
    result = simulate(day, allocator="greedy", seed=8, options=SimulationOptions(draw_verdicts=True))

    expected = np.mean([day.accuracy(d.ad, int(result.schedule.moderator[d.ad])) for d in result.decisions])
    right = np.mean([d.is_right for d in result.decisions])
    assert right == pytest.approx(expected, abs=3 * 0.5 / np.sqrt(len(result.decisions)))
