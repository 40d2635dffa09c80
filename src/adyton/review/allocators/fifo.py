"""First come, first served."""

from __future__ import annotations

import numpy as np

from adyton.review.allocators.contract import Allocator
from adyton.review.day import Day
from adyton.review.engine.dispatch import run_ranked
from adyton.review.engine.moves import Schedule


class Fifo(Allocator):
    name = "fifo"
    summary = "oldest ad first, to the moderator who has been idle longest"

    def allocate(self, day: Day) -> Schedule:
        return run_ranked(day.arrays, day.arrays.arrival.astype(np.float64))
