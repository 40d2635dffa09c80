"""The DATA argument of `adyton ctr`: a shipped table, the challenge's files, or any table with a declared schema."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adyton.kernel.errors import BadInputError, UnavailableError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from adyton.learning.schema import TableSchema

FILE = click.Path(dir_okay=False, path_type=Path)
KINDS = ("table", "digix-ads", "digix-feeds")
SHIPPED = ("kuairand-publisher", "kuairand-advertiser", "kuairand-full")


def data_options(command: click.decorators.FC) -> click.decorators.FC:
    for option in reversed(
        (
            click.argument("data"),
            click.option("--kind", type=click.Choice(KINDS), default="table", show_default=True, help="What DATA is."),
            click.option("--schema", "schema_file", type=FILE, help="JSON with role and kind of each column."),
        )
    ):
        command = option(command)
    return command


def load(data: str, kind: str, schema_file: Path | None) -> tuple[pa.Table, TableSchema]:
    from adyton.learning.datasets import delimited, digix
    from adyton.learning.datasets.kuairand import tables as kuairand
    from adyton.learning.schema import TableSchema

    if schema_file is not None and (data in SHIPPED or kind != "table"):
        raise click.UsageError("a shipped table or file of the challenge has its own schema: leave the schema file out")
    if data in SHIPPED:
        if kind != "table":
            raise click.UsageError(f"{data} is a shipped table, not a file of the challenge")
        match data:
            case "kuairand-publisher":
                return kuairand.publisher_table(), kuairand.PUBLISHER_SCHEMA
            case "kuairand-advertiser":
                return kuairand.advertiser_table(), kuairand.ADVERTISER_SCHEMA
            case _:
                return kuairand.full_log(), kuairand.FULL_SCHEMA
    if kind == "digix-ads":
        return digix.read_ads(Path(data))
    if kind == "digix-feeds":
        return digix.read_feeds(Path(data))
    if schema_file is None:
        raise BadInputError("a table needs --schema", where=data, hint=f"or name a shipped one: {', '.join(SHIPPED)}")
    try:
        declared = json.loads(schema_file.read_text())
    except OSError:
        raise BadInputError("the schema file cannot be read", where=str(schema_file)) from None
    except ValueError:
        raise BadInputError("the schema file is not JSON", where=str(schema_file)) from None
    schema = TableSchema.from_json(declared)
    return delimited.read_table(Path(data), schema), schema


def times_of(table: pa.Table, schema: TableSchema) -> NDArray[np.int64]:
    import pyarrow as pa

    column = table[schema.time.name]
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ms"))
    times: NDArray[np.int64] = column.cast(pa.int64()).to_numpy()
    return times


def epoch_ms(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadInputError(
            "this is not an ISO 8601 time", where=text, hint="such as 2022-05-04 (UTC) or 2022-05-04T00:00+08:00"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def write_or_explain(write: Callable[[], None], path: Path) -> None:
    try:
        write()
    except OSError as error:
        raise UnavailableError(f"cannot write: {error.strerror}", where=str(path)) from None


def data_sha256(data: str) -> tuple[str, ...]:
    """SHA-256 of the file DATA, or of the shipped files behind its name, as hexadecimal digits."""
    from adyton.learning.datasets.kuairand import tables as kuairand

    if data in SHIPPED:
        return kuairand.shipped_sha256()
    digest = hashlib.sha256()
    with Path(data).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return (digest.hexdigest(),)
