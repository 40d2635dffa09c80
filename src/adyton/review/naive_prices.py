"""Slow twins of the policies with prices (`engine.priced_pull`, `engine.priced_queues`, `engine.priced_online`).

Plain Python over the objects of `naive`, written from the definitions and not from the compiled code. A price is looked
up minute by minute, a virtual queue is a list, and every cost is worked out anew whenever it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from adyton.review.day import DayArrays
from adyton.review.engine.priced_queues import PLANS_PER_OLD_LOOK
from adyton.review.naive import NaiveAd, NaiveDay, NaiveModerator, Task

Prices = Sequence[Sequence[float]]
"""Price of a minute, by moderator and bin."""


@dataclass
class _Market:
    """What time costs: the price of each minute of each moderator; the last bin goes on for ever."""

    prices: Prices
    bin_minutes: int

    def of(self, moderator: NaiveModerator, start: int, end: int) -> float:
        bins = self.prices[moderator.number]
        return sum(float(bins[min(minute // self.bin_minutes, len(bins) - 1)]) for minute in range(start, end))


def _unserved(day: NaiveDay, ad: NaiveAd, minute: int, unserved_value: float) -> float:
    """Loss from `minute` on when nobody ever reviews the ad."""
    return ad.value * day.arrays.wait_cost * (day.arrays.horizon - minute) + unserved_value * ad.value


def _wrong(day: NaiveDay, ad: NaiveAd, moderator: NaiveModerator) -> float:
    return ad.stake * float(day.arrays.error[moderator.number, ad.market])


def play_priced_pull(
    arrays: DayArrays,
    prices: Prices,
    bin_minutes: int,
    patience: int,
    unserved_value: float,
    refresh: int,
    hold: float,
) -> list[Task]:
    """All tasks under the pull index; arguments as those of `run_priced_pull`."""
    day, market = NaiveDay(arrays), _Market(prices, bin_minutes)
    looks: dict[int, tuple[int, list[tuple[float, int]]]] = {}
    waiting: list[NaiveAd] = []
    for minute in range(arrays.horizon):
        waiting += day.arriving(minute)
        for moderator in day.moderators:
            if moderator.can_start(minute) != minute or minute >= moderator.shift_end:
                continue
            gains = []
            for ad in sorted(waiting, key=lambda ad: (ad.market, ad.number)):
                minutes = day.minutes(ad, moderator)
                if moderator not in day.eligible(ad) or minute + minutes > moderator.shift_end:
                    continue
                if ad.number not in looks or minute - looks[ad.number][0] >= refresh:
                    looks[ad.number] = (minute, _alternatives(day, market, ad, minute + patience))
                looked_at, ranking = looks[ad.number]
                others = [cost for cost, number in ranking if number != moderator.number]
                rate = ad.value * arrays.wait_cost
                other = others[0] + rate * (looked_at + patience - minute) if others else math.inf
                other = min(other, _unserved(day, ad, minute, unserved_value))
                own = _wrong(day, ad, moderator) + rate * minutes
                own_price = market.of(moderator, minute, minute + minutes)
                gains.append(((other - own - hold * own_price) / minutes, ad))
            if not gains:
                continue
            gain, chosen = max(gains, key=lambda pair: pair[0])
            if gain >= 0:
                day.commit(chosen, moderator, minute)
                waiting.remove(chosen)
    return day.tasks


def _alternatives(day: NaiveDay, market: _Market, ad: NaiveAd, minute: int) -> list[tuple[float, int]]:
    """(cost, moderator) of a review that begins at `minute` or at the start of the shift, cheapest first."""
    found = []
    for moderator in day.eligible(ad):
        minutes = day.minutes(ad, moderator)
        if minute + minutes > moderator.shift_end:
            continue
        start = max(minute, moderator.shift_start)
        cost = _wrong(day, ad, moderator) + ad.value * day.arrays.wait_cost * (start - minute + minutes)
        found.append((cost + market.of(moderator, start, start + minutes), moderator.number))
    return sorted(found)


@dataclass
class _Queues:
    """Virtual queues: which ads each moderator is planned to review, next one first."""

    day: NaiveDay
    unserved_value: float
    max_queue: int
    overtaking: float
    old_after: int
    planned: list[list[NaiveAd]] = field(default_factory=list)
    left_out: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.planned = [[] for _ in self.day.moderators]

    def insert(self, market: _Market, ad: NaiveAd, minute: int) -> bool:
        """Where the ad costs least, if that is less than no review."""
        best, place = _unserved(self.day, ad, minute, self.unserved_value), None
        for moderator in self.day.eligible(ad):
            queue = self.planned[moderator.number]
            if len(queue) >= self.max_queue:
                continue
            cost, position = self._cost(market, ad, moderator, queue, minute)
            if cost < best:
                best, place = cost, (queue, position)
        if place:
            place[0].insert(place[1], ad)
        return place is not None

    def _cost(
        self, market: _Market, ad: NaiveAd, moderator: NaiveModerator, queue: list[NaiveAd], minute: int
    ) -> tuple[float, int]:
        day, minutes = self.day, self.day.minutes(ad, moderator)
        ahead = 0
        while ahead < len(queue) and queue[ahead].value * minutes >= ad.value * day.minutes(queue[ahead], moderator):
            ahead += 1
        start = moderator.can_start(minute) + sum(day.minutes(other, moderator) for other in queue[:ahead])
        if start + minutes > moderator.shift_end:
            return math.inf, ahead
        delayed = sum(other.value for other in queue[ahead:])
        wait = (1 + self.overtaking) * (start - minute) + minutes
        cost = _wrong(day, ad, moderator) + ad.value * day.arrays.wait_cost * wait
        cost += market.of(moderator, start, start + minutes) + delayed * day.arrays.wait_cost * minutes
        return cost, ahead

    def begin(self, minute: int) -> list[NaiveAd]:
        """The ads begun now: for each moderator who can, the first of its queue that still fits the shift."""
        begun = []
        for moderator, queue in zip(self.day.moderators, self.planned, strict=True):
            if moderator.can_start(minute) != minute:
                continue
            fitting = [ad for ad in queue if minute + self.day.minutes(ad, moderator) <= moderator.shift_end]
            if fitting:
                self.day.commit(fitting[0], moderator, minute)
                queue.remove(fitting[0])
                begun.append(fitting[0])
        return begun

    def plan(self, market: _Market, waiting: list[NaiveAd], new: list[NaiveAd], minute: int, replan: int) -> None:
        """Everything anew, most valuable first, every `replan` minutes; otherwise the new ads in order of arrival.

        An old ad that found no place waits for its turn, which comes once in `PLANS_PER_OLD_LOOK` plans.
        """
        if minute % replan != 0:
            for ad in new:
                self.insert(market, ad, minute)
            return
        self.clear()
        for ad in sorted(waiting, key=lambda ad: (-ad.value, ad.number)):
            is_old = ad.number in self.left_out and minute - ad.arrival >= self.old_after
            if is_old and (minute // replan + ad.number) % PLANS_PER_OLD_LOOK != 0:
                continue
            if self.insert(market, ad, minute):
                self.left_out.discard(ad.number)
            else:
                self.left_out.add(ad.number)


def play_priced_queues(
    arrays: DayArrays,
    prices: Prices,
    bin_minutes: int,
    replan: int,
    unserved_value: float,
    max_queue: int,
    overtaking: float,
    old_after: int,
) -> list[Task]:
    """All tasks under priced virtual queues; arguments as those of `run_priced_queues`."""
    day = NaiveDay(arrays)
    queues, market = _Queues(day, unserved_value, max_queue, overtaking, old_after), _Market(prices, bin_minutes)
    waiting: list[NaiveAd] = []
    for minute in range(arrays.horizon):
        new = day.arriving(minute)
        waiting += new
        queues.plan(market, waiting, new, minute, replan)
        for ad in queues.begin(minute):
            waiting.remove(ad)
    return day.tasks


def play_priced_online(
    arrays: DayArrays,
    replan: int,
    unserved_value: float,
    max_queue: int,
    overtaking: float,
    old_after: int,
    memory: float,
) -> list[Task]:
    """All tasks under prices learnt during the day; arguments as those of `run_priced_online`."""
    day = NaiveDay(arrays)
    queues = _Queues(day, unserved_value, max_queue, overtaking, old_after)
    price = [[0.0] for _ in day.moderators]
    market = _Market(price, arrays.horizon)
    waiting: list[NaiveAd] = []
    densities: list[float] = []
    for minute in range(arrays.horizon):
        new = day.arriving(minute)
        waiting += new
        for ad in new:
            step = sum(densities) / max(len(densities), 1) / memory
            densities.append(_learn(day, market, ad, minute, unserved_value, step))
        step = sum(densities) / max(len(densities), 1) / memory
        for moderator in day.moderators:
            if moderator.shift_start <= minute < moderator.shift_end:
                price[moderator.number][0] = max(0.0, price[moderator.number][0] - step)
        queues.plan(market, waiting, new, minute, replan)
        for ad in queues.begin(minute):
            waiting.remove(ad)
    return day.tasks


def _learn(day: NaiveDay, market: _Market, ad: NaiveAd, minute: int, unserved_value: float, step: float) -> float:
    """Raise the price of the moderator where the ad costs least; gives the ad's value per minute at its fastest."""
    best, winner, fastest = _unserved(day, ad, minute, unserved_value), None, day.arrays.horizon
    for moderator in day.eligible(ad):
        minutes = day.minutes(ad, moderator)
        start = max(minute, moderator.shift_start)
        if start + minutes > moderator.shift_end:
            continue
        fastest = min(fastest, minutes)
        cost = _wrong(day, ad, moderator) + ad.value * day.arrays.wait_cost * (start - minute + minutes)
        cost += market.of(moderator, start, start + minutes)
        if cost < best:
            best, winner = cost, moderator
    if winner:
        prices = market.prices[winner.number]
        assert isinstance(prices, list)
        prices[0] += step * day.minutes(ad, winner)
    return ad.value / fastest
