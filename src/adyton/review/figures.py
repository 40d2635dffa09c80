"""What a workbook looks like, in figures: fitted to any workbook, or shipped for the source's own (spec/review §1.2).

Ads come in task classes (product line, task type), since revenue, time and punishment differ between them by factors;
within a class revenue and time depend on the country. Moderators come in teams that share their markets; accuracy,
productivity and handling time depend on the team and on each other. Dependence is kept as mean and spread of normal
scores (the normal quantile of the rank), so that it is apart from the shape of each column.

`figures.json` holds the figures of the source's workbook: shares, quantiles and mean scores of groups, never a row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from pydantic import TypeAdapter
from scipy.special import ndtri
from scipy.stats import rankdata

from adyton.review.quantiles import QuantileTable
from adyton.review.tables import AdTable, FloatArray, ModeratorTable, ObjectArray, Workbook

MODERATOR_NUMBERS = ("accuracy", "productivity", "handling_time", "utilisation")
TASK_TYPE = "task_type_en"
_SHRINKAGE = 3.0
"""Rows that a group's mean score is worth less than it shows: small groups look like all others."""


@dataclass(frozen=True)
class Score:
    """Mean and spread of the normal scores of one group."""

    mean: float
    spread: float


@dataclass(frozen=True)
class AdClass:
    """Ads of one task class.

    share: of all ads.   countries: (name, share within the class).   baseline_st: by country, the middle one.
    baseline_ratio: of baseline time to that middle.   revenue: where it is not zero.   punish: (number of punishments,
    share).   hours: weights of the 24 hours.
    """

    product_line: str
    task_type: str
    share: float
    countries: tuple[tuple[str, float], ...]
    baseline_st: dict[str, float]
    baseline_ratio: QuantileTable
    revenue: QuantileTable
    share_zero_revenue: float
    revenue_score: dict[str, Score]
    punish: tuple[tuple[int, float], ...]
    hours: tuple[float, ...]
    share_missing_hour: float


@dataclass(frozen=True)
class Team:
    """Moderators with the same markets. scores: of each of `MODERATOR_NUMBERS`, the team's mean."""

    markets: tuple[str, ...]
    weight: float
    scores: tuple[float, ...]


@dataclass(frozen=True)
class ModeratorFigures:
    """correlation: of the scores within a team.   spread: likewise.   gaps: which of `MODERATOR_NUMBERS` are missing,
    whether the handling time is 0, and the share of such moderators.   numbers: of those known, handling time not 0.
    """

    teams: tuple[Team, ...]
    numbers: tuple[QuantileTable, ...]
    covariance: tuple[tuple[float, ...], ...]
    gaps: tuple[tuple[tuple[bool, ...], bool, float], ...]


@dataclass(frozen=True)
class WorkbookFigures:
    """Everything that the generator knows."""

    ads: tuple[AdClass, ...]
    moderators: ModeratorFigures


@cache
def source_figures() -> WorkbookFigures:
    """The figures of the source's workbook: 40,679 ads and 1,414 moderators."""
    text = (files("adyton.review") / "data" / "figures.json").read_text()
    return TypeAdapter(WorkbookFigures).validate_json(text)


def figures_as_json(figures: WorkbookFigures) -> str:
    """The form of `figures.json`."""
    return TypeAdapter(WorkbookFigures).dump_json(figures, indent=1).decode() + "\n"


def fit_workbook(workbook: Workbook, *, n_knots: int = 200, least: int = 1) -> WorkbookFigures:
    """The figures of a workbook.

    n_knots: of each quantile table.   least: groups of fewer rows are left out, so that no figure is one row's.
    """
    ads = workbook.ads
    types = ads.properties.get(TASK_TYPE, np.full(len(ads), "", dtype=object))
    keys = [(str(line), str(kind or "")) for line, kind in zip(ads.product_line, types, strict=True)]
    counts = Counter(keys)
    kept = [key for key, n in counts.most_common() if n >= least] or [counts.most_common(1)[0][0]]
    total = sum(counts[key] for key in kept)
    rows = {key: np.flatnonzero([other == key for other in keys]) for key in kept}
    classes = [_fit_class(ads, key, rows[key], len(rows[key]) / total, n_knots, least) for key in kept]
    return WorkbookFigures(tuple(classes), _fit_moderators(workbook.moderators, n_knots, least))


