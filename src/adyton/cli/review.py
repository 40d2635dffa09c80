"""`adyton review`: simulate a day of ad review, or compare allocators over many."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import click

from adyton.cli.review_compare import compare_command
from adyton.cli.review_input import load_estimators, load_workbook, see_working_folder
from adyton.cli.review_learn import learn_command
from adyton.cli.whole_file import whole_text_file
from adyton.kernel.chance import stream
from adyton.kernel.errors import UnavailableError
from adyton.review.allocators.registry import allocator_classes
from adyton.review.arrivals import Pattern, read_arrivals
from adyton.review.bound import Bound, lower_bound
from adyton.review.compat import SourceResult, draw_source_day, simulate_as_source
from adyton.review.day import Day, DayConfig, draw_day
from adyton.review.generator import resample_workbook
from adyton.review.simulation import DayResult, SimulationOptions, gap_percent, simulate


@click.group()
def review() -> None:
    """Which ads may run, in what order, reviewed by whom."""


@review.command("simulate")
@click.option("-d", "pattern", type=click.Choice([p.value for p in Pattern]), default="even", show_default=True)
@click.option("-v", "volume", type=float, default=1.0, show_default=True, help="Number of ads; 1 is 15,000 a day.")
@click.option(
    "-p", "punishment", type=float, default=2.0, show_default=True, help="Weight of a harmful ad let through."
)
@click.option("-s", "source", type=click.Choice(["raw", "synthetic"]), default="raw", show_default=True)
@click.option(
    "-a", "allocator", default="greedy", show_default=True, help="See `adyton review allocators`, or module:Class."
)
@click.option(
    "-f", "file", type=click.Path(path_type=Path), help="CSV of every ad's fate; default lists the parameters."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--input", "input_path", type=click.Path(path_type=Path), help="Workbook; default: the shipped one.")
@click.option("--moderators", "n_moderators", type=int, default=350, show_default=True)
@click.option("--estimators", default="source", show_default=True, help="`source`, `cautious` or module:Class.")
@click.option("--handling-sigma", type=float, default=0.0, show_default=True, help="Spread of handling times.")
@click.option("--break-minutes", type=int, default=0, show_default=True, help="One break for each moderator.")
@click.option("--no-show", type=float, default=0.0, show_default=True, help="Share of moderators who do not come.")
@click.option("--shifts-by-time-zone", is_flag=True, help="Shifts start in each moderator's local morning.")
@click.option("--verdicts", is_flag=True, help="Draw truth and verdict of each ad; they are in the CSV.")
@click.option(
    "--sla-minutes", type=click.IntRange(min=1), default=240, show_default=True, help="A longer wait: a miss."
)
@click.option(
    "--arrivals",
    "arrivals_path",
    type=click.Path(path_type=Path),
    help="CSV of minute,ads or minute,ad_id; replaces -d and -v.",
)
@click.option("--compat", type=click.Choice(["seed"]), help="`seed`: the source's stream and loss, faults included.")
@click.option("--bound-steps", type=click.IntRange(min=1), default=300, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def simulate_command(
    pattern: str,
    volume: float,
    punishment: float,
    source: str,
    allocator: str,
    file: Path | None,
    seed: int,
    input_path: Path | None,
    n_moderators: int,
    estimators: str,
    handling_sigma: float,
    break_minutes: int,
    no_show: float,
    shifts_by_time_zone: bool,
    verdicts: bool,
    sla_minutes: int,
    arrivals_path: Path | None,
    compat: str | None,
    bound_steps: int,
    as_json: bool,
) -> None:
    """One day under one allocator, with its lower bound.

    With --compat seed: the source's own loss, which has no bound and is not audited; no CSV is written.
    """
    config = DayConfig(
        pattern=Pattern(pattern),
        volume=volume,
        punishment=punishment,
        n_moderators=n_moderators,
        handling_sigma=handling_sigma,
        break_minutes=break_minutes,
        no_show=no_show,
        is_shift_by_time_zone=shifts_by_time_zone,
    )
    see_working_folder(allocator)
    workbook = load_workbook(input_path)
    if source == "synthetic":
        workbook = resample_workbook(workbook, stream(seed, "review", "synthetic"))
    arrivals = read_arrivals(arrivals_path) if arrivals_path else None
    chosen = load_estimators(estimators)
    if compat:
        source_day = draw_source_day(workbook, config, seed=seed, estimators=chosen, arrivals=arrivals)
        source_result = simulate_as_source(source_day, allocator=allocator, seed=seed)
        click.echo(json.dumps(source_json(source_result)) if as_json else _source_text(source_result))
        return
    day = draw_day(workbook, config, seed=seed, estimators=chosen, arrivals=arrivals)
    options = SimulationOptions(draw_verdicts=verdicts, sla_minutes=sla_minutes)
    result = simulate(day, allocator=allocator, seed=seed, options=options)
    bound = lower_bound(day, n_steps=bound_steps)
    label = allocator.replace(":", ".")
    target = file or Path(f"review_{pattern}_v{volume:g}_p{punishment:g}_{source}_{label}_seed{seed}.csv")
    _export(target, day, result)
    click.echo(f"wrote {target}", err=True)
    if as_json:
        click.echo(json.dumps(result_json(result, bound)))
    else:
        _print(result, bound, options)


@review.command("allocators")
def allocators_command() -> None:
    """The allocators that `simulate` takes."""
    for name, allocator in allocator_classes().items():
        click.echo(f"{name:<22} {allocator.summary}")


review.add_command(compare_command)
review.add_command(learn_command)


def result_json(result: DayResult, bound: Bound) -> dict[str, object]:
    """The JSON object of one simulated day."""
    loss = result.loss
    return {
        "allocator": result.allocator,
        "seed": result.seed,
        "loss": {"seed_loss": loss.seed_loss, "a1": loss.a1, "a2": loss.a2},
        "bound": {"a1": bound.a1, "a2": bound.a2},
        "gap_percent": {"a1": _finite(gap_percent(loss.a1, bound.a1)), "a2": _finite(gap_percent(loss.a2, bound.a2))},
        "finished_fraction": result.finished_fraction,
        "utilisation": result.utilisation,
        "wait_minutes": {"p50": result.wait_p50, "p95": result.wait_p95},
        "simulated_seconds": result.simulated_seconds,
    }


def _finite(number: float) -> float | None:
    """The same, or None where JSON has no number: the gap above a bound of 0."""
    return number if math.isfinite(number) else None


def source_json(result: SourceResult) -> dict[str, object]:
    """The JSON object of one day in compatibility mode: the source's figures, and how far its faults went."""
    return {
        "compat": "seed",
        "allocator": result.allocator,
        "seed": result.seed,
        "loss": {"seed_loss": result.loss, "wait": result.wait_loss, "inaccuracy": result.inaccuracy_loss},
        "finished_fraction": result.finished_fraction,
        "utilisation": result.utilisation,
        "faults": {
            "arrivals": result.n_arrivals,
            "distinct_ads": result.n_distinct,
            "dropped_at_no_cost": result.n_dropped,
            "refused_and_charged": result.n_refused,
            "minutes_played": result.n_minutes,
        },
    }


