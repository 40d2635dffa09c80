"""The slow twin of `engine.source_accounting`: the source's day in plain Python, with lists as the source keeps them.

Faults of spec/review §1.5 are not written out one by one here: they follow from what the source does with its lists (an
ad is one object however often it arrives, a moderator is removed from a list while it is walked through).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from adyton.review.engine.source_accounting import SourceArrays
from adyton.review.errors import UnknownAllocatorError


@dataclass(eq=False)
class _Ad:
    """One ad of the pool, shared by all its arrivals."""

    number: int
    market: int
    value: float
    is_assigned: bool = False
    is_done: bool = False
    loss: float = 0.0


@dataclass(eq=False)
class _Task:
    """A review. arrival: of the ad's arrivals, which one."""

    ad: _Ad
    arrival: int
    left: float


@dataclass(eq=False)
class _Moderator:
    """clock: minutes of the shift used up.   limit: NaN is none."""

    number: int
    limit: float
    clock: float = 0.0
    worked: float = 0.0
    is_working: bool = True
    tasks: list[_Task] = field(default_factory=list)

    @property
    def is_idle(self) -> bool:
        return self.is_working and not self.tasks

    @property
    def queued(self) -> float:
        """Whole minutes until the last task is done."""
        return sum(math.ceil(task.left) for task in self.tasks)


@dataclass
class SourceDay:
    """What happened. wait and inaccuracy: the two parts of the published loss.   done_at: minute by arrival."""

    wait: float = 0.0
    inaccuracy: float = 0.0
    n_refused: int = 0
    n_dropped: int = 0
    n_minutes: int = 0
    clock: list[float] = field(default_factory=list)
    worked: list[float] = field(default_factory=list)
    done_at: dict[int, int] = field(default_factory=dict)


def play_source_day_slowly(arrays: SourceArrays, allocator: str) -> SourceDay:
    """The day under `random`, `greedy_idle`, `greedy` or `greedy_farseeing`, as the source plays it."""
    if allocator not in ("random", "greedy_idle", "greedy", "greedy_farseeing"):
        raise UnknownAllocatorError(f"the source has no allocator {allocator!r}")
    day = SourceDay()
    ads = [_Ad(i, int(arrays.market[i]), float(arrays.value[i])) for i in range(len(arrays.value))]
    everyone = [_Moderator(j, float(limit)) for j, limit in enumerate(arrays.limit)]
    listed = list(everyone)
    undone: list[_Ad] = []
    unassigned: list[tuple[int, _Ad]] = []
    arrived: list[_Ad] = []
    for minute in range(len(arrays.arrival_of) - 1):
        if not listed or (minute > 0 and not undone):
            break
        day.n_minutes += 1
        still = [ad for ad in undone if not ad.is_done]
        for ad in still:
            ad.loss += ad.value * arrays.wait_cost
        numbers = range(arrays.arrival_of[minute], arrays.arrival_of[minute + 1])
        new = [(number, ads[arrays.arriving[number]]) for number in numbers]
        undone = still + [ad for _, ad in new]
        arrived += [ad for _, ad in new]
        unassigned = [(number, ad) for number, ad in unassigned if not ad.is_assigned] + new
        _allocate(arrays, allocator, unassigned, listed, day)
        _work(listed, minute, day)
    day.wait = sum(ad.loss for ad in arrived)
    day.clock = [moderator.clock for moderator in everyone]
    day.worked = [moderator.worked for moderator in everyone]
    return day


def _allocate(
    arrays: SourceArrays,
    allocator: str,
    unassigned: list[tuple[int, _Ad]],
    listed: list[_Moderator],
    day: SourceDay,
) -> None:
    pretended = {moderator.number: 0.0 for moderator in listed}
    order = list(unassigned) if allocator == "random" else sorted(unassigned, key=lambda pair: pair[1].value)
    for arrival, ad in reversed(order):
        team = set(map(int, arrays.members[arrays.first[ad.market] : arrays.first[ad.market + 1]]))
        able = sorted((m for m in listed if m.number in team), key=lambda m: m.number)
        minutes = {m.number: float(arrays.pace[m.number, ad.market]) * float(arrays.work[ad.number]) for m in able}
        wrong = {m.number: float(arrays.stake[ad.number]) * float(arrays.error[m.number, ad.market]) for m in able}
        candidates = able
        if allocator in ("random", "greedy_idle"):
            candidates = [m for m in able if m.is_idle]
        else:
            candidates = [m for m in able if not m.clock + minutes[m.number] + pretended[m.number] > m.limit]
        if not candidates:
            if not able or allocator in ("greedy", "greedy_farseeing"):
                ad.is_assigned = ad.is_done = True
                day.n_dropped += 1
            continue
        if allocator == "random":
            chosen = candidates[-1]
        elif allocator == "greedy_idle":
            chosen = max(candidates, key=lambda m: (ad.value - wrong[m.number]) / minutes[m.number])
        else:
            chosen = max(
                candidates,
                key=lambda m: (ad.value - wrong[m.number]) / (minutes[m.number] + (m.queued + pretended[m.number])),
            )
        if allocator == "greedy_farseeing" and chosen.tasks:
            pretended[chosen.number] += minutes[chosen.number]
            continue
        day.inaccuracy += wrong[chosen.number]
        if chosen.clock + minutes[chosen.number] > chosen.limit:
            day.n_refused += 1
            continue
        ad.is_assigned = True
        chosen.tasks.append(_Task(ad, arrival, minutes[chosen.number]))
        chosen.clock += minutes[chosen.number]
        chosen.worked += minutes[chosen.number]


def _work(listed: list[_Moderator], minute: int, day: SourceDay) -> None:
    for moderator in listed:
        if not moderator.is_working:
            listed.remove(moderator)  # as the source does, so that whoever comes next is skipped
            continue
        if moderator.clock > moderator.limit and not moderator.tasks:
            moderator.is_working = False
        elif not moderator.tasks:
            moderator.clock += 1
        else:
            task = moderator.tasks[0]
            task.left -= 1
            if task.left <= 0:
                task.ad.is_done = True
                day.done_at[task.arrival] = minute + 1
                moderator.tasks.pop(0)
