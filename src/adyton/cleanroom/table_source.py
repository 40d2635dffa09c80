"""Reading a party's plaintext file as a stream of Arrow batches that fit the declared columns.

Every fault names the file, the row (1 = first data row) and the column, never the value. Files are treated as hostile:
column counts, text encoding and the size that compressed bytes swell to are checked before anything is built in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from adyton.cleanroom.errors import TableRejectedError
from adyton.cleanroom.table_columns import MAX_COLUMNS, TableColumn
from adyton.cleanroom.table_mapping import Mapper
from adyton.learning.schema import Kind, Role

BATCH_ROWS = 1 << 17
CSV_BLOCK_BYTES = 4 << 20
# A row group is the unit that a reader must hold; 8 GiB of plaintext from one is a bomb, not a table.
MAX_ROW_GROUP_BYTES = 8 << 30
MAX_SWELL = 2_000
MAX_TEXT_BYTES = 1 << 16
MAX_BATCH_BYTES = 1 << 28
"""Text of one column in one batch."""
# What a spreadsheet would run when a recipient opens an output that repeats the cell: `=...`, `@SUM(`, `+cmd|...`.
FORMULA = r"^\s*(=|[+\-@]\s*[A-Za-z]+\s*[(|!]|[+\-@].*[|!])"

Convert = Callable[[pa.Array], pa.Array]


def table_batches(path: Path, columns: Sequence[TableColumn], mapper: Mapper | None = None) -> Iterator[pa.RecordBatch]:
    """Batches of at most 131,072 rows with exactly the declared columns and types, in file order.

    path: a Parquet file (`.parquet`) or a UTF-8 CSV file with a header line (any other name).
    mapper: where the file's names, types or ids differ from the declared ones; it also counts what it changed.
    Raises TableRejectedError at the first row that does not fit.
    """
    is_parquet = path.suffix.lower() in (".parquet", ".pq")
    names = [column.name for column in columns]
    sources = names if mapper is None else list(dict.fromkeys(mapper.source(name) for name in names))
    raw = _parquet_batches(path, sources) if is_parquet else _csv_batches(path, sources)
    first_row = 1
    for batch in raw:
        mapped = batch if mapper is None else mapper.apply(batch, names, path.name, first_row)
        yield _conform(mapped, columns, path.name, first_row)
        first_row += batch.num_rows


def file_schema(path: Path) -> pa.Schema:
    """The Arrow schema of a Parquet file; of a CSV file its names, each as text.   Raises TableRejectedError.

    A CSV file does not say what its cells are, and a guess from its first rows would take the zeros from `00123` and
    refuse the first postcode with a letter. The declared kinds say it.
    """
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pq.ParquetFile(path).schema_arrow
        with path.open("rb") as file, pa_csv.open_csv(file) as reader:
            return pa.schema([pa.field(name, pa.string()) for name in reader.schema.names])
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise TableRejectedError("the file cannot be read as a table", where=path.name) from error


def _parquet_batches(path: Path, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    try:
        schema = pq.ParquetFile(path).schema_arrow
        _check_names(schema.names, names, path.name)
        # Texts stay coded until it is known how long they are: one text and a million references to it is a small file.
        texts = [name for name in names if _is_text(schema.field(name).type)]
        file = pq.ParquetFile(path, read_dictionary=texts)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise TableRejectedError("this is no readable Parquet file", where=path.name) from error
    metadata = file.metadata
    for group in range(metadata.num_row_groups):
        plain_bytes = metadata.row_group(group).total_byte_size
        if plain_bytes > MAX_ROW_GROUP_BYTES or plain_bytes > MAX_SWELL * max(path.stat().st_size, 1 << 20):
            raise TableRejectedError(f"row group {group} swells to {plain_bytes} bytes", where=path.name)
    try:
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(names)):
            yield _decoded(batch, path.name)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise TableRejectedError("the Parquet file is damaged", where=path.name) from error


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _decoded(batch: pa.RecordBatch, file_name: str) -> pa.RecordBatch:
    """The batch with its coded texts written out, if they take at most `MAX_BATCH_BYTES`."""
    for place, name in enumerate(batch.schema.names):
        coded = batch.column(place)
        if not pa.types.is_dictionary(coded.type) or not _is_text(coded.type.value_type):
            continue
        lengths = pc.binary_length(coded.dictionary).take(coded.indices)
        n_bytes = pc.sum(lengths.cast(pa.int64())).as_py() or 0
        if n_bytes > MAX_BATCH_BYTES:
            raise TableRejectedError(
                f"{batch.num_rows} rows swell to {n_bytes} bytes of text", where=f"{file_name}, column {name}"
            )
        batch = batch.set_column(place, name, coded.cast(pa.string()))
    return batch


def _csv_batches(path: Path, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Cells come as bytes and are converted by `_conform`: Arrow's own CSV errors would quote the values."""
    try:
        with path.open("rb") as file:
            header = file.readline(1 << 20)
    except OSError as error:
        raise TableRejectedError("the file cannot be read", where=path.name) from error
    if header.count(b",") >= 4 * MAX_COLUMNS:
        raise TableRejectedError(f"the header has more than {4 * MAX_COLUMNS} columns", where=path.name)
    _check_names(file_schema(path).names, names, path.name)
    convert = pa_csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.binary()),
        include_columns=list(names),
        strings_can_be_null=False,
        check_utf8=False,
    )
    options = pa_csv.ReadOptions(block_size=CSV_BLOCK_BYTES)
    try:
        # A stream opened here is never decompressed: a compressed file is refused as unreadable instead of swelling.
        with (
            path.open("rb") as stream,
            pa_csv.open_csv(stream, read_options=options, convert_options=convert) as reader,
        ):
            yield from reader
    except pa.ArrowKeyError as error:
        raise TableRejectedError("a declared column is not in the header", where=path.name) from error
    except (OSError, pa.ArrowInvalid, UnicodeDecodeError):
        # Not chained: Arrow's text quotes the row.
        raise TableRejectedError(
            "a row has another number of cells than the header, or the file is no CSV", where=path.name
        ) from None


