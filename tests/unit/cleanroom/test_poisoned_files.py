"""Files made to harm whoever reads them: the owner's own sealing refuses them, and so does an enclave that opens one
which somebody sealed without asking."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from adyton.cleanroom.coded_ids import CODE
from adyton.cleanroom.errors import TableRejectedError
from adyton.cleanroom.key_wrap import wrap_key
from adyton.cleanroom.party import Party
from adyton.cleanroom.sealed_table import (
    MANIFEST_FORMAT,
    PLAIN_IDS_FORMAT,
    Manifest,
    OpenTable,
    open_table,
    owner_dek,
    seal_batches,
    seal_file,
    sealed_path,
)
from adyton.cleanroom.table_columns import TableColumn, arrow_schema
from adyton.cleanroom.table_source import MAX_TEXT_BYTES, file_schema
from adyton.kernel.ids import DatasetId
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


N = 1 << 18
TAGGED = (*COLUMNS, TableColumn(Column("tags", Role.USER, Kind.LIST), "list<string>"))


def sealed_by_hand(table: pa.Table, folder: Path, columns: tuple[TableColumn, ...] = COLUMNS) -> OpenTable:
    """What somebody seals with code of its own: a true key, hash and signature over any Parquet file."""
    path, dek = folder / "d.v1.sealed", bytes(range(32))
    properties = pe.create_encryption_properties(
        footer_key=dek, aad_prefix=b"d:1", store_aad_prefix=False, plaintext_footer=False
    )
    with pq.ParquetWriter(
        path, table.schema, compression="zstd", encryption_properties=properties, store_schema=False
    ) as writer:
        writer.write_table(table)
    data = path.read_bytes()
    manifest = Manifest(
        DatasetId("d"),
        1,
        OWNER.name,
        columns,
        table.num_rows,
        hashlib.sha256(data).hexdigest(),
        len(data),
        b"",
        1,
        format=MANIFEST_FORMAT if CODE in table.column_names else PLAIN_IDS_FORMAT,
    )
    wrapped = wrap_key(dek, OWNER.identity.receiving_public, manifest.dek_info())
    manifest = replace(manifest, wrapped_dek=wrapped)
    return open_table(path, replace(manifest, signature=OWNER.sign(manifest.signed_bytes())), dek)


def references(texts: list[str], n: int = N) -> pa.DictionaryArray:
    """`n` rows that refer to `texts` in turn, half of them to the last."""
    index = np.where(np.arange(n) % 2, len(texts) - 1, np.arange(n) % len(texts)).astype(np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(index), pa.array(texts))


def hostile(city: pa.Array, user: pa.Array | None = None) -> pa.Table:
    ids = user if user is not None else pa.array([f"u{i}" for i in range(len(city))])
    return pa.table({"user_id": ids, "city": city, "label": pa.array(np.zeros(len(city), np.int8))})


SWELLING: dict[str, Callable[[], pa.Table]] = {
    "one text under the limit for each, 17 GB": lambda: hostile(references(["Ulm", "x" * 65_000])),
    "one text over the limit, 500 GB": lambda: hostile(references(["Ulm", "x" * 2_000_000])),
    "a dictionary of one text": lambda: hostile(references(["x" * 65_000])),
    "user ids": lambda: hostile(references(["Ulm", "Bern"]), references(["a", "x" * 65_000])),
}


@pytest.mark.parametrize("name", sorted(SWELLING))
def test_references_to_long_texts_are_refused_before_memory_is_taken_for_them(tmp_path: Path, name: str) -> None:
    table = SWELLING[name]()
    opened = sealed_by_hand(table, tmp_path)
    assert (tmp_path / "d.v1.sealed").stat().st_size < 4 << 20
    before = pa.default_memory_pool().max_memory()

    for read in (lambda: opened.read(), lambda: list(opened.batches(["user_id", "city"]))):
        with pytest.raises(TableRejectedError, match="swells to more than") as caught:
            read()
        assert "xxx" not in str(caught.value)
        assert caught.value.where in ("d v1, column city", "d v1, column user_id")
    assert pa.default_memory_pool().max_memory() - before < 300 << 20
    assert opened.read(["label"]).num_rows == N


def test_one_long_user_id_in_all_rows_is_refused_before_it_is_written_out(tmp_path: Path) -> None:
    """Format 2 keeps each id once; 262,144 rows of one id of 65,000 bytes would be 17 GB."""
    ids = pa.array(["x" * 65_000, *[None] * (N - 1)])
    opened = sealed_by_hand(
        hostile(references(["Ulm"]), ids).append_column(CODE, pa.array(np.zeros(N, np.int32))), tmp_path
    )

    for read in (lambda: opened.read(["user_id"]), lambda: list(opened.batches(["user_id", "label"]))):
        with pytest.raises(TableRejectedError, match="user ids swell"):
            read()
    # Join keys are made of the text, once: nothing is written out for them.
    assert sum(len(codes) for codes, _ in opened.id_slabs("user_id", N)) == N


def test_lists_of_references_are_added_up_too(tmp_path: Path) -> None:
    n = 1 << 14
    values = references(["a", "x" * 65_000], 8 * n)
    tags = pa.ListArray.from_arrays(pa.array(np.arange(0, 8 * n + 1, 8, dtype=np.int32)), values)
    opened = sealed_by_hand(hostile(references(["Ulm"], n)).append_column("tags", tags), tmp_path, TAGGED)

    with pytest.raises(TableRejectedError, match="swells to more than"):
        opened.read(["tags"])
    assert opened.read(["city"])["city"].to_pylist() == ["Ulm"] * n


def test_a_row_of_very_many_values_is_refused_by_what_the_file_says(tmp_path: Path) -> None:
    n = 3 << 20
    values = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array(["a"]))
    tags = pa.ListArray.from_arrays(pa.array([0, n], pa.int32()), values)

    with pytest.raises(TableRejectedError, match="swells to 3145728 values in 1 rows"):
        sealed_by_hand(hostile(references(["Ulm"], 1)).append_column("tags", tags), tmp_path, TAGGED)


@pytest.mark.parametrize("city", [references(["a"] * 3 + ["y" * 3_000], 1 << 10), references(["x" * 9_000], 1 << 10)])
def test_long_texts_that_fit_are_read_as_they_are_coded_or_not(tmp_path: Path, city: pa.DictionaryArray) -> None:
    tags = pa.array([None if i % 5 == 0 else ["t"] * (i % 3) for i in range(1 << 10)], pa.list_(pa.string()))
    opened = sealed_by_hand(hostile(city).append_column("tags", tags), tmp_path, TAGGED)
    expected = hostile(city.dictionary_decode()).append_column("tags", tags).cast(arrow_schema(TAGGED))

    assert opened.read().equals(expected)
    assert pa.Table.from_batches(list(opened.batches(list(expected.schema.names)))).equals(expected)


def test_a_column_that_must_be_read_coded_is_read_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of reading agree: with no room to spare every text column goes the careful way."""
    n = 40_000
    city = references(["", "Ulm", "Bern", "y" * 500], n)
    tags = pa.array([None if i % 5 == 0 else [f"t{i % 7}", None] * (i % 3) for i in range(n)], pa.list_(pa.string()))
    table = hostile(city).append_column("tags", tags)
    fast = sealed_by_hand(table, tmp_path, TAGGED).read()
    monkeypatch.setattr("adyton.cleanroom.swelling.is_bounded", lambda *_: False)
    monkeypatch.setattr("adyton.cleanroom.sealed_table.is_bounded", lambda *_: False)
    careful = sealed_by_hand(table, tmp_path, TAGGED)

    assert careful.read().equals(fast)
    assert pa.Table.from_batches(list(careful.batches(list(fast.schema.names)))).equals(fast)


LYING_PAGE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_poisoned_files as files
from adyton.cleanroom.errors import EnclaveUnavailableError
from adyton.cleanroom.hardening import cap_memory
from adyton.cleanroom.sealed_table import load_manifest, open_table
opened = open_table(Path(sys.argv[2]) / "d.v1.sealed", load_manifest(Path(sys.argv[2]) / "m"), bytes(range(32)))
opened.read(["label"])
cap_memory(100 << 20)
try:
    opened.read(["city"])
except EnclaveUnavailableError as error:
    print(error.what, "|", error.where)
"""


def test_pages_that_swell_past_the_cap_on_memory_end_in_a_refusal(tmp_path: Path) -> None:
    """A page says itself how large it is, and only the reader sees that: 200 MB of one text in some kilobytes."""
    opened = sealed_by_hand(hostile(pa.array(["x" * (200 << 20)])), tmp_path)
    (tmp_path / "m").write_text(json.dumps(opened.manifest.as_json()))
    command = [sys.executable, "-c", LYING_PAGE, str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (tmp_path / "d.v1.sealed").stat().st_size < 1 << 20
    assert done.stdout == "the sealed table does not fit into the enclave's memory | d v1\n", done.stderr
