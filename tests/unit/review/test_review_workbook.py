"""Records from headings: good rows are typed, bad rows are named, bad files are one error."""

from __future__ import annotations

import contextlib
import csv
import zipfile
from pathlib import Path

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adyton.kernel.chance import stream
from adyton.review.errors import WorkbookError
from adyton.review.generator import generate_workbook
from adyton.review.workbook import load_default_workbook, read_workbook
from adyton.review.writer import ad_columns, moderator_columns, write_parquet, write_xlsx

ADS = [
    ["p_date", "ad_id", " Delivery_Country", "punish_num", "avg_ad_revenue", "start_time", "baseline_st", "vertical"],
    ["20230704", 17, "SA", "-", 2.5, "2023-07-04 09:30:00", 0.54, "games"],
    ["20230704", 18, "BR", 2, "1,200.5", None, 1.5, "food"],
    ["20230704", 19, "BR", 1, "lots", None, 1.5, "food"],
    ["20230704", 20, None, 1, 1.0, None, 1.5, "food"],
    ["20230704", 21, "US", 1, None, None, 1.5, "food"],
    ["20230704", 17, "US", 1, 1.0, None, 1.5, "food"],
    ["20230704", 22, "US", 1, -1.0, None, 1.5, "food"],
]
MODERATORS = [
    ["moderator", "market", " Productivity ", "Utilisation %", "handling time", " accuracy "],
    ["m1", "['SA', 'BR']", 100, "72%", 80000, 0.9],
    ["m2", "US&BR", "-", 0.8, 0, "-"],
    ["m3", "US", 100, 0.8, 5000, 1.2],
]


def write_book(path: Path, ads: list[list[object]] = ADS, moderators: list[list[object]] = MODERATORS) -> Path:
    book = openpyxl.Workbook()
    for title, rows in (("Sheet7", ads), ("people", moderators)):
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.remove(book.worksheets[0])
    book.save(path)
    return path


def test_headings_decide_and_cells_become_typed(tmp_path: Path) -> None:
    workbook = read_workbook(write_book(tmp_path / "any name.xlsx"))

    assert list(workbook.ads.ad_id) == ["17", "18", "17/2"]
    assert list(workbook.ads.country) == ["SA", "BR", "US"]
    assert workbook.ads.revenue.tolist() == [2.5, 1200.5, 1.0]
    assert np.isnan(workbook.ads.punish_num[0])
    assert workbook.ads.start_hour[0] == 9
    assert workbook.moderators.markets == (("SA", "BR"), ("US", "BR"))
    assert workbook.moderators.utilisation[0] == pytest.approx(0.72)


def test_a_moderator_without_accuracy_is_read_but_cannot_be_simulated(tmp_path: Path) -> None:
    workbook = read_workbook(write_book(tmp_path / "w.xlsx"))

    assert workbook.moderators.usable().tolist() == [0]


def test_unknown_headings_are_kept_as_properties(tmp_path: Path) -> None:
    workbook = read_workbook(write_book(tmp_path / "w.xlsx"))

    assert list(workbook.ads.properties["vertical"]) == ["games", "food", "food"]


def test_each_bad_row_is_named_with_sheet_row_column_and_reason(tmp_path: Path) -> None:
    workbook = read_workbook(write_book(tmp_path / "w.xlsx"))

    assert {(f.sheet, f.row, f.column, f.reason) for f in workbook.faults} == {
        ("Sheet7", 4, "avg_ad_revenue", "not a number"),
        ("Sheet7", 5, "delivery_country", "missing"),
        ("Sheet7", 6, "avg_ad_revenue", "missing"),
        ("Sheet7", 8, "avg_ad_revenue", "outside [0, inf]"),
        ("people", 4, "accuracy", "outside [0, 1]"),
    }
    assert workbook.n_left_out == 5


def test_headings_may_stand_below_blank_rows_as_in_the_sources_workbook(tmp_path: Path) -> None:
    titled = [["table of ads"], [None] * 3, *ADS]

    workbook = read_workbook(write_book(tmp_path / "w.xlsx", ads=titled, moderators=[[None], *MODERATORS]))

    assert list(workbook.ads.ad_id) == ["17", "18", "17/2"]
    assert (workbook.faults[0].sheet, workbook.faults[0].row) == ("Sheet7", 6)


@pytest.mark.parametrize("blank", [[], [""] * 8, ["  "] * 8])
def test_rows_are_counted_as_the_file_counts_them_also_behind_blank_ones(tmp_path: Path, blank: list[str]) -> None:
    for stem, rows in (("ads", [ADS[0], blank, *ADS[1:]]), ("moderators", MODERATORS)):
        with (tmp_path / f"{stem}.csv").open("w", newline="") as out:
            csv.writer(out).writerows(rows)

    workbook = read_workbook(tmp_path)

    assert [fault.row for fault in workbook.faults if fault.sheet == "ads.csv"] == [5, 6, 7, 9]


def test_a_moderator_named_twice_is_a_fault(tmp_path: Path) -> None:
    twice = [*MODERATORS, ["m1", "US", 100, 0.8, 5000, 0.9]]

    workbook = read_workbook(write_book(tmp_path / "w.xlsx", moderators=twice))

    assert ("moderator", "appears a second time") in {(f.column, f.reason) for f in workbook.faults}


def test_a_heading_over_two_columns_is_refused(tmp_path: Path) -> None:
    ads = [[*row, row[4]] for row in ADS]

    with pytest.raises(WorkbookError, match="avg_ad_revenue stands over two columns"):
        read_workbook(write_book(tmp_path / "w.xlsx", ads=ads))


