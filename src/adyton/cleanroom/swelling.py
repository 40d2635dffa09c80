"""How far a sealed table may swell when it is read: known before memory is taken for it.

Whoever seals with code of its own can write a file of some kilobytes that stands for terabytes: one long text in a
dictionary and a reference to it from every row. Asked of each column, from what the file says of itself and from its
dictionaries alone:

    values      at most `MOST_ELEMENTS` a row, on average
    plain bytes of a column chunk at most `MAX_ROW_GROUP_BYTES`
    texts       all of a column at most `most_text_bytes`; where dictionaries do not rule out more, the column is read
                coded, and its references are added up before any text is written out

A file can lie about its pages, which only the reader sees: then the cap on the process's memory (`hardening`) ends the
job. Honest columns pass by their dictionaries and are read as fast as ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adyton.cleanroom.errors import TableRejectedError
from adyton.cleanroom.table_source import MAX_BATCH_BYTES, MAX_ROW_GROUP_BYTES

MOST_ELEMENTS = 1 << 12
SPARE_ELEMENTS = 1 << 20
TEXT_BYTES_PER_ROW = 1 << 10
CODED_ROWS = 1 << 14


def most_text_bytes(rows: int) -> int:
    """What all texts of one column may take, written out."""
    return MAX_BATCH_BYTES + TEXT_BYTES_PER_ROW * rows


def check_sizes(metadata: pq.FileMetaData, names: Sequence[str], where: str) -> None:
    """What the file says of its column chunks. `names`: of its columns, in order, each with one leaf.

    Raises TableRejectedError naming the first column that is too large.
    """
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group)
        for place, name in enumerate(names):
            chunk = rows.column(place)
            if chunk.total_uncompressed_size > MAX_ROW_GROUP_BYTES:
                raise _swollen(f"{chunk.total_uncompressed_size} bytes", where, name)
            if chunk.num_values > SPARE_ELEMENTS + MOST_ELEMENTS * rows.num_rows:
                raise _swollen(f"{chunk.num_values} values in {rows.num_rows} rows", where, name)


def is_bounded(coded: pq.ParquetFile, place: int, name: str) -> bool:
    """Whether the dictionaries of a text column rule out that its texts take more than `most_text_bytes`.

    coded: the file opened with its texts coded.   place: of the column's leaf.
    """
    metadata, bytes_at_most = coded.metadata, 0
    for group in range(metadata.num_row_groups):
        chunk = metadata.row_group(group).column(place)
        bytes_at_most += chunk.total_uncompressed_size
        if chunk.has_dictionary_page:
            # The first batch carries the whole dictionary, unless its page holds plain texts; then nothing is known.
            first = next(coded.iter_batches(batch_size=1, row_groups=[group], columns=[name]), None)
            longest = _longest(first.column(0)) if first is not None else 0
            if longest is None:
                return False
            bytes_at_most += chunk.num_values * longest
    return bytes_at_most <= most_text_bytes(metadata.num_rows)


def decoded_batches(coded: pq.ParquetFile, schema: pa.Schema, where: str) -> Iterator[pa.RecordBatch]:
    """The columns of `schema`; texts are written out after it is known how long they are.

    Raises TableRejectedError naming the column whose texts are too long together.
    """
    most = most_text_bytes(coded.metadata.num_rows)
    so_far = dict.fromkeys(schema.names, 0)
    for batch in coded.iter_batches(batch_size=CODED_ROWS, columns=schema.names):
        arrays = []
        for name in schema.names:
            array = batch.column(batch.schema.get_field_index(name))
            n_bytes = _text_bytes(array)
            so_far[name] += n_bytes
            if n_bytes > MAX_BATCH_BYTES or so_far[name] > most:
                raise _swollen(f"more than {min(most, MAX_BATCH_BYTES)} bytes of text", where, name)
            arrays.append(_written_out(array).cast(schema.field(name).type))
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _swollen(what: str, where: str, name: str) -> TableRejectedError:
    return TableRejectedError(
        f"the sealed table swells to {what}",
        where=f"{where}, column {name}",
        hint="its owner has to seal it anew with `adyton seal`",
    )


def _longest(array: pa.Array) -> int | None:
    """Bytes of the longest text of the dictionary behind `array`; None if it cannot be the whole dictionary."""
    values = array.flatten() if pa.types.is_list(array.type) else array
    if not pa.types.is_dictionary(values.type) or len(values.dictionary) <= 1:
        return None
    return int(pc.max(pc.binary_length(values.dictionary)).as_py() or 0)


def _text_bytes(array: pa.Array) -> int:
    values = array.flatten() if pa.types.is_list(array.type) else array
    if not pa.types.is_dictionary(values.type):
        return 0
    lengths = pc.binary_length(values.dictionary).take(values.indices)
    return int(pc.sum(lengths.cast(pa.int64())).as_py() or 0)


def _written_out(array: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        return array.dictionary_decode()
    if pa.types.is_list(array.type) and pa.types.is_dictionary(array.type.value_type):
        texts = array.values.dictionary_decode()
        return pa.ListArray.from_arrays(array.offsets, texts, mask=array.is_null() if array.null_count else None)
    return array
