"""A day played round by round from Python, for policies that call a solver in each round."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from adyton.review.day import DayArrays
from adyton.review.engine.moves import Schedule, commit, earliest_starts, empty_schedule
from adyton.review.tables import FloatArray, IntArray


@dataclass
class Rounds:
    """The state between two decisions. open_ads: ascending.   starts: int64[M], see `earliest_starts`."""

    day: DayArrays
    schedule: Schedule = field(init=False)
    open_ads: IntArray = field(init=False)
    starts: IntArray = field(init=False)
    is_member: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        n_moderators = len(self.day.shift_start)
        self.schedule = empty_schedule(len(self.day.arrival))
        self.open_ads = np.empty(0, dtype=np.int64)
        self.starts = np.zeros(n_moderators, dtype=np.int64)
        self._free_at = np.zeros(n_moderators, dtype=np.int64)
        self.is_member = np.zeros((n_moderators, len(self.day.first) - 1), dtype=bool)
        for market in range(len(self.day.first) - 1):
            self.is_member[self.day.members[self.day.first[market] : self.day.first[market + 1]], market] = True

    def __iter__(self) -> Iterator[int]:
        """Each minute of the day, with `open_ads` and `starts` up to date."""
        edges = np.searchsorted(self.day.arrival, np.arange(self.day.horizon + 1))
        for minute in range(self.day.horizon):
            left = self.open_ads[self.schedule.moderator[self.open_ads] < 0]
            self.open_ads = np.concatenate([left, np.arange(edges[minute], edges[minute + 1])])
            earliest_starts(self.day, self._free_at, minute, self.starts)
            yield minute

    def minutes(self, moderators: IntArray, ads: IntArray) -> FloatArray:
        """Whole minutes that each moderator is expected to need for each ad, float64[len(moderators), len(ads)]."""
        work = self.day.pace[moderators[:, None], self.day.market[ads][None, :]] * self.day.work[ads][None, :]
        return np.asarray(np.maximum(1.0, np.ceil(work - 1e-9)))

    def commit(self, minute: int, ad: int, moderator: int) -> None:
        commit(self.day, self.schedule, self._free_at, self.starts, minute, ad, moderator)
