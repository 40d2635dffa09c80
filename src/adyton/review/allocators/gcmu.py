"""The generalised c-mu rule (Mandelbaum & Stolyar 2004), for a cost of delay that is linear."""

from __future__ import annotations

from adyton.review.allocators.contract import Allocator
from adyton.review.day import Day
from adyton.review.engine.dispatch import run_gcmu
from adyton.review.engine.moves import Schedule


class Gcmu(Allocator):
    name = "gcmu"
    summary = "an idle moderator takes the ad with the largest cost of delay per minute of its time"

    def allocate(self, day: Day) -> Schedule:
        return run_gcmu(day.arrays)
