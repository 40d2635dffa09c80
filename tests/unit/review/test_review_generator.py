"""The generator keeps the shape of the source's data (spec/review §1.2), and of any workbook it is fitted to."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from adyton.kernel.chance import stream
from adyton.review.generator import eligible_per_ad, resample_workbook
from adyton.review.tables import Workbook
from adyton.review.workbook import load_default_workbook


@pytest.fixture(scope="module")
def shipped() -> Workbook:
    return load_default_workbook()


def test_revenue_has_the_heavy_tail_of_the_source(shipped: Workbook) -> None:
    revenue = shipped.ads.revenue
    top = np.sort(revenue)[-len(revenue) // 100 :]

    assert np.mean(revenue) == pytest.approx(23.9, rel=0.05)
    np.testing.assert_allclose(
        np.quantile(revenue, [0.5, 0.9, 0.95, 0.99, 0.999, 1]), [2.6, 26, 62, 492, 1992, 17144], rtol=0.05
    )
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
    lines = [float(np.mean(ads.product_line == line)) for line in ("non-auction", "auction", "RIE")]
    assert lines == pytest.approx([0.46, 0.32, 0.22], abs=0.01)


def test_moderators_have_the_shape_of_the_source(shipped: Workbook) -> None:
    moderators = shipped.moderators
    n_markets = np.array([len(markets) for markets in moderators.markets])

    assert np.nanmean(moderators.accuracy) == pytest.approx(0.854, abs=0.01)
    assert np.nanstd(moderators.accuracy) == pytest.approx(0.122, abs=0.01)
    assert np.sum(~np.isnan(moderators.accuracy)) == 1403
    assert np.nanmean(moderators.productivity) == pytest.approx(366, rel=0.03)
    assert np.nanstd(moderators.productivity) == pytest.approx(179, rel=0.03)
    assert np.sum(~np.isnan(moderators.productivity)) == 1285
    assert np.nanmedian(moderators.handling_time) == pytest.approx(81_351, rel=0.03)
    assert np.nanmean(moderators.handling_time) == pytest.approx(96_816, rel=0.05)
    assert (int(np.median(n_markets)), int(np.max(n_markets))) == (1, 13)
    assert np.mean(n_markets) == pytest.approx(2.4, abs=0.1)


def test_the_median_ad_has_77_eligible_moderators_and_none_has_zero(shipped: Workbook) -> None:
    eligible = eligible_per_ad(shipped)

    assert np.median(eligible) == pytest.approx(77, abs=2)
    assert np.min(eligible) > 0


def test_a_resampled_workbook_passes_a_two_sample_test_in_each_column(small_workbook: Workbook) -> None:
    """Two-sided Kolmogorov-Smirnov at 0.1 % for each of ten columns; the seed is fixed, so this never flickers."""
    resampled = resample_workbook(small_workbook, stream(1, "resample"))

    for name in ("revenue", "baseline_st", "start_hour"):
        assert ks_2samp(getattr(resampled.ads, name), getattr(small_workbook.ads, name)).pvalue > 1e-3, name
    for name in ("accuracy", "productivity", "handling_time", "utilisation"):
        column, other = getattr(resampled.moderators, name), getattr(small_workbook.moderators, name)
        assert ks_2samp(column[~np.isnan(column)], other[~np.isnan(other)]).pvalue > 1e-3, name
    sizes, others = ([len(m) for m in w.moderators.markets] for w in (resampled, small_workbook))
    assert ks_2samp(sizes, others).pvalue > 1e-3
    countries = sorted(set(small_workbook.ads.country))
    counts, expected = (np.array([np.sum(w.ads.country == c) for c in countries]) for w in (resampled, small_workbook))
    assert np.sum((counts - expected) ** 2 / (counts + expected)) < 2.2 * len(countries)


def test_the_two_sample_test_finds_a_wrong_shape(small_workbook: Workbook) -> None:
    """The source's own synthetic data (absolute normal numbers) does not pass."""
    revenue = small_workbook.ads.revenue
    wrong = np.abs(stream(2, "wrong").normal(np.mean(revenue), np.std(revenue), len(revenue)))

    assert ks_2samp(wrong, revenue).pvalue < 1e-6
