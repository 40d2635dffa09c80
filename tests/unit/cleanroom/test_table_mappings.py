"""Files as parties really have them: other names, types, time zones and ids; and files that were made to harm."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adyton.cleanroom import table_source
from adyton.cleanroom.errors import ContractError, TableRejectedError
from adyton.cleanroom.table_columns import TableColumn
from adyton.cleanroom.table_mapping import CoercionReport, Mapper, TableMapping
from adyton.cleanroom.table_source import table_batches
from adyton.learning.schema import Column, Kind, Role

COLUMNS = (
    TableColumn(Column("user_id", Role.USER_ID, Kind.CATEGORY), "string", nullable=False),
    TableColumn(Column("time_ms", Role.TIME, Kind.TIMESTAMP), "int64"),
    TableColumn(Column("spent", Role.OUTCOME, Kind.NUMBER), "float64"),
    TableColumn(Column("label", Role.LABEL, Kind.BINARY), "int8"),
)
MAPPING = {
    "columns": {
        "user_id": {"from": "E-Mail", "as": "email", "hash": True},
        "time_ms": {"from": "Wann", "as": "time", "format": "%d.%m.%Y %H:%M", "zone": "Europe/Berlin"},
        "spent": {"from": "Betrag", "as": "number", "decimal": ",", "thousands": ".", "unreadable": "empty"},
        "label": {"from": "Klick", "as": "flag", "true": ["ja"], "false": ["nein"]},
    },
    "empty": ["", "NULL"],
    "drop_rows_without": ["user_id"],
    "drop_duplicates": True,
}
CSV = """Klick,E-Mail,Wann,Betrag,unused
ja, Ada@Example.org ,01.07.2024 12:00,"1.234,50",x
nein,bob@example.org,01.01.2024 12:00,NULL,x
nein,NULL,01.01.2024 12:00,"1,00",x
nein,bob@example.org,01.01.2024 12:00,,y
NEIN,eve@example.org,,1.0x,x
"""


def sealed_rows(
    path: Path, mapping: object, columns: tuple[TableColumn, ...] = COLUMNS
) -> tuple[pa.Table, CoercionReport]:
    mapper = Mapper(TableMapping.from_json(mapping))
    table = pa.Table.from_batches(list(table_batches(path, columns, mapper)))
    return table, mapper.report


def one_column(tmp_path: Path, cells: list[str], how: dict[str, object]) -> list[object]:
    path = tmp_path / "one.csv"
    path.write_text("x\n" + "".join(f'"{cell}"\n' for cell in cells))
    storage = {"number": "float64", "time": "int64"}.get(str(how.get("as")), "string")
    kind = Kind.NUMBER if storage != "string" else Kind.CATEGORY
    column = (TableColumn(Column("y", Role.CONTEXT, kind), storage),)
    table, _ = sealed_rows(path, {"columns": {"y": {"from": "x", "unreadable": "empty", **how}}}, column)
    values: list[object] = table["y"].to_pylist()
    return values


def test_a_foreign_file_becomes_the_declared_table_and_the_report_counts(tmp_path: Path) -> None:
    path = tmp_path / "german.csv"
    path.write_text(CSV)
    table, report = sealed_rows(path, MAPPING)

    ids = [
        hashlib.sha256(mail.encode()).hexdigest() for mail in ("ada@example.org", "bob@example.org", "eve@example.org")
    ]
    assert table["user_id"].to_pylist() == ids
    # 12:00 in Berlin is 10:00 UTC in July and 11:00 in January.
    assert table["time_ms"].to_pylist() == [1_719_828_000_000, 1_704_106_800_000, None]
    assert table["spent"].to_pylist() == [1234.5, None, None]
    assert table["label"].to_pylist() == [1, 0, 0]
    assert report == CoercionReport(
        rows_read=5,
        rows_sealed=3,
        duplicates_dropped=1,
        dropped_without={"user_id": 1},
        changed={"user_id": 1},
        emptied={"user_id": 0, "time_ms": 0, "spent": 1, "label": 0},
    )
    assert "example" not in str(report.as_json())


def test_phones_are_e164_however_they_are_written(tmp_path: Path) -> None:
    cells = ["030 / 123-4567", "+49 (0)30 1234567", "0049301234567", "+1 212 555 0100", "12", "call me", ""]
    found = one_column(tmp_path, cells, {"as": "phone", "country_code": "49"})
    assert found == ["+49301234567"] * 3 + ["+12125550100", None, None, None]


def test_two_parties_who_hash_apart_still_match(tmp_path: Path) -> None:
    mine = one_column(tmp_path, [" ADA@Example.org"], {"as": "email", "hash": True})
    assert mine == [hashlib.sha256(b"ada@example.org").hexdigest()]


@pytest.mark.parametrize(
    ("cell", "how", "wanted"),
    [
        ("1,5", {"as": "number", "decimal": ","}, 1.5),
        ("1.5", {"as": "number", "decimal": ","}, None),
        ("1e5", {"as": "number"}, 1e5),
        ("nan", {"as": "number"}, None),
        ("31.02.2024 10:00", {"as": "time", "format": "%d.%m.%Y %H:%M"}, None),
        ("27.10.2024 02:30", {"as": "time", "format": "%d.%m.%Y %H:%M", "zone": "Europe/Berlin"}, 1_729_989_000_000),
        ("a@b", {"as": "email"}, None),
    ],
)
def test_a_cell_is_read_as_declared_or_not_at_all(
    tmp_path: Path, cell: str, how: dict[str, object], wanted: object
) -> None:
    assert one_column(tmp_path, [cell], how) == [wanted]


def test_an_unreadable_cell_is_refused_by_row_and_column_unless_it_may_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "german.csv"
    path.write_text(CSV.replace("ja, Ada", "vielleicht, Ada"))
    with pytest.raises(TableRejectedError, match="column Klick, row 1: the cell is no flag") as refusal:
        sealed_rows(path, MAPPING)
    assert "vielleicht" not in str(refusal.value)


def test_duplicates_are_found_across_batches_and_nulls_are_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_source, "BATCH_ROWS", 2)
    path = tmp_path / "table.parquet"
    rows = {"a": ["x", "y", "x", None, None, "y"], "b": [1, None, 1, 1, 1, 1]}
    pq.write_table(pa.table(rows), path)
    columns = (
        TableColumn(Column("a", Role.CONTEXT, Kind.CATEGORY), "string"),
        TableColumn(Column("b", Role.CONTEXT, Kind.NUMBER), "int64"),
    )
    table, report = sealed_rows(path, {"columns": {}, "drop_duplicates": True}, columns)

    assert table.to_pydict() == {"a": ["x", "y", None, "y"], "b": [1, None, 1, 1]}
    assert report.duplicates_dropped == 2


@pytest.mark.parametrize(
    "change",
    [
        {"user_id": {"from": "E-Mail", "as": "telepathy"}},
        {"user_id": {"from": "E-Mail", "as": "phone"}},
        {"time_ms": {"from": "Wann", "as": "time"}},
        {"time_ms": {"from": "Wann", "as": "time", "format": "%Y", "zone": "Mars/Base"}},
        {"user_id": {"as": "email"}},
        {"user_id": {"from": "E-Mail", "salt": "x"}},
        {"user_id": {"from": "E-Mail", "unreadable": "guess"}},
    ],
)
def test_a_mapping_that_says_too_little_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ContractError):
        TableMapping.from_json({**MAPPING, "columns": change})


@pytest.mark.parametrize("cell", ["=1+1", " =HYPERLINK(1)", "@SUM(A1)", "+cmd|' /C calc'!A0", "-2+3+cmd|' /C'!A0"])
def test_a_spreadsheet_formula_is_refused(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "poisoned.csv"
    path.write_text(f'city\nUlm\n"{cell}"\n')
    column = TableColumn(Column("city", Role.CONTEXT, Kind.CATEGORY), "string")
    with pytest.raises(TableRejectedError, match="row 2: the cell is a spreadsheet formula"):
        list(table_batches(path, (column,)))


def test_harmless_signs_are_no_formulas(tmp_path: Path) -> None:
    path = tmp_path / "fine.csv"
    path.write_text('city\n-\n+49 (0)30 1\n@handle\n-7\n"a=b"\n')
    column = TableColumn(Column("city", Role.CONTEXT, Kind.CATEGORY), "string")
    assert sum(batch.num_rows for batch in table_batches(path, (column,))) == 5


def test_a_parquet_file_that_swells_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 MiB of text in a file of a few KiB; the limits are lowered so that the test need not make gigabytes."""
    path = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"city": ["x" * 65_536] * 1_024}), path, compression="zstd", use_dictionary=False)
    column = TableColumn(Column("city", Role.CONTEXT, Kind.CATEGORY), "string")
    assert path.stat().st_size < 1 << 18
    for name, limit in (("MAX_SWELL", 8), ("MAX_ROW_GROUP_BYTES", 1 << 20)):
        with monkeypatch.context() as patch:
            patch.setattr(table_source, name, limit)
            with pytest.raises(TableRejectedError, match="row group 0 swells to"):
                list(table_batches(path, (column,)))


def test_invalid_utf8_is_refused_with_and_without_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes("x\nMünchen\n".encode("latin-1"))
    plain = TableColumn(Column("x", Role.CONTEXT, Kind.CATEGORY), "string")
    with pytest.raises(TableRejectedError):
        list(table_batches(path, (plain,)))
    with pytest.raises(TableRejectedError, match="UTF-8"):
        sealed_rows(path, {"columns": {"x": {"from": "x"}}}, (plain,))
