"""Rows of a Parquet file for a fit, with memory for the rows that count instead of the file.

At user level at most m rows of each user count. They are chosen from the user ids alone, and the file is then read row
group by row group. The fit bounds again, which changes nothing any more.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adyton.kernel.chance import RandomSource
from adyton.learning.schema import Role, TableSchema
from adyton.learning.synth.bounding import bounded_rows
from adyton.learning.synth.codes import combined
from adyton.learning.synth.noise import Ints, noise_from

_BATCH_ROWS = 200_000


def bounded_table(path: Path, schema: TableSchema, max_rows_per_user: int, source: RandomSource) -> pa.Table:
    """The columns of `schema` for at most `max_rows_per_user` random rows of each user of the Parquet file at `path`.

    Columns that the file lacks are left to the fit to refuse. Raises what pyarrow raises for files that it cannot read.
    """
    file = pq.ParquetFile(path)
    names = [name for name in schema.names if name in file.schema_arrow.names]
    if schema.user_id.name not in names:
        return file.read(columns=names)
    user = _numbers(file, schema.user_id.name)
    kept = bounded_rows(user, max_rows_per_user, noise_from(source).keys(user.size))
    del user
    parts, start = [], 0
    for batch in file.iter_batches(_BATCH_ROWS, columns=names):
        here = kept[np.searchsorted(kept, start) : np.searchsorted(kept, start + batch.num_rows)] - start
        parts.append(pa.Table.from_batches([batch]).take(pa.array(here)))
        start += batch.num_rows
    return pa.concat_tables(parts) if parts else file.schema_arrow.empty_table().select(names)


def without_ignored(schema: TableSchema) -> TableSchema:
    """The columns that a synthesizer looks at."""
    return TableSchema(tuple(column for column in schema.columns if column.role is not Role.IGNORED))


def _numbers(file: pq.ParquetFile, name: str) -> Ints:
    """A number for each row's user, nulls as a user of their own, which the fit refuses: int64[B]."""
    known: dict[object, int] = {}
    parts = []
    for batch in file.iter_batches(_BATCH_ROWS, columns=[name]):
        encoded = combined(pa.chunked_array([batch.column(0)])).dictionary_encode(null_encoding="encode")
        numbers = np.array([known.setdefault(v, len(known)) for v in encoded.dictionary.to_pylist()], np.int64)
        parts.append(numbers[encoded.indices.to_numpy(zero_copy_only=False)])
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
