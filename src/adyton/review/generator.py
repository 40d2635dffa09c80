"""Synthetic ads and moderators with the shape of the source's data (spec/review §1.2), or of any workbook.

Drawn from `figures`: each column keeps its quantiles (heavy tail of revenue, spike of baseline time, hump of start
times, accuracy with its missing values), and what depends on what is kept too (revenue and time on task class and
country, teams of moderators and their markets). Ids are made up, and every row is drawn anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import numpy as np

from adyton.review.figures import (
    MODERATOR_NUMBERS,
    TASK_TYPE,
    AdClass,
    ModeratorFigures,
    Team,
    WorkbookFigures,
    fit_workbook,
    market_names,
    source_figures,
)
from adyton.review.quantiles import QuantileTable
from adyton.review.tables import AdTable, FloatArray, IntArray, ModeratorTable, ObjectArray, Workbook

N_SOURCE_ADS = 40_679
N_SOURCE_MODERATORS = 1_414


def generate_workbook(
    n_ads: int, n_moderators: int, rng: np.random.Generator, figures: WorkbookFigures | None = None
) -> Workbook:
    """A workbook of these figures; of the source's shape when there are none."""
    figures = figures or source_figures()
    ads = generate_ads(figures.ads, n_ads, rng)
    return Workbook(ads, generate_moderators(figures.moderators, market_names(figures), n_moderators, rng))


def resample_workbook(workbook: Workbook, rng: np.random.Generator) -> Workbook:
    """Synthetic ads and moderators fitted to `workbook`, as many of each."""
    return generate_workbook(len(workbook.ads), len(workbook.moderators), rng, fit_workbook(workbook))


def generate_ads(classes: Sequence[AdClass], n_ads: int, rng: np.random.Generator) -> AdTable:
    """`n_ads` synthetic ads, ids `ad-0000001` and up."""
    sizes = _apportioned(np.array([cls.share for cls in classes]), n_ads, rng)
    parts = [_draw_class(cls, int(n), rng) for cls, n in zip(classes, sizes, strict=True)]
    order = rng.permutation(n_ads)
    column = {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}
    punish_num = column["punish_num"].astype(np.float64)
    revenue = np.asarray(np.round(column["revenue"].astype(float), 4), dtype=np.float64)
    return AdTable(
        ad_id=_ids("ad-", n_ads),
        country=column["country"],
        revenue=revenue,
        baseline_st=column["baseline_st"].astype(np.float64),
        punish_num=punish_num,
        start_hour=column["start_hour"].astype(np.float64),
        product_line=column["product_line"],
        properties=MappingProxyType(_properties(column["task_type"], punish_num, revenue, rng)),
    )


