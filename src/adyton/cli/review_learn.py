"""`adyton review learn`: what it costs not to know how accurate moderators are and how risky ads."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from adyton.cli.output_folder import check_folder
from adyton.cli.review_input import load_workbook, see_working_folder
from adyton.review.day import DayConfig
from adyton.review.learning import LearningDay, learn_over_days


@click.command("learn")
@click.option("-a", "allocator", default="priced_pull", show_default=True)
@click.option("-v", "volume", type=float, default=1.0, show_default=True)
@click.option("-p", "punishment", type=float, default=2.0, show_default=True)
@click.option("--days", "n_days", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--revealed", type=float, default=0.2, show_default=True, help="Share of verdicts whose truth is learnt.")
@click.option("--explore/--no-explore", default=True, show_default=True, help="Posterior sampling, or posterior means.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--input", "input_path", type=click.Path(path_type=Path), help="Workbook; default: the shipped one.")
@click.option("--moderators", "n_moderators", type=int, default=350, show_default=True)
@click.option("--figure", "figure_path", type=click.Path(path_type=Path), help="PNG of regret and errors by day.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def learn_command(
    allocator: str,
    volume: float,
    punishment: float,
    n_days: int,
    revealed: float,
    explore: bool,
    seed: int,
    input_path: Path | None,
    n_moderators: int,
    figure_path: Path | None,
    as_json: bool,
) -> None:
    """Days in a row with accuracy and risk estimated from verdicts, and the regret against knowing them."""
    check_folder(figure_path)
    see_working_folder(allocator)
    days = learn_over_days(
        load_workbook(input_path),
        DayConfig(volume=volume, punishment=punishment, n_moderators=n_moderators),
        allocator=allocator,
        n_days=n_days,
        revealed_share=revealed,
        explores=explore,
        seed=seed,
    )
    click.echo(json.dumps(learning_json(days, allocator)) if as_json else _table(days))
    if figure_path:
        from adyton.review.learning_figure import write_learning_figure  # matplotlib takes a second to load

        write_learning_figure(days, figure_path)
        click.echo(f"wrote {figure_path}", err=True)


def learning_json(days: tuple[LearningDay, ...], allocator: str) -> dict[str, object]:
    """The JSON object of a run."""
    return {
        "allocator": allocator,
        "total_regret": sum(day.regret for day in days),
        "days": [asdict(day) | {"regret": day.regret} for day in days],
    }


def _table(days: tuple[LearningDay, ...]) -> str:
    lines = [f"{'day':>4} {'A2':>10} {'A2 known':>10} {'regret':>9} {'accuracy off by':>16} {'risk off by':>12}"]
    lines += [
        f"{d.day + 1:>4} {d.a2:>10,.0f} {d.a2_known:>10,.0f} {d.regret:>9,.0f} {d.accuracy_error:>16.4f}"
        f" {d.risk_error:>12.4f}"
        for d in days
    ]
    total, known = sum(d.regret for d in days), sum(d.a2_known for d in days)
    lines.append(
        f"{len(days)} days: regret {total:,.0f}, {total / known if known else 0:.1%} of the loss with known rates"
    )
    return "\n".join(lines)
