"""One simulated day: an allocator plans it, the plan is audited, and losses and waits are read off (spec/review §1.4).

workbook = load_default_workbook()
day = draw_day(workbook, DayConfig(), seed=7)
result = simulate(day, allocator="priced_queues", seed=7)
bound = lower_bound(day)
result.loss.a2, bound.a2, gap_percent(result.loss.a2, bound.a2)
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np

from adyton.review.allocators.registry import find_allocator
from adyton.review.day import Day
from adyton.review.engine.moves import Schedule
from adyton.review.errors import ScheduleError
from adyton.review.tables import FloatArray
from adyton.review.verdicts import Decision, draw_verdicts


@dataclass(frozen=True)
class Loss:
    """Losses of one day in the revenue unit.

    a1: wait of every ad until done or horizon, plus the expected cost of wrong verdicts of what was assigned, once.
    a2: a1 plus the value of every ad not done at the horizon; the headline.
    seed_loss: as the source document counts (a dropped ad costs nothing). Compatibility only.
    """

    seed_loss: float
    a1: float
    a2: float


@dataclass(frozen=True)
class SimulationOptions:
    """draw_verdicts: draw truth and verdict of every finished ad.   sla_minutes: a longer wait is a miss."""

    draw_verdicts: bool = False
    sla_minutes: int = 240


@dataclass(frozen=True, eq=False)
class DayResult:
    """What one allocator did on one day.

    utilisation: minutes worked over minutes of shift.   wait_minutes: of finished ads, from arrival to done.
    simulated_seconds: time of the compiled loop, planning of prices not included.   decisions: one for each finished
    ad, in order of `done`, when verdicts were drawn.
    """

    day: Day
    allocator: str
    seed: int
    schedule: Schedule
    loss: Loss
    finished_fraction: float
    utilisation: float
    wait_p50: float
    wait_p95: float
    sla_misses: int
    simulated_seconds: float
    decisions: tuple[Decision, ...] = field(default=())


def simulate(
    day: Day, *, allocator: str = "priced_queues", options: SimulationOptions | None = None, seed: int = 0
) -> DayResult:
    """The result of `allocator` on `day`. The same seed gives the same result.

    Raises UnknownAllocatorError for a name that is not in the registry, ScheduleError when the allocator cheats.
    """
    options = options or SimulationOptions()
    policy = find_allocator(allocator)
    policy.prepare(day)
    policy.allocate(_without_ads(day))  # compiles on first use, so that the time below is simulation only
    begin = time.perf_counter()
    schedule = policy.allocate(day)
    seconds = time.perf_counter() - begin
    audit_schedule(day, schedule)
    arrays = day.arrays
    finished = (schedule.moderator >= 0) & (schedule.done <= arrays.horizon)
    wait = (schedule.done - arrays.arrival)[finished]
    shift = np.sum(arrays.shift_end - arrays.shift_start)
    begun = schedule.moderator >= 0
    worked = np.sum(np.minimum(schedule.done, arrays.horizon)[begun] - schedule.start[begun])
    return DayResult(
        day=day,
        allocator=allocator,
        seed=seed,
        schedule=schedule,
        loss=losses(day, schedule),
        finished_fraction=float(np.mean(finished)) if day.n_ads else 1.0,
        utilisation=float(worked / shift) if shift else 0.0,
        wait_p50=float(np.quantile(wait, 0.5)) if len(wait) else 0.0,
        wait_p95=float(np.quantile(wait, 0.95)) if len(wait) else 0.0,
        sla_misses=int(np.sum(wait > options.sla_minutes) + np.sum(~finished)),
        simulated_seconds=seconds,
        decisions=draw_verdicts(day, schedule, seed) if options.draw_verdicts else (),
    )


def losses(day: Day, schedule: Schedule) -> Loss:
    """The three losses of a schedule; see `Loss`."""
    arrays = day.arrays
    begun = schedule.moderator >= 0
    finished = begun & (schedule.done <= arrays.horizon)
    until = np.where(finished, schedule.done, arrays.horizon)
    wait = arrays.value * arrays.wait_cost * (until - arrays.arrival)
    wrong = np.where(begun, arrays.stake * arrays.error[schedule.moderator, arrays.market], 0.0)
    a1 = float(np.sum(wait) + np.sum(wrong))
    return Loss(
        seed_loss=float(np.sum(wait[begun]) + np.sum(wrong)),
        a1=a1,
        a2=a1 + float(np.sum(arrays.value[~finished])),
    )


def audit_schedule(day: Day, schedule: Schedule) -> None:
    """Check that a schedule obeys the rules of the day; independent of the code that made it.

    Raises ScheduleError: an ad before it arrived, a moderator of another market, outside a shift or a break begun,
    overlapping tasks, a wrong duration.
    """
    arrays = day.arrays
    ads = np.flatnonzero(schedule.moderator >= 0)
    who, start, done = schedule.moderator[ads], schedule.start[ads], schedule.done[ads]
    market = arrays.market[ads]
    eligible = np.zeros(arrays.pace.shape, dtype=bool)
    for k in range(len(arrays.first) - 1):
        eligible[arrays.members[arrays.first[k] : arrays.first[k + 1]], k] = True
    pace_work = arrays.pace[who, market] * arrays.work[ads]
    expected, actual = _whole(pace_work), _whole(pace_work * arrays.effort[ads])
    in_break = (start >= arrays.break_start[who]) & (start < arrays.break_end[who])
    order = np.lexsort((start, who))
    same = who[order][1:] == who[order][:-1]
    overlap = same & (start[order][1:] < done[order][:-1])
    rules = {
        "an ad is taken before it arrives": schedule.committed[ads] < arrays.arrival[ads],
        "a task begins before it is committed": start < schedule.committed[ads],
        "a moderator reviews a market that is not theirs": ~eligible[who, market],
        "a task has a wrong duration": done - start != actual,
        "a task begins before the shift": start < arrays.shift_start[who],
        "a task begins in a break": in_break,
        "two tasks of one moderator overlap": overlap,
    }
    if day.is_exact:
        rules["a task is committed that cannot end within the shift"] = start + expected > arrays.shift_end[who]
    for rule, broken in rules.items():
        if np.any(broken):
            raise ScheduleError(rule, where=f"{int(np.sum(broken))} tasks")


def gap_percent(loss: float, bound: float) -> float:
    """How far a loss lies above a lower bound, in per cent of the bound (0 when both are 0)."""
    return 100 * (loss / bound - 1) if bound > 0 else (0.0 if loss == 0 else float("inf"))


def _without_ads(day: Day) -> Day:
    arrays = day.arrays
    per_ad = ("arrival", "value", "stake", "work", "market", "effort", "ticket")
    none = {name: getattr(arrays, name)[:0] for name in per_ad}
    nothing = day.ad_row[:0]
    return replace(day, arrays=arrays._replace(**none, horizon=0), ad_row=nothing, copy=nothing, risk=day.risk[:0])


def _whole(minutes: FloatArray) -> np.ndarray:
    return np.maximum(1, np.ceil(minutes - 1e-9)).astype(np.int64)
