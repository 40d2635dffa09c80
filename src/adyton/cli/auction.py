"""`adyton auction`: run the services of a protected auction."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from adyton.cli.keys import keys


@click.group()
def auction() -> None:
    """Run the services of a protected auction, or collect its win reports."""


@auction.command()
@click.option(
    "--config", "config_file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="JSON configuration."
)
@click.option("--all", "is_whole_stack", is_flag=True, help="A seller and two buyers on loopback, with the test key.")
@click.option("--from-environment", is_flag=True, help="Read the reference services' environment names.")
@click.option(
    "--evidence",
    type=click.Choice(["dev-sim"]),
    help="How to prove to key services what code runs here. dev-sim: DEVELOPMENT evidence, which protects nothing.",
)
@click.option("--log-level", default="WARNING", show_default=True, help="Least level that is logged to stderr.")
def serve(
    config_file: Path | None, is_whole_stack: bool, from_environment: bool, evidence: str | None, log_level: str
) -> None:
    """Serve until SIGTERM or SIGINT. One JSON line with the addresses on stdout says that it is ready."""
    from adyton.auction.config import load_config
    from adyton.auction.services.run import serve_processes
    from adyton.auction.services.telemetry import log_to_stderr

    if sum((config_file is not None, is_whole_stack, from_environment)) != 1:
        raise click.UsageError("give one of --config FILE, --all and --from-environment")
    if evidence is not None and config_file is None:
        raise click.UsageError("--evidence goes with --config FILE")
    log_to_stderr(log_level.upper())
    if config_file is not None:
        caller = None
        if evidence is not None:
            from adyton.flywheel.key_service import development_caller

            caller = development_caller()
        asyncio.run(serve_processes([load_config(config_file)], announce=click.echo, caller=caller))
    elif is_whole_stack:
        from adyton.auction.services.demo_stack import serve_demo_stack

        asyncio.run(serve_demo_stack(announce=click.echo))
    else:
        import os

        from adyton.auction.environment import config_from_environment

        asyncio.run(serve_processes([config_from_environment(os.environ)], announce=click.echo))


@auction.command()
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for Parquet files."
)
@click.option(
    "--listen", default="127.0.0.1:0", show_default=True, help="Address as host:port; port 0 is any free one."
)
@click.option("--log-level", default="WARNING", show_default=True, help="Least level that is logged to stderr.")
def collector(out: Path, listen: str, log_level: str) -> None:
    """Receive win and event reports and store them as Parquet. POST /flush and SIGTERM write what is pending."""
    from adyton.auction.collector import serve_collector
    from adyton.auction.services.telemetry import log_to_stderr

    log_to_stderr(log_level.upper())
    asyncio.run(serve_collector(out, listen, announce=click.echo))


auction.add_command(keys)