@pytest.mark.parametrize("seed", range(25))
def test_a_workbook_with_broken_bytes_is_read_or_is_one_error(tmp_path: Path, seed: int) -> None:
    """The parts of the zip file are damaged one at a time, so that the file itself still opens."""
    rng = stream(seed, "broken bytes")
    whole = write_book(tmp_path / "whole.xlsx")
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(tmp_path / "w.xlsx", "w") as broken:
        names = source.namelist()
        hurt = names[int(rng.integers(len(names)))]
        for name in names:
            content = bytearray(source.read(name))
            if name == hurt:
                begin = int(rng.integers(len(content)))
                content[begin : begin + int(rng.integers(1, 200))] = rng.bytes(int(rng.integers(0, 40)))
            broken.writestr(name, bytes(content))

    with contextlib.suppress(WorkbookError):
        assert len(read_workbook(tmp_path / "w.xlsx").ads)


def test_no_fault_repeats_a_value_of_the_row(tmp_path: Path) -> None:
    workbook = read_workbook(write_book(tmp_path / "w.xlsx"))

    assert not any("lots" in str(fault) for fault in workbook.faults)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("w.xlsx", b"not a zip"),
        ("w.xlsx", b""),
        ("w.doc", b"x"),
        ("ads.parquet", b"PAR1"),
        ("ads.csv", b"\xff\xfe\x00"),
    ],
)
def test_a_bad_file_is_one_error_about_the_input(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "moderators.csv").write_text("moderator,market,handling time,accuracy\n")

    with pytest.raises(WorkbookError) as caught:
        read_workbook(tmp_path / name)
    assert caught.value.exit_code == 10


def test_a_missing_file_and_a_missing_heading_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkbookError, match="no such file"):
        read_workbook(tmp_path / "absent.xlsx")
    ads = [[cell for cell in row if cell not in ("baseline_st", 0.54, 1.5)] for row in ADS]
    with pytest.raises(WorkbookError, match="missing headings: baseline_st"):
        read_workbook(write_book(tmp_path / "w.xlsx", ads=ads))


def test_an_error_names_the_file_that_was_given(tmp_path: Path) -> None:
    for name in ("stuff.csv", "empty.xlsx"):
        (tmp_path / name).touch()
        with pytest.raises(WorkbookError) as caught:
            read_workbook(tmp_path / name)
        assert name in str(caught.value.where)
        assert caught.value.hint


def test_xlsx_csv_and_parquet_give_the_same_workbook(tmp_path: Path) -> None:
    workbook = generate_workbook(200, 60, stream(1, "formats"))
    write_xlsx(workbook, tmp_path / "w.xlsx")
    (tmp_path / "p").mkdir()
    write_parquet(workbook, tmp_path / "p")
    (tmp_path / "c").mkdir()
    for stem, columns in (("ads", ad_columns(workbook.ads)), ("moderators", moderator_columns(workbook.moderators))):
        with (tmp_path / "c" / f"{stem}.csv").open("w", newline="") as stream_out:
            writer = csv.writer(stream_out)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))

    read = [read_workbook(tmp_path / place) for place in ("w.xlsx", "p", "c")]

    for other in read:
        assert not other.faults
        for name in ("revenue", "baseline_st", "punish_num", "start_hour"):
            np.testing.assert_allclose(getattr(other.ads, name), getattr(workbook.ads, name))
        for name in ("accuracy", "handling_time", "productivity"):
            np.testing.assert_allclose(getattr(other.moderators, name), getattr(workbook.moderators, name))
        assert list(other.ads.ad_id) == list(workbook.ads.ad_id)
        assert other.moderators.markets == workbook.moderators.markets


def test_the_shipped_workbook_has_the_size_of_the_source_and_no_faults() -> None:
    workbook = load_default_workbook()

    assert (len(workbook.ads), len(workbook.moderators), workbook.faults) == (40_679, 1_414, ())


def test_two_columns_that_answer_to_one_heading_are_refused_in_every_format(tmp_path: Path) -> None:
    (tmp_path / "moderators.csv").write_text("moderator,market,handling time,accuracy\nm,US,50000,0.9\n")
    (tmp_path / "ads.csv").write_text(
        "ad_id,delivery_country,avg_ad_revenue,baseline_st,Avg Ad Revenue\na,US,1,1,900\n"
    )
    with pytest.raises(WorkbookError, match="Avg Ad Revenue stands over two columns"):
        read_workbook(tmp_path)
    (tmp_path / "ads.csv").unlink()
    names = ["ad_id", "delivery_country", "avg_ad_revenue", "baseline_st", "baseline_st"]
    cells = [pa.array([cell]) for cell in ("a", "US", 1.0, 1.0, 9.0)]
    pq.write_table(pa.table(cells, names=names), tmp_path / "ads.parquet")
    with pytest.raises(WorkbookError, match="baseline_st stands over two columns"):
        read_workbook(tmp_path)


def test_a_whole_number_beyond_any_float_is_no_number(tmp_path: Path) -> None:
    path = write_book(tmp_path / "w.xlsx", ads=[*ADS, [*ADS[1][:4], 77777, *ADS[1][5:]]])
    with zipfile.ZipFile(path) as book, zipfile.ZipFile(tmp_path / "huge.xlsx", "w") as huge:
        for name in book.namelist():
            huge.writestr(name, book.read(name).replace(b"<v>77777</v>", b"<v>" + b"9" * 400 + b"</v>"))

    faults = read_workbook(tmp_path / "huge.xlsx").faults

    assert [fault.reason for fault in faults if fault.row == len(ADS) + 1] == ["not a number"]
