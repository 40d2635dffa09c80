"""Measure review: gaps to the bound, and speed against the naive twin and at a million ads.

    python bench/review.py [--seeds 3] [--skip-million]

Prints ratios, not verdicts: times depend on the machine.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np

from adyton.review.arrivals import Pattern
from adyton.review.bound import lower_bound
from adyton.review.day import DayConfig, draw_day
from adyton.review.naive import play
from adyton.review.simulation import simulate
from adyton.review.tables import Workbook
from adyton.review.workbook import load_default_workbook

SCENARIOS = {
    "even v=0.5": DayConfig(volume=0.5),
    "even v=1": DayConfig(),
    "even v=1.5": DayConfig(volume=1.5),
    "uneven v=1": DayConfig(pattern=Pattern.UNEVEN),
    "peak v=1": DayConfig(pattern=Pattern.PEAK),
    "even v=1 p=2": DayConfig(punishment=2.0),
    "even v=1 p=3": DayConfig(punishment=3.0),
}
REFERENCE = "greedy_farseeing"
ALLOCATORS = (REFERENCE, "priced_pull", "priced_queues", "priced_pull_a1", "priced_queues_a1")


def gaps(workbook: Workbook, name: str, config: DayConfig, n_seeds: int, n_steps: int) -> None:
    """One line for each allocator: mean losses as multiples of the bound, and the worst seed against farseeing."""
    rows: dict[str, list[tuple[float, float, float]]] = {allocator: [] for allocator in ALLOCATORS}
    bounds = []
    for seed in range(1, n_seeds + 1):
        day = draw_day(workbook, config, seed=seed)
        bound = lower_bound(day, n_steps=n_steps)
        bounds.append((bound.a1, bound.a2))
        for allocator in ALLOCATORS:
            result = simulate(day, allocator=allocator)
            rows[allocator].append((result.loss.a1, result.loss.a2, result.simulated_seconds))
    low, reference = np.mean(bounds, axis=0), np.array(rows[REFERENCE])
    for allocator, values in rows.items():
        table = np.array(values)
        mean = np.mean(table, axis=0)
        worst = np.max(table[:, :2] / reference[:, :2], axis=0)
        print(
            f"{name:<13} {allocator:<17} A1 {mean[0]:9,.0f} = {mean[0] / low[0]:5.3f} x bound   "
            f"A2 {mean[1]:9,.0f} = {mean[1] / low[1]:5.3f} x bound   worst seed / farseeing "
            f"{worst[0]:.2f} {worst[1]:.2f}   {np.median(table[:, 2]):.3f} s",
            flush=True,
        )


def against_the_twin(workbook: Workbook) -> None:
    """Compiled against naive on a small day."""
    day = draw_day(workbook, DayConfig(volume=0.05, n_moderators=40), seed=1)
    for allocator in ("random", "greedy_idle", "greedy", REFERENCE):
        begin = time.perf_counter()
        play(day.arrays, allocator)
        naive = time.perf_counter() - begin
        compiled = min(simulate(day, allocator=allocator).simulated_seconds for _ in range(3))
        print(f"twin          {allocator:<17} naive / compiled = {naive / compiled:,.0f}")


def million(workbook: Workbook) -> None:
    """1,000,000 ads, every usable moderator, 25 days in one run."""
    config = DayConfig(volume=2.7, n_moderators=len(workbook.moderators.usable()), horizon=25 * 1440)
    day = draw_day(workbook, config, seed=1)
    for allocator in ("greedy", "priced_pull", "priced_queues"):
        result = simulate(day, allocator=allocator)
        seconds = result.simulated_seconds
        print(f"million       {allocator:<17} {day.n_ads:,} ads in {seconds:.1f} s = {day.n_ads / seconds:,.0f} ads/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300, help="steps of the bound's ascent")
    parser.add_argument("--scenarios", nargs="*", default=list(SCENARIOS))
    parser.add_argument("--skip-million", action="store_true")
    arguments = parser.parse_args()
    workbook = load_default_workbook()
    for name in arguments.scenarios:
        gaps(workbook, name, replace(SCENARIOS[name]), arguments.seeds, arguments.steps)
    against_the_twin(workbook)
    if not arguments.skip_million:
        million(workbook)


if __name__ == "__main__":
    main()
