"""The generator keeps the shape of the source's data (spec/review §1.2), and of any workbook it is fitted to."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import TypeAdapter
from scipy.stats import chi2_contingency, ks_2samp

from adyton.kernel.chance import stream
from adyton.review.figures import MODERATOR_NUMBERS, TASK_TYPE, WorkbookFigures, figures_as_json, fit_workbook
from adyton.review.generator import (
    N_SOURCE_ADS,
    N_SOURCE_MODERATORS,
    eligible_per_ad,
    generate_workbook,
    resample_workbook,
)
from adyton.review.tables import AdTable, FloatArray, ModeratorTable, ObjectArray, Workbook
from adyton.review.workbook import load_default_workbook


@pytest.fixture(scope="module")
def shipped() -> Workbook:
    return load_default_workbook()


def test_revenue_has_the_heavy_tail_of_the_source(shipped: Workbook) -> None:
    revenue = shipped.ads.revenue
    top = np.sort(revenue)[-len(revenue) // 100 :]

    assert np.mean(revenue) == pytest.approx(23.9, rel=0.05)
    np.testing.assert_allclose(np.quantile(revenue, [0.5, 0.9, 0.95, 0.99]), [2.6, 26, 62, 492], rtol=0.05)
    assert np.quantile(revenue, 0.999) == pytest.approx(1992, rel=0.1)
    assert np.max(revenue) == pytest.approx(17144, rel=0.25)
    assert np.mean(revenue == 0) == pytest.approx(0.016, abs=0.001)
    assert np.sum(top) / np.sum(revenue) == pytest.approx(0.46, abs=0.03)


def test_baseline_time_has_its_spike_and_it_is_one_task_type(shipped: Workbook) -> None:
    baseline = shipped.ads.baseline_st
    spike = baseline == 0.54

    assert np.mean(spike) == pytest.approx(0.45, abs=0.005)
    assert set(shipped.ads.properties["task_type_en"][spike]) == {"Promote"}
    assert np.mean(baseline) == pytest.approx(1.21, abs=0.03)
    assert np.max(baseline) <= 7.59


def test_countries_punishments_and_product_lines_have_the_shares_of_the_source(shipped: Workbook) -> None:
    ads = shipped.ads
    shares = {country: float(np.mean(ads.country == country)) for country in ("US", "SA", "ID", "TH", "VN", "BR")}

    assert len(set(ads.country)) == 59
    assert list(shares.values()) == pytest.approx([0.098, 0.09, 0.088, 0.087, 0.086, 0.068], abs=0.006)
    assert np.mean(~np.isnan(ads.punish_num)) == pytest.approx(0.059, abs=0.003)
    assert np.nanmax(ads.punish_num) == 16
    lines = [float(np.mean(ads.product_line == line)) for line in ("Non-Auction Ads", "Auction Ads", "RIE")]
    assert lines == pytest.approx([0.46, 0.32, 0.22], abs=0.01)


def test_moderators_have_the_shape_of_the_source(shipped: Workbook) -> None:
    moderators = shipped.moderators
    n_markets = np.array([len(markets) for markets in moderators.markets])

    assert np.nanmean(moderators.accuracy) == pytest.approx(0.854, abs=0.005)
    assert np.nanstd(moderators.accuracy) == pytest.approx(0.122, abs=0.005)
    np.testing.assert_allclose(np.nanquantile(moderators.accuracy, [0.05, 0.5, 0.95]), [0.616, 0.893, 0.993], atol=0.01)
    assert np.sum(~np.isnan(moderators.accuracy)) == pytest.approx(1403, abs=2)
    assert np.nanmean(moderators.productivity) == pytest.approx(366, rel=0.02)
    assert np.nanstd(moderators.productivity) == pytest.approx(179, rel=0.02)
    assert np.sum(~np.isnan(moderators.productivity)) == pytest.approx(1285, abs=2)
    assert np.median(moderators.handling_time) == pytest.approx(81_351, rel=0.02)
    assert np.mean(moderators.handling_time) == pytest.approx(96_816, rel=0.1)
    assert np.median(moderators.utilisation[~np.isnan(moderators.utilisation)]) == pytest.approx(0.78, abs=0.01)
    assert (int(np.median(n_markets)), int(np.max(n_markets))) == (1, 13)
    assert np.mean(n_markets) == pytest.approx(2.4, abs=0.1)


def test_the_median_ad_has_77_eligible_moderators_and_none_has_zero(shipped: Workbook) -> None:
    eligible = eligible_per_ad(shipped)

    assert np.median(eligible) == pytest.approx(77, abs=2)
    assert np.min(eligible) > 0


def test_revenue_depends_on_task_class_and_country_as_in_the_source(shipped: Workbook) -> None:
    """Quick promotions earn 2.7 each, the rest 41; a third of all revenue comes from the US, a tenth of all ads."""
    ads = shipped.ads
    spike, in_us = ads.baseline_st == 0.54, ads.country == "US"

    assert np.mean(ads.revenue[spike]) == pytest.approx(2.7, abs=0.3)
    assert np.mean(ads.revenue[~spike]) == pytest.approx(41, abs=3)
    assert np.sum(ads.revenue[in_us]) / np.sum(ads.revenue) == pytest.approx(0.32, abs=0.03)


def test_the_shipped_workbook_is_what_its_note_says(shipped: Workbook) -> None:
    drawn = generate_workbook(N_SOURCE_ADS, N_SOURCE_MODERATORS, stream(2, "shipped workbook"))

    np.testing.assert_array_equal(drawn.ads.revenue, shipped.ads.revenue)
    np.testing.assert_array_equal(drawn.ads.country, shipped.ads.country)
    np.testing.assert_array_equal(drawn.moderators.accuracy, shipped.moderators.accuracy)
    assert drawn.moderators.markets == shipped.moderators.markets


AD_NUMBERS = ("revenue", "baseline_st", "start_hour", "punish_num")
AD_WORDS = ("country", "product_line")


def known(column: FloatArray) -> FloatArray:
    return column[~np.isnan(column)]


def shares_differ(one: ObjectArray, other: ObjectArray) -> bool:
    """Two-sample chi-square at 0.1 %."""
    names = sorted({*map(str, one), *map(str, other)})
    counts = np.array([[np.sum(column.astype(str) == name) for name in names] for column in (one, other)])
    return bool(chi2_contingency(counts[:, counts.sum(axis=0) > 0]).pvalue < 1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_a_resampled_workbook_passes_a_two_sample_test_in_each_column(small_workbook: Workbook, seed: int) -> None:
    """Kolmogorov-Smirnov for numbers, chi-square for words, each at 0.1 %; seeds are fixed, so this never flickers."""
    resampled = resample_workbook(small_workbook, stream(seed, "resample"))

    pairs = [(name, getattr(resampled.ads, name), getattr(small_workbook.ads, name)) for name in AD_NUMBERS]
    for name in MODERATOR_NUMBERS:
        pairs.append((name, getattr(resampled.moderators, name), getattr(small_workbook.moderators, name)))
    for name, column, other in pairs:
        assert ks_2samp(known(column), known(other), method="asymp").pvalue > 1e-3, name
        assert np.mean(np.isnan(column)) == pytest.approx(np.mean(np.isnan(other)), abs=0.01), name
    for name in AD_WORDS:
        assert not shares_differ(getattr(resampled.ads, name), getattr(small_workbook.ads, name)), name
    assert not shares_differ(resampled.ads.properties[TASK_TYPE], small_workbook.ads.properties[TASK_TYPE])
    sizes, others = ([len(m) for m in w.moderators.markets] for w in (resampled, small_workbook))
    assert ks_2samp(sizes, others).pvalue > 1e-3
    reviewed = [
        np.array([market for markets in w.moderators.markets for market in markets], dtype=object)
        for w in (resampled, small_workbook)
    ]
    assert not shares_differ(*reviewed)


def test_a_resampled_workbook_keeps_the_tail_the_spike_and_what_depends_on_what(small_workbook: Workbook) -> None:
    resampled = resample_workbook(small_workbook, stream(1, "resample"))

    def figures(workbook: Workbook) -> list[float]:
        ads, revenue = workbook.ads, workbook.ads.revenue
        spike, in_us = ads.baseline_st == 0.54, ads.country == "US"
        top = np.sort(revenue)[-len(revenue) // 100 :]
        return [
            float(np.mean(spike)),
            float(np.sum(top) / np.sum(revenue)),
            float(np.log(np.mean(revenue[~spike]) / np.mean(revenue[spike]))),
            float(np.log(np.median(revenue[in_us & ~spike]) / np.median(revenue[~in_us & ~spike]))),
            float(np.quantile(eligible_per_ad(workbook), 0.5) / 100),
        ]

    assert figures(resampled) == pytest.approx(figures(small_workbook), abs=0.15)


def test_no_drawn_row_is_a_row_of_the_workbook_it_was_fitted_to(small_workbook: Workbook) -> None:
    resampled = resample_workbook(small_workbook, stream(1, "resample"))

    rows = [
        {
            (c, float(r), float(b))
            for c, r, b in zip(w.ads.country, w.ads.revenue, w.ads.baseline_st, strict=True)
            if r > 50
        }
        for w in (resampled, small_workbook)
    ]
    assert len(rows[1]) > 100
    assert len(rows[0] & rows[1]) <= 2


def test_the_two_sample_test_finds_a_wrong_shape(small_workbook: Workbook) -> None:
    """The source's own synthetic data (absolute normal numbers) does not pass, nor do other shares."""
    revenue = small_workbook.ads.revenue
    wrong = np.abs(stream(2, "wrong").normal(np.mean(revenue), np.std(revenue), len(revenue)))

    assert ks_2samp(wrong, revenue).pvalue < 1e-6
    other = small_workbook.ads.country.copy()
    other[:300] = "US"
    assert shares_differ(other, small_workbook.ads.country)


def test_figures_survive_their_file(small_workbook: Workbook) -> None:
    figures = fit_workbook(small_workbook)

    assert TypeAdapter(WorkbookFigures).validate_json(figures_as_json(figures)) == figures


def test_a_workbook_of_a_few_rows_can_be_fitted(small_workbook: Workbook) -> None:
    ads, moderators = small_workbook.ads, small_workbook.moderators
    few = Workbook(
        AdTable(
            ads.ad_id[:2],
            ads.country[:2],
            np.zeros(2),
            ads.baseline_st[:2],
            np.full(2, np.nan),
            np.full(2, np.nan),
            ads.product_line[:2],
        ),
        ModeratorTable(
            moderators.moderator_id[:1],
            moderators.markets[:1],
            np.full(1, np.nan),
            np.full(1, np.nan),
            np.full(1, np.nan),
            np.full(1, 0.9),
        ),
    )

    drawn = resample_workbook(few, stream(1, "few"))

    assert drawn.ads.revenue.tolist() == [0, 0]
    assert drawn.moderators.accuracy.tolist() == [0.9]
    assert set(drawn.ads.country) <= set(few.ads.country)
