"""The source document's day, stream and loss, faults included, to reproduce its published figures; no audited loss.

Differences from `day` and `simulation`: arrivals are drawn again and again from one pool, an uneven day may end in its
first minutes, and the loss is the source's (`engine.source_accounting` lists the faults).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adyton.kernel.chance import stream
from adyton.review.arrivals import ADS_PER_DAY, ArrivalStream, Pattern, arrivals_per_minute
from adyton.review.day import DayConfig, assemble_day
from adyton.review.engine.source_accounting import (
    GREEDY,
    GREEDY_FARSEEING,
    GREEDY_IDLE,
    RANDOM,
    SourceArrays,
    SourceTally,
    play_source_day,
)
from adyton.review.errors import DayConfigError, UnknownAllocatorError
from adyton.review.estimators import Estimators, SourceEstimators
from adyton.review.tables import IntArray, Workbook

SOURCE_POLICIES = {
    "random": RANDOM,
    "greedy_idle": GREEDY_IDLE,
    "greedy": GREEDY,
    "greedy_farseeing": GREEDY_FARSEEING,
}


@dataclass(frozen=True)
class SourceResult:
    """What the source document would have printed, and how far its faults went.

    loss: the published "matching loss", wait + inaccuracy.   utilisation: minutes assigned over clocks.
    n_arrivals: up to the end of the day.   n_distinct: different ads among them.   n_minutes: minutes played, < 1440
    when the day ended early.
    """

    allocator: str
    seed: int
    loss: float
    wait_loss: float
    inaccuracy_loss: float
    utilisation: float
    finished_fraction: float
    n_arrivals: int
    n_distinct: int
    n_dropped: int
    n_refused: int
    n_minutes: int


def draw_source_day(
    workbook: Workbook,
    config: DayConfig,
    *,
    seed: int,
    estimators: Estimators | None = None,
    arrivals: ArrivalStream | None = None,
) -> SourceArrays:
    """The arrays of a day as the source draws it: a pool of 15,000·volume rows, and a sample of it each minute.

    Raises DayConfigError when the pool is larger than the workbook (the source fails at volume 3), or when the config
    asks for chance that the source does not have.
    """
    if config.handling_sigma or config.break_minutes or config.no_show or config.is_shift_by_time_zone:
        raise DayConfigError("the source's day has no breaks, absence, time zones or random handling times")
    n_pool = round(ADS_PER_DAY * config.volume)
    if n_pool > len(workbook.ads):
        limit = len(workbook.ads) / ADS_PER_DAY
        raise DayConfigError(
            f"the source draws {n_pool} different ads, the workbook holds {len(workbook.ads)}",
            hint=f"choose a volume up to {limit:.2f}, or leave compatibility off",
        )
    rng = stream(seed, "review", "compat")
    if arrivals is not None and arrivals.ad_ids is not None:
        raise DayConfigError("the source samples its ads, a stream cannot name them", hint="give minute and ads only")
    per_minute = _source_arrivals(config, n_pool, rng, workbook) if arrivals is None else arrivals.per_minute
    rows = rng.choice(len(workbook.ads), n_pool, replace=False).astype(np.int64)
    samples = [rng.choice(n_pool, min(int(n), n_pool), replace=False) for n in per_minute]
    usable = workbook.moderators.usable()
    if config.n_moderators > len(usable):
        raise DayConfigError(f"{config.n_moderators} moderators asked, {len(usable)} are usable")
    moderators = stream(seed, "review", "moderators").choice(usable, config.n_moderators, replace=False)
    roster = np.sort(moderators).astype(np.int64)
    nothing = np.zeros(n_pool, dtype=np.int64)
    pool = assemble_day(workbook, config, nothing, rows, nothing, roster, estimators or SourceEstimators(), seed, seed)
    arrays = pool.arrays
    return SourceArrays(
        value=arrays.value,
        stake=arrays.stake,
        work=arrays.work,
        market=arrays.market,
        arrival_of=np.cumsum([0, *map(len, samples)]).astype(np.int64),
        arriving=np.concatenate([nothing[:0], *samples]).astype(np.int64),
        pace=arrays.pace,
        error=arrays.error,
        limit=4.0 * workbook.moderators.productivity[roster],
        first=arrays.first,
        members=arrays.members,
        wait_cost=arrays.wait_cost,
    )


def simulate_as_source(arrays: SourceArrays, *, allocator: str, seed: int = 0) -> SourceResult:
    """The result of one of the source's four allocators. Raises UnknownAllocatorError for any other."""
    if allocator not in SOURCE_POLICIES:
        raise UnknownAllocatorError(
            f"the source has no allocator {allocator!r}", hint=f"one of {', '.join(SOURCE_POLICIES)}"
        )
    tally: SourceTally = play_source_day(arrays, SOURCE_POLICIES[allocator])
    arrived = arrays.arriving[: arrays.arrival_of[tally.n_minutes]]
    clock = float(np.sum(tally.clock))
    return SourceResult(
        allocator=allocator,
        seed=seed,
        loss=float(tally.wait + tally.inaccuracy),
        wait_loss=float(tally.wait),
        inaccuracy_loss=float(tally.inaccuracy),
        utilisation=float(np.sum(tally.worked)) / clock if clock else 0.0,
        finished_fraction=float(np.mean(tally.done_at[: len(arrived)] >= 0)) if len(arrived) else 0.0,
        n_arrivals=len(arrived),
        n_distinct=len(np.unique(arrived)),
        n_dropped=int(tally.n_dropped),
        n_refused=int(tally.n_refused),
        n_minutes=int(tally.n_minutes),
    )


def _source_arrivals(config: DayConfig, n_ads: int, rng: np.random.Generator, workbook: Workbook) -> IntArray:
    """As `arrivals`, but cut to whole ads each minute, and an uneven walk that starts near nothing."""
    if config.pattern is Pattern.EVEN:
        mean = n_ads / config.horizon
        return np.maximum(rng.normal(mean, mean / 5, config.horizon), 0).astype(np.int64)
    if config.pattern is Pattern.UNEVEN:
        start, drift, noise = rng.uniform(0, 10), rng.uniform(-1, 1), rng.uniform(0.5, 2)
        walk = np.abs(start + np.cumsum(drift + rng.normal(0, noise, config.horizon)))
        return np.asarray(walk / np.sum(walk) * n_ads).astype(np.int64)
    return arrivals_per_minute(config.pattern, n_ads, rng, workbook.ads.start_hour, config.horizon)
