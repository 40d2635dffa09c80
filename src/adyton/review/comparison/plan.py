"""What is compared, and one replication of it: one day, its bound, and every allocator on that same day."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from adyton.review.allocators.registry import find_allocator
from adyton.review.arrivals import Pattern
from adyton.review.bound import lower_bound
from adyton.review.day import Day, DayConfig, draw_day
from adyton.review.engine.moves import Schedule
from adyton.review.errors import DayConfigError
from adyton.review.estimators import find_estimators
from adyton.review.simulation import simulate
from adyton.review.tables import Workbook
from adyton.review.workbook import load_default_workbook, read_workbook

PROFILE_MINUTES = 15
"""Length of one bin of a profile over the day."""


@dataclass(frozen=True)
class Replication:
    """One day to draw."""

    pattern: Pattern
    volume: float
    seed: int


@dataclass(frozen=True)
class Plan:
    """A comparison. `config` gives all that replications have in common; seeds are seed, seed + 1, …"""

    allocators: tuple[str, ...]
    patterns: tuple[Pattern, ...] = (Pattern.EVEN,)
    volumes: tuple[float, ...] = (1.0,)
    n_replications: int = 30
    seed: int = 1
    config: DayConfig = field(default_factory=DayConfig)
    bound_steps: int = 300
    estimators: str = "source"
    workbook: Path | None = None

    def __post_init__(self) -> None:
        if not self.allocators or not self.patterns or not self.volumes or self.n_replications < 1:
            raise DayConfigError("a comparison needs an allocator, a pattern, a volume and a replication")
        if len(set(self.allocators)) < len(self.allocators):
            raise DayConfigError("an allocator is named twice")
        for name in self.allocators:
            find_allocator(name)
        for replication in self.replications():
            self.config_of(replication)

    def replications(self) -> tuple[Replication, ...]:
        seeds = range(self.seed, self.seed + self.n_replications)
        return tuple(Replication(p, v, s) for p in self.patterns for v in self.volumes for s in seeds)

    def config_of(self, replication: Replication) -> DayConfig:
        return replace(self.config, pattern=replication.pattern, volume=replication.volume)


@dataclass(frozen=True)
class Row:
    """One allocator on one day. Losses and bounds in the revenue unit, waits in minutes.

    queue: mean number of ads that wait or are under review, in each `PROFILE_MINUTES` of the day.   busy: mean share of
    the moderators on shift who work, likewise; 0 where nobody is on shift.
    """

    pattern: str
    volume: float
    seed: int
    allocator: str
    seed_loss: float
    a1: float
    a2: float
    bound_a1: float
    bound_a2: float
    finished_fraction: float
    utilisation: float
    wait_p50: float
    wait_p95: float
    sla_misses: int
    simulated_seconds: float
    queue: tuple[float, ...] = ()
    busy: tuple[float, ...] = ()


@lru_cache(maxsize=2)
def load_once(path: Path | None) -> Workbook:
    """The workbook at `path`, or the shipped one; read once in each process."""
    return load_default_workbook() if path is None else read_workbook(path)


def run_replication(plan: Plan, replication: Replication) -> tuple[Row, ...]:
    """One row for each allocator, all on one day (common random numbers)."""
    config = plan.config_of(replication)
    day = draw_day(load_once(plan.workbook), config, seed=replication.seed, estimators=find_estimators(plan.estimators))
    bound = lower_bound(day, n_steps=plan.bound_steps)
    rows = []
    for name in plan.allocators:
        result = simulate(day, allocator=name, seed=replication.seed)
        queue, busy = profiles(day, result.schedule)
        rows.append(
            Row(
                pattern=replication.pattern.value,
                volume=replication.volume,
                seed=replication.seed,
                allocator=name,
                seed_loss=result.loss.seed_loss,
                a1=result.loss.a1,
                a2=result.loss.a2,
                bound_a1=bound.a1,
                bound_a2=bound.a2,
                finished_fraction=result.finished_fraction,
                utilisation=result.utilisation,
                wait_p50=result.wait_p50,
                wait_p95=result.wait_p95,
                sla_misses=result.sla_misses,
                simulated_seconds=result.simulated_seconds,
                queue=queue,
                busy=busy,
            )
        )
    return tuple(rows)


def profiles(day: Day, schedule: Schedule) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(queue, busy) of a schedule; see `Row`."""
    arrays, horizon = day.arrays, day.arrays.horizon
    begun = schedule.moderator >= 0
    done = np.where(begun, np.minimum(schedule.done, horizon), horizon)
    queue = _present(arrays.arrival, done, horizon)
    working = _present(schedule.start[begun], done[begun], horizon)
    on_shift = _present(arrays.shift_start, arrays.shift_end, horizon)
    busy = np.divide(working, on_shift, out=np.zeros(horizon), where=on_shift > 0)
    return _means(queue), _means(np.minimum(busy, 1.0))


def _present(begin: np.ndarray, end: np.ndarray, horizon: int) -> np.ndarray:
    """How many intervals [begin, end) hold each minute, float64[horizon]."""
    change = np.bincount(np.minimum(begin, horizon), minlength=horizon + 1).astype(np.float64)
    change -= np.bincount(np.minimum(end, horizon), minlength=horizon + 1)
    return np.cumsum(change)[:horizon]


def _means(per_minute: np.ndarray) -> tuple[float, ...]:
    edges = np.arange(0, len(per_minute), PROFILE_MINUTES)
    lengths = np.diff(np.append(edges, len(per_minute)))
    return tuple(float(x) for x in np.add.reduceat(per_minute, edges) / lengths)
