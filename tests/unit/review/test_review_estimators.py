"""Estimators are replaced by name or by a class of one's own, and a bad one is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from adyton.review.day import DayConfig, draw_day
from adyton.review.errors import DayConfigError, UnknownAllocatorError
from adyton.review.estimators import CautiousEstimators, Estimators, SourceEstimators, find_estimators
from adyton.review.simulation import simulate
from adyton.review.tables import AdTable, FloatArray, ModeratorTable, Workbook

CONFIG = DayConfig(volume=0.1, n_moderators=40, punishment=3.0)
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "review-estimators.md"


class QuickPromotions(SourceEstimators):
    """A column that the reader does not know decides; the fastest pair counts most."""

    def work(self, ads: AdTable) -> FloatArray:
        return np.where(ads.properties["task_type_en"] == "Promote", 0.1, 2.0)

    def unit_time_value(self, profit: FloatArray, minutes: FloatArray) -> FloatArray:
        return (profit > 0) / minutes


class OverAccurate(SourceEstimators):
    def accuracy(self, moderators: ModeratorTable, n_markets: int) -> FloatArray:
        return np.full((len(moderators), n_markets), 1.5)


class NoRevenue(SourceEstimators):
    def revenue(self, ads: AdTable) -> FloatArray:
        return np.full(len(ads), np.nan)


class Empty:
    """Not an estimator set."""


def test_a_users_own_class_is_found_by_module_and_name(
    small_workbook: Workbook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        "from adyton.review.estimators import SourceEstimators",
        "import numpy as np",
        "class Half(SourceEstimators):",
    ]
    lines += ["    def accuracy(self, moderators, n_markets):"]
    lines += ["        return np.full((len(moderators), n_markets), 0.5)"]
    (tmp_path / "own_estimators_of_mine.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)

    day = draw_day(small_workbook, CONFIG, seed=1, estimators=find_estimators("own_estimators_of_mine:Half"))

    assert np.all(day.arrays.error == 0.5)


def test_an_unknown_column_decides_through_properties(small_workbook: Workbook) -> None:
    source, own = (
        draw_day(small_workbook, CONFIG, seed=1, estimators=e) for e in (SourceEstimators(), QuickPromotions())
    )

    kind = small_workbook.ads.properties["task_type_en"][own.ad_row]
    assert set(own.arrays.work[kind == "Promote"]) == {0.1}
    assert set(own.arrays.work[kind != "Promote"]) == {2.0}
    np.testing.assert_array_equal(source.ad_row, own.ad_row)


def test_unit_time_value_decides_the_myopic_assignment(small_workbook: Workbook) -> None:
    class OnlyUnitTime(SourceEstimators):
        def unit_time_value(self, profit: FloatArray, minutes: FloatArray) -> FloatArray:
            return QuickPromotions().unit_time_value(profit, minutes)

    schedules = [
        simulate(draw_day(small_workbook, CONFIG, seed=1, estimators=e), allocator="myopic_assignment").schedule
        for e in (SourceEstimators(), OnlyUnitTime())
    ]

    assert not np.array_equal(schedules[0].moderator, schedules[1].moderator)
    assert np.sum(schedules[1].moderator >= 0) > np.sum(schedules[0].moderator >= 0)


def test_cautious_risk_never_falls_and_punishment_gives_priority(small_workbook: Workbook) -> None:
    """The seventh fault of the source: value ignores the punishment factor, and risk falls with first punishments."""
    ads = small_workbook.ads
    ladder = AdTable(
        ads.ad_id[:9],
        ads.country[:9],
        np.ones(9),
        ads.baseline_st[:9],
        np.array([np.nan, 0, 1, 2, 3, 4, 8, 12, 16]),
        ads.start_hour[:9],
        ads.product_line[:9],
    )
    cautious, source = CautiousEstimators(), SourceEstimators()

    assert np.all(np.diff(cautious.risk(ladder)) >= 0)
    assert np.any(np.diff(source.risk(ladder)) < 0)
    assert np.all(np.diff(cautious.value(ladder, 3.0)) >= 0)
    assert cautious.value(ladder, 3.0)[-1] > cautious.value(ladder, 1.0)[-1]
    np.testing.assert_array_equal(source.value(ladder, 1.0), source.value(ladder, 3.0))


@pytest.mark.parametrize(("bad", "name"), [(OverAccurate(), "accuracy"), (NoRevenue(), "value")])
def test_estimates_outside_their_range_are_refused_by_name(
    small_workbook: Workbook, bad: Estimators, name: str
) -> None:
    with pytest.raises(DayConfigError, match=f"estimator of {name}"):
        draw_day(small_workbook, CONFIG, seed=1, estimators=bad)


@pytest.mark.parametrize(
    "name", ["nothing", "adyton.review.day:Nothing", "adyton.review.arrivals:Pattern", "json:JSONDecoder"]
)
def test_what_is_no_estimator_set_is_refused(name: str) -> None:
    with pytest.raises(UnknownAllocatorError):
        find_estimators(name)


def test_the_page_lists_every_method_and_its_example_runs(small_workbook: Workbook) -> None:
    text = PAGE.read_text()
    methods = {name for name in vars(Estimators) if not name.startswith("_")}
    assert set(re.findall(r"^\| `(\w+)\(", text, re.MULTILINE)) == methods

    found: dict[str, type[Estimators]] = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1), found)  # type: ignore[union-attr]
    work = found["LongAppeals"]().work(small_workbook.ads)
    kind = small_workbook.ads.properties["task_type_en"]
    np.testing.assert_allclose(work / small_workbook.ads.baseline_st, np.where(kind == "R&F", 2.0, 1.0))