def _check_names(found: Sequence[str], names: Sequence[str], where: str) -> None:
    if len(found) > 4 * MAX_COLUMNS:
        raise TableRejectedError(f"the file has {len(found)} columns, at most {4 * MAX_COLUMNS} are read", where=where)
    if twice := [name for name in names if list(found).count(name) > 1]:
        raise TableRejectedError(f"columns are there twice: {', '.join(twice[:5])}", where=where)
    missing = [name for name in names if name not in found]
    if missing:
        raise TableRejectedError(f"declared columns are missing: {', '.join(missing[:5])}", where=where)


def _conform(batch: pa.RecordBatch, columns: Sequence[TableColumn], file_name: str, first_row: int) -> pa.RecordBatch:
    arrays = []
    for column in columns:
        where = f"{file_name}, column {column.name}"
        array = _convert(batch.column(batch.schema.get_field_index(column.name)), column, where, first_row)
        if not column.nullable:
            is_empty = _is_empty(array, column)
            if pc.any(is_empty).as_py():
                row = first_row + pc.index(is_empty, pa.scalar(True)).as_py()
                raise TableRejectedError(
                    "the cell is empty and may not be",
                    where=f"{where}, row {row}",
                    hint='a --mapping with "drop_rows_without" leaves such rows out',
                )
        if column.column.kind is Kind.BINARY and not pa.types.is_boolean(array.type):
            is_other = pc.invert(pc.is_in(array, pa.array([0, 1, None], array.type)))
            if pc.any(is_other).as_py():
                row = first_row + pc.index(is_other, pa.scalar(True)).as_py()
                raise TableRejectedError("the cell is neither 0 nor 1", where=f"{where}, row {row}")
        if pa.types.is_string(array.type) and len(array):
            longest = pc.max(pc.binary_length(array)).as_py() or 0
            if longest > MAX_TEXT_BYTES:
                row = first_row + pc.index(pc.greater(pc.binary_length(array), MAX_TEXT_BYTES), pa.scalar(True)).as_py()
                raise TableRejectedError(
                    f"a text of {longest} bytes, at most {MAX_TEXT_BYTES}", where=f"{where}, row {row}"
                )
            is_formula = pc.match_substring_regex(array, FORMULA)
            if pc.any(is_formula).as_py():
                row = first_row + pc.index(is_formula, pa.scalar(True)).as_py()
                raise TableRejectedError("the cell is a spreadsheet formula", where=f"{where}, row {row}")
        arrays.append(array)
    return pa.RecordBatch.from_arrays(
        arrays, schema=pa.schema([pa.field(c.name, c.arrow_type, nullable=c.nullable) for c in columns])
    )


