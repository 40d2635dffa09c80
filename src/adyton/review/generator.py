"""Synthetic ads and moderators with the shape of the source's data (spec/review §1.2), or fitted to any workbook.

What is kept: heavy tail of revenue, the spike of baseline time, shares of countries, product lines and punishments, the
daily hump of start times, moderators' accuracy, productivity and handling time with their missing values, and how many
markets each one reviews. What is not kept: dependence between columns, which the source hardly shows (accuracy against
handling time: −0.07), except that markets of one moderator come from one region and that the spike is one task type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from adyton.review.quantiles import QuantileTable
from adyton.review.tables import AdTable, FloatArray, IntArray, ModeratorTable, ObjectArray, Workbook

N_SOURCE_ADS = 40_679
N_SOURCE_MODERATORS = 1_414


@dataclass(frozen=True)
class AdFigures:
    """What ads look like. Shares are relative weights; `punish` maps a number of punishments to its share."""

    revenue: QuantileTable
    share_zero_revenue: float
    share_spike: float
    spike_baseline_st: float
    baseline_st: QuantileTable
    countries: tuple[tuple[str, float], ...]
    punish: tuple[tuple[int, float], ...]
    hours: tuple[float, ...]
    product_lines: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class ModeratorFigures:
    """What moderators look like. Each share_missing is the share of rows without that number.

    n_markets: weights of 1, 2, 3, … markets.   first_market_exponent: the first market of a moderator is drawn in
    proportion to a country's share of ads to this power; below 1 small countries get more than their share.
    """

    accuracy: QuantileTable
    share_missing_accuracy: float
    productivity: QuantileTable
    share_missing_productivity: float
    handling_time: QuantileTable
    share_zero_handling: float
    share_missing_handling: float
    utilisation: QuantileTable
    n_markets: tuple[float, ...]
    regions: tuple[tuple[str, ...], ...]
    first_market_exponent: float


_REGIONS: tuple[tuple[str, ...], ...] = (
    ("SA", "AE", "EG", "IQ", "KW", "QA", "MA", "JO", "OM", "BH", "LB", "DZ", "TN"),
    ("ID", "MY", "SG", "PH", "BN"),
    ("TH", "KH", "LA"),
    ("VN",),
    ("US", "GB", "CA", "AU", "NZ", "IE", "ZA", "NG", "KE"),
    ("MX", "CO", "CL", "AR", "PE", "EC", "ES"),
    ("BR", "PT"),
    ("DE", "AT", "CH", "FR", "BE", "IT", "NL"),
    ("PL", "CZ", "RO", "HU", "SE", "NO"),
    ("TR", "KZ"),
    ("JP",),
    ("KR",),
    ("PK", "BD"),
)
_LARGEST = (("US", 9.8), ("SA", 9.0), ("ID", 8.8), ("TH", 8.7), ("VN", 8.6), ("BR", 6.8))


def _source_countries() -> tuple[tuple[str, float], ...]:
    """59 countries: the six largest as measured, the others falling geometrically to the rest of 100 %."""
    largest = {name for name, _ in _LARGEST}
    depth = max(len(region) for region in _REGIONS)
    others = [
        region[rank]
        for rank in range(depth)
        for region in _REGIONS
        if rank < len(region) and region[rank] not in largest
    ]
    shares = 0.893 ** np.arange(len(others))
    shares *= (100 - sum(share for _, share in _LARGEST)) / np.sum(shares)
    return _LARGEST + tuple((name, float(share)) for name, share in zip(others, shares, strict=True))


SOURCE_ADS = AdFigures(
    revenue=QuantileTable(
        (0.0, 0.05, 0.25, 0.492, 0.75, 0.8984, 0.9492, 0.98984, 0.998984, 0.9999, 1.0),
        (0.004, 0.06, 0.72, 2.6, 11.4, 26.0, 62.0, 492.0, 1992.0, 5000.0, 17144.0),
        is_heavy=True,
    ),
    share_zero_revenue=0.016,
    share_spike=0.45,
    spike_baseline_st=0.54,
    baseline_st=QuantileTable((0.0, 0.25, 0.6, 0.96, 0.99, 0.999, 1.0), (1.4, 1.5, 1.76, 2.22, 2.5, 4.0, 7.59)),
    countries=_source_countries(),
    punish=((1, 2194 / 40679), (2, 163 / 40679), (3, 20 / 40679), (4, 8 / 40679), (6, 5 / 40679), (16, 3 / 40679)),
    hours=(
        3.0,
        2.9,
        2.9,
        3.2,
        3.7,
        4.3,
        5.0,
        5.6,
        6.0,
        6.3,
        6.3,
        6.3,
        6.0,
        5.6,
        5.1,
        4.5,
        4.0,
        3.5,
        3.0,
        2.7,
        2.4,
        2.5,
        2.6,
        2.8,
    ),
    product_lines=(("non-auction", 0.46), ("auction", 0.32), ("RIE", 0.22)),
)
SOURCE_MODERATORS = ModeratorFigures(
    accuracy=QuantileTable(
        (0.0, 0.02, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0), (0.36, 0.54, 0.616, 0.802, 0.893, 0.945, 0.993, 1.0)
    ),
    share_missing_accuracy=11 / 1414,
    productivity=QuantileTable(
        (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0), (8.0, 111.0, 240.0, 352.0, 462.0, 688.0, 850.0)
    ),
    share_missing_productivity=129 / 1414,
    handling_time=QuantileTable(
        (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.9993, 1.0),
        (9_000.0, 38_000.0, 60_000.0, 81_351.0, 107_000.0, 168_000.0, 320_000.0, 9_400_000.0),
    ),
    share_zero_handling=8 / 1414,
    share_missing_handling=76 / 1414,
    utilisation=QuantileTable((0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0), (0.02, 0.25, 0.62, 0.78, 0.88, 0.97, 1.0)),
    n_markets=(0.58, 0.14, 0.08, 0.04, 0.03, 0.025, 0.02, 0.02, 0.015, 0.015, 0.01, 0.01, 0.015),
    regions=_REGIONS,
    first_market_exponent=0.25,
)


def fit_ads(ads: AdTable) -> AdFigures:
    """The figures of real ads, to draw more of them."""
    countries, country_counts = np.unique(ads.country.astype(str), return_counts=True)
    lines, line_counts = np.unique(ads.product_line.astype(str), return_counts=True)
    punish, punish_counts = np.unique(ads.punish_num[~np.isnan(ads.punish_num)], return_counts=True)
    levels, level_counts = np.unique(ads.baseline_st, return_counts=True)
    spike = int(np.argmax(level_counts))
    is_spike = level_counts[spike] > 0.1 * len(ads)
    off_spike = ads.baseline_st[ads.baseline_st != levels[spike]] if is_spike else ads.baseline_st
    positive = ads.revenue[ads.revenue > 0]
    hours = ads.start_hour[~np.isnan(ads.start_hour)].astype(np.int64)
    return AdFigures(
        revenue=QuantileTable.fitted(positive if len(positive) else np.ones(1), is_heavy=True),
        share_zero_revenue=float(np.mean(ads.revenue == 0)),
        share_spike=float(level_counts[spike] / len(ads)) if is_spike else 0.0,
        spike_baseline_st=float(levels[spike]),
        baseline_st=QuantileTable.fitted(off_spike if len(off_spike) else levels),
        countries=_weights(countries, country_counts),
        punish=tuple((int(n), float(c / len(ads))) for n, c in zip(punish, punish_counts, strict=True)),
        hours=tuple(np.bincount(hours, minlength=24).astype(float)) if len(hours) else (1.0,) * 24,
        product_lines=_weights(lines, line_counts),
    )


def generate_ads(figures: AdFigures, n_ads: int, rng: np.random.Generator) -> AdTable:
    """`n_ads` synthetic ads, ids `ad-0000001` and up."""
    revenue = figures.revenue.draw(rng, n_ads)
    revenue[_chosen(rng, n_ads, figures.share_zero_revenue)] = 0.0
    is_spike = _chosen(rng, n_ads, figures.share_spike)
    baseline = np.where(is_spike, figures.spike_baseline_st, np.round(figures.baseline_st.draw(rng, n_ads), 3))
    punish_num = np.full(n_ads, np.nan)
    picked = rng.random(n_ads)
    low = 0.0
    for count, share in figures.punish:
        punish_num[(picked >= low) & (picked < low + share)] = count
        low += share
    hour_share = np.array(figures.hours) / np.sum(figures.hours)
    start_hour = rng.choice(24, n_ads, p=hour_share).astype(np.float64)
    line = _product_lines(figures, is_spike, rng)
    return AdTable(
        ad_id=_ids("ad-", n_ads),
        country=_pick(figures.countries, n_ads, rng),
        revenue=np.round(revenue, 4),
        baseline_st=baseline,
        punish_num=punish_num,
        start_hour=start_hour,
        product_line=line,
        properties=MappingProxyType(_ad_properties(n_ads, is_spike, punish_num, revenue, rng)),
    )


def generate_moderators(
    figures: ModeratorFigures, countries: Sequence[tuple[str, float]], n_moderators: int, rng: np.random.Generator
) -> ModeratorTable:
    """`n_moderators` synthetic moderators, ids `moderator-0001` and up; every country is somebody's market.

    countries: (name, share of ads).
    """
    accuracy = np.round(figures.accuracy.draw(rng, n_moderators), 4)
    accuracy[_chosen(rng, n_moderators, figures.share_missing_accuracy)] = np.nan
    productivity = np.round(figures.productivity.draw(rng, n_moderators), 1)
    productivity[_chosen(rng, n_moderators, figures.share_missing_productivity)] = np.nan
    handling = np.round(figures.handling_time.draw(rng, n_moderators))
    no_handling = rng.random(n_moderators)
    handling[no_handling < figures.share_zero_handling] = 0.0
    top = figures.share_zero_handling + figures.share_missing_handling
    handling[(no_handling >= figures.share_zero_handling) & (no_handling < top)] = np.nan
    return ModeratorTable(
        moderator_id=_ids("moderator-", n_moderators),
        markets=_draw_markets(figures, countries, n_moderators, rng),
        productivity=productivity,
        utilisation=np.round(figures.utilisation.draw(rng, n_moderators), 4),
        handling_time=handling,
        accuracy=accuracy,
    )


def generate_workbook(n_ads: int, n_moderators: int, rng: np.random.Generator) -> Workbook:
    """A workbook of the source's shape (the source has 40,679 ads and 1,414 moderators)."""
    ads = generate_ads(SOURCE_ADS, n_ads, rng)
    return Workbook(ads, generate_moderators(SOURCE_MODERATORS, SOURCE_ADS.countries, n_moderators, rng))


