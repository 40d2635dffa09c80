"""`adyton party`: a party's keys and public record."""

from __future__ import annotations

import json
from pathlib import Path

import click

from adyton.cleanroom.party import Party, identity_path, load_identity, save_party
from adyton.cli.passphrase import PASSPHRASE_VARIABLE, read_passphrase

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def party() -> None:
    """Make and show a party's keys."""


@party.command("init")
@click.argument("name")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="Default: here.")
@click.option("--passphrase-file", type=_FILE, help=f"Otherwise {PASSPHRASE_VARIABLE} of the environment.")
@click.option("--json", "as_json", is_flag=True, help="The public record as JSON on stdout.")
def init_command(name: str, folder: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Write NAME.party.json, which everybody may have, and NAME.key.json, which nobody else may."""
    made = Party.create(name)
    path = save_party(made, folder, read_passphrase(passphrase_file))
    if as_json:
        click.echo(json.dumps(made.identity.as_json()))
    else:
        click.echo(f"{identity_path(folder, name)}\n{path}")
    click.echo(f"fingerprint {made.identity.fingerprint()}", err=True)


@party.command("show")
@click.argument("record", type=_FILE)
def show_command(record: Path) -> None:
    """Print name and fingerprint of a NAME.party.json, to compare by telephone."""
    identity = load_identity(record)
    click.echo(f"{identity.name} {identity.fingerprint()}")