def _is_empty(array: pa.Array, column: TableColumn) -> pa.BooleanArray:
    """Which cells say nothing. Ids are compared without blanks around them, so an id of blanks is none: all users
    without an id would become one, whom both parties share."""
    is_null = pc.is_null(array, nan_is_null=True)
    if column.column.role not in (Role.USER_ID, Role.ITEM_ID) or not pa.types.is_string(array.type):
        return is_null
    return pc.or_(is_null, pc.equal(pc.fill_null(pc.utf8_trim_whitespace(array), ""), ""))


def _convert(array: pa.Array, column: TableColumn, where: str, first_row: int) -> pa.Array:
    wanted = column.arrow_type
    if array.type.equals(wanted):
        return array
    is_cell = pa.types.is_binary(array.type)
    parse = _parse_cells if is_cell else _cast
    try:
        return parse(array, wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        row = first_row + _first_bad(array, lambda some: parse(some, wanted))
    # Outside the handler, so that Arrow's message, which quotes the value, is not chained.
    is_time = column.column.kind is Kind.TIMESTAMP
    hint = 'milliseconds since the epoch, or a --mapping with "as": "time" and its format' if is_time else None
    raise TableRejectedError(f"the cell is no {column.storage}", where=f"{where}, row {row}", hint=hint)


def _cast(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(array.type) and pa.types.is_int64(wanted):
        # Finer than a millisecond is cut off; a time without a zone is UTC.
        array = array.cast(pa.timestamp("ms", array.type.tz), safe=False)
    return array.cast(wanted, safe=True)


def _parse_cells(cells: pa.Array, wanted: pa.DataType) -> pa.Array:
    """CSV cells (bytes) as `wanted`: empty means null, lists are separated by `^` as in the DIGIX files."""
    text = cells.cast(pa.string())
    if pa.types.is_string(wanted):
        return text
    if pa.types.is_list(wanted):
        parts = pc.split_pattern(text, "^")
        return parts.cast(wanted)
    text = pc.utf8_trim_whitespace(text)
    if pa.types.is_int8(wanted):
        lower = pc.utf8_lower(text)
        text = pc.if_else(pc.equal(lower, "true"), "1", pc.if_else(pc.equal(lower, "false"), "0", text))
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text).cast(wanted)


def _first_bad(array: pa.Array, convert: Convert) -> int:
    """Index of the first element that `convert` refuses, by halving."""
    low, high = 0, len(array)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            convert(array.slice(low, middle - low))
            low = middle
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            high = middle
    return low


def check_texts(columns: Mapping[str, pa.ChunkedArray | pa.Array], ids: Set[str], where: str) -> None:
    """What an owner's own sealing refuses, asked again of texts that somebody else sealed: UTF-8, length, formulas.

    columns: by name; others than texts are passed over.   ids: columns of user ids, which never leave: no formulas are
    looked for there.   Raises TableRejectedError, which names no row: it is told to the other parties.
    """
    for name, array in columns.items():
        if not pa.types.is_string(array.type):
            continue
        place = f"{where}, column {name}"
        try:
            array.validate(full=True)
        except pa.ArrowInvalid:
            raise TableRejectedError("the sealed table holds bytes that are no UTF-8", where=place) from None
        if (pc.max(pc.binary_length(array)).as_py() or 0) > MAX_TEXT_BYTES:
            raise TableRejectedError(f"the sealed table holds a text over {MAX_TEXT_BYTES} bytes", where=place)
        if name not in ids and pc.any(pc.match_substring_regex(pc.unique(array), FORMULA)).as_py():
            raise TableRejectedError("the sealed table holds spreadsheet formulas", where=place)