def _source_text(result: SourceResult) -> str:
    return "\n".join(
        [
            f"allocator    {result.allocator}, seed {result.seed}, counted as the source does",
            f"seed's loss  {result.loss:>12,.0f}",
            f"  of it      wait {result.wait_loss:,.0f}, inaccuracy {result.inaccuracy_loss:,.0f}",
            f"finished     {result.finished_fraction:.1%}, utilisation {result.utilisation:.1%}",
            f"faults       {result.n_arrivals} arrivals of {result.n_distinct} ads, {result.n_dropped} dropped free,"
            f" {result.n_refused} refusals charged, {result.n_minutes} minutes played",
        ]
    )


def _print(result: DayResult, bound: Bound, options: SimulationOptions) -> None:
    loss = result.loss
    click.echo(f"allocator    {result.allocator}, seed {result.seed}, {result.day.n_ads} ads")
    click.echo(
        f"loss A2      {loss.a2:>12,.0f}   bound {bound.a2:>12,.0f}   gap {gap_percent(loss.a2, bound.a2):.1f} %"
    )
    click.echo(
        f"loss A1      {loss.a1:>12,.0f}   bound {bound.a1:>12,.0f}   gap {gap_percent(loss.a1, bound.a1):.1f} %"
    )
    click.echo(f"seed's loss  {loss.seed_loss:>12,.0f}")
    click.echo(f"finished     {result.finished_fraction:.1%}, utilisation {result.utilisation:.1%}")
    click.echo(f"wait         median {result.wait_p50:.0f} min, 95th percentile {result.wait_p95:.0f} min")
    click.echo(f"SLA          {result.sla_misses} of {result.day.n_ads} ads not done within {options.sla_minutes} min")
    if result.decisions:
        n_right = sum(decision.is_right for decision in result.decisions)
        n_passed = sum(not decision.is_right and decision.is_harmful for decision in result.decisions)
        click.echo(
            f"verdicts     {n_right} of {len(result.decisions)} right, {n_passed} harmful ads passed,"
            f" {len(result.decisions) - n_right - n_passed} clean ones stopped"
        )
    click.echo(f"simulated in {result.simulated_seconds:.3f} s")


def _export(path: Path, day: Day, result: DayResult) -> None:
    schedule, arrays = result.schedule, day.arrays
    decided = {decision.ad: decision for decision in result.decisions}
    headings = ["ad_id", "country", "arrival_minute", "moderator", "start_minute", "done_minute", "value"]
    try:
        with whole_text_file(path) as out:
            writer = csv.writer(out)
            writer.writerow(headings + (["verdict", "is_harmful"] if decided else []))
            for ad in range(day.n_ads):
                taken = schedule.moderator[ad] >= 0
                who = day.moderator_id(int(schedule.moderator[ad])) if taken else ""
                times = [int(schedule.start[ad]), int(schedule.done[ad])] if taken else ["", ""]
                row = [day.ad_id(ad), day.country(ad), int(arrays.arrival[ad]), who, *times, arrays.value[ad]]
                if decided:
                    decision = decided.get(ad)
                    row += [decision.verdict.value, int(decision.is_harmful)] if decision else ["", ""]
                writer.writerow(row)
    except OSError as error:
        raise UnavailableError(
            "the result cannot be written", where=str(path), hint="choose another file with -f"
        ) from error