def fit_moderators(moderators: ModeratorTable) -> ModeratorFigures:
    """The figures of real moderators. Which markets go together is kept as the groups seen most often together."""
    known = moderators.handling_time[~np.isnan(moderators.handling_time)]
    sizes = np.array([len(markets) for markets in moderators.markets], dtype=np.int64)
    return ModeratorFigures(
        accuracy=_fitted(moderators.accuracy),
        share_missing_accuracy=float(np.mean(np.isnan(moderators.accuracy))),
        productivity=_fitted(moderators.productivity),
        share_missing_productivity=float(np.mean(np.isnan(moderators.productivity))),
        handling_time=_fitted(known[known > 0]),
        share_zero_handling=float(np.mean(moderators.handling_time == 0)),
        share_missing_handling=float(np.mean(np.isnan(moderators.handling_time))),
        utilisation=_fitted(moderators.utilisation),
        n_markets=tuple(np.bincount(np.maximum(sizes, 1))[1:].astype(float)),
        regions=tuple(sorted({markets for markets in moderators.markets if len(markets) > 1}, key=len)),
        first_market_exponent=SOURCE_MODERATORS.first_market_exponent,
    )


def resample_workbook(workbook: Workbook, rng: np.random.Generator) -> Workbook:
    """Synthetic ads and moderators fitted to `workbook`, as many of each."""
    ads = fit_ads(workbook.ads)
    moderators = fit_moderators(workbook.moderators)
    return Workbook(
        generate_ads(ads, len(workbook.ads), rng),
        generate_moderators(moderators, ads.countries, len(workbook.moderators), rng),
    )


