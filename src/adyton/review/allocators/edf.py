"""Earliest due first."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from adyton.review.allocators.contract import Allocator
from adyton.review.day import Day
from adyton.review.engine.dispatch import run_ranked
from adyton.review.engine.moves import Schedule


class Edf(Allocator):
    """An ad is due when its wait has cost `patience_cost` revenue units, and at most `sla_minutes` after it arrived."""

    name = "edf"
    summary = "earliest due first; valuable ads are due sooner"
    patience_cost: ClassVar[float] = 1.0
    sla_minutes: ClassVar[float] = 480.0

    def allocate(self, day: Day) -> Schedule:
        arrays = day.arrays
        per_minute = np.maximum(arrays.value * arrays.wait_cost, 1e-12)
        patience = np.minimum(self.sla_minutes, self.patience_cost / per_minute)
        return run_ranked(arrays, arrays.arrival.astype(np.float64) + patience)
