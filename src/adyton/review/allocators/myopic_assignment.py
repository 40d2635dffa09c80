"""The best assignment of open ads to idle moderators in each minute, without a thought for the next."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from adyton.review.allocators.contract import Allocator
from adyton.review.day import Day
from adyton.review.engine.moves import Schedule
from adyton.review.engine.rounds import Rounds
from adyton.review.estimators import expected_profit
from adyton.review.tables import FloatArray


class MyopicAssignment(Allocator):
    name = "myopic_assignment"
    summary = "each minute the assignment to idle moderators with the largest profit per minute"

    def allocate(self, day: Day) -> Schedule:
        arrays, rounds = day.arrays, Rounds(day.arrays)
        for minute in rounds:
            idle = np.flatnonzero((rounds.starts == minute) & (arrays.shift_end > minute))
            ads = rounds.open_ads
            if not len(idle) or not len(ads):
                continue
            markets = arrays.market[ads]
            idle = idle[rounds.is_member[idle][:, np.unique(markets)].any(axis=1)]
            gain = self._gain(day, rounds, minute, idle, ads)
            rows, columns = linear_sum_assignment(gain, maximize=True)
            for row, column in zip(rows, columns, strict=True):
                if gain[row, column] > 0:
                    rounds.commit(minute, int(ads[column]), int(idle[row]))
        return rounds.schedule

    def _gain(self, day: Day, rounds: Rounds, minute: int, idle: np.ndarray, ads: np.ndarray) -> FloatArray:
        """Unit-time value, float64[len(idle), len(ads)]; 0 where it must not or should not be done."""
        arrays = rounds.day
        markets = arrays.market[ads]
        minutes = rounds.minutes(idle, ads)
        accuracy = 1 - arrays.error[idle[:, None], markets[None, :]]
        profit = expected_profit(arrays.value[ads], arrays.stake[ads], accuracy)
        may = rounds.is_member[idle][:, markets] & (minute + minutes <= arrays.shift_end[idle][:, None])
        return np.where(may, day.estimators.unit_time_value(np.maximum(profit, 0.0), minutes), 0.0)
