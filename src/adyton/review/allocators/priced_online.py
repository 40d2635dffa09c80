"""Priced virtual queues whose prices are learnt during the day."""

from __future__ import annotations

from typing import ClassVar

from adyton.review.allocators.contract import Allocator
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
        return run_priced_online(
            day.arrays,
            value_rank(day.arrays),
            self.replan_minutes,
            self.unserved_value,
            self.max_queue,
            self.overtaking,
            self.memory_minutes,
        )