def eligible_per_ad(workbook: Workbook) -> IntArray:
    """How many moderators review the country of each ad, int64[A]."""
    counts: dict[str, int] = {}
    for markets in workbook.moderators.markets:
        for market in markets:
            counts[market] = counts.get(market, 0) + 1
    return np.array([counts.get(country, 0) for country in workbook.ads.country], dtype=np.int64)


def _draw_markets(
    figures: ModeratorFigures, countries: Sequence[tuple[str, float]], n_moderators: int, rng: np.random.Generator
) -> tuple[tuple[str, ...], ...]:
    names = [name for name, _ in countries]
    weight = np.array([share for _, share in countries]) ** figures.first_market_exponent
    weight /= np.sum(weight)
    # One moderator in turn for each country first, so that no country is left without any.
    first = np.concatenate([np.arange(len(names)), rng.choice(len(names), max(n_moderators - len(names), 0), p=weight)])
    first = rng.permutation(first[:n_moderators])
    size_share = np.array(figures.n_markets) / np.sum(figures.n_markets)
    sizes = 1 + rng.choice(len(size_share), n_moderators, p=size_share)
    region_of = {name: region for region in figures.regions for name in region}
    share_of = dict(zip(names, weight, strict=True))
    drawn = []
    for home, size in zip(first, sizes, strict=True):
        near = [n for n in region_of.get(names[home], ()) if n != names[home] and n in share_of]
        far = [n for n in names if n != names[home] and n not in near]
        others: list[str] = []
        for pool in (near, far if len(near) < 4 else []):
            missing = min(size - 1 - len(others), len(pool))
            if missing > 0:
                p = np.array([share_of[n] for n in pool])
                others += list(rng.choice(np.array(pool), missing, replace=False, p=p / np.sum(p)))
        drawn.append((names[home], *map(str, others)))
    return tuple(drawn)


