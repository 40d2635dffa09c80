"""Any delimited file with a declared schema, streamed in batches, with errors that name row and column.

What a cell becomes follows from the column's kind:

    category    text, dictionary encoded; an empty cell is null
    number      float64
    list        text split at `list_separator`; an empty cell is an empty list
    timestamp   int64 milliseconds since the epoch, by `time_format`
    binary      0 or 1; also -1 for 0, as in the DIGIX feeds

Rows are counted as in an editor: the header is row 1. No message holds a value.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from adyton.learning.errors import TableError
from adyton.learning.schema import Column, Kind, Role, TableSchema

BLOCK_BYTES = 8 << 20
_BATCHES_PER_GROUP = 24
CHINA_OFFSET_MS = 8 * 3_600_000


class TimeFormat(Enum):
    """How a timestamp is written."""

    EPOCH_MS = "epoch_ms"
    CHINA_MINUTES = "china_minutes"
    """YYYYMMDDHHMM in UTC+8."""


@dataclass(frozen=True)
class CsvFormat:
    """How a file is written."""

    delimiter: str = ","
    list_separator: str = "^"
    time_format: TimeFormat = TimeFormat.EPOCH_MS


def read_table(path: Path, schema: TableSchema, csv_format: CsvFormat | None = None) -> pa.Table:
    """The columns of `schema` from a Parquet file (by its name's end or its first bytes) or else a delimited one.

    Raises TableError; of a Parquet file, it names the row of a label, time or user id that is none.
    """
    if path.suffix == ".parquet" or _starts_as_parquet(path):
        try:
            table = pq.read_table(path)
        except FileNotFoundError:
            raise TableError("there is no such file", where=path.name) from None
        except (pa.ArrowInvalid, OSError):
            raise TableError("this is not a Parquet file", where=path.name) from None
        schema.check(table, where=path.name)
        _check_values(table, schema, path.name)
        return table.select(list(schema.names))
    return collect(schema, read_batches(path, schema, csv_format or CsvFormat()))


def _starts_as_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    except OSError:
        return False


def _check_values(table: pa.Table, schema: TableSchema, where: str) -> None:
    """Label, time and user id of a Parquet file: what no model can do without. Its rows are counted from 1."""
    for column in schema.with_role(Role.LABEL, Role.TIME, Role.USER_ID):
        cells = table[column.name].combine_chunks()
        bad = pc.is_null(cells)
        if column.role is Role.LABEL:
            bad = pc.or_(bad, pc.invert(pc.is_in(cells.cast(pa.int64()), pa.array([0, 1]))))
        first_bad = pc.index(bad, True).as_py()
        if first_bad >= 0:
            raise TableError(_MISSING[column.role], where=f"{where}, row {first_bad + 1}, column {column.name}")


_MISSING = {Role.LABEL: "this is not 0 or 1", Role.TIME: "the time is missing", Role.USER_ID: "the user id is missing"}


def read_batches(
    path: Path,
    schema: TableSchema,
    csv_format: CsvFormat,
    *,
    names_in_file: Mapping[str, str] | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[pa.RecordBatch]:
    """Batches of a delimited file with a header, columns in the schema's order; other columns are not read.

    names_in_file: schema name -> name in the file, where they differ.   Memory: a few times `block_bytes`.
    Raises TableError for a missing file or column, a row of the wrong length, or a cell that does not fit.
    """
    source_names = {name: (names_in_file or {}).get(name, name) for name in schema.names}
    header = read_header(path, csv_format.delimiter)
    missing = [name for name in source_names.values() if name not in header]
    if missing:
        raise TableError(f"columns are missing: {', '.join(missing)}", where=f"{path.name}, row 1")
    bad_rows: list[tuple[int | None, int, int]] = []

    def on_bad_row(row: pyarrow.csv.InvalidRow) -> str:
        bad_rows.append((row.number, row.expected_columns, row.actual_columns))
        return "error"

    first_row = 2
    try:
        reader = pyarrow.csv.open_csv(
            path,
            # Row numbers are only known without threads.
            read_options=pyarrow.csv.ReadOptions(block_size=block_bytes, use_threads=False),
            parse_options=pyarrow.csv.ParseOptions(delimiter=csv_format.delimiter, invalid_row_handler=on_bad_row),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(source_names.values(), pa.string()),
                include_columns=list(source_names.values()),
                strings_can_be_null=True,
                null_values=[""],
                quoted_strings_can_be_null=True,
            ),
        )
        for batch in reader:
            yield _convert(batch, schema, csv_format, f"{path.name}, row", first_row)
            first_row += batch.num_rows
    except pa.ArrowInvalid:
        if bad_rows:
            number, expected, actual = bad_rows[0]
            where = path.name if number is None else f"{path.name}, row {number}"
            raise TableError(f"expected {expected} cells, got {actual}", where=where) from None
        raise TableError(
            "the file is not valid delimited UTF-8 text", where=f"{path.name}, after row {first_row - 1}"
        ) from None


def collect(schema: TableSchema, batches: Iterable[pa.RecordBatch]) -> pa.Table:
    """One table of all batches, each column in one piece.

    Batches are put together in groups, and the groups column by column: memory then holds the table and one column
    more instead of two tables, in few large pieces instead of many small ones that the allocator cannot give back.
    """
    fields = arrow_schema(schema)
    pieces: list[list[pa.Array]] = [[] for _ in fields]
    waiting = iter(batches)
    while group := list(islice(waiting, _BATCHES_PER_GROUP)):
        together = pa.Table.from_batches(group, schema=fields).unify_dictionaries().combine_chunks()
        for own, column in zip(pieces, together.columns, strict=True):
            own.extend(column.chunks)
    whole = []
    for own, field in zip(pieces, fields, strict=True):
        column = pa.table([pa.chunked_array(own, field.type)], names=[field.name])
        own.clear()
        whole.append(column.unify_dictionaries().combine_chunks().column(0))
    return pa.Table.from_arrays(whole, schema=fields)


def read_header(path: Path, delimiter: str = ",") -> list[str]:
    """The column names in the first row.   Raises TableError for a missing or empty file, or a name twice."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file, delimiter=delimiter), [])
    except FileNotFoundError:
        raise TableError("there is no such file", where=path.name) from None
    except OSError as error:
        raise TableError(f"the file cannot be read ({error.strerror})", where=path.name) from None
    except UnicodeDecodeError:
        raise TableError("the file is not UTF-8 text", where=path.name) from None
    if not header:
        raise TableError("the file is empty", where=path.name)
    if len(set(header)) != len(header):
        raise TableError("a column name occurs twice", where=f"{path.name}, row 1")
    return header


def arrow_schema(schema: TableSchema) -> pa.Schema:
    """The Arrow types of a table read from a delimited file."""
    return pa.schema([pa.field(column.name, _ARROW_TYPES[column.kind]) for column in schema.columns])


_ARROW_TYPES: Mapping[Kind, pa.DataType] = {
    Kind.CATEGORY: pa.dictionary(pa.int32(), pa.string()),
    Kind.NUMBER: pa.float64(),
    Kind.LIST: pa.list_(pa.string()),
    Kind.TIMESTAMP: pa.int64(),
    Kind.BINARY: pa.int8(),
}


def _convert(
    batch: pa.RecordBatch, schema: TableSchema, csv_format: CsvFormat, where: str, first_row: int
) -> pa.RecordBatch:
    arrays = []
    for position, column in enumerate(schema.columns):
        cells = batch.column(position)
        converted = _CONVERTERS[column.kind](cells, csv_format)
        if column.role is Role.USER_ID and cells.null_count:
            row = first_row + pc.index(pc.is_null(cells), True).as_py()
            raise TableError(_MISSING[Role.USER_ID], where=f"{where} {row}, column {column.name}")
        if column.kind in (Kind.NUMBER, Kind.TIMESTAMP, Kind.BINARY):
            must_be_given = column.kind is not Kind.NUMBER
            bad = pc.and_(pc.is_null(converted), True if must_be_given else pc.is_valid(cells))
            first_bad = pc.index(bad, True).as_py()
            if first_bad >= 0:
                raise TableError(_complaint(column), where=f"{where} {first_row + first_bad}, column {column.name}")
        arrays.append(converted)
    return pa.record_batch(arrays, schema=arrow_schema(schema))


def _complaint(column: Column) -> str:
    return {
        Kind.NUMBER: "this is not a number",
        Kind.TIMESTAMP: "this is not a time in the file's format",
        Kind.BINARY: "this is not 0, 1 or -1",
    }[column.kind]


def _categories(cells: pa.Array, _: CsvFormat) -> pa.Array:
    return cells.dictionary_encode()


def _numbers(cells: pa.Array, _: CsvFormat) -> pa.Array:
    is_number = pc.match_substring_regex(cells, r"^ *[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)? *$")
    return pc.utf8_trim_whitespace(_where(is_number, cells)).cast(pa.float64())


def _lists(cells: pa.Array, csv_format: CsvFormat) -> pa.Array:
    split = pc.split_pattern(pc.fill_null(cells, ""), csv_format.list_separator)
    # An empty cell splits into one empty text: it is an empty list.
    is_empty = pc.equal(pc.fill_null(cells, ""), "")
    return pc.if_else(is_empty, pa.scalar([], pa.list_(pa.string())), split)


def _binary(cells: pa.Array, _: CsvFormat) -> pa.Array:
    position = pc.index_in(pc.utf8_trim_whitespace(cells), pa.array(["0", "-1", "0.0", "-1.0", "1", "1.0"]))
    return pc.if_else(pc.is_valid(position), pc.greater_equal(position, 4), None).cast(pa.int8())


def _times(cells: pa.Array, csv_format: CsvFormat) -> pa.Array:
    if csv_format.time_format is TimeFormat.EPOCH_MS:
        return _where(pc.match_substring_regex(cells, "^-?[0-9]{1,15}$"), cells).cast(pa.int64())
    digits = _where(pc.match_substring_regex(cells, "^[0-9]{12}$"), cells)
    parsed = pc.strptime(digits, format="%Y%m%d%H%M", unit="ms", error_is_null=True)
    return pc.subtract(parsed.cast(pa.int64()), CHINA_OFFSET_MS)


def _where(mask: pa.Array, cells: pa.Array) -> pa.Array:
    return pc.if_else(pc.fill_null(mask, False), cells, pa.scalar(None, pa.string()))


_CONVERTERS: Mapping[Kind, Callable[[pa.Array, CsvFormat], pa.Array]] = {
    Kind.CATEGORY: _categories,
    Kind.NUMBER: _numbers,
    Kind.LIST: _lists,
    Kind.BINARY: _binary,
    Kind.TIMESTAMP: _times,
}
