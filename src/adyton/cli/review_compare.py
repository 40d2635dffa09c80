"""`adyton review compare`: many days, many allocators, with intervals and the bound."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from adyton.cli.output_folder import check_folder
from adyton.cli.review_input import load_estimators, load_workbook, see_working_folder
from adyton.cli.whole_file import whole_text_file
from adyton.kernel.errors import UnavailableError
from adyton.review.allocators.registry import allocator_names
from adyton.review.arrivals import Pattern
from adyton.review.comparison.plan import Plan, Row
from adyton.review.comparison.summary import Interval, Line, summarise
from adyton.review.comparison.workers import run_plan
from adyton.review.day import DayConfig
from adyton.review.errors import DayConfigError

_T = TypeVar("_T")
_PROFILES = ("queue", "busy")


@click.command("compare")
@click.option(
    "--allocators", default="all", show_default=True, help="`all`, or names or module:Class, with commas between."
)
@click.option("--patterns", default="even", show_default=True, help="even, uneven, peak, with commas between.")
@click.option("--volumes", default="1", show_default=True, help="Numbers with commas between.")
@click.option(
    "--replications", type=click.IntRange(min=1), default=30, show_default=True, help="Days of each scenario."
)
@click.option("-p", "punishment", type=float, default=2.0, show_default=True)
@click.option("--reference", default="greedy_farseeing", show_default=True, help="What differences are taken from.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the first day; the next days count on.")
@click.option("--input", "input_path", type=click.Path(path_type=Path), help="Workbook; default: the shipped one.")
@click.option("--moderators", "n_moderators", type=int, default=350, show_default=True)
@click.option("--estimators", default="source", show_default=True, help="`source`, `cautious` or module:Class.")
@click.option("--bound-steps", type=click.IntRange(min=1), default=300, show_default=True)
@click.option("--engine", type=click.Choice(["processes", "ray"]), default="processes", show_default=True)
@click.option("--workers", type=click.IntRange(min=1), default=None, help="Default: one for each core.")
@click.option("--csv", "csv_path", type=click.Path(path_type=Path), help="One row for each day and allocator.")
@click.option("--figures", "figures_path", type=click.Path(path_type=Path), help="Folder for PNG figures.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def compare_command(
    allocators: str,
    patterns: str,
    volumes: str,
    replications: int,
    punishment: float,
    reference: str,
    seed: int,
    input_path: Path | None,
    n_moderators: int,
    estimators: str,
    bound_steps: int,
    engine: str,
    workers: int | None,
    csv_path: Path | None,
    figures_path: Path | None,
    as_json: bool,
) -> None:
    """Allocators on the same days: mean losses with 95 % intervals, differences paired by day, and the bound."""
    see_working_folder(allocators)
    plan = Plan(
        allocators=allocator_names() if allocators == "all" else tuple(allocators.split(",")),
        patterns=tuple(_parse(Pattern, patterns, "pattern")),
        volumes=tuple(_parse(float, volumes, "volume")),
        n_replications=replications,
        seed=seed,
        config=DayConfig(punishment=punishment, n_moderators=n_moderators),
        bound_steps=bound_steps,
        estimators=estimators,
        workbook=input_path,
    )
    if reference not in plan.allocators:
        raise DayConfigError(f"the reference {reference!r} is not compared", hint="add it to --allocators")
    check_folder(csv_path)
    load_estimators(estimators)
    load_workbook(input_path)
    rows = _run(plan, engine, workers or os.cpu_count() or 1)
    lines = summarise(rows, reference)
    # Printed first: what took an hour must not be lost to a disk that is full.
    click.echo(json.dumps(comparison_json(plan, reference, lines)) if as_json else _table(lines, reference))
    if csv_path:
        _write_csv(rows, csv_path)
    if figures_path:
        from adyton.review.comparison.figures import write_figures  # matplotlib takes a second to load

        for path in write_figures(rows, lines, figures_path):
            click.echo(f"wrote {path}", err=True)


def comparison_json(plan: Plan, reference: str, lines: Sequence[Line]) -> dict[str, object]:
    """The JSON object of a comparison; an interval of one replication has half_width null."""
    return {
        "reference": reference,
        "replications": plan.n_replications,
        "seed": plan.seed,
        "results": [_clean(asdict(line)) for line in lines],
    }


def _parse(kind: Callable[[str], _T], text: str, noun: str) -> list[_T]:
    try:
        return [kind(part.strip()) for part in text.split(",")]
    except ValueError as error:
        raise DayConfigError(f"{text!r} is not a list of {noun}s", hint="separate them by commas") from error


def _run(plan: Plan, engine: str, n_workers: int) -> tuple[Row, ...]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
        task = progress.add_task("days", total=len(plan.replications()))
        return run_plan(plan, engine=engine, n_workers=n_workers, on_done=lambda: progress.advance(task))


def _write_csv(rows: Sequence[Row], path: Path) -> None:
    names = [field.name for field in fields(Row) if field.name not in _PROFILES]
    try:
        with whole_text_file(path) as out:
            writer = csv.writer(out)
            writer.writerow(names)
            writer.writerows([getattr(row, name) for name in names] for row in rows)
    except OSError as error:
        raise UnavailableError("the rows cannot be written", where=str(path), hint="choose another --csv") from error
    click.echo(f"wrote {path}", err=True)


def _clean(value: object) -> object:
    """The same with NaN as null, which JSON has and NaN it has not."""
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _table(lines: Sequence[Line], reference: str) -> str:
    out = []
    scenario = None
    for line in lines:
        if scenario != (line.pattern, line.volume):
            scenario = (line.pattern, line.volume)
            out.append(
                f"\n{line.pattern}, volume {line.volume:g}, {line.n_replications} days; bound A2 {line.bound_a2:,.0f}, "
                f"A1 {line.bound_a1:,.0f}; differences from {reference}"
            )
            out.append(
                f"{'allocator':<18} {'A2':>18} {'gap':>7} {'difference A2':>20} {'A1':>18} {'gap':>7}"
                f" {'done':>6} {'util':>6} {'wait p50/p95':>13}"
            )
        m = line.measures
        out.append(
            f"{line.allocator:<18} {_show(m['a2']):>18} {line.gap_a2:>6.1f}% {_show(line.difference_a2):>20} "
            f"{_show(m['a1']):>18} {line.gap_a1:>6.1f}% {m['finished_fraction'].mean:>6.1%} "
            f"{m['utilisation'].mean:>6.1%} {m['wait_p50'].mean:>6.0f}/{m['wait_p95'].mean:.0f}"
        )
    return "\n".join(out).lstrip("\n")


def _show(interval: Interval) -> str:
    width = "" if math.isnan(interval.half_width) else f" ± {interval.half_width:,.0f}"
    return f"{interval.mean:,.0f}{width}"