def _draw_class(cls: AdClass, n: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    country = _picked([name for name, _ in cls.countries], [share for _, share in cls.countries], n, rng)
    is_zero = _chosen(rng, n, cls.share_zero_revenue)
    score = [cls.revenue_score[name] for name in country[~is_zero]]
    latent = np.array([s.mean for s in score]) + np.array([s.spread for s in score]) * rng.normal(size=len(score))
    revenue = np.zeros(n)
    revenue[~is_zero] = _in_order_of(latent, cls.revenue, rng)
    middle = np.array([cls.baseline_st[name] for name in country])
    punish_num = np.full(n, np.nan)
    order = rng.permutation(n)
    edges = np.rint(np.cumsum([0.0, *(share for _, share in cls.punish)]) * n).astype(np.int64)
    for (count, _), low, high in zip(cls.punish, edges, edges[1:], strict=False):
        punish_num[order[low:high]] = count
    hours = np.array(cls.hours) / np.sum(cls.hours)
    start_hour = rng.choice(24, n, p=hours).astype(np.float64)
    start_hour[_chosen(rng, n, cls.share_missing_hour)] = np.nan
    return {
        "country": country,
        "revenue": revenue,
        "baseline_st": np.round(middle * cls.baseline_ratio.draw(rng, n), 3),
        "punish_num": punish_num,
        "start_hour": start_hour,
        "product_line": np.full(n, cls.product_line, dtype=object),
        "task_type": np.full(n, cls.task_type, dtype=object),
    }


def generate_moderators(
    figures: ModeratorFigures, countries: ObjectArray, n_moderators: int, rng: np.random.Generator
) -> ModeratorTable:
    """`n_moderators` synthetic moderators, ids `moderator-0001` and up; every country that a team reviews is
    somebody's market if there are enough moderators.
    """
    teams = _draw_teams(figures.teams, countries, n_moderators, rng)
    latent = np.array([figures.teams[k].scores for k in teams])
    latent = latent + rng.multivariate_normal(np.zeros(latent.shape[1]), np.array(figures.covariance), n_moderators)
    columns = [_in_order_of(latent[:, c], figures.numbers[c], rng) for c in range(len(MODERATOR_NUMBERS))]
    gap_sizes = _apportioned(np.array([share for _, _, share in figures.gaps]), n_moderators, rng)
    gap = rng.permutation(np.repeat(np.arange(len(figures.gaps)), gap_sizes))
    for column, numbers in enumerate(columns):
        numbers[[figures.gaps[g][0][column] for g in gap]] = np.nan
    columns[2][[figures.gaps[g][1] for g in gap]] = 0.0
    accuracy, productivity, handling_time, utilisation = columns
    return ModeratorTable(
        moderator_id=_ids("moderator-", n_moderators),
        markets=tuple(figures.teams[k].markets for k in teams),
        productivity=np.round(productivity, 1),
        utilisation=np.round(utilisation, 4),
        handling_time=np.round(handling_time),
        accuracy=np.round(accuracy, 4),
    )


def _draw_teams(teams: Sequence[Team], countries: ObjectArray, n: int, rng: np.random.Generator) -> IntArray:
    """The team of each moderator, int64[n]."""
    weight = np.array([team.weight for team in teams])
    drawn = rng.permutation(np.repeat(np.arange(len(teams)), _apportioned(weight, n, rng)))
    for country in countries:
        if any(country in teams[k].markets for k in drawn):
            continue
        able = [k for k, team in enumerate(teams) if country in team.markets]
        largest = np.flatnonzero(drawn == np.argmax(np.bincount(drawn, minlength=len(teams))))
        if able:
            drawn[largest[0]] = able[int(np.argmax(weight[able]))]
    return drawn


def eligible_per_ad(workbook: Workbook) -> IntArray:
    """How many moderators review the country of each ad, int64[A]."""
    counts: dict[str, int] = {}
    for markets in workbook.moderators.markets:
        for market in markets:
            counts[market] = counts.get(market, 0) + 1
    return np.array([counts.get(country, 0) for country in workbook.ads.country], dtype=np.int64)


def _in_order_of(latent: FloatArray, table: QuantileTable, rng: np.random.Generator) -> FloatArray:
    """As many values of the table, the smallest where `latent` is smallest, and so on."""
    out = np.empty(len(latent))
    out[np.argsort(latent, kind="stable")] = np.sort(table.draw(rng, len(latent)))
    return out


def _properties(
    task_type: ObjectArray, punish_num: FloatArray, revenue: FloatArray, rng: np.random.Generator
) -> dict[str, ObjectArray]:
    """Headings of the source that no estimator of ours reads."""
    n = len(task_type)
    months, days = rng.integers(1, 8, n), rng.integers(1, 29, n)
    begin = np.array([f"2023-0{m}-{d:02d}" for m, d in zip(months, days, strict=True)])
    return {
        TASK_TYPE: task_type,
        "latest_punish_begin_date": np.where(np.isnan(punish_num), "", begin).astype(object),
        "ad_revenue": np.round(revenue * rng.lognormal(0, 0.5, n), 4).astype(object),
    }


def _apportioned(share: FloatArray, n: int, rng: np.random.Generator) -> IntArray:
    """Whole numbers in proportion to `share` that add up to n; what is left over is drawn."""
    exact = share / np.sum(share) * n
    whole = np.floor(exact).astype(np.int64)
    left = n - int(np.sum(whole))
    if left:
        rest = exact - whole
        whole[rng.choice(len(share), left, replace=False, p=rest / np.sum(rest))] += 1
    return whole


def _chosen(rng: np.random.Generator, n: int, share: float) -> np.ndarray:
    """bool[n] with exactly round(share·n) True."""
    chosen = np.zeros(n, dtype=bool)
    chosen[rng.permutation(n)[: round(share * n)]] = True
    return chosen


def _picked(names: Sequence[str], share: Sequence[float], n: int, rng: np.random.Generator) -> ObjectArray:
    p = np.array(share) / np.sum(share)
    return np.array(names, dtype=object)[rng.choice(len(names), n, p=p)]


def _ids(prefix: str, n: int) -> ObjectArray:
    width = max(4, len(str(n)) + (2 if prefix == "ad-" else 0))
    return np.array([f"{prefix}{i:0{width}d}" for i in range(1, n + 1)], dtype=object)
