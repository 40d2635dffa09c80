"""`adyton unseal`: the owner's way back to the rows of its own sealed table."""

from __future__ import annotations

from pathlib import Path

import click
import pyarrow.parquet as pq

from adyton.cleanroom.errors import SealBrokenError
from adyton.cleanroom.sealed_table import load_manifest, open_table, owner_dek
from adyton.cleanroom.secret_bytes import SecretBytes
from adyton.cleanroom.whole_file import whole_file
from adyton.cli.passphrase import PASSPHRASE_VARIABLE, open_party
from adyton.kernel.errors import BadInputError

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("manifest_file", metavar="MANIFEST", type=_FILE)
@click.option("--key", "key_file", required=True, type=_FILE, help="The owner's NAME.key.json.")
@click.option("--passphrase-file", type=_FILE, help=f"Otherwise {PASSPHRASE_VARIABLE} of the environment.")
@click.option("-o", "out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="A new Parquet file.")
def unseal(manifest_file: Path, key_file: Path, passphrase_file: Path | None, out: Path) -> None:
    """Open the sealed table of MANIFEST, which lies beside it, and write its rows to a Parquet file, in the clear."""
    owner, manifest = open_party(key_file, passphrase_file), load_manifest(manifest_file)
    if manifest.owner != owner.name:
        raise SealBrokenError(f"the table is {manifest.owner}'s, and opens with its key only", where=manifest_file.name)
    manifest.check_signature(owner.identity)
    if out.exists():
        raise BadInputError("the file exists", where=out.name)
    sealed = manifest_file.with_name(manifest_file.name.removesuffix(".manifest.json") + ".sealed")
    with SecretBytes(owner_dek(manifest, owner)) as dek:
        rows = open_table(sealed, manifest, dek.data).read()
    # Rows in the clear are the owner's to read, not everybody's on the machine.
    with whole_file(out, mode=0o600) as file:
        pq.write_table(rows, file, compression="zstd")
    click.echo(f"{rows.num_rows} rows in the clear in {out}", err=True)
