"""Files of `adyton synth`: real tables and schemas in, synthetic tables that say how they were made out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adyton.kernel.errors import BadInputError, UnavailableError

if TYPE_CHECKING:
    import pyarrow as pa

    from adyton.learning.schema import TableSchema
    from adyton.learning.synth.domains import PublicDomain

FILE = click.Path(dir_okay=False, path_type=Path)
_METADATA = "adyton.synthetic"


def stated(table: pa.Table) -> object:
    """What the file says about its making, None if nothing that can be read."""
    try:
        return json.loads((table.schema.metadata or {}).get(_METADATA.encode(), b""))
    except ValueError:
        return None


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Say what is wrong with the table that the block reads from `path`."""
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError as error:
        raise BadInputError("no such file", where=str(path)) from error
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInputError("not a Parquet table", where=str(path)) from error


def read_table(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    with reading(path):
        return pq.read_table(path)


def read_schema(path: Path) -> TableSchema:
    from adyton.learning.schema import TableSchema

    return TableSchema.from_json(_read_json(path))


def read_domains(path: Path | None) -> dict[str, PublicDomain]:
    if path is None:
        return {}
    from adyton.learning.synth.domains import from_json

    return from_json(_read_json(path))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(read_bytes(path))
    except ValueError as error:
        raise BadInputError("not JSON", where=str(path)) from error


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInputError("cannot read the file", where=str(path)) from error


def write_bytes(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise UnavailableError("cannot write the file", where=str(path)) from error


def write_sample(batches: Iterable[pa.Table], path: Path, words: dict[str, object]) -> None:
    """A synthetic table as Parquet that says how it was made, a row group or more for each of its `batches`."""
    import pyarrow.parquet as pq

    partial = path.with_name(path.name + ".partial")
    said = {_METADATA: json.dumps(words)}
    try:
        with ExitStack() as stack:
            stack.callback(partial.unlink, missing_ok=True)
            writer = None
            for table in batches:
                if writer is None:
                    schema = table.schema.with_metadata(said)
                    writer = stack.enter_context(pq.ParquetWriter(partial, schema, compression="zstd"))
                writer.write_table(table.replace_schema_metadata(said))
            if writer is not None:
                writer.close()
                partial.replace(path)
    except OSError as error:
        raise UnavailableError("cannot write the table", where=str(path)) from error
