"""`adyton seal`: encrypt a table so that only its owner, and enclaves its owner's broker has checked, can open it."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from adyton.cleanroom.errors import ContractError
from adyton.cleanroom.sealed_table import manifest_path, seal_file, sealed_path
from adyton.cleanroom.table_columns import declare_columns
from adyton.cleanroom.table_mapping import Mapper, TableMapping
from adyton.cleanroom.table_source import file_schema
from adyton.cli.passphrase import PASSPHRASE_VARIABLE, open_party
from adyton.kernel.errors import BadInputError
from adyton.learning.schema import TableSchema

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("file", type=_FILE)
@click.option("--schema", "schema_file", required=True, type=_FILE, help="JSON: the columns, their roles and kinds.")
@click.option("--mapping", "mapping_file", type=_FILE, help="JSON: how the file's names, types and ids are read.")
@click.option("--id", "dataset_id", required=True, help="Dataset id, used once per version.")
@click.option("--version", type=click.IntRange(1), default=1, show_default=True)
@click.option("--key", "key_file", required=True, type=_FILE, help="The owner's NAME.key.json.")
@click.option("--passphrase-file", type=_FILE, help=f"Otherwise {PASSPHRASE_VARIABLE} of the environment.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("sealed"), show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The manifest as JSON on stdout.")
def seal(
    file: Path,
    schema_file: Path,
    mapping_file: Path | None,
    dataset_id: str,
    version: int,
    key_file: Path,
    passphrase_file: Path | None,
    out: Path,
    as_json: bool,
) -> None:
    """Seal FILE (CSV or Parquet). Plaintext never touches a disk again."""
    owner = open_party(key_file, passphrase_file)
    schema = _schema(schema_file)
    mapper = None if mapping_file is None else Mapper(_mapping(mapping_file))
    held = file_schema(file)
    try:
        columns = declare_columns(schema, held if mapper is None else mapper.schema(schema, held))
    except ContractError as error:
        hint = error.hint or "the schema names columns as the file does, or --mapping says what they are called there"
        raise ContractError(error.what, where=f"{file.name}, column {error.where}", hint=hint) from error
    console = Console(stderr=True)
    with Progress(
        TextColumn("sealing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as bar:
        task = bar.add_task("sealing", total=None)
        manifest = seal_file(
            file,
            out,
            columns,
            dataset_id=dataset_id,
            version=version,
            owner=owner,
            mapper=mapper,
            progress=lambda rows: bar.update(task, completed=rows),
        )
    if as_json:
        click.echo(json.dumps(manifest.as_json()))
    else:
        click.echo(f"{sealed_path(out, dataset_id, version)}\n{manifest_path(out, dataset_id, version)}")
    if mapper is not None:
        click.echo(json.dumps(mapper.report.as_json()), err=True)
    click.echo(f"{manifest.rows} rows, {manifest.ciphertext_bytes} bytes, {manifest.ciphertext_sha256}", err=True)


def _schema(path: Path) -> TableSchema:
    try:
        return TableSchema.from_json(json.loads(path.read_text()))
    except (ValueError, RecursionError) as error:
        raise BadInputError("the schema is no JSON", where=path.name) from error
    except BadInputError as error:
        where = path.name if error.where is None else f"{path.name}, {error.where}"
        hint = error.hint or '{"columns": [{"name": "user_id", "role": "user_id", "kind": "category"}, ...]}'
        raise BadInputError(error.what, where=where, hint=hint) from error


def _mapping(path: Path) -> TableMapping:
    try:
        return TableMapping.from_json(json.loads(path.read_text()))
    except (ValueError, RecursionError) as error:
        raise BadInputError("the mapping is no JSON", where=path.name) from error
