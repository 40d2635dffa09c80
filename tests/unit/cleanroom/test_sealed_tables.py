"""Sealed tables: whatever was changed, cut or swapped is refused with the reason, and no plaintext reaches a disk."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from adyton.cleanroom.checked_file import BLOCK_BYTES, CheckedFile
from adyton.cleanroom.errors import DatasetReusedError, SealBrokenError, SealWriteError, TableRejectedError
from adyton.cleanroom.party import Party
from adyton.cleanroom.sealed_table import (
    Manifest,
    load_manifest,
    manifest_path,
    open_table,
    owner_dek,
    seal_file,
    sealed_path,
)
from adyton.cleanroom.table_columns import TableColumn
from adyton.learning.schema import Column, Kind, Role

OWNER, STRANGER = Party.create("publisher"), Party.create("advertiser")
COLUMNS = (
    TableColumn(Column("user_id", Role.USER_ID, Kind.CATEGORY), "string", nullable=False),
    TableColumn(Column("score", Role.USER, Kind.NUMBER), "float64"),
    TableColumn(Column("label", Role.LABEL, Kind.BINARY), "int8", nullable=False),
    TableColumn(Column("seen", Role.SEQUENCE, Kind.LIST), "list<string>"),
)
CANARY = "user-canary-4711"


def table(rows: int = 100) -> pa.Table:
    return pa.table(
        {
            "user_id": [CANARY, *(f"u{i}" for i in range(rows - 1))],
            "score": [i / 7 if i % 5 else None for i in range(rows)],
            "label": pa.array([i % 2 for i in range(rows)], pa.int8()),
            "seen": [[f"i{i}", "x"] for i in range(rows)],
        }
    )


def seal(tmp_path: Path, source: Path | None = None, dataset_id: str = "log", version: int = 1) -> Manifest:
    if source is None:
        source = tmp_path / "plain.parquet"
        pq.write_table(table(), source)
    return seal_file(source, tmp_path / "sealed", COLUMNS, dataset_id=dataset_id, version=version, owner=OWNER)


def test_the_owner_opens_what_it_sealed(tmp_path: Path) -> None:
    manifest = seal(tmp_path)
    manifest.check_signature(OWNER.identity)
    opened = open_table(sealed_path(tmp_path / "sealed", "log", 1), manifest, owner_dek(manifest, OWNER))

    assert opened.read().to_pydict() == table().to_pydict()
    assert pa.Table.from_batches(opened.batches(["label"])).column_names == ["label"]
    assert (
        pa.Table.from_batches(opened.batches(["seen", "user_id"])).to_pydict()
        == opened.read(["seen", "user_id"]).to_pydict()
    )
    assert load_manifest(manifest_path(tmp_path / "sealed", "log", 1)) == manifest


def test_csv_and_parquet_seal_to_the_same_rows(tmp_path: Path) -> None:
    csv = tmp_path / "t.csv"
    plain = table().drop_columns("seen")
    pa.csv.write_csv(plain.append_column("seen", pa.array([f"i{i}^x" for i in range(100)])), csv)
    manifest = seal(tmp_path, csv)
    opened = open_table(sealed_path(tmp_path / "sealed", "log", 1), manifest, owner_dek(manifest, OWNER))

    assert opened.read().to_pydict() == table().to_pydict()


def test_no_plaintext_is_in_anything_written(tmp_path: Path) -> None:
    seal(tmp_path)
    for path in (tmp_path / "sealed").iterdir():
        assert CANARY.encode() not in path.read_bytes(), path.name


def test_nobody_else_gets_the_key(tmp_path: Path) -> None:
    """The platform's operator holds the files and its own keys, and that is not enough."""
    manifest = seal(tmp_path)
    with pytest.raises(SealBrokenError):
        owner_dek(manifest, STRANGER)
    with pytest.raises(SealBrokenError, match="does not open"):
        open_table(sealed_path(tmp_path / "sealed", "log", 1), manifest, bytes(32))


@pytest.mark.parametrize("change", [{"dataset_id": "other"}, {"version": 2}])
def test_a_file_presented_as_another_dataset_does_not_open(tmp_path: Path, change: dict[str, object]) -> None:
    """The AAD prefix holds even for someone who knows the key."""
    manifest = seal(tmp_path)
    dek = owner_dek(manifest, OWNER)
    claimed = replace(manifest, **change)  # type: ignore[arg-type]

    with pytest.raises(SealBrokenError, match="another key, dataset id or version"):
        open_table(sealed_path(tmp_path / "sealed", "log", 1), claimed, dek)
    with pytest.raises(SealBrokenError):
        owner_dek(claimed, OWNER)


def test_a_flipped_byte_anywhere_is_refused(tmp_path: Path) -> None:
    manifest = seal(tmp_path)
    path = sealed_path(tmp_path / "sealed", "log", 1)
    whole = path.read_bytes()
    for position in range(0, len(whole), 97):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(SealBrokenError, match="hash differs"):
            open_table(path, manifest, owner_dek(manifest, OWNER))


