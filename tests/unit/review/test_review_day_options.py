"""Options of a day: each has its own stream of chance, so that turning one on changes nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adyton.review.arrivals import ArrivalStream, read_arrivals
from adyton.review.compat import draw_source_day
from adyton.review.day import DayConfig, draw_day
from adyton.review.errors import DayConfigError
from adyton.review.simulation import SimulationOptions, simulate
from adyton.review.tables import Workbook
from adyton.review.time_zones import utc_offset_minutes

CONFIG = DayConfig(volume=0.08, n_moderators=60)
ALL = replace(CONFIG, handling_sigma=0.5, break_minutes=30, no_show=0.2, is_shift_by_time_zone=True)
OPTIONS = {
    "handling_sigma": {"effort"},
    "break_minutes": {"break_start", "break_end"},
    "no_show": {"shift_end"},
    "is_shift_by_time_zone": {"shift_start", "shift_end", "break_start", "break_end"},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_turned_off_changes_its_own_arrays_only(small_workbook: Workbook, option: str) -> None:
    with_all = draw_day(small_workbook, ALL, seed=5)
    without = draw_day(small_workbook, replace(ALL, **{option: getattr(CONFIG, option)}), seed=5)

    changed = {
        name
        for name, one, other in zip(with_all.arrays._fields, with_all.arrays, without.arrays, strict=True)
        if not np.array_equal(one, other)
    }
    # A break lies within the shift, so absence and shift times move it too.
    assert OPTIONS[option] <= changed | {"shift_end"}
    assert changed <= OPTIONS[option] | ({"break_start", "break_end"} if option == "no_show" else set())


def test_another_allocator_meets_the_same_truths_and_slips(small_workbook: Workbook) -> None:
    day = draw_day(small_workbook, ALL, seed=5)
    options = SimulationOptions(draw_verdicts=True)
    one, other = (
        {d.ad: d for d in simulate(day, allocator=name, seed=5, options=options).decisions}
        for name in ("greedy", "fifo")
    )

    both = set(one) & set(other)
    assert len(both) > 100
    assert all(one[ad].is_harmful == other[ad].is_harmful for ad in both)
    same = [ad for ad in both if one[ad].moderator_id == other[ad].moderator_id]
    assert same
    assert all(one[ad].verdict == other[ad].verdict for ad in same)


def test_shifts_begin_in_the_local_morning_and_keep_their_length(small_workbook: Workbook) -> None:
    plain = draw_day(small_workbook, CONFIG, seed=2)
    zoned = draw_day(small_workbook, replace(CONFIG, is_shift_by_time_zone=True), seed=2)
    start, end = zoned.arrays.shift_start, zoned.arrays.shift_end

    np.testing.assert_array_equal(end - start, plain.arrays.shift_end - plain.arrays.shift_start)
    assert np.all((start >= 0) & (end <= 1440))
    market = [small_workbook.moderators.markets[row][0] for row in zoned.moderator_row]
    local = (start + np.array([utc_offset_minutes(m) for m in market])) % 1440
    is_moved = end == 1440
    assert np.sum(~is_moved) > 10
    assert np.all((local[~is_moved] >= 7 * 60) & (local[~is_moved] <= 10 * 60))
    assert len(set(start)) > 5


def test_offsets_of_large_markets() -> None:
    assert [utc_offset_minutes(m) for m in ("US", "BR", "GB", "SA", "IN", "VN", "JP", "nowhere")] == [
        -300, -180, 0, 180, 330, 420, 540, 0,
    ]  # fmt: skip


def test_no_task_begins_in_a_break_or_with_someone_absent(small_workbook: Workbook) -> None:
    day = draw_day(small_workbook, ALL, seed=5)
    absent = day.arrays.shift_end == day.arrays.shift_start
    result = simulate(day, allocator="priced_queues")

    assert 5 < np.sum(absent) < 25
    assert not set(result.schedule.moderator[result.schedule.moderator >= 0]) & set(np.flatnonzero(absent))


def test_a_stream_may_name_its_ads(small_workbook: Workbook, tmp_path: Path) -> None:
    names = [str(small_workbook.ads.ad_id[row]) for row in (7, 3, 7)]
    path = tmp_path / "stream.csv"
    path.write_text("minute,ad_id\n" + "".join(f"{m},{name}\n" for m, name in zip((30, 10, 20), names, strict=True)))

    day = draw_day(small_workbook, CONFIG, seed=1, arrivals=read_arrivals(path))

    assert day.ad_row.tolist() == [3, 7, 7]
    assert day.arrays.arrival.tolist() == [10, 20, 30]
    assert [day.ad_id(ad) for ad in range(3)] == [names[1], names[0], f"{names[0]}#2"]


def test_a_stream_of_ads_that_the_workbook_lacks_is_refused(small_workbook: Workbook) -> None:
    per_minute = np.zeros(1440, dtype=np.int64)
    per_minute[5] = 2
    arrivals = ArrivalStream(per_minute, ("nobody's", str(small_workbook.ads.ad_id[0])))

    with pytest.raises(DayConfigError, match="1 of the 2 ads") as caught:
        draw_day(small_workbook, CONFIG, seed=1, arrivals=arrivals)
    assert "nobody" not in str(caught.value)
    with pytest.raises(DayConfigError, match="cannot name them"):
        draw_source_day(small_workbook, CONFIG, seed=1, arrivals=arrivals)


@pytest.mark.parametrize("text", ["minute,ad_id\n3,\n", "minute,ads,ad_id\n3,1,x\n", "minute,ad_id\n1440,x\n", ""])
def test_a_bad_stream_of_named_ads_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.csv").write_text(text)

    with pytest.raises(DayConfigError):
        read_arrivals(tmp_path / "s.csv")


@pytest.mark.parametrize(
    "wrong",
    [
        {"handling_sigma": float("nan")},
        {"handling_sigma": 1e5},
        {"break_minutes": 10**20},
        {"break_minutes": -1},
        {"punishment": 1e308},
        {"no_show": float("nan")},
    ],
)
def test_a_number_that_no_day_can_be_made_of_is_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(DayConfigError, match=next(iter(wrong))):
        replace(CONFIG, **wrong)  # type: ignore[arg-type]
