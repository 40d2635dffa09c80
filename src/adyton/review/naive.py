"""The slow twin: the same rules in plain Python, minute by minute, one moderator object at a time.

Written from the rules of the day (`engine.moves`) and of each policy, not from the compiled code; it shares no function
with it. Compiled and naive schedules must be equal, task for task, on generated cases. Policies with prices have their
twins in `naive_prices`, the source's own accounting in `naive_source`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from adyton.review.day import DayArrays
from adyton.review.errors import UnknownAllocatorError


@dataclass
class NaiveModerator:
    """A moderator at work. free_at: the first minute with nothing left to do."""

    number: int
    shift_start: int
    shift_end: int
    break_start: int
    break_end: int
    free_at: int = 0

    def can_start(self, minute: int) -> int:
        start = max(minute, self.free_at, self.shift_start)
        return self.break_end if self.break_start <= start < self.break_end else start


@dataclass(frozen=True)
class NaiveAd:
    """An ad that has arrived."""

    number: int
    arrival: int
    value: float
    stake: float
    market: int


@dataclass(frozen=True)
class Task:
    """One commitment: who does which ad, from when to when, decided when."""

    ad: int
    moderator: int
    committed: int
    start: int
    done: int


@dataclass
class NaiveDay:
    """A day being played."""

    arrays: DayArrays
    moderators: list[NaiveModerator] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)

    def __post_init__(self) -> None:
        a = self.arrays
        self.moderators = [
            NaiveModerator(j, int(a.shift_start[j]), int(a.shift_end[j]), int(a.break_start[j]), int(a.break_end[j]))
            for j in range(len(a.shift_start))
        ]

    def arriving(self, minute: int) -> list[NaiveAd]:
        a = self.arrays
        return [
            NaiveAd(i, minute, float(a.value[i]), float(a.stake[i]), int(a.market[i]))
            for i in range(len(a.arrival))
            if a.arrival[i] == minute
        ]

    def eligible(self, ad: NaiveAd) -> list[NaiveModerator]:
        a = self.arrays
        return [self.moderators[j] for j in a.members[a.first[ad.market] : a.first[ad.market + 1]]]

    def minutes(self, ad: NaiveAd, moderator: NaiveModerator, effort: float = 1.0) -> int:
        a = self.arrays
        pace, work = float(a.pace[moderator.number, ad.market]), float(a.work[ad.number])
        return max(1, math.ceil(pace * (work * effort) - 1e-9))

    def profit(self, ad: NaiveAd, moderator: NaiveModerator) -> float:
        return ad.value - ad.stake * float(self.arrays.error[moderator.number, ad.market])

    def commit(self, ad: NaiveAd, moderator: NaiveModerator, minute: int) -> None:
        start = moderator.can_start(minute)
        done = start + self.minutes(ad, moderator, float(self.arrays.effort[ad.number]))
        self.tasks.append(Task(ad.number, moderator.number, minute, start, done))
        moderator.free_at = done


def play(arrays: DayArrays, allocator: str) -> list[Task]:
    """All tasks of a day under a policy without prices, in order of commitment."""
    policies: dict[str, Callable[[NaiveDay, list[NaiveAd], int], list[NaiveAd]]] = {
        "random": _random,
        "greedy_idle": _greedy_idle,
        "greedy": _greedy,
        "greedy_farseeing": _greedy_farseeing,
        "fifo": _fifo,
        "edf": _edf,
        "gcmu": _gcmu,
    }
    if allocator not in policies:
        raise UnknownAllocatorError(f"{allocator!r} has no slow twin", hint=f"one of {', '.join(policies)}")
    day = NaiveDay(arrays)
    waiting: list[NaiveAd] = []
    for minute in range(arrays.horizon):
        waiting = policies[allocator](day, waiting + day.arriving(minute), minute)
    return day.tasks


def _able(day: NaiveDay, ad: NaiveAd, minute: int) -> list[NaiveModerator]:
    """Eligible moderators who could begin the ad in this minute and are expected to end it within the shift."""
    return [m for m in day.eligible(ad) if m.can_start(minute) == minute and minute + day.minutes(ad, m) <= m.shift_end]


def _by_value(ads: list[NaiveAd]) -> list[NaiveAd]:
    return sorted(ads, key=lambda ad: (-ad.value, ad.number))


def _random(day: NaiveDay, ads: list[NaiveAd], minute: int) -> list[NaiveAd]:
    left = []
    for ad in sorted(ads, key=lambda ad: (day.arrays.ticket[ad.number, 0], ad.number)):
        able = _able(day, ad, minute)
        if able:
            day.commit(ad, able[int(day.arrays.ticket[ad.number, 1] * len(able))], minute)
        else:
            left.append(ad)
    return left


def _greedy_idle(day: NaiveDay, ads: list[NaiveAd], minute: int) -> list[NaiveAd]:
    left = []
    for ad in _by_value(ads):
        able = _able(day, ad, minute)
        if able:
            day.commit(ad, max(able, key=lambda m: day.profit(ad, m) / day.minutes(ad, m)), minute)
        else:
            left.append(ad)
    return left


def _ranked(day: NaiveDay, ads: list[NaiveAd], minute: int, rank: Callable[[NaiveAd], float]) -> list[NaiveAd]:
    left = []
    for ad in sorted(ads, key=lambda ad: (rank(ad), ad.number)):
        able = _able(day, ad, minute)
        if able:
            day.commit(ad, min(able, key=lambda m: m.free_at), minute)
        else:
            left.append(ad)
    return left


def _fifo(day: NaiveDay, ads: list[NaiveAd], minute: int) -> list[NaiveAd]:
    return _ranked(day, ads, minute, lambda ad: ad.arrival)


def _edf(day: NaiveDay, ads: list[NaiveAd], minute: int) -> list[NaiveAd]:
    """Due when the wait has cost one unit of revenue, or after eight hours."""
    return _ranked(
        day, ads, minute, lambda ad: ad.arrival + min(480.0, 1.0 / max(ad.value * day.arrays.wait_cost, 1e-12))
    )


def _gcmu(day: NaiveDay, ads: list[NaiveAd], minute: int) -> list[NaiveAd]:
    left = sorted(ads, key=lambda ad: ad.number)
    for moderator in day.moderators:
        mine = [ad for ad in left if moderator in _able(day, ad, minute)]
        if mine:
            ad = max(mine, key=lambda ad: ad.value / day.minutes(ad, moderator))
            day.commit(ad, moderator, minute)
            left.remove(ad)
    return left


def _greedy(day: NaiveDay, ads: list[NaiveAd], minute: int) -> list[NaiveAd]:
    for ad in _by_value(ads):
        scores = {}
        for moderator in day.eligible(ad):
            until = moderator.can_start(minute) + day.minutes(ad, moderator)
            if until <= moderator.shift_end:
                scores[moderator.number] = day.profit(ad, moderator) / (until - minute)
        if scores:
            day.commit(ad, day.moderators[max(scores, key=lambda j: scores[j])], minute)
    return []


def _greedy_farseeing(day: NaiveDay, ads: list[NaiveAd], minute: int) -> list[NaiveAd]:
    left = []
    pretended = {m.number: 0 for m in day.moderators}
    for ad in _by_value(ads):
        scores = {}
        for moderator in day.eligible(ad):
            until = moderator.can_start(minute) + pretended[moderator.number] + day.minutes(ad, moderator)
            if until <= moderator.shift_end:
                scores[moderator.number] = day.profit(ad, moderator) / (until - minute)
        if not scores:
            continue
        chosen = day.moderators[max(scores, key=lambda j: scores[j])]
        if chosen.can_start(minute) == minute and not pretended[chosen.number]:
            day.commit(ad, chosen, minute)
        else:
            pretended[chosen.number] += day.minutes(ad, chosen)
            left.append(ad)
    return left
