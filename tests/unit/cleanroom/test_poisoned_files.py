"""Files made to harm whoever reads them: the owner's own sealing refuses them, and so does an enclave that opens one
which somebody sealed without asking."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adyton.cleanroom.errors import TableRejectedError
from adyton.cleanroom.party import Party
from adyton.cleanroom.sealed_table import open_table, owner_dek, seal_batches, seal_file, sealed_path
from adyton.cleanroom.table_columns import TableColumn, arrow_schema
from adyton.cleanroom.table_source import MAX_TEXT_BYTES, file_schema
from adyton.learning.schema import Column, Kind, Role

OWNER = Party.create("mallory")
COLUMNS = (
    TableColumn(Column("user_id", Role.USER_ID, Kind.CATEGORY), "string", nullable=False),
    TableColumn(Column("city", Role.USER, Kind.CATEGORY), "string"),
    TableColumn(Column("label", Role.LABEL, Kind.BINARY), "int8"),
)
HEAD = b"user_id,city,label\n"


def _dictionary_bomb(path: Path) -> None:
    """One text of 60,000 bytes that every row refers to: 20 KB on disk, 7.8 GB in the first batch."""
    n = 1 << 17
    city = pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int32()), pa.array(["x" * 60_000]))
    table = pa.table({"user_id": [f"u{i}" for i in range(n)], "city": city, "label": pa.array([0] * n, pa.int8())})
    pq.write_table(table, path, compression="zstd", store_schema=False)


def _typed_dictionary_bomb(path: Path) -> None:
    n = 1 << 17
    city = pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int32()), pa.array(["x" * 60_000]))
    pq.write_table(pa.table({"user_id": ["u"] * n, "city": city, "label": pa.array([0] * n, pa.int8())}), path)


def _nested(path: Path) -> None:
    deep = pa.array([1])
    for _ in range(200):
        deep = pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), deep)
    pq.write_table(pa.table({"user_id": ["u"], "city": deep, "label": pa.array([0], pa.int8())}), path)


FILES: dict[str, Callable[[Path], object]] = {
    "dictionary.parquet": _dictionary_bomb,
    "typed.parquet": _typed_dictionary_bomb,
    "nested.parquet": _nested,
    "compressed.csv": lambda path: path.write_bytes(gzip.compress(HEAD + b"a,Ulm,1\n" * 100_000)),
    "name-twice.csv": lambda path: path.write_bytes(b"user_id,user_id,city,label\na,b,Ulm,1\n"),
    "header-no-utf8.csv": lambda path: path.write_bytes(b"user_id,\xff,city,label\na,b,Ulm,1\n"),
    "no-utf8.csv": lambda path: path.write_bytes(HEAD + b"a,\xff\xfe,1\n"),
    "one-line.csv": lambda path: path.write_bytes(HEAD + b"a" * 20_000_000 + b",Ulm,1\n"),
    "open-quote.csv": lambda path: path.write_bytes(HEAD + b'"' + b"a\n" * 5_000_000),
    "formula.csv": lambda path: path.write_bytes(HEAD + b"a,=cmd|x!A1,1\n"),
    "empty.csv": lambda path: path.write_bytes(b""),
    "head-only.csv": lambda path: path.write_bytes(HEAD),
    "magic-only.parquet": lambda path: path.write_bytes(b"PAR1" + b"\xff" * 100 + b"PAR1"),
}


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_poisoned_file_is_refused_and_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    FILES[name](path)

    with pytest.raises(TableRejectedError):
        file_schema(path)
        seal_file(path, tmp_path / "sealed", COLUMNS, dataset_id="d", version=1, owner=OWNER)
    assert not list((tmp_path / "sealed").glob("*"))


def _no_utf8() -> pa.Array:
    return pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())


POISONED: dict[str, tuple[pa.Array, pa.Array]] = {
    "a formula": (pa.array(["u1"]), pa.array(["=HYPERLINK(0)"])),
    "bytes that are no UTF-8": (pa.array(["u1"]), _no_utf8()),
    "an id that is no UTF-8": (_no_utf8(), pa.array(["Ulm"])),
    "a text that is too long": (pa.array(["u1"]), pa.array(["x" * (MAX_TEXT_BYTES + 1)])),
}


@pytest.mark.parametrize("name", sorted(POISONED))
def test_an_enclave_asks_again_what_the_owners_sealing_should_have_asked(tmp_path: Path, name: str) -> None:
    user, city = POISONED[name]
    schema = arrow_schema(COLUMNS)
    batch = pa.RecordBatch.from_arrays([user, city, pa.array([1], pa.int8())], schema=schema)
    manifest = seal_batches(iter([batch]), tmp_path, COLUMNS, dataset_id="d", version=1, owner=OWNER)
    opened = open_table(sealed_path(tmp_path, "d", 1), manifest, owner_dek(manifest, OWNER))

    for read in (lambda: opened.read(), lambda: list(opened.batches(["user_id", "city"]))):
        with pytest.raises(TableRejectedError, match="the sealed table holds") as caught:
            read()
        assert "HYPERLINK" not in str(caught.value)
    assert opened.read(["label"]).num_rows == 1


def test_a_formula_as_a_user_id_is_nobodys_formula(tmp_path: Path) -> None:
    """Ids are hashed at once and never leave, so no time is spent on looking at each."""
    schema = arrow_schema(COLUMNS)
    batch = pa.RecordBatch.from_arrays([pa.array(["=u1"]), pa.array(["Ulm"]), pa.array([1], pa.int8())], schema=schema)
    manifest = seal_batches(iter([batch]), tmp_path, COLUMNS, dataset_id="d", version=1, owner=OWNER)

    assert open_table(sealed_path(tmp_path, "d", 1), manifest, owner_dek(manifest, OWNER)).read().num_rows == 1
