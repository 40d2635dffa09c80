"""What one learns from simulating ad review: run me, I print the findings and draw the figures.

    python examples/ad_review.py [--days 5] [--volume 1] [--figures FOLDER]

Takes about a minute per day of volume 1. Everything is drawn from the workbook that Adyton ships.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from adyton.review.comparison.plan import Plan
from adyton.review.comparison.summary import Line, summarise
from adyton.review.comparison.workers import run_plan
from adyton.review.compat import draw_source_day, simulate_as_source
from adyton.review.day import DayConfig
from adyton.review.learning import learn_over_days
from adyton.review.workbook import load_default_workbook

REFERENCE = "greedy_farseeing"
ALLOCATORS = ("random", "fifo", "greedy", "gcmu", REFERENCE, "priced_online", "priced_pull", "priced_queues")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--volume", type=float, default=1.0)
    parser.add_argument("--moderators", type=int, default=350)
    parser.add_argument("--figures", type=Path)
    arguments = parser.parse_args()
    config = DayConfig(volume=arguments.volume, n_moderators=arguments.moderators)
    workbook = load_default_workbook()

    print("1. The published loss rewards what it should not.")
    source = draw_source_day(workbook, config, seed=1)
    for name in ("greedy", REFERENCE):
        result = simulate_as_source(source, allocator=name)
        print(f"   {name}: loss {result.loss:,.0f} as the source counts, {result.n_dropped} ads dropped free of charge")

    print("2. The order of allocators under an audited loss (A2), and how far each is from what is possible.")
    plan = Plan(allocators=ALLOCATORS, volumes=(arguments.volume,), n_replications=arguments.days, config=config)
    rows = run_plan(plan, n_workers=1)
    lines = summarise(rows, REFERENCE)
    for line in lines:
        print(f"   {line.allocator:<17} {line.measures['a2'].mean:>9,.0f}, {line.gap_a2:5.0f} % above the bound")

    print("3. What wins is a price for each moderator's time.")
    by_name: dict[str, Line] = {line.allocator: line for line in lines}
    for name in ("priced_queues", "priced_pull", "priced_online"):
        difference = by_name[name].difference_a2
        share = -100 * difference.mean / by_name[REFERENCE].measures["a2"].mean
        print(f"   {name}: {share:.0f} % below {REFERENCE}, at worst {by_name[name].worst_a2:.2f} of it on one day")

    print("4. Accuracy and risk need not be known beforehand.")
    days = learn_over_days(workbook, replace(config, volume=arguments.volume / 2), n_days=max(3, arguments.days))
    for day in (days[0], days[len(days) // 2], days[-1]):
        print(f"   day {day.day + 1}: regret {day.regret:,.0f} on a loss of {day.a2_known:,.0f}")

    if arguments.figures:
        from adyton.review.comparison.figures import write_figures

        for path in write_figures(rows, lines, arguments.figures):
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
