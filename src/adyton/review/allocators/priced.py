"""Allocators that weigh a moderator's time at forecast prices."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from adyton.review.allocators.contract import Allocator
from adyton.review.bound import BIN_MINUTES
from adyton.review.day import Day
from adyton.review.engine.moves import Schedule, value_rank
from adyton.review.engine.priced_pull import run_priced_pull
from adyton.review.engine.priced_queues import run_priced_queues
from adyton.review.prices import forecast_prices
from adyton.review.tables import FloatArray

OLD_AFTER_MINUTES = 1440
"""An ad that found no place for a day is looked at seldom. Days of one day never come to that."""
_LONGEST_PLAN_MINUTES = 60
_SHORT_QUEUE = 8
_USUAL_LOOKS = 15_000 * 350


def effort(day: Day, replan_minutes: int, max_queue: int) -> tuple[int, int]:
    """Minutes between plans and longest queue: as given up to twice the source's day (15,000 ads, 350 moderators).

    A plan costs ads times moderators times the length of queues. Larger runs plan less often and not so far ahead:
    every 30 minutes instead of 5 loses 1 % more A2 (seeds 1 to 3, v = 1), queues of 8 instead of 64 nothing there.
    """
    looks = day.n_ads * OLD_AFTER_MINUTES / max(day.arrays.horizon, 1) * day.n_moderators
    size = looks / _USUAL_LOOKS
    if size <= 2:
        return replan_minutes, max_queue
    return max(replan_minutes, min(_LONGEST_PLAN_MINUTES, int(replan_minutes * (size - 1)))), min(
        max_queue, _SHORT_QUEUE
    )


class _Priced(Allocator):
    """unserved_value: 1 aims at loss A2, 0 at loss A1."""

    unserved_value: ClassVar[float] = 1.0

    def __init__(self) -> None:
        self._prices: FloatArray = np.zeros((0, 0))

    def prepare(self, day: Day) -> None:
        self._prices = forecast_prices(day, self.unserved_value)


class PricedPull(_Priced):
    name = "priced_pull"
    summary = "each idle moderator takes the ad that gains most per minute; aims at loss A2"
    patience_minutes: ClassVar[int] = 40
    refresh_minutes: ClassVar[int] = 15
    caution: ClassVar[float] = 1.7
    """Factor on the prices: an alternative moderator costs more than forecast, since others compete for it."""
    hold: ClassVar[float] = 0.5

    def allocate(self, day: Day) -> Schedule:
        return run_priced_pull(
            day.arrays,
            self.caution * self._prices,
            BIN_MINUTES,
            self.patience_minutes,
            self.unserved_value,
            self.refresh_minutes,
            self.hold,
        )


class PricedPullA1(PricedPull):
    name = "priced_pull_a1"
    summary = "priced_pull with prices for loss A1"
    caution = 1.6
    unserved_value = 0.0


class PricedQueues(_Priced):
    name = "priced_queues"
    summary = "virtual queues with prices, planned anew every few minutes; aims at loss A2"
    replan_minutes: ClassVar[int] = 5
    max_queue: ClassVar[int] = 64
    overtaking: ClassVar[float] = 1.0
    """Chosen on seeds 1 to 4; 0 costs 0.7 % of loss A1, 2 costs 0.4 %."""

    def allocate(self, day: Day) -> Schedule:
        replan_minutes, max_queue = effort(day, self.replan_minutes, self.max_queue)
        return run_priced_queues(
            day.arrays,
            value_rank(day.arrays),
            self._prices,
            BIN_MINUTES,
            replan_minutes,
            self.unserved_value,
            max_queue,
            self.overtaking,
            OLD_AFTER_MINUTES,
        )


class PricedQueuesA1(PricedQueues):
    name = "priced_queues_a1"
    summary = "priced_queues with prices for loss A1"
    unserved_value = 0.0
