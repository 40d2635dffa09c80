"""Priced virtual queues whose prices are learnt during the day."""

from __future__ import annotations

from typing import ClassVar

from adyton.review.allocators.contract import Allocator
from adyton.review.allocators.priced import OLD_AFTER_MINUTES, effort
from adyton.review.day import Day
from adyton.review.engine.moves import Schedule, value_rank
from adyton.review.engine.priced_online import run_priced_online


class PricedOnline(Allocator):
    name = "priced_online"
    summary = "priced_queues without a forecast: prices follow the arrivals; aims at loss A2"
    unserved_value: ClassVar[float] = 1.0
    replan_minutes: ClassVar[int] = 5
    max_queue: ClassVar[int] = 64
    overtaking: ClassVar[float] = 1.0
    memory_minutes: ClassVar[float] = 6000.0

    def allocate(self, day: Day) -> Schedule:
        replan_minutes, max_queue = effort(day, self.replan_minutes, self.max_queue)
        return run_priced_online(
            day.arrays,
            value_rank(day.arrays),
            replan_minutes,
            self.unserved_value,
            max_queue,
            self.overtaking,
            OLD_AFTER_MINUTES,
            self.memory_minutes,
        )
