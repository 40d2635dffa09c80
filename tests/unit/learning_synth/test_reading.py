"""Reading a bounded table from a file gives what bounding the whole table would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adyton.kernel.chance import InsecureFixedRandom
from adyton.learning.schema import Role, TableSchema
from adyton.learning.synth import reading
from adyton.learning.synth.bounding import bounded_rows
from adyton.learning.synth.noise import noise_from
from adyton.learning.synth.reading import bounded_table, without_ignored


def test_it_reads_the_rows_that_bounding_keeps(
    tmp_path: Path, table: pa.Table, schema: TableSchema, monkeypatch
) -> None:
    monkeypatch.setattr(reading, "_BATCH_ROWS", 700)  # rows of one user fall into several batches
    path = tmp_path / "t.parquet"
    pq.write_table(table, path, row_group_size=1000)
    read = bounded_table(path, schema, 2, InsecureFixedRandom(3))

    user = np.unique(table["user"].to_numpy(zero_copy_only=False), return_inverse=True)[1]
    kept = bounded_rows(user, 2, noise_from(InsecureFixedRandom(3)).keys(user.size))
    slow = table.select(list(schema.names)).take(pa.array(kept))
    assert read.num_rows == slow.num_rows < table.num_rows
    for name in schema.names:
        assert read[name].to_pylist() == slow[name].to_pylist(), name


def test_ignored_columns_are_not_read(tmp_path: Path, table: pa.Table, schema: TableSchema) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(table, path)
    reduced = without_ignored(schema)

    assert not reduced.with_role(Role.IGNORED)
    assert "note" not in bounded_table(path, reduced, 4, InsecureFixedRandom(1)).column_names


def test_columns_that_the_file_lacks_are_left_out(tmp_path: Path, table: pa.Table, schema: TableSchema) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(table.drop_columns(["user", "age"]), path)

    assert bounded_table(path, schema, 4, InsecureFixedRandom(1)).num_rows == table.num_rows
