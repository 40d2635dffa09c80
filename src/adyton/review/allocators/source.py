"""The four allocators of the source document."""

from __future__ import annotations

from adyton.review.allocators.contract import Allocator
from adyton.review.day import Day
from adyton.review.engine.moves import Schedule, value_rank
from adyton.review.engine.source_policies import run_greedy, run_greedy_idle, run_random


class Random(Allocator):
    name = "random"
    summary = "a random open ad to a random idle eligible moderator"

    def allocate(self, day: Day) -> Schedule:
        return run_random(day.arrays)


class GreedyIdle(Allocator):
    name = "greedy_idle"
    summary = "ads by value, each to the best idle moderator"

    def allocate(self, day: Day) -> Schedule:
        return run_greedy_idle(day.arrays, value_rank(day.arrays))


class Greedy(Allocator):
    name = "greedy"
    summary = "ads by value, each at once to the best moderator, idle or not"

    def allocate(self, day: Day) -> Schedule:
        return run_greedy(day.arrays, value_rank(day.arrays), looks_ahead=False)


class GreedyFarseeing(Allocator):
    name = "greedy_farseeing"
    summary = "greedy with pretend queues; only an idle moderator is really assigned"

    def allocate(self, day: Day) -> Schedule:
        return run_greedy(day.arrays, value_rank(day.arrays), looks_ahead=True)
