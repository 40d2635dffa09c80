"""What a file's columns become when they are sealed: the declared kind decides, never a guess from the first rows."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adyton.cleanroom.errors import ContractError, TableRejectedError
from adyton.cleanroom.table_columns import declare_columns
from adyton.cleanroom.table_source import file_schema, table_batches
from adyton.learning.schema import Column, Kind, Role, TableSchema

SCHEMA = TableSchema(
    (
        Column("user_id", Role.USER_ID, Kind.CATEGORY),
        Column("postcode", Role.USER, Kind.CATEGORY),
        Column("spent", Role.USER, Kind.NUMBER),
        Column("time_ms", Role.TIME, Kind.TIMESTAMP),
        Column("is_click", Role.LABEL, Kind.BINARY),
    )
)


def sealed_rows(path: Path, schema: TableSchema = SCHEMA) -> pa.Table:
    return pa.Table.from_batches(table_batches(path, declare_columns(schema, file_schema(path))))


def test_cells_of_a_csv_file_are_what_the_schema_says(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    lines = ["user_id,postcode,spent,time_ms,is_click"]
    lines += [f"00{n},01234,{n},{n},0" for n in range(200_000)]
    path.write_text("\n".join([*lines, "xyz,AB12,1.5,7,true"]))

    table = sealed_rows(path)

    assert table["user_id"][7].as_py() == "007"
    assert table["postcode"][0].as_py() == "01234"
    assert {name: table[name][-1].as_py() for name in table.column_names} == {
        "user_id": "xyz", "postcode": "AB12", "spent": 1.5, "time_ms": 7, "is_click": 1,
    }  # fmt: skip


@pytest.mark.parametrize("cell", ["2022-05-04 10:00:00", "1.5"])
def test_a_time_that_is_no_number_of_milliseconds_says_what_to_do(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"user_id,postcode,spent,time_ms,is_click\na,b,1,5,0\na,b,1,{cell},0\n")

    with pytest.raises(TableRejectedError) as caught:
        sealed_rows(path)

    assert "row 2" in str(caught.value)
    assert caught.value.hint is not None
    assert "--mapping" in caught.value.hint
    assert cell not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "Asia/Shanghai"])
def test_timestamps_of_any_unit_become_milliseconds(tmp_path: Path, unit: str, zone: str | None) -> None:
    at = datetime(2022, 5, 4, 10, tzinfo=UTC)
    times = pa.array([at if zone else at.replace(tzinfo=None)], pa.timestamp(unit, zone))
    one = {"user_id": ["a"], "postcode": ["b"], "spent": [1.0], "time_ms": times, "is_click": [0]}
    pq.write_table(pa.table(one), tmp_path / "a.parquet")

    assert sealed_rows(tmp_path / "a.parquet")["time_ms"].to_pylist() == [int(at.timestamp() * 1000)]


@pytest.mark.parametrize(
    ("column", "kind", "expected"),
    [
        (pa.array([date(2022, 5, 4)]), Kind.CATEGORY, "2022-05-04"),
        (pa.array([Decimal("1.25")]), Kind.NUMBER, 1.25),
        (pa.array([200], pa.uint8()), Kind.NUMBER, 200),
        (pa.array([2**62], pa.uint64()), Kind.NUMBER, 2**62),
        (pa.array(["x"]).dictionary_encode(), Kind.CATEGORY, "x"),
        (pa.array([3], pa.int64()).dictionary_encode(), Kind.CATEGORY, 3),
        (pa.array(["x"], pa.large_string()), Kind.CATEGORY, "x"),
        (pa.array([[1, 2]], pa.large_list(pa.int16())), Kind.LIST, [1, 2]),
        (pa.array([["a"]], pa.list_(pa.large_string())), Kind.LIST, ["a"]),
    ],
)
def test_columns_of_common_types_can_be_sealed(tmp_path: Path, column: pa.Array, kind: Kind, expected: object) -> None:
    schema = TableSchema((Column("user_id", Role.USER_ID, Kind.CATEGORY), Column("x", Role.USER, kind)))
    pq.write_table(pa.table({"user_id": ["a"], "x": column}), tmp_path / "a.parquet")

    rows = sealed_rows(tmp_path / "a.parquet", schema)

    assert rows["x"].to_pylist() == [expected]
    schema.check(rows)


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array([{"a": 1}]), Kind.CATEGORY),
        (pa.array([b"x"]), Kind.CATEGORY),
        (pa.array([[[1]]]), Kind.LIST),
        (pa.array([datetime(2022, 5, 4, tzinfo=UTC)]), Kind.NUMBER),
        (pa.array([["a"]]), Kind.CATEGORY),
        (pa.array([1.5]), Kind.TIMESTAMP),
    ],
)
def test_other_types_are_refused_by_name(tmp_path: Path, column: pa.Array, kind: Kind) -> None:
    schema = TableSchema((Column("user_id", Role.USER_ID, Kind.CATEGORY), Column("x", Role.USER, kind)))
    pq.write_table(pa.table({"user_id": ["a"], "x": column}), tmp_path / "a.parquet")

    with pytest.raises(ContractError, match="cannot be sealed") as caught:
        sealed_rows(tmp_path / "a.parquet", schema)

    assert caught.value.where == "x"


def test_a_number_too_large_for_its_column_names_the_row(tmp_path: Path) -> None:
    schema = TableSchema((Column("user_id", Role.USER_ID, Kind.CATEGORY), Column("x", Role.USER, Kind.NUMBER)))
    pq.write_table(pa.table({"user_id": ["a", "b"], "x": pa.array([1, 2**63], pa.uint64())}), tmp_path / "a.parquet")

    with pytest.raises(TableRejectedError, match="row 2"):
        sealed_rows(tmp_path / "a.parquet", schema)


@pytest.mark.parametrize("ids", [pa.array([["a"]]), pa.array([1.0]), pa.array([Decimal("1")])])
def test_user_ids_that_meet_nobody_elses_are_refused_by_type(tmp_path: Path, ids: pa.Array) -> None:
    schema = TableSchema((Column("user_id", Role.USER_ID, Kind.CATEGORY),))
    pq.write_table(pa.table({"user_id": ids}), tmp_path / "a.parquet")
    with pytest.raises(ContractError, match="cannot be sealed"):
        sealed_rows(tmp_path / "a.parquet", schema)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
@pytest.mark.parametrize("blank", ["", "  "])
@pytest.mark.parametrize("role", [Role.USER_ID, Role.ITEM_ID])
def test_a_blank_id_is_an_empty_one(tmp_path: Path, name: str, blank: str, role: Role) -> None:
    columns = {Role.USER_ID: "user_id", Role.ITEM_ID: "item_id"}
    schema = TableSchema(tuple(Column(column, known, Kind.CATEGORY) for known, column in columns.items()))
    cells = {column: ["a", blank if known is role else "b"] for known, column in columns.items()}
    path = tmp_path / name
    if path.suffix == ".csv":
        path.write_text("user_id,item_id\n" + "".join(f"{u},{i}\n" for u, i in zip(*cells.values(), strict=True)))
    else:
        pq.write_table(pa.table(cells), path)
    with pytest.raises(TableRejectedError, match=f"{columns[role]}, row 2: the cell is empty"):
        sealed_rows(path, schema)


@pytest.mark.parametrize("label", [pa.array([0, 2]), pa.array([1, 0.5]), pa.array([1, -1], pa.int8())])
def test_a_label_that_is_neither_0_nor_1_names_the_row(tmp_path: Path, label: pa.Array) -> None:
    schema = TableSchema((Column("user_id", Role.USER_ID, Kind.CATEGORY), Column("y", Role.LABEL, Kind.BINARY)))
    pq.write_table(pa.table({"user_id": ["a", "b"], "y": label}), tmp_path / "a.parquet")
    with pytest.raises(TableRejectedError, match="row 2: the cell is neither 0 nor 1"):
        sealed_rows(tmp_path / "a.parquet", schema)


def test_a_name_that_two_columns_have_is_refused(tmp_path: Path) -> None:
    schema = TableSchema((Column("user_id", Role.USER_ID, Kind.CATEGORY),))
    (tmp_path / "a.csv").write_text("user_id,user_id\na,b\n")
    with pytest.raises(ContractError, match="two columns of this name"):
        sealed_rows(tmp_path / "a.csv", schema)
