"""Means with 95 % intervals, and differences paired by day (spec/review §3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from adyton.review.comparison.plan import Row
from adyton.review.errors import DayConfigError

MEASURES = ("a2", "a1", "seed_loss", "finished_fraction", "utilisation", "wait_p50", "wait_p95", "sla_misses")


@dataclass(frozen=True)
class Interval:
    """A mean and half the width of its 95 % interval by Student's t; NaN when there is only one value."""

    mean: float
    half_width: float

    @property
    def excludes_zero(self) -> bool:
        return abs(self.mean) > self.half_width


@dataclass(frozen=True)
class Line:
    """One allocator in one scenario.

    measures: by name of `MEASURES`.   bound_a1, bound_a2: mean bounds.   gap_a1, gap_a2: ratio of mean loss to mean
    bound, in per cent above.   difference_a1, difference_a2: loss minus the reference's on the same day.   worst_a1,
    worst_a2: largest ratio to the reference's loss on one day.
    """

    pattern: str
    volume: float
    allocator: str
    n_replications: int
    measures: dict[str, Interval]
    bound_a1: float
    bound_a2: float
    gap_a1: float
    gap_a2: float
    difference_a1: Interval
    difference_a2: Interval
    worst_a1: float
    worst_a2: float


def interval(values: Sequence[float]) -> Interval:
    """Mean and half-width of `values`, at least one."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return Interval(float(np.mean(array)), math.nan)
    t = float(stats.t.ppf(0.975, len(array) - 1))
    return Interval(float(np.mean(array)), t * float(np.std(array, ddof=1)) / math.sqrt(len(array)))


def summarise(rows: Sequence[Row], reference: str) -> tuple[Line, ...]:
    """A line for each (pattern, volume, allocator), scenarios in the order of the rows, smallest A2 first.

    Raises DayConfigError when the reference is not among the allocators.
    """
    if reference not in {row.allocator for row in rows}:
        raise DayConfigError(f"the reference {reference!r} is not compared", hint="add it to --allocators")
    grouped: dict[tuple[str, float], dict[str, list[Row]]] = {}
    for row in rows:
        grouped.setdefault((row.pattern, row.volume), {}).setdefault(row.allocator, []).append(row)
    lines = []
    for (pattern, volume), by_allocator in grouped.items():
        base = {row.seed: row for row in by_allocator[reference]}
        scenario = [_line(pattern, volume, name, found, base) for name, found in by_allocator.items()]
        lines += sorted(scenario, key=lambda line: line.measures["a2"].mean)
    return tuple(lines)


def _line(pattern: str, volume: float, allocator: str, rows: list[Row], base: dict[int, Row]) -> Line:
    bound_a1, bound_a2 = (float(np.mean([getattr(r, name) for r in rows])) for name in ("bound_a1", "bound_a2"))
    measures = {name: interval([getattr(row, name) for row in rows]) for name in MEASURES}
    return Line(
        pattern=pattern,
        volume=volume,
        allocator=allocator,
        n_replications=len(rows),
        measures=measures,
        bound_a1=bound_a1,
        bound_a2=bound_a2,
        gap_a1=_above(measures["a1"].mean, bound_a1),
        gap_a2=_above(measures["a2"].mean, bound_a2),
        difference_a1=interval([row.a1 - base[row.seed].a1 for row in rows]),
        difference_a2=interval([row.a2 - base[row.seed].a2 for row in rows]),
        worst_a1=max(row.a1 / base[row.seed].a1 if base[row.seed].a1 else 1.0 for row in rows),
        worst_a2=max(row.a2 / base[row.seed].a2 if base[row.seed].a2 else 1.0 for row in rows),
    )


def _above(loss: float, bound: float) -> float:
    return 100 * (loss / bound - 1) if bound > 0 else math.nan
