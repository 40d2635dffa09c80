"""Measure review: losses against the bound and farseeing, speed against the naive twin and at a million ads.

    python bench/review.py [--seeds 3] [--processes 2] [--steps 300] [--bound "even v=1" …] [--allocators NAME …]
        [--skip-million]
    python bench/review.py --seeds 30 --json gaps.json     what docs/reference/review-figures.md quotes

Prints ratios, not verdicts: times depend on the machine. A bound takes longer than all allocators of a day together, so
`--bound` names the scenarios that get one, and `--allocators` what is played; with `--json` finished days are kept, and
only what they lack is played.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path

import numpy as np

from adyton.review.arrivals import Pattern
from adyton.review.bound import lower_bound
from adyton.review.day import DayConfig, draw_day
from adyton.review.naive import play
from adyton.review.simulation import simulate
from adyton.review.tables import Workbook
from adyton.review.workbook import load_default_workbook

SCENARIOS = {
    "even v=1": DayConfig(),
    "even v=0.5": DayConfig(volume=0.5),
    "even v=1.5": DayConfig(volume=1.5),
    "uneven v=1": DayConfig(pattern=Pattern.UNEVEN),
    "peak v=1": DayConfig(pattern=Pattern.PEAK),
    "even v=1 p=2": DayConfig(punishment=2.0),
    "even v=1 p=3": DayConfig(punishment=3.0),
}
REFERENCE = "greedy_farseeing"
ALLOCATORS = (REFERENCE, "priced_pull", "priced_queues", "priced_pull_a1", "priced_queues_a1")
Played = dict[str, list[float]]
"""Name of an allocator, or "bound": A1, A2, seconds of simulation."""


@cache
def shipped() -> Workbook:
    """The shipped workbook, read once in each process."""
    return load_default_workbook()


def play_day(scenario: str, seed: int, n_steps: int, wanted: list[str]) -> Played:
    """One day under each allocator of `wanted`, and its bound in `n_steps` where "bound" is among them."""
    day = draw_day(shipped(), SCENARIOS[scenario], seed=seed)
    played: Played = {}
    if "bound" in wanted:
        bound = lower_bound(day, n_steps=n_steps)
        played["bound"] = [bound.a1, bound.a2, 0.0]
    for allocator in wanted:
        if allocator == "bound":
            continue
        result = simulate(day, allocator=allocator)
        played[allocator] = [result.loss.a1, result.loss.a2, result.simulated_seconds]
    return played


def play_days(
    scenarios: list[str],
    bounded: list[str],
    allocators: list[str],
    n_seeds: int,
    n_steps: int,
    n_processes: int,
    kept: Path | None,
) -> dict[str, Played]:
    """Every scenario and seed, by "scenario/seed"; finished days are read from `kept` and added to it."""
    days: dict[str, Played] = json.loads(kept.read_text()) if kept and kept.exists() else {}
    with ProcessPoolExecutor(n_processes) as pool:
        running = {}
        for seed in range(1, n_seeds + 1):
            for scenario in scenarios:
                asked = [*allocators, "bound"] if scenario in bounded else allocators
                done = days.setdefault(f"{scenario}/{seed}", {})
                if wanted := [name for name in asked if name not in done]:
                    running[pool.submit(play_day, scenario, seed, n_steps, wanted)] = f"{scenario}/{seed}"
        for future in as_completed(running):
            days[running[future]].update(future.result())
            if kept:
                kept.write_text(json.dumps(days))
    return days


def print_gaps(scenario: str, allocators: list[str], played: list[Played]) -> None:
    """One line for each allocator: mean losses, as multiples of the bound and of farseeing, worst seed, seconds."""
    reference = np.array([day[REFERENCE] for day in played])
    bounds = np.array([day["bound"] for day in played if "bound" in day])
    for allocator in allocators:
        table = np.array([day[allocator] for day in played])
        line = f"{scenario:<13} {len(played):3} seeds {allocator:<17}"
        for column, loss in enumerate(("A1", "A2")):
            line += f" {loss} {np.mean(table[:, column]):9,.0f}"
            if len(bounds) == len(played):
                line += f" = {np.mean(table[:, column]) / np.mean(bounds[:, column]):5.3f} x bound"
            share = np.mean(table[:, column]) / np.mean(reference[:, column])
            worst = np.max(table[:, column] / reference[:, column])
            line += f" = {share:4.2f} x farseeing (worst {worst:4.2f})"
        print(f"{line}   {np.median(table[:, 2]):.2f} s", flush=True)


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
    for allocator in ("greedy", "priced_queues"):
        result = simulate(day, allocator=allocator)
        seconds = result.simulated_seconds
        print(f"million       {allocator:<17} {day.n_ads:,} ads in {seconds:.1f} s = {day.n_ads / seconds:,.0f} ads/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=300, help="steps of the bound's ascent")
    parser.add_argument("--scenarios", nargs="*", default=list(SCENARIOS))
    parser.add_argument("--bound", nargs="*", default=list(SCENARIOS), help="scenarios whose days get a bound")
    parser.add_argument("--allocators", nargs="*", default=list(ALLOCATORS), help=f"{REFERENCE} is always among them")
    parser.add_argument("--json", type=Path, help="file that keeps each finished day")
    parser.add_argument("--skip-million", action="store_true")
    asked = parser.parse_args()
    allocators = list(dict.fromkeys([REFERENCE, *asked.allocators]))
    days = play_days(asked.scenarios, asked.bound, allocators, asked.seeds, asked.steps, asked.processes, asked.json)
    for scenario in asked.scenarios:
        print_gaps(scenario, allocators, [days[f"{scenario}/{seed}"] for seed in range(1, asked.seeds + 1)])
    workbook = shipped()
    against_the_twin(workbook)
    if not asked.skip_million:
        million(workbook)


if __name__ == "__main__":
    main()
