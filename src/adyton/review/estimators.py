"""What an ad is worth and how well a moderator fits it: pure functions over arrays (spec/review §1.1).

Axes: A ads, M moderators, K markets. Money is in the workbook's revenue unit, time in minutes.

An estimator set is any class with the methods of `Estimators`; docs/reference/review-estimators.md is its page. To use
your own, derive from `SourceEstimators`, override what differs (all columns of the workbook are in `ads.properties` and
`moderators.properties`), and pass it to `draw_day`, or name it `module:Class` on the command line.
"""

from __future__ import annotations

import importlib
from typing import Protocol

import numpy as np

from adyton.review.errors import UnknownAllocatorError
from adyton.review.tables import AdTable, FloatArray, ModeratorTable

WAIT_COST_PER_MINUTE = 1 / 3000
"""Share of an ad's value that is lost in each minute of waiting."""
HANDLING_UNITS_PER_MINUTE = 2500.0
PACE_WITHOUT_RECORD = 40.0
"""Minutes per unit of baseline time for a moderator whose recorded handling time is 0."""


def risk(punish_num: FloatArray) -> FloatArray:
    """Probability that an ad breaks the rules, float64[A] in [0, 0.6]; 0 where nothing is recorded (NaN)."""
    few = 0.12 - 0.03 * punish_num
    many = np.minimum(0.05 * punish_num - 0.04, 0.6)
    return np.nan_to_num(np.where(punish_num <= 2, few, many), nan=0.0)


def value(revenue: FloatArray, ad_risk: FloatArray) -> FloatArray:
    """What is lost when the ad is never reviewed: revenue of a clean ad times the probability that it is clean."""
    return (1 - ad_risk) * revenue


def stake(revenue: FloatArray, ad_risk: FloatArray, punishment: float) -> FloatArray:
    """What is lost when the verdict is wrong: a clean ad stopped, or a bad one passed, `punishment` times worse."""
    return revenue * ((1 - ad_risk) + ad_risk * punishment)


def pace(handling_time: FloatArray) -> FloatArray:
    """Minutes per unit of baseline time, float64[M]."""
    return np.where(handling_time > 0, handling_time / HANDLING_UNITS_PER_MINUTE, PACE_WITHOUT_RECORD)


def duration(moderator_pace: FloatArray, baseline_st: FloatArray) -> FloatArray:
    """Minutes that a task takes: pace times baseline time (broadcasts)."""
    return moderator_pace * baseline_st


def expected_profit(ad_value: FloatArray, ad_stake: FloatArray, accuracy: FloatArray) -> FloatArray:
    """Value less the expected cost of a wrong verdict (broadcasts): rev·[(1 − r)·acc − r·(1 − acc)·p]."""
    return ad_value - ad_stake * (1 - accuracy)


def unit_time_value(profit: FloatArray, minutes: FloatArray) -> FloatArray:
    """Expected profit per minute of the moderator's time (broadcasts)."""
    return profit / minutes


class Estimators(Protocol):
    """The contract of one page: arrays in the order of the table's rows, finite, no side effects."""

    def revenue(self, ads: AdTable) -> FloatArray:
        """float64[A] >= 0."""
        ...

    def risk(self, ads: AdTable) -> FloatArray:
        """float64[A] in [0, 1]: probability that the ad breaks the rules."""
        ...

    def value(self, ads: AdTable, punishment: float) -> FloatArray:
        """float64[A] >= 0: loss when the ad is not reviewed; waiting costs a share of it."""
        ...

    def stake(self, ads: AdTable, punishment: float) -> FloatArray:
        """float64[A] >= 0: loss when the verdict is wrong."""
        ...

    def work(self, ads: AdTable) -> FloatArray:
        """float64[A] > 0: units of work; times `pace` it is minutes."""
        ...

    def pace(self, moderators: ModeratorTable, n_markets: int) -> FloatArray:
        """float64[M, K] > 0: minutes per unit of work in each market."""
        ...

    def accuracy(self, moderators: ModeratorTable, n_markets: int) -> FloatArray:
        """float64[M, K] in [0, 1]: probability of a right verdict in each market."""
        ...

    def unit_time_value(self, profit: FloatArray, minutes: FloatArray) -> FloatArray:
        """Of each pair of moderator and ad (same shapes): what is best when it is largest."""
        ...


class SourceEstimators:
    """The formulas of the source document."""

    def revenue(self, ads: AdTable) -> FloatArray:
        return ads.revenue

    def risk(self, ads: AdTable) -> FloatArray:
        return risk(ads.punish_num)

    def value(self, ads: AdTable, punishment: float) -> FloatArray:  # noqa: ARG002
        return value(self.revenue(ads), self.risk(ads))

    def stake(self, ads: AdTable, punishment: float) -> FloatArray:
        return stake(self.revenue(ads), self.risk(ads), punishment)

    def work(self, ads: AdTable) -> FloatArray:
        return ads.baseline_st

    def pace(self, moderators: ModeratorTable, n_markets: int) -> FloatArray:
        return np.repeat(pace(moderators.handling_time)[:, None], n_markets, axis=1)

    def accuracy(self, moderators: ModeratorTable, n_markets: int) -> FloatArray:
        return np.repeat(moderators.accuracy[:, None], n_markets, axis=1)

    def unit_time_value(self, profit: FloatArray, minutes: FloatArray) -> FloatArray:
        return unit_time_value(profit, minutes)


class CautiousEstimators(SourceEstimators):
    """Risky ads first: the source gives them no priority, and its risk falls with the first punishments.

    Risk never falls when punishments are added, and an ad that runs without review costs what a wrong verdict costs.
    """

    def risk(self, ads: AdTable) -> FloatArray:
        return np.where(np.isnan(ads.punish_num), 0.0, np.maximum(risk(ads.punish_num), 0.12))

    def value(self, ads: AdTable, punishment: float) -> FloatArray:
        return self.stake(ads, punishment)


ESTIMATORS: dict[str, type[SourceEstimators]] = {"source": SourceEstimators, "cautious": CautiousEstimators}
"""Estimator sets by name."""


def find_estimators(name: str) -> Estimators:
    """The estimator set of this name in `ESTIMATORS`, or the class that `module:Class` names.

    Raises UnknownAllocatorError when there is none, or when it lacks a method.
    """
    if name in ESTIMATORS:
        return ESTIMATORS[name]()
    module_name, _, class_name = name.partition(":")
    try:
        found: Estimators = getattr(importlib.import_module(module_name), class_name)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        hint = f"one of {', '.join(ESTIMATORS)}, or module:Class"
        raise UnknownAllocatorError(f"no estimators {name!r}", hint=hint) from error
    lacking = [method for method in _METHODS if not callable(getattr(found, method, None))]
    if lacking:
        hint = "derive from adyton.review.estimators.SourceEstimators"
        raise UnknownAllocatorError(f"the estimators {name!r} lack {', '.join(lacking)}", hint=hint)
    return found


_METHODS = ("revenue", "risk", "value", "stake", "work", "pace", "accuracy", "unit_time_value")
