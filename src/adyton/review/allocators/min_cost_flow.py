"""Rolling horizon: every few minutes a min-cost flow of open ads through the next places in moderators' queues.

Each ad is one unit of flow. It goes to a place (moderator, k-th next task), at the cost of its wait up to there, its
expected wrong verdict and the moderator's time at forecast prices; or out, at the cost of the best it could get after
the last place. All capacities are 1, so the flow is a sparse assignment and scipy solves it exactly. Ads given to a
first place whose moderator is idle are begun; all others are planned anew.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from adyton.review.allocators.contract import Allocator
from adyton.review.bound import BIN_MINUTES
from adyton.review.day import Day
from adyton.review.engine.moves import Schedule
from adyton.review.engine.priced_pull import cumulate
from adyton.review.engine.rounds import Rounds
from adyton.review.prices import forecast_prices
from adyton.review.tables import FloatArray, IntArray


class MinCostFlow(Allocator):
    """places: tasks planned ahead for each moderator.   arcs: cheapest moderators that an ad may go to.   ads: open ads
    in one plan, those with most to lose per minute first.   replan_minutes: between two plans.
    """

    name = "min_cost_flow"
    summary = "rolling-horizon min-cost flow over the next places in moderators' queues; aims at loss A2"
    unserved_value: ClassVar[float] = 1.0
    places: ClassVar[int] = 3
    arcs: ClassVar[int] = 10
    ads: ClassVar[int] = 500
    replan_minutes: ClassVar[int] = 10

    def __init__(self) -> None:
        self._cumulated: FloatArray = np.zeros((0, 1))

    def prepare(self, day: Day) -> None:
        self._cumulated = cumulate(forecast_prices(day, self.unserved_value), BIN_MINUTES)

    def allocate(self, day: Day) -> Schedule:
        arrays, rounds = day.arrays, Rounds(day.arrays)
        place_minutes = np.maximum(1.0, np.median(arrays.pace, axis=1)) * 1.2
        plan: dict[int, list[int]] = {}
        for minute in rounds:
            if minute % self.replan_minutes == 0 or not plan:
                plan = self._plan(rounds, minute, place_minutes)
            idle = np.flatnonzero((rounds.starts == minute) & (arrays.shift_end > minute))
            for moderator in idle:
                self._begin(rounds, minute, int(moderator), plan.get(int(moderator), []))
        return rounds.schedule

    def _begin(self, rounds: Rounds, minute: int, moderator: int, queue: list[int]) -> None:
        arrays = rounds.day
        while queue:
            ad = queue.pop(0)
            minutes = rounds.minutes(np.array([moderator]), np.array([ad]))[0, 0]
            if minute + minutes <= arrays.shift_end[moderator]:
                rounds.commit(minute, ad, moderator)
                return

    def _plan(self, rounds: Rounds, minute: int, place_minutes: FloatArray) -> dict[int, list[int]]:
        """The ads planned for each moderator, next one first."""
        arrays = rounds.day
        present = np.flatnonzero((arrays.shift_end > rounds.starts) & (rounds.starts <= minute + 60))
        ads = rounds.open_ads
        if not len(present) or not len(ads):
            return {}
        urgency = arrays.value[ads] / arrays.work[ads]
        ads = ads[np.argsort(-urgency, kind="stable")[: self.ads]]
        cost, out = self._costs(rounds, minute, present, ads)
        n_arcs = min(self.arcs, len(present))
        nearest = np.argpartition(cost, n_arcs - 1, axis=0)[:n_arcs].T
        rows, columns, weights = [], [], []
        rate = arrays.value[ads] * arrays.wait_cost
        for place in range(self.places):
            later = place * place_minutes[present][nearest]
            weight = cost[nearest, np.arange(len(ads))[:, None]] + rate[:, None] * later
            good = weight < out[:, None]
            row, arc = np.nonzero(good)
            rows.append(row)
            columns.append(nearest[row, arc] * self.places + place)
            weights.append(weight[row, arc] - out[row])
        n_places = len(present) * self.places
        row = np.concatenate([*rows, np.arange(len(ads))])
        column = np.concatenate([*columns, n_places + np.arange(len(ads))])
        # The solver takes an explicit 0 for no arc; the same amount more on every arc moves no optimum.
        lowest = min((float(np.min(w)) for w in weights if len(w)), default=0.0)
        weight = np.concatenate([*weights, np.zeros(len(ads))]) - lowest + 1.0
        graph = csr_array((weight, (row, column)), shape=(len(ads), n_places + len(ads)))
        matched, place_of = min_weight_full_bipartite_matching(graph)
        plan: dict[int, list[tuple[int, int]]] = {}
        for ad, column_of in zip(matched, place_of, strict=True):
            if column_of < n_places:
                who, place = divmod(int(column_of), self.places)
                plan.setdefault(int(present[who]), []).append((place, int(ads[ad])))
        return {who: [ad for _, ad in sorted(queue)] for who, queue in plan.items()}

    def _costs(self, rounds: Rounds, minute: int, present: IntArray, ads: IntArray) -> tuple[FloatArray, FloatArray]:
        """(cost of each ad with each moderator from its next free minute on, inf: not allowed; cost of going out)."""
        arrays = rounds.day
        market, start = arrays.market[ads], rounds.starts[present][:, None]
        minutes = rounds.minutes(present, ads)
        rate = arrays.value[ads] * arrays.wait_cost
        wrong = arrays.stake[ads] * arrays.error[present[:, None], market[None, :]]
        unserved = rate * (arrays.horizon - minute) + self.unserved_value * arrays.value[ads]
        may = rounds.is_member[present][:, market]
        cost = wrong + rate * (start - minute + minutes) + self._price(present, start, minutes)
        later = start + 60
        again = wrong + rate * (later - minute + minutes) + self._price(present, later, minutes)
        cost = np.where(may & (start + minutes <= arrays.shift_end[present][:, None]), cost, np.inf)
        again = np.where(may & (later + minutes <= arrays.shift_end[present][:, None]), again, np.inf)
        return cost, np.minimum(unserved, np.min(again, axis=0))

    def _price(self, moderators: IntArray, start: IntArray, minutes: FloatArray) -> FloatArray:
        n_bins = self._cumulated.shape[1] - 1

        def until(minute: FloatArray) -> FloatArray:
            position = np.minimum(minute / BIN_MINUTES, n_bins)
            low = np.minimum(position.astype(np.int64), n_bins - 1)
            left, right = self._cumulated[moderators[:, None], low], self._cumulated[moderators[:, None], low + 1]
            return np.asarray(left + (right - left) * (position - low))

        return until(start + minutes) - until(start.astype(np.float64))
