"""`adyton sandbox`: what untrusted scripts can and cannot do on this machine."""

from __future__ import annotations

import asyncio
import sys

import click
import orjson

from adyton.sandbox.engines import Engine
from adyton.sandbox.isolation import Isolation
from adyton.sandbox.report import sandbox_report


@click.group()
def sandbox() -> None:
    """The sandbox in which buyers' and sellers' scripts run."""


@sandbox.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
@click.option(
    "--isolation",
    type=click.Choice([wall.value for wall in Isolation]),
    help="Test this wall instead of the strongest one that works here.",
)
@click.option(
    "--engine",
    type=click.Choice([engine.value for engine in Engine]),
    default=Engine.V8.value,
    help="The engine that runs the scripts.",
)
def report(as_json: bool, isolation: str | None, engine: str) -> None:
    """Run escape attempts and print BLOCKED or ALLOWED for each; exit code 11 if anything was allowed."""
    found = asyncio.run(sandbox_report(None if isolation is None else Isolation(isolation), Engine(engine)))
    if as_json:
        click.echo(orjson.dumps(found.as_json()))
    else:
        for attempt in found.attempts:
            click.echo(f"{attempt.verdict}  {attempt.name}  ({attempt.detail})")
        click.echo(f"isolation: {found.isolation.value} ({found.isolation.meaning})", err=True)
    if not found.all_blocked:
        sys.exit(11)