def test_authentication_holds_without_the_hash(tmp_path: Path) -> None:
    """Someone who signs a manifest over changed bytes still cannot make a page authenticate."""
    import hashlib

    manifest = seal(tmp_path)
    dek, path = owner_dek(manifest, OWNER), sealed_path(tmp_path / "sealed", "log", 1)
    whole = path.read_bytes()
    for position in range(4, len(whole) - 8, 211):
        changed = whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :]
        path.write_bytes(changed)
        forged = replace(manifest, ciphertext_sha256=hashlib.sha256(changed).hexdigest())
        with pytest.raises(SealBrokenError):
            open_table(path, forged, dek).read()


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    manifest = seal(tmp_path)
    path = sealed_path(tmp_path / "sealed", "log", 1)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SealBrokenError, match="bytes"):
        open_table(path, manifest, owner_dek(manifest, OWNER))


def test_an_edited_or_foreign_manifest_is_refused(tmp_path: Path) -> None:
    manifest = seal(tmp_path)
    with pytest.raises(SealBrokenError, match="not signed"):
        replace(manifest, rows=manifest.rows + 1).check_signature(OWNER.identity)
    with pytest.raises(SealBrokenError, match="not signed"):
        manifest.check_signature(STRANGER.identity)


def test_a_dataset_id_is_used_once_per_version(tmp_path: Path) -> None:
    seal(tmp_path)
    with pytest.raises(DatasetReusedError):
        seal(tmp_path)
    assert seal(tmp_path, version=2).version == 2


def write_csv(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "bad.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


GOOD_ROW = "u1,0.5,1,a^b\n"
HEADER = "user_id,score,label,seen\n"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (HEADER + GOOD_ROW * 2 + "u3,secret-word,1,a\n", "column score, row 3"),
        (HEADER + GOOD_ROW + "u3,1.0,300,a\n", "column label, row 2"),
        (HEADER + GOOD_ROW + "u3,1.0,,a\n", "column label, row 2"),
        (HEADER.encode() + GOOD_ROW.encode() * 4 + b"\xff\xfe,1.0,1,a\n", "column user_id, row 5"),
        (HEADER + GOOD_ROW + "u3,1.0\n", "bad.csv"),
        ("user_id,label,seen\nu1,1,a\n", "bad.csv"),
        (HEADER, "no rows"),
        ("", "bad.csv"),
        (HEADER + GOOD_ROW + "x" * 70_000 + ",1.0,1,a\n", "column user_id, row 2"),
        (gzip.compress(HEADER.encode() + GOOD_ROW.encode()), "bad.csv"),
        (",".join(f"c{i}" for i in range(10_000)) + "\n", "columns"),
    ],
)
def test_a_row_that_does_not_fit_is_named_without_its_value(tmp_path: Path, text: str | bytes, where: str) -> None:
    path = write_csv(tmp_path, text)

    with pytest.raises(TableRejectedError) as caught:
        seal(tmp_path, path)

    assert where in str(caught.value)
    error: BaseException | None = caught.value
    while error is not None:
        assert "secret-word" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_a_refused_file_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(TableRejectedError):
        seal(tmp_path, write_csv(tmp_path, HEADER + GOOD_ROW + "u3,x,1,a\n"))
    assert list((tmp_path / "sealed").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "sealed").write_text("a file, not a folder")
    with pytest.raises(SealWriteError):
        seal(tmp_path)


def test_a_parquet_file_with_ten_thousand_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wide.parquet"
    pq.write_table(pa.table({f"c{i}": [1] for i in range(10_000)}), path)
    with pytest.raises(TableRejectedError, match="10000 columns"):
        seal(tmp_path, path)


def test_bytes_that_are_no_parquet_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.parquet"
    path.write_bytes(b"PAR1" + bytes(100))
    with pytest.raises(TableRejectedError):
        seal(tmp_path, path)


def test_a_file_is_read_as_it_was_hashed(tmp_path: Path) -> None:
    path, content = tmp_path / "file", bytes(range(256)) * 10_000
    path.write_bytes(content)
    file = CheckedFile(path)

    assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    for start, size in (
        (0, 4),
        (BLOCK_BYTES - 3, 7),
        (100, 2 * BLOCK_BYTES),
        (len(content) - 5, 50),
        (len(content), 1),
    ):
        file.seek(start)
        assert file.read(size) == content[start : start + size]
    file.seek(-8, 2)
    assert (file.read(), file.tell()) == (content[-8:], len(content))


@pytest.mark.parametrize("change", [lambda data: b"x" + data[1:], lambda data: data[: len(data) // 2], lambda _: b""])
def test_a_table_that_is_exchanged_after_its_hash_was_compared_is_refused(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    """Also by its owner, who could make another file that opens with the same key."""
    manifest = seal(tmp_path)
    path = sealed_path(tmp_path / "sealed", "log", 1)
    opened = open_table(path, manifest, owner_dek(manifest, OWNER))
    path.write_bytes(change(path.read_bytes()))

    with pytest.raises(SealBrokenError):
        opened.read()
