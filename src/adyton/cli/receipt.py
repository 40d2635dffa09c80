"""`adyton receipt`: check again, offline, what a run says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import click

from adyton.cleanroom.receipt import load_receipt, require_receipt, verify_receipt
from adyton.cleanroom.receipt_page import receipt_page
from adyton.cleanroom.signed_contract import load_contract
from adyton.cleanroom.whole_file import write_whole
from adyton.kernel.errors import BadInputError

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_trust = click.option(
    "--trust", "trusted", multiple=True, type=_FILE, help="A TPM's attestation key, or its issuer. Repeatable."
)


@click.group()
def receipt() -> None:
    """Check receipts of clean-room runs."""


@receipt.command("verify")
@click.argument("file", type=_FILE)
@click.option("--contract", "contract_file", required=True, type=_FILE, help="The contract that you signed.")
@click.option("--outputs", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder with boxes.")
@_trust
@click.option("--json", "as_json", is_flag=True)
def verify_command(
    file: Path, contract_file: Path, outputs: Path | None, trusted: tuple[Path, ...], as_json: bool
) -> None:
    """Compute every fact of a receipt again; exit 0 only if all hold."""
    signed = load_contract(contract_file)
    signed.check_signatures()
    boxes = {path.name: path.read_bytes() for path in sorted(outputs.glob("*.box"))} if outputs else None
    if outputs is not None and not boxes:
        raise BadInputError("no sealed outputs lie in this folder", where=str(outputs), hint="they end in .box")
    anchors = [path.read_bytes() for path in trusted]
    verdict = verify_receipt(load_receipt(file), signed.contract, boxes, trust_anchors=anchors)
    if as_json:
        click.echo(json.dumps(verdict.as_json()))
    else:
        for check in verdict.checks:
            click.echo(f"{'ok    ' if check.passed else 'FAILED'} {check.name:<12} {check.found}")
    require_receipt(verdict)


@receipt.command("page")
@click.argument("file", type=_FILE)
@click.option("--contract", "contract_file", required=True, type=_FILE, help="The contract that you signed.")
@click.option("-o", "out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="HTML file to write.")
@_trust
def page_command(file: Path, contract_file: Path, out: Path, trusted: tuple[Path, ...]) -> None:
    """Write the receipt as an HTML page that says what holds and what does not; exit 0 only if all holds."""
    signed = load_contract(contract_file)
    signed.check_signatures()
    loaded = load_receipt(file)
    verdict = verify_receipt(loaded, signed.contract, trust_anchors=[path.read_bytes() for path in trusted])
    write_whole(out, receipt_page(loaded, verdict, signed.contract).encode(), replace=True)
    click.echo(out)
    require_receipt(verdict)
