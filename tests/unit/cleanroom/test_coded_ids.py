"""Coded ids: what was sealed comes back, keys are those of the texts, and a sealer's strange codes are refused."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from adyton.cleanroom.coded_ids import CODE, IdCoder, IdTexts, slab_of, slab_of_plain
from adyton.cleanroom.contract import DatasetTerms
from adyton.cleanroom.errors import SealBrokenError, TableRejectedError
from adyton.cleanroom.join_keys import UserKeys, join_keys, keys_of_tables, text_keys
from adyton.cleanroom.opened_inputs import OpenedTable
from adyton.cleanroom.party import Party
from adyton.cleanroom.sealed_table import (
    MANIFEST_FORMAT,
    PLAIN_IDS_FORMAT,
    Manifest,
    OpenTable,
    open_table,
    owner_dek,
    seal_batches,
    sealed_path,
    stored_schema,
)
from adyton.cleanroom.table_columns import TableColumn, arrow_schema
from adyton.learning.schema import Column, Kind, Role

OWNER = Party.create("publisher")
KEY = bytes(range(32))
COLUMNS = (
    TableColumn(Column("label", Role.LABEL, Kind.BINARY), "int8", nullable=False),
    TableColumn(Column("user_id", Role.USER_ID, Kind.CATEGORY), "string", nullable=False),
)
NUMBERED = (COLUMNS[0], replace(COLUMNS[1], storage="int64"))
SLABS = [["a", "b", "a"], ["b", " a", "c"], [], ["c", "b"], ["d"] * 3]


def text(values: Sequence[str | None]) -> pa.ChunkedArray:
    return pa.chunked_array([values[:1], values[1:]], pa.string())


def sealed(folder: Path, ids: Sequence[str] | Sequence[int], columns: tuple[TableColumn, ...] = COLUMNS) -> Manifest:
    schema = arrow_schema(columns)
    rows = pa.table([pa.array([0] * len(ids), pa.int8()), pa.array(ids, schema.field(1).type)], schema=schema)
    return seal_batches(
        iter(rows.to_batches(max_chunksize=2)), folder, columns, dataset_id="log", version=1, owner=OWNER
    )


def opened(folder: Path, manifest: Manifest) -> OpenTable:
    return open_table(sealed_path(folder, "log", 1), manifest, owner_dek(manifest, OWNER))


def joined(file: OpenTable, column: str = "user_id") -> OpenedTable:
    manifest = file.manifest
    terms = DatasetTerms(
        manifest.dataset_id, 1, manifest.owner, "users", manifest.columns, column, manifest.rows, "0" * 64
    )
    return OpenedTable(manifest.dataset_id, "publisher", terms, ("user_id",), [file])


def keys_of(table: OpenedTable) -> list[int]:
    codes, texts = table.coded_users()
    found: list[int] = UserKeys(codes, text_keys(texts, KEY)).rows().tolist()
    return found


def wanted_keys(ids: Sequence[str] | Sequence[int]) -> list[int]:
    found: list[int] = join_keys(pa.chunked_array([ids]), KEY).to_pylist()
    return found


@pytest.mark.parametrize(("most_known", "texts"), [(100, ["a", "b", " a", "c", "d"]), (1, None)])
def test_slabs_that_are_coded_come_back(most_known: int, texts: list[str] | None) -> None:
    """Also where the coder forgets all it knew before every slab, and gives ids new codes."""
    coder, back = IdCoder(pa.string(), "t", most_known), IdTexts(pa.string(), "t", 1 << 30)
    stored = [tuple(pa.chunked_array([part]) for part in coder.coded(text(slab))) for slab in SLABS]

    assert [back.of(*pair).to_pylist() for pair in stored] == SLABS
    seen = [value for values, _ in stored for value in values.to_pylist() if value is not None]
    assert texts is None or seen == texts
    assert texts is not None or seen == ["a", "b", "b", " a", "c", "c", "b", "d"]


def test_a_plain_column_is_coded_slab_by_slab() -> None:
    first, again = slab_of_plain(text(["b", "a", "b"]), 0, "t"), slab_of_plain(text(["a", "c"]), 2, "t")

    assert (first[0].tolist(), first[1].to_pylist()) == ([0, 1, 0], ["b", "a"])
    assert (again[0].tolist(), again[1].to_pylist()) == ([2, 3], ["a", "c"])
    with pytest.raises(SealBrokenError, match="empty"):
        slab_of_plain(text(["a", None]), 0, "t")


def test_an_empty_id_is_not_sealed() -> None:
    with pytest.raises(TableRejectedError, match="empty"):
        IdCoder(pa.string(), "t").coded(text(["a", None]))


@pytest.mark.parametrize("codes", [[0, 1, 3], [0, -1, 2], [0, None, 1]])
def test_codes_without_a_text_are_refused(codes: list[int | None]) -> None:
    stored = pa.chunked_array([["a", "b", None]])
    with pytest.raises(SealBrokenError, match="numbers without a text"):
        slab_of(stored, pa.chunked_array([pa.array(codes, pa.int32())]), 0, "t")
    assert slab_of(stored, pa.chunked_array([pa.array([0, 1, 2], pa.int32())]), 1, "t")[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("ids", "columns"),
    [(["u1", "u2", " u1", "u1", "u2"], COLUMNS), ([7, 8, 7, 7, 9], NUMBERED)],
)
def test_keys_of_a_sealed_table_are_those_of_its_ids(
    tmp_path: Path, ids: list[str] | list[int], columns: tuple[TableColumn, ...]
) -> None:
    file = opened(tmp_path, sealed(tmp_path, ids, columns))
    table = joined(file)

    assert file.read()["user_id"].to_pylist() == ids
    assert keys_of(table) == wanted_keys(ids)
    assert table.distinct_ids().to_pylist() == list(dict.fromkeys(str(one) for one in ids))
    assert joined(file).distinct_ids().to_pylist() == list(dict.fromkeys(str(one) for one in ids))


@pytest.mark.parametrize("tables", [[["a", "b"], ["b", "c", " a", "b"], ["c"]], [[], ["a", "a"]], [["a"], []]])
def test_keys_of_several_tables_are_those_of_each(tables: list[list[str]]) -> None:
    texts = [text(one) for one in tables]
    with ThreadPoolExecutor(1) as pool:
        found = keys_of_tables(texts, KEY, pool)

    assert [keys.tolist() for keys in found] == [text_keys(one, KEY).tolist() for one in texts]


def test_another_join_column_than_the_user_id_is_coded_as_it_is_read(tmp_path: Path) -> None:
    file = opened(tmp_path, sealed(tmp_path, ["u1", "u2"]))

    assert keys_of(joined(file, "label")) == text_keys(pa.array(["0", "0"]), KEY).tolist()


def test_tables_of_format_1_are_still_read(tmp_path: Path) -> None:
    ids = ["u1", "u2", "u1"]
    manifest = sealed(tmp_path, ids)
    dek = owner_dek(manifest, OWNER)
    rows = pa.table({"label": pa.array([0, 0, 0], pa.int8()), "user_id": ids}, schema=arrow_schema(COLUMNS))
    manifest = stored_as(tmp_path, manifest, dek, rows, PLAIN_IDS_FORMAT)
    file = open_table(sealed_path(tmp_path, "log", 1), Manifest.from_json(manifest.as_json()), dek)

    assert file.read().to_pydict() == rows.to_pydict()
    assert keys_of(joined(file)) == wanted_keys(ids)


def test_an_owner_that_seals_strange_codes_is_refused(tmp_path: Path) -> None:
    """It knows the key and signs what it likes."""
    manifest = sealed(tmp_path, ["u1", "u2", "u1"])
    dek = owner_dek(manifest, OWNER)
    schema = stored_schema(COLUMNS, COLUMNS[1])
    rows = pa.table([[0, 0, 0], ["u1", "u2", None], [0, 1, 2]], names=schema.names).cast(schema)
    file = open_table(sealed_path(tmp_path, "log", 1), stored_as(tmp_path, manifest, dek, rows), dek)

    for read in (file.read, lambda: list(file.batches(["user_id"])), joined(file).coded_users):
        with pytest.raises(SealBrokenError, match="numbers without a text"):
            read()
    assert file.read(["label"]).num_rows == 3


def test_the_name_of_the_codes_is_taken(tmp_path: Path) -> None:
    columns = (replace(COLUMNS[0], column=replace(COLUMNS[0].column, name=CODE)), COLUMNS[1])

    with pytest.raises(TableRejectedError, match="may not be called"):
        sealed(tmp_path, ["u1"], columns)
    assert list(tmp_path.iterdir()) == []


def stored_as(folder: Path, manifest: Manifest, dek: bytes, rows: pa.Table, layout: str = MANIFEST_FORMAT) -> Manifest:
    """Puts a file of `rows` as they are in the sealed one's place; gives its manifest, unsigned."""
    path = sealed_path(folder, "log", 1)
    properties = pe.create_encryption_properties(
        footer_key=dek, aad_prefix=b"log:1", store_aad_prefix=False, plaintext_footer=False
    )
    with pq.ParquetWriter(path, rows.schema, encryption_properties=properties) as writer:
        writer.write_table(rows)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return replace(manifest, rows=rows.num_rows, ciphertext_bytes=len(content), ciphertext_sha256=digest, format=layout)
