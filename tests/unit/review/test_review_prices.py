"""Forecast prices know the roster as planned and usual days, and nothing of the day they are used on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from adyton.review.bound import BIN_MINUTES, dual_prices, unserved_cost
from adyton.review.day import DayConfig, draw_day
from adyton.review.engine.dual import capacity, evaluate
from adyton.review.prices import DEFAULT_FORECAST, draw_forecast, forecast_prices, usual_prices
from adyton.review.tables import FloatArray, Workbook
from adyton.review.workbook import load_default_workbook

SMALL = DayConfig(volume=0.1, n_moderators=35)


@pytest.fixture(scope="module")
def workbook() -> Workbook:
    return load_default_workbook()


def test_who_does_not_come_is_priced_as_if_they_came(workbook: Workbook) -> None:
    full = draw_day(workbook, SMALL, seed=3)
    short = draw_day(workbook, replace(SMALL, no_show=0.5), seed=3)
    assert np.sum(short.arrays.shift_end > short.arrays.shift_start) < 30

    planned = draw_forecast(short, short.config, 0)

    assert np.array_equal(planned.shift_end, full.arrays.shift_end)
    assert np.allclose(forecast_prices(short, 1.0), forecast_prices(full, 1.0))


def test_the_day_itself_does_not_move_its_prices(workbook: Workbook) -> None:
    day, other = (draw_day(workbook, SMALL, seed=seed, roster_seed=1) for seed in (1, 2))

    assert np.array_equal(forecast_prices(day, 1.0), forecast_prices(other, 1.0))


@pytest.mark.parametrize("unserved_value", [0.0, 1.0])
def test_usual_prices_bound_an_unseen_day_nearly_as_well_as_its_own(workbook: Workbook, unserved_value: float) -> None:
    day = draw_day(workbook, SMALL, seed=5)
    own, _ = dual_prices(day.arrays, unserved_value, n_steps=200)

    def bound(price: FloatArray) -> float:
        hint = np.full(day.n_ads, -1, np.int64)
        unserved = unserved_cost(day.arrays, unserved_value)
        cost = evaluate(day.arrays, unserved, price, BIN_MINUTES, hint, np.empty(price.shape))
        return cost - float(np.sum(price * capacity(day.arrays, price.shape[1], BIN_MINUTES)))

    usual = forecast_prices(day, unserved_value)
    nothing = bound(np.zeros_like(usual))

    assert nothing < 0.95 * own
    assert 0.5 < (bound(usual) - nothing) / (own - nothing) < 1.1


def test_a_sample_of_each_day_gives_about_the_same_prices(workbook: Workbook) -> None:
    day = draw_day(workbook, SMALL, seed=7)
    days = [draw_forecast(day, day.config, k) for k in range(8)]

    whole = usual_prices(days, 1.0, DEFAULT_FORECAST)
    half = usual_prices(days, 1.0, replace(DEFAULT_FORECAST, n_ads=700))

    assert np.mean(np.abs(half - whole)) < 0.2 * np.mean(whole)
