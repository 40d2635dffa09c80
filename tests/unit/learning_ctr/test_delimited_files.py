"""The challenge's files and declared files are read, and a bad cell is named by row and column but never shown."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adyton.learning.datasets import digix
from adyton.learning.datasets.delimited import CsvFormat, collect, read_batches, read_table
from adyton.learning.errors import TableError
from adyton.learning.schema import Column, Kind, Role, TableSchema

SECRET = "zebra7"
ADS_LINE = (
    "log_id,label,user_id,age,gender,residence,city,city_rank,series_dev,series_group,emui_dev,device_name,device_size,"
    "net_type,task_id,adv_id,creat_type_cd,adv_prim_id,inter_type_cd,slot_id,site_id,spread_app_id,hispace_app_tags,"
    "app_second_class,app_score,ad_click_list_v001,ad_click_list_v002,ad_click_list_v003,ad_close_list_v001,"
    "ad_close_list_v002,ad_close_list_v003,pt_d,u_newsCatInterestsST,u_refreshTimes,u_feedLifeCycle"
)
FEEDS_LINE = (
    "u_userId,u_phonePrice,u_browserLifeCycle,u_browserMode,u_feedLifeCycle,u_refreshTimes,u_newsCatInterests,"
    "u_newsCatDislike,u_newsCatInterestsST,u_click_ca2_news,i_docId,i_s_sourceId,i_regionEntity,i_cat,i_entities,"
    "i_dislikeTimes,i_upTimes,i_dtype,e_ch,e_m,e_po,e_pl,e_rn,e_section,e_et,label,cillabel,pro"
)
ADS_HEADER, FEEDS_HEADER = ADS_LINE.split(","), FEEDS_LINE.split(",")


def ads_row(**changes: str) -> list[str]:
    cells = dict.fromkeys(ADS_HEADER, "7") | {"label": "1", "pt_d": "202206031325", "ad_click_list_v001": "11^12"}
    return list((cells | changes).values())


def feeds_row(**changes: str) -> list[str]:
    cells = dict.fromkeys(FEEDS_HEADER, "3") | {"e_et": "202206031325", "label": "-1", "cillabel": "-1", "pro": "20"}
    return list((cells | changes).values())


def write(path: Path, *rows: list[str]) -> Path:
    path.write_text("".join(",".join(row) + "\n" for row in rows))
    return path


def test_many_blocks_become_one_table_with_each_column_in_one_piece(tmp_path: Path) -> None:
    rows = [ads_row(log_id=str(n), age=str(n % 11), ad_click_list_v001="^".join("ab"[: n % 3])) for n in range(1_500)]
    path = write(tmp_path / "ads.csv", ADS_HEADER, *rows)
    batches = list(read_batches(path, digix.ADS_SCHEMA, digix.FORMAT, block_bytes=2_000))
    assert len(batches) > 50

    table = collect(digix.ADS_SCHEMA, iter(batches))

    assert {column.num_chunks for column in table.columns} == {1}
    assert table["log_id"].to_pylist() == [str(n) for n in range(1_500)]
    assert table["age"].to_pylist() == [str(n % 11) for n in range(1_500)]
    assert table["ad_click_list_v001"].to_pylist() == [list("ab"[: n % 3]) for n in range(1_500)]
    assert collect(digix.ADS_SCHEMA, []).num_rows == 0


def test_an_ads_file_has_35_columns_with_lists_times_and_labels(tmp_path: Path) -> None:
    path = write(
        tmp_path / "train_data_ads.csv", ADS_HEADER, ads_row(), ads_row(label="0", ad_click_list_v001="", age="")
    )

    table, schema = digix.read_ads(path)

    assert table.num_columns == len(ADS_HEADER) == 35
    schema.check(table)
    assert table["label"].to_pylist() == [1, 0]
    assert table["ad_click_list_v001"].to_pylist() == [["11", "12"], []]
    assert table["age"].to_pylist() == ["7", None]
    assert table["pt_d"].to_pylist()[0] == 1_654_233_900_000, "13:25 in China is 05:25 UTC on 3 June 2022"


def test_both_spellings_and_columns_in_any_order_are_read(tmp_path: Path) -> None:
    spelled = [{"hispace_app_tags": "Tags"}.get(n, n.replace("_list_v00", "_list_00")) for n in ADS_HEADER]
    order = list(range(35))
    random.Random(1).shuffle(order)
    row = ads_row()
    path = write(tmp_path / "a.csv", [spelled[i] for i in order], [row[i] for i in order])

    table, _ = digix.read_ads(path)

    assert table["ad_click_list_v001"].to_pylist() == [["11", "12"]]
    assert table["hispace_app_tags"].to_pylist() == ["7"]


def test_the_test_file_without_a_label_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "test_data_ads.csv", [ADS_HEADER[0], *ADS_HEADER[2:]], ads_row()[1:])

    table, schema = digix.read_ads(path)

    assert table.num_columns == 34
    assert "label" not in schema


def test_a_feeds_file_has_28_columns_0_1_labels_and_suffixed_shared_names(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", FEEDS_HEADER, feeds_row(), feeds_row(label="1", cillabel="1"))

    table, schema = digix.read_feeds(path)
    ads_names = set(digix.ADS_SCHEMA.names)

    assert table.num_columns == len(FEEDS_HEADER) == 28
    assert table["label_feeds"].to_pylist() == [0, 1]
    assert ads_names & set(schema.names) == {"user_id"}
    assert {c.name for c in schema.with_role(Role.OUTCOME)} == {"cillabel", "pro"}


@pytest.mark.parametrize(
    ("column", "value"), [("label", SECRET), ("label", ""), ("label", "2"), ("pt_d", SECRET), ("pt_d", "202213991325")]
)
def test_a_bad_cell_is_named_by_row_and_column_and_not_shown(tmp_path: Path, column: str, value: str) -> None:
    rows = [ads_row() for _ in range(5)]
    rows[3] = ads_row(**{column: value})
    path = write(tmp_path / "ads.csv", ADS_HEADER, *rows)

    with pytest.raises(TableError) as caught:
        digix.read_ads(path)

    assert caught.value.where == f"ads.csv, row 5, column {column}"
    assert SECRET not in str(caught.value) + str(caught.value.hint)


def test_a_short_row_is_named_and_not_shown(tmp_path: Path) -> None:
    path = write(tmp_path / "ads.csv", ADS_HEADER, ads_row(), [SECRET, "1"], ads_row())

    with pytest.raises(TableError) as caught:
        digix.read_ads(path)

    assert caught.value.where == "ads.csv, row 3"
    assert caught.value.what == "expected 35 cells, got 2"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"label,label\n1,1\n", b"log_id\n1\n"])
def test_files_of_another_kind_give_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ads.csv"
    path.write_bytes(content)

    with pytest.raises(TableError) as caught:
        digix.read_ads(path)

    assert "ads.csv" in str(caught.value.where)
    with pytest.raises(TableError):
        digix.read_feeds(tmp_path / "nothing.csv")


def test_rows_are_counted_across_blocks_and_memory_is_by_the_block(tmp_path: Path) -> None:
    schema = TableSchema((Column("x", Role.USER, Kind.NUMBER), Column("y", Role.LABEL, Kind.BINARY)))
    rows = [[str(i), "0"] for i in range(5_000)]
    rows[4_321] = ["many", "0"]
    path = write(tmp_path / "x.csv", ["y", "x"], *[row[::-1] for row in rows])

    batches = read_batches(path, schema, CsvFormat(), block_bytes=2_000)
    with pytest.raises(TableError) as caught:
        n_rows = 0
        for batch in batches:
            n_rows += batch.num_rows
            assert batch.num_rows < 1_000

    assert n_rows > 3_000
    assert caught.value.where == "x.csv, row 4323, column x"


def test_a_declared_schema_reads_csv_and_parquet(tmp_path: Path) -> None:

    schema = TableSchema.from_json(
        {
            "columns": [
                {"name": "who", "role": "user_id", "kind": "category"},
                {"name": "age", "role": "user", "kind": "number"},
                {"name": "label", "role": "label", "kind": "binary"},
            ]
        }
    )
    path = write(tmp_path / "t.csv", ["who", "age", "label"], ["a", "1e1", "0"], ["b", "", "1"], ["a", " 7 ", "-1"])

    table = read_table(path, schema)
    pq.write_table(table, tmp_path / "t.parquet")
    again = read_table(tmp_path / "t.parquet", schema)

    assert table["age"].to_pylist() == [10.0, None, 7.0]
    assert table["label"].to_pylist() == [0, 1, 0]
    assert again.to_pydict() == table.to_pydict()
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(TableError):
        read_table(tmp_path / "bad.parquet", schema)


@pytest.mark.parametrize(
    ("name", "values", "complaint"),
    [
        ("label", [1, 0, 2], "t.parquet, row 3, column label: this is not 0 or 1"),
        ("label", [1, None, -1], "t.parquet, row 2, column label: this is not 0 or 1"),
        ("at", [None, 5, 6], "t.parquet, row 1, column at: the time is missing"),
        ("who", ["a", SECRET, None], "t.parquet, row 3, column who: the user id is missing"),
    ],
)
def test_a_parquet_file_names_the_row_of_a_label_time_or_user_that_is_none(
    tmp_path: Path, name: str, values: list[object], complaint: str
) -> None:
    schema = TableSchema(
        (
            Column("who", Role.USER_ID, Kind.CATEGORY),
            Column("at", Role.TIME, Kind.TIMESTAMP),
            Column("label", Role.LABEL, Kind.BINARY),
        )
    )
    good = {"who": ["a", "b", "c"], "at": [1, 2, 3], "label": [0, 1, 1]}
    pq.write_table(pa.table(good), tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet", schema).num_rows == 3
    pq.write_table(pa.table(good | {name: values}), tmp_path / "t.parquet")

    with pytest.raises(TableError) as refused:
        read_table(tmp_path / "t.parquet", schema)
    assert str(refused.value) == complaint


def test_a_row_without_a_user_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "feeds.csv", FEEDS_HEADER, feeds_row(), feeds_row(u_userId=""))

    with pytest.raises(TableError) as refused:
        digix.read_feeds(path)
    assert str(refused.value) == "feeds.csv, row 3, column user_id: the user id is missing"


def test_a_folder_is_not_a_table(tmp_path: Path) -> None:
    with pytest.raises(TableError):
        digix.read_ads(tmp_path)
