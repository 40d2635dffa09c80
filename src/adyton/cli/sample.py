"""`adyton sample`: the shipped tables as files, to try the other commands on."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adyton.kernel.errors import BadInputError, UnavailableError

if TYPE_CHECKING:
    import pyarrow as pa

    from adyton.learning.schema import TableSchema

_PARTIES = ("publisher", "advertiser")
_PAPERS = ("LICENSE", "NOTE.md")


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--party", type=click.Choice(_PARTIES), multiple=True, help="Default: both. Repeatable.")
@click.option("--csv", "as_csv", is_flag=True, help="CSV instead of Parquet.")
@click.option("--rows", type=click.IntRange(min=1), help="Only the first rows in time order.")
def sample(folder: Path, party: tuple[str, ...], *, as_csv: bool, rows: int | None) -> None:
    """Write two parties' tables to FOLDER, each with its schema: real impressions of a video app (KuaiRand-Pure, CC
    BY-SA 4.0), of which 94 % of the advertiser's rows are by users whom the publisher knows too."""
    from adyton.learning.datasets.kuairand import tables as kuairand

    tables = {
        "publisher": (kuairand.publisher_table, kuairand.PUBLISHER_SCHEMA),
        "advertiser": (kuairand.advertiser_table, kuairand.ADVERTISER_SCHEMA),
    }
    files: dict[Path, str] = {}
    chosen = [name for name in _PARTIES if not party or name in party]
    ends = "csv" if as_csv else "parquet"
    written = [folder / f"{name}.{end}" for name in chosen for end in (ends, "schema.json")]
    ours = (*written, *(folder / name for name in _PAPERS))
    if existing := [path.name for path in ours if path.exists()]:
        raise BadInputError(f"the folder already holds {', '.join(existing)}", where=str(folder), hint="name a new one")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in chosen:
            table, schema = tables[name][0](), tables[name][1]
            kept = table if rows is None else table.slice(0, min(rows, table.num_rows))
            _write(kept, schema, folder, name, as_csv=as_csv)
            files[folder / f"{name}.{ends}"] = f"{kept.num_rows} rows, {kept.num_columns} columns"
        for name in _PAPERS:
            source = resources.files("adyton.learning.datasets.kuairand").joinpath(name)
            (folder / name).write_bytes(source.read_bytes())
    except BaseException as error:
        # Half a table looks like a whole one, and would be in the way of the next try.
        for path in ours:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        reason = (os.strerror(error.errno) if error.errno else type(error).__name__).lower()
        raise UnavailableError(
            f"the files cannot be written: {reason}", where=str(folder), hint="make room, or name another folder"
        ) from error
    for path, what in files.items():
        click.echo(f"{path}: {what}")


def _write(table: pa.Table, schema: TableSchema, folder: Path, name: str, *, as_csv: bool) -> None:
    import pyarrow.csv
    import pyarrow.parquet as pq

    if as_csv:
        pyarrow.csv.write_csv(table, folder / f"{name}.csv")
    else:
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
    (folder / f"{name}.schema.json").write_text(json.dumps(schema.as_json(), indent=1) + "\n")