def _fit_class(ads: AdTable, key: tuple[str, str], rows: np.ndarray, share: float, n_knots: int, least: int) -> AdClass:
    country, revenue, baseline = ads.country[rows].astype(str), ads.revenue[rows], ads.baseline_st[rows]
    counts = Counter(country.tolist())
    names = [name for name, n in counts.most_common() if n >= least] or [counts.most_common(1)[0][0]]
    middle = {name: float(np.median(baseline[country == name])) for name in names}
    is_kept = np.isin(country, names)
    ratio = baseline[is_kept] / np.array([middle[name] for name in country[is_kept]])
    positive = revenue > 0
    hour = ads.start_hour[rows]
    known_hour = hour[~np.isnan(hour)].astype(np.int64)
    punish = Counter(int(n) for n in ads.punish_num[rows] if not np.isnan(n))
    return AdClass(
        product_line=key[0],
        task_type=key[1],
        share=share,
        countries=tuple((name, counts[name] / sum(counts[n] for n in names)) for name in names),
        baseline_st=middle,
        baseline_ratio=QuantileTable.fitted(ratio, n_knots),
        revenue=QuantileTable.fitted(revenue[positive] if np.any(positive) else np.ones(1), n_knots, is_heavy=True),
        share_zero_revenue=float(np.mean(~positive)),
        revenue_score=_scores(revenue[positive], country[positive], names),
        punish=tuple((n, punish[n] / len(rows)) for n in sorted(punish)),
        hours=tuple(np.bincount(known_hour, minlength=24).astype(float)) if len(known_hour) else (1.0,) * 24,
        share_missing_hour=float(np.mean(np.isnan(hour))),
    )


def _scores(values: FloatArray, groups: np.ndarray, names: Sequence[str]) -> dict[str, Score]:
    score = normal_scores(values)
    found = {}
    for name in names:
        own = score[groups == name]
        weight = len(own) / (len(own) + _SHRINKAGE)
        mean = float(np.sum(own)) / (len(own) + _SHRINKAGE)
        spread = float(np.std(own)) if len(own) else 1.0
        found[name] = Score(mean, weight * spread + 1 - weight)
    return found


def normal_scores(values: FloatArray) -> FloatArray:
    """The normal quantile of each value's rank, float64[n]."""
    if not len(values):
        return values
    return np.asarray(ndtri((rankdata(values) - 0.5) / len(values)))


def _fit_moderators(moderators: ModeratorTable, n_knots: int, least: int) -> ModeratorFigures:
    own = _teams([tuple(sorted(markets)) for markets in moderators.markets], least)
    numbers = np.column_stack([getattr(moderators, name) for name in MODERATOR_NUMBERS])
    is_zero = numbers[:, 2] == 0
    is_missing = np.isnan(numbers)
    numbers[is_zero, 2] = np.nan
    scores = np.full(numbers.shape, np.nan)
    tables = []
    for column in range(len(MODERATOR_NUMBERS)):
        known = ~np.isnan(numbers[:, column])
        scores[known, column] = normal_scores(numbers[known, column])
        tables.append(QuantileTable.fitted(numbers[known, column] if np.any(known) else np.ones(1), n_knots))
    teams, centred = [], scores.copy()
    for markets, weight in Counter(filter(None, own)).most_common():
        rows = np.flatnonzero([markets == other for other in own])
        n_known = np.sum(~np.isnan(scores[rows]), axis=0)
        mean = np.nansum(scores[rows], axis=0) / (n_known + _SHRINKAGE)
        centred[rows] -= mean
        teams.append(Team(markets, float(weight), tuple(map(float, mean))))
    gaps = Counter((tuple(map(bool, row)), bool(zero)) for row, zero in zip(is_missing, is_zero, strict=True))
    return ModeratorFigures(
        teams=tuple(teams),
        numbers=tuple(tables),
        covariance=tuple(tuple(map(float, row)) for row in _covariance(centred)),
        gaps=tuple((missing, zero, n / len(own)) for (missing, zero), n in gaps.most_common() if n >= least),
    )


def _teams(markets: Sequence[tuple[str, ...]], least: int) -> list[tuple[str, ...]]:
    """The team of each moderator: those with the same markets; one of fewer than `least` joins its likest."""
    counts = Counter(markets)
    kept = [team for team, n in counts.most_common() if n >= least and team]
    joins: dict[tuple[str, ...], tuple[str, ...]] = {}
    for team, n in counts.items():
        shared = [len(set(team) & set(other)) / len(set(team) | set(other)) for other in kept]
        is_lone = n >= least or not team or not shared or max(shared) == 0
        joins[team] = team if is_lone else kept[int(np.argmax(shared))]
    return [joins[team] for team in markets]


def _covariance(scores: FloatArray) -> FloatArray:
    """Covariance of columns with NaN, pair by pair, made positive definite; the unit matrix where nothing is known."""
    n = scores.shape[1]
    out = np.eye(n)
    for i in range(n):
        for j in range(n):
            both = ~np.isnan(scores[:, i]) & ~np.isnan(scores[:, j])
            if np.sum(both) > 2:
                out[i, j] = float(np.mean(scores[both, i] * scores[both, j]))
    values, vectors = np.linalg.eigh(out)
    return np.asarray((vectors * np.maximum(values, 1e-6)) @ vectors.T)


def market_names(figures: WorkbookFigures) -> ObjectArray:
    """Every country of the ads, in alphabetical order."""
    return np.array(sorted({name for cls in figures.ads for name, _ in cls.countries}), dtype=object)
