"""`adyton demo`: the whole loop in one command."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("adyton-demo"),
    show_default=True,
    help="Folder to write; an earlier demo there is replaced.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Everything but privacy noise and keys repeats.")
@click.option("--devices", type=click.IntRange(1, 1000), default=200, show_default=True, help="Simulated devices.")
@click.option("--volume", type=click.FloatRange(0.05, 3), default=1.0, show_default=True, help="1 is 15,000 ads a day.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on stdout.")
@click.option(
    "--insecure-fixed-noise",
    "fixed_noise",
    is_flag=True,
    help="Repeat the privacy noise too. The output then carries no privacy guarantee.",
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Copy what is otherwise deleted (sealed tables, device stores, logs) into this folder.",
)
def demo(
    out: Path, seed: int, devices: int, volume: float, as_json: bool, fixed_noise: bool, keep: Path | None
) -> None:
    """Run review, clean room, auction and egress on shipped data and write a report."""
    from adyton.flywheel.demo import DemoConfig, run_demo
    from adyton.flywheel.progress import TerminalReporter

    config = DemoConfig(out, seed, devices, volume, fixed_noise, keep)
    with _cleans_up():
        summary = run_demo(config, TerminalReporter())
    if as_json:
        click.echo(json.dumps(summary.as_json()))
        return
    click.echo(f"report: {out / 'report.html'}")
    for part in ("review", "cleanroom", "auction", "egress"):
        figures = getattr(summary, part).__dict__.items()
        click.echo(f"{part}: " + ", ".join(f"{name} {_short(value)}" for name, value in figures))
    click.echo(f"{summary.seconds:g} s, {summary.peak_rss_mb:g} MB")


@contextmanager
def _cleans_up() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as an interrupt does: processes ended, keys and half a folder deleted."""

    ended_by: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> None:
        if not ended_by:  # a second one must not stop the cleaning up
            ended_by.append(number)
            if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script
                raise KeyboardInterrupt
            # An event loop ends its tasks in order on an interrupt, and on nothing else.
            signal.raise_signal(signal.SIGINT)

    # Under nohup SIGHUP is ignored, and stays so.
    taken = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) is signal.SIG_DFL]
    for one in taken:
        signal.signal(one, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        if not ended_by:
            raise
        click.echo(f"error: ended by {signal.Signals(ended_by[0]).name}", err=True)
        sys.exit(128 + ended_by[0])
    finally:
        for one in taken:
            signal.signal(one, signal.SIG_DFL)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
