"""The option that says how much a server logs."""

from __future__ import annotations

import click

log_level_option = click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], case_sensitive=False),
    default="WARNING",
    show_default=True,
    help="Least level that is logged to stderr.",
)
