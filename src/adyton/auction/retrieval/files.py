"""`DELTA_` and `SNAPSHOT_` files of records, in CSV and Parquet (protected-auction §10.5).

CSV columns: key, logical_commit_time, mutation_type, value, value_type; elements of a set are joined with `|`.
Parquet: the same, but a set is in the column `elements` (list of strings), where `|` is an ordinary character.
A file of script versions has the columns code_snippet, handler_name, logical_commit_time, version instead.
Names: `(DELTA|SNAPSHOT)_` + 16 digits, optionally `.csv` or `.parquet`; without a suffix the first bytes decide.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from adyton.auction.retrieval.errors import RecordError
from adyton.auction.retrieval.records import UINT_BITS, Elements, Mutation, StoreRecord, UdfRecord, ValueType

DATA_FILE = re.compile(r"(DELTA|SNAPSHOT)_\d{16}(\.csv|\.parquet)?")
_RECORD_COLUMNS = ("key", "logical_commit_time", "mutation_type", "value", "value_type")
_UDF_COLUMNS = ("code_snippet", "handler_name", "logical_commit_time", "version")
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_UNSIGNED = re.compile(r"[0-9]{1,20}")
_PARQUET_MAGIC = b"PAR1"
_BATCH_ROWS = 65_536
# Scripts are data too, and longer than the default of the csv module.
csv.field_size_limit(64 * 1024 * 1024)

_RECORD_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("logical_commit_time", pa.int64()),
        ("mutation_type", pa.string()),
        ("value", pa.string()),
        ("value_type", pa.string()),
        ("elements", pa.list_(pa.string())),
    ]
)
_UDF_SCHEMA = pa.schema(
    [
        ("code_snippet", pa.string()),
        ("handler_name", pa.string()),
        ("logical_commit_time", pa.int64()),
        ("version", pa.int64()),
    ]
)


def data_files(folder: Path) -> list[Path]:
    """Data files of `folder`: snapshots, then deltas, each in lexicographic order."""
    names = sorted(path for path in folder.iterdir() if DATA_FILE.fullmatch(path.name) and path.is_file())
    return sorted(names, key=lambda path: not path.name.startswith("SNAPSHOT_"))


def read_records(path: Path) -> Iterator[StoreRecord | UdfRecord]:
    """The records of one file, in order. Raises RecordError naming file and row, OSError if it cannot be read."""
    is_parquet = path.suffix == ".parquet"
    if not path.suffix:
        with path.open("rb") as stream:
            is_parquet = stream.read(4) == _PARQUET_MAGIC
    for number, row in enumerate(_parquet_rows(path) if is_parquet else _csv_rows(path), start=1):
        try:
            yield _udf_record(row) if "code_snippet" in row else _store_record(row)
        except RecordError as error:
            raise RecordError(error.what, where=f"{path.name} record {number}", hint=error.hint) from None


def write_snapshot(path: Path, records: Iterable[StoreRecord | UdfRecord]) -> int:
    """Write `records` (all of one class) to `path`, and give back how many; appears under its name only when complete.

    The suffix decides: `.parquet`, anything else CSV. Raises RecordError for a name that is not a data file's, or for
    a CSV set element that contains `|`.
    """
    if not DATA_FILE.fullmatch(path.name):
        raise RecordError(f"{path.name!r} is not the name of a data file", hint="SNAPSHOT_ and sixteen digits")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        n_records = (_write_parquet if path.suffix == ".parquet" else _write_csv)(partial, list(records))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return n_records


def _csv_rows(path: Path) -> Iterator[Mapping[str, object]]:
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream, strict=True)
        try:
            columns = tuple(reader.fieldnames or ())
            if set(columns) not in (set(_RECORD_COLUMNS), set(_UDF_COLUMNS)):
                raise RecordError("unknown columns", where=path.name, hint=",".join(_RECORD_COLUMNS))
            for row in reader:
                if None in row or None in row.values():
                    raise RecordError(
                        "a row with too many or too few fields", where=f"{path.name} line {reader.line_num}"
                    )
                yield row
        except (csv.Error, UnicodeDecodeError) as error:
            raise RecordError(f"not a CSV file ({type(error).__name__})", where=path.name) from None


def _parquet_rows(path: Path) -> Iterator[Mapping[str, object]]:
    try:
        with pq.ParquetFile(path) as source:
            names = set(source.schema_arrow.names)
            if not names.issuperset(_UDF_COLUMNS) and not names.issuperset(_RECORD_COLUMNS):
                raise RecordError("unknown columns", where=path.name, hint=",".join(_RECORD_COLUMNS))
            for batch in source.iter_batches(_BATCH_ROWS):
                yield from batch.to_pylist()
    except (FileNotFoundError, PermissionError):
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # pyarrow has OSError for broken files too
        raise RecordError(f"not a Parquet file ({type(error).__name__})", where=path.name) from None


def _store_record(row: Mapping[str, object]) -> StoreRecord:
    try:
        value_type = ValueType(str(row["value_type"]).lower())
        mutation = Mutation(str(row["mutation_type"]).upper())
    except ValueError:
        raise RecordError("unknown value_type or mutation_type", hint="string_set, UPDATE") from None
    value: str | Elements
    if value_type is ValueType.STRING:
        value = "" if row["value"] is None else _text(row["value"], "value")
    else:
        parts = row.get("elements")
        if not isinstance(parts, list):
            text = "" if row["value"] is None else _text(row["value"], "value")
            parts = text.split("|") if text else []
        value = _elements(value_type, [_text(part, "an element") for part in parts])
    return StoreRecord(_text(row["key"], "key"), _integer(row["logical_commit_time"]), mutation, value_type, value)


def _elements(value_type: ValueType, parts: Sequence[str]) -> Elements:
    if value_type not in UINT_BITS:
        return frozenset(parts)
    stripped = [part.strip() for part in parts]
    if not all(_UNSIGNED.fullmatch(part) for part in stripped):
        raise RecordError("elements of an integer set must be decimal numbers")
    return frozenset(int(part) for part in stripped)


def _udf_record(row: Mapping[str, object]) -> UdfRecord:
    return UdfRecord(
        code_snippet=_text(row["code_snippet"], "code_snippet"),
        handler_name=_text(row["handler_name"], "handler_name"),
        logical_commit_time=_integer(row["logical_commit_time"]),
        version=_integer(row["version"]),
    )


def _text(value: object, column: str) -> str:
    """Text in a column that Parquet may have as text, bytes, numbers or nothing; a CSV has text only."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise RecordError(f"{column} is not UTF-8") from None
    if isinstance(value, str | int | float):
        return str(value)
    raise RecordError(f"{column} is missing or of a type that is no text")