def _product_lines(figures: AdFigures, is_spike: np.ndarray, rng: np.random.Generator) -> ObjectArray:
    """Spike rows take the first line, as in the source; the others share what is left of each line."""
    line = np.empty(len(is_spike), dtype=object)
    names = [name for name, _ in figures.product_lines]
    share = np.array([s for _, s in figures.product_lines]) / sum(s for _, s in figures.product_lines)
    share[0] = max(share[0] - figures.share_spike, 0)
    line[:] = np.array(names, dtype=object)[rng.choice(len(names), len(is_spike), p=share / np.sum(share))]
    line[is_spike] = names[0]
    return line


def _ad_properties(
    n_ads: int, is_spike: np.ndarray, punish_num: FloatArray, revenue: FloatArray, rng: np.random.Generator
) -> dict[str, ObjectArray]:
    """Headings of the source that no estimator of ours reads."""
    begin = np.array(
        [f"2023-0{m}-{d:02d}" for m, d in zip(rng.integers(1, 8, n_ads), rng.integers(1, 29, n_ads), strict=True)]
    )
    return {
        "task_type_en": np.where(is_spike, "Promote", "Ad review").astype(object),
        "latest_punish_begin_date": np.where(np.isnan(punish_num), "", begin).astype(object),
        "ad_revenue": np.round(revenue * rng.lognormal(0, 0.5, n_ads), 4).astype(object),
    }


def _fitted(column: FloatArray) -> QuantileTable:
    known = column[~np.isnan(column)]
    return QuantileTable.fitted(known if len(known) else np.ones(1))


def _chosen(rng: np.random.Generator, n: int, share: float) -> np.ndarray:
    """bool[n] with exactly round(share·n) True."""
    chosen = np.zeros(n, dtype=bool)
    chosen[rng.permutation(n)[: round(share * n)]] = True
    return chosen


def _weights(names: np.ndarray, counts: np.ndarray) -> tuple[tuple[str, float], ...]:
    order = np.argsort(-counts, kind="stable")
    return tuple((str(names[i]), float(counts[i] / np.sum(counts))) for i in order)


def _pick(weights: Sequence[tuple[str, float]], n: int, rng: np.random.Generator) -> ObjectArray:
    share = np.array([s for _, s in weights])
    return np.array([name for name, _ in weights], dtype=object)[rng.choice(len(weights), n, p=share / np.sum(share))]


def _ids(prefix: str, n: int) -> ObjectArray:
    width = max(4, len(str(n)) + (2 if prefix == "ad-" else 0))
    return np.array([f"{prefix}{i:0{width}d}" for i in range(1, n + 1)], dtype=object)
