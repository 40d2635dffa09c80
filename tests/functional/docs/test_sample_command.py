"""`adyton sample`: files that the other commands read, and nothing overwritten."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from adyton.cli.main import run
from adyton.learning.datasets.delimited import read_table
from adyton.learning.schema import TableSchema


def test_both_parties_tables_come_with_schemas_licence_and_note(tmp_path: Path) -> None:
    folder = tmp_path / "try"

    assert run(["sample", str(folder), "--rows", "500"]) == 0

    for name in ("publisher", "advertiser"):
        schema = TableSchema.from_json(json.loads((folder / f"{name}.schema.json").read_text()))
        table = pq.read_table(folder / f"{name}.parquet")
        assert table.num_rows == 500
        assert set(schema.names) == set(table.column_names)
    assert "CC BY-SA 4.0" in (folder / "NOTE.md").read_text()
    assert (folder / "LICENSE").stat().st_size > 10_000


def test_csv_and_parquet_hold_the_same_rows(tmp_path: Path) -> None:
    assert run(["sample", str(tmp_path / "p"), "--party", "advertiser", "--rows", "300"]) == 0
    assert run(["sample", str(tmp_path / "c"), "--party", "advertiser", "--rows", "300", "--csv"]) == 0
    assert not (tmp_path / "c" / "publisher.csv").exists()

    schema = TableSchema.from_json(json.loads((tmp_path / "c" / "advertiser.schema.json").read_text()))
    from_csv = read_table(tmp_path / "c" / "advertiser.csv", schema)
    from_parquet = read_table(tmp_path / "p" / "advertiser.parquet", schema)
    for name in ("user_id", "time_ms", "is_click", "play_time_ms"):
        assert from_csv[name].to_pylist() == from_parquet[name].to_pylist(), name
    for name in ("hour", "tag"):
        assert [v or "" for v in from_csv[name].to_pylist()] == [
            "" if v is None else str(v) for v in from_parquet[name].to_pylist()
        ]


def test_existing_files_are_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "publisher.csv").write_text("mine")

    assert run(["sample", str(tmp_path), "--csv"]) == 10

    assert (tmp_path / "publisher.csv").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["publisher.csv"]
    assert "already holds publisher.csv" in capsys.readouterr().err


def test_a_disk_that_fills_up_leaves_no_half_table_and_a_second_try_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from adyton.cli import sample

    write = sample._write

    def fill_up(*arguments: Any, **options: Any) -> None:
        write(*arguments, **options)
        raise OSError(errno.ENOSPC, "error writing bytes")

    with monkeypatch.context() as full:
        full.setattr(sample, "_write", fill_up)
        assert run(["sample", str(tmp_path), "--rows", "50"]) == 13

    assert "no space left on device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert run(["sample", str(tmp_path), "--rows", "50"]) == 0


def test_more_rows_than_any_table_has_are_all_rows(tmp_path: Path) -> None:
    assert run(["sample", str(tmp_path), "--party", "advertiser", "--rows", "9" * 30]) == 0
    assert pq.read_metadata(tmp_path / "advertiser.parquet").num_rows > 30_000