def _integer(value: object) -> int:
    text = str(value).strip()
    if not _INTEGER.fullmatch(text):
        raise RecordError("a commit time or version that is not an integer")
    return int(text)


def _write_csv(path: Path, records: Sequence[StoreRecord | UdfRecord]) -> int:
    with path.open("w", newline="", encoding="utf-8") as stream:
        # A bare carriage return would otherwise end a row when it is read.
        writer = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writerow(_UDF_COLUMNS if _holds_udfs(records) else _RECORD_COLUMNS)
        for record in records:
            if isinstance(record, UdfRecord):
                writer.writerow([record.code_snippet, record.handler_name, record.logical_commit_time, record.version])
                continue
            value = record.value
            if not isinstance(value, str):
                parts = sorted(map(str, value))
                if any("|" in part for part in parts) or parts == [""]:
                    raise RecordError("a set element that CSV cannot hold", hint="write Parquet")
                value = "|".join(parts)
            writer.writerow(
                [record.key, record.logical_commit_time, record.mutation.value, value, record.value_type.value]
            )
    return len(records)


def _write_parquet(path: Path, records: Sequence[StoreRecord | UdfRecord]) -> int:
    rows: list[dict[str, object]] = []
    for record in records:
        if isinstance(record, UdfRecord):
            rows.append(vars(record))
            continue
        is_text = isinstance(record.value, str)
        rows.append(
            {
                "key": record.key,
                "logical_commit_time": record.logical_commit_time,
                "mutation_type": record.mutation.value,
                "value": record.value if is_text else None,
                "value_type": record.value_type.value,
                "elements": None if is_text else sorted(map(str, record.value)),
            }
        )
    pq.write_table(pa.Table.from_pylist(rows, schema=_UDF_SCHEMA if _holds_udfs(records) else _RECORD_SCHEMA), path)
    return len(records)


def _holds_udfs(records: Sequence[StoreRecord | UdfRecord]) -> bool:
    kinds = {type(record) for record in records}
    if len(kinds) > 1:
        raise RecordError("a file holds either key/value records or script versions")
    return kinds == {UdfRecord}
