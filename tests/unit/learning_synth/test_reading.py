"""A fit from a file, column by column, is the fit of the table in the file; a large sample comes in parts."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adyton.kernel.chance import InsecureFixedRandom, stream
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.errors import TableError
from adyton.learning.schema import Role, TableSchema
from adyton.learning.synth import synthesizer
from adyton.learning.synth.reading import ParquetColumns, without_ignored
from adyton.learning.synth.synthesizer import fit

LOSS = PrivacyLoss.of(3, "1e-6")


@pytest.mark.parametrize("unit", ["user", "row"])
def test_a_file_is_fitted_as_its_table_would_be(
    tmp_path: Path, table: pa.Table, schema: TableSchema, unit: str
) -> None:
    """Rows of one user lie in several row groups; the same noise gives the same rows."""
    path = tmp_path / "t.parquet"
    pq.write_table(table, path, row_group_size=1000)
    models = [
        fit(rows, schema, loss=LOSS, unit=unit, source=InsecureFixedRandom(3)) for rows in (table, ParquetColumns(path))
    ]

    assert models[0].mechanisms == models[1].mechanisms
    assert models[0].sample(3000, stream(0)).equals(models[1].sample(3000, stream(0)))


def test_ignored_columns_are_not_asked_for(tmp_path: Path, table: pa.Table, schema: TableSchema) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(table.drop_columns(["note"]), path)
    reduced = without_ignored(schema)
    model = fit(ParquetColumns(path), reduced, loss=LOSS, source=InsecureFixedRandom(1))

    assert not reduced.with_role(Role.IGNORED)
    assert "note" not in model.sample(10, stream(0)).column_names


def test_columns_that_the_file_lacks_are_refused(tmp_path: Path, table: pa.Table, schema: TableSchema) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(table.drop_columns(["age"]), path)

    with pytest.raises(TableError, match="age"):
        fit(ParquetColumns(path), schema, loss=LOSS, source=InsecureFixedRandom(1))


def test_a_damaged_column_is_named(tmp_path: Path, table: pa.Table) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(table.select(["age", "city"]), path, compression="zstd")
    columns = ParquetColumns(path)
    whole = bytearray(path.read_bytes())
    first = pq.ParquetFile(path).metadata.row_group(0).column(1).data_page_offset
    whole[first : first + 40] = b"\xff" * 40
    path.write_bytes(whole)

    with pytest.raises(TableError) as refused:
        columns.column("city")
    assert refused.value.where == "city"


def test_a_sample_in_parts_is_one_table_with_users_of_one_part_only(
    table: pa.Table, schema: TableSchema, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fit(table, schema, loss=LOSS, source=InsecureFixedRandom(1))
    monkeypatch.setattr(synthesizer, "BATCH_ROWS", 700)
    parts = list(model.batches(2000, stream(0, "s")))
    users = [set(part["user"].to_pylist()) for part in parts]

    assert [part.num_rows for part in parts] == [666, 667, 667]
    assert len(set.union(*users)) == sum(map(len, users))
    assert pa.concat_tables(parts).equals(model.sample(2000, stream(0, "s")))
