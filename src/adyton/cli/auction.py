"""`adyton auction`: run the services of a protected auction."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adyton.cli.keys import keys
from adyton.cli.log_level import log_level_option

if TYPE_CHECKING:
    from adyton.auction.keys.attestation import AttestedCaller


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
    type=click.Choice(["dev-sim", "dev-tpm"]),
    help="How to prove to key services what code runs here. Both are DEVELOPMENT evidence, which protects nothing.",
)
@click.option(
    "--tpm",
    "tpm_folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The software TPM of --evidence dev-tpm, as `adyton cleanroom tpm` makes it.",
)
@log_level_option
def serve(
    config_file: Path | None,
    is_whole_stack: bool,
    from_environment: bool,
    evidence: str | None,
    tpm_folder: Path | None,
    log_level: str,
) -> None:
    """Serve until SIGTERM or SIGINT. One JSON line with the addresses on stdout says that it is ready."""
    from adyton.auction.config import load_config
    from adyton.auction.environment import config_from_environment
    from adyton.auction.services.run import serve_processes
    from adyton.auction.services.telemetry import log_to_stderr

    if sum((config_file is not None, is_whole_stack, from_environment)) != 1:
        raise click.UsageError("give one of --config FILE, --all and --from-environment")
    if evidence is not None and is_whole_stack:
        raise click.UsageError("--all uses the test key and needs no --evidence")
    if (evidence == "dev-tpm") != (tpm_folder is not None):
        raise click.UsageError("--evidence dev-tpm and --tpm FOLDER belong together")
    log_to_stderr(log_level)
    if is_whole_stack:
        from adyton.auction.services.demo_stack import serve_demo_stack

        asyncio.run(serve_demo_stack(announce=click.echo))
        return
    config = load_config(config_file) if config_file is not None else config_from_environment(os.environ)
    with _caller(evidence, tpm_folder) as caller:
        asyncio.run(serve_processes([config], announce=click.echo, caller=caller))


@contextmanager
def _caller(evidence: str | None, tpm_folder: Path | None) -> Iterator[AttestedCaller | None]:
    if evidence is None:
        yield None
        return
    from adyton.flywheel.key_service import development_caller, software_tpm_caller

    if tpm_folder is None:
        yield development_caller()
        return
    with software_tpm_caller(tpm_folder) as caller:
        yield caller


@auction.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, writable=True, path_type=Path),
    required=True,
    help="Folder for Parquet files.",
)
@click.option(
    "--listen", default="127.0.0.1:0", show_default=True, help="Address as host:port; port 0 is any free one."
)
@log_level_option
def collector(out: Path, listen: str, log_level: str) -> None:
    """Receive win and event reports and store them as Parquet. POST /flush and SIGTERM write what is pending."""
    from adyton.auction.collector import serve_collector
    from adyton.auction.services.telemetry import log_to_stderr

    log_to_stderr(log_level)
    asyncio.run(serve_collector(out, listen, announce=click.echo))


auction.add_command(keys)
