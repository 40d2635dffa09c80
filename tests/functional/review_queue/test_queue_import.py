"""A workbook of ads into the live queue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from adyton.cli.queue import queue
from adyton.kernel.errors import AdytonError
from adyton.review.errors import WorkbookError
from adyton.review.queue.ad_store import list_ads
from adyton.review.queue.errors import NotPermittedError, QueueInputError
from adyton.review.queue.people import list_people
from adyton.review.queue.workbook_intake import Defaults, load, read_intake

ADS: list[list[Any]] = [
    ["ad_id", "delivery_country", "avg_ad_revenue", "baseline_st", "punish_num", "product_line", "Title", "countries"],
    [1001, "US", 12.5, 0.54, "-", "RIE", "Shoes", "US, CA"],
    [1002, "FR", "many", 1.0, 1, "RIE", "Bad revenue", None],
    [1003, "United States", 3.0, 1.0, 2, "RIE", "Bad market", None],
    [1004, "FR", 0.0, 2.25, 2, None, None, None],
    [None, None, None, None, None, None, None, None],
    [1005, "FR", 1.0, "-", 0, "RIE", "No work", None],
]
MODERATORS: list[list[Any]] = [
    ["moderator", "market", "Productivity", "Utilisation %", "handling time", "accuracy"],
    [7, "['US', 'FR']", 100, 0.7, 50_000, 0.91],
    [8, "FR", "-", 0.7, 0, "-"],
    [9, "-", 100, 0.7, 50_000, 0.91],
]
DEFAULTS = Defaults(buyer="shop.example", render_url="https://shop.example/{ad_id}")


def _book(folder: Path, ads: list[list[Any]] = ADS) -> Path:
    book = openpyxl.Workbook()
    first = book.active
    assert first is not None
    for sheet, rows in ((first, ads), (book.create_sheet("people"), MODERATORS)):
        for row in rows:
            sheet.append(row)
    book.save(folder / "ads.xlsx")
    return folder / "ads.xlsx"


def test_good_rows_come_in_and_bad_ones_are_named(floor: Any, tmp_path: Path) -> None:
    intake = read_intake(_book(tmp_path), DEFAULTS, with_moderators=True)
    loaded = load(floor.desk, "lead", intake)
    with floor.desk.reading() as tx:
        ads = {ad.creative_id: ad for ad in list_ads(tx, sa.true(), limit=10)}
    faults = {(fault.row, fault.column) for fault in loaded.faults}

    assert (loaded.n_new, loaded.n_known, loaded.n_people) == (2, 0, 2)
    assert faults == {(3, "avg_ad_revenue"), (7, "baseline_st"), (4, "market")}
    assert sum(fault.row == 4 for fault in loaded.faults) == 2  # an ad and a moderator
    assert "United" not in str(loaded.faults)
    shoes = ads["1001"]
    assert (shoes.title, shoes.countries, shoes.market) == ("Shoes", ("US", "CA"), "US")
    assert (shoes.revenue_micros, shoes.work_milli, shoes.render_url) == (12_500_000, 540, "https://shop.example/1001")
    assert (ads["1004"].title, ads["1004"].punish_num, ads["1004"].product_line) == ("Ad 1004", 2, "unknown")


def test_the_people_of_the_file_judge_with_its_figures(floor: Any, tmp_path: Path) -> None:
    load(floor.desk, "lead", read_intake(_book(tmp_path), DEFAULTS, with_moderators=True))
    people = {one.person_id: one for one in list_people(floor.desk, floor.lead)}

    assert people["7"].markets == ("US", "FR")
    assert (people["7"].accuracy_ppm, people["7"].pace_milli, people["7"].minutes_per_day) == (910_000, 20_000, 400)
    assert (people["8"].accuracy_ppm, people["8"].pace_milli, people["8"].minutes_per_day) == (850_000, 40_000, 480)


def test_the_same_file_again_changes_nothing_and_other_content_is_reported(floor: Any, tmp_path: Path) -> None:
    load(floor.desk, "lead", read_intake(_book(tmp_path), DEFAULTS, with_moderators=True))
    again = load(floor.desk, "lead", read_intake(_book(tmp_path), DEFAULTS, with_moderators=True))
    changed = [ADS[0], [*ADS[1][:6], "Other shoes", "US, CA"]]
    other = load(floor.desk, "lead", read_intake(_book(tmp_path, changed), DEFAULTS))

    assert (again.n_new, again.n_known, again.n_people) == (0, 2, 0)
    assert [(fault.row, fault.column) for fault in other.faults] == [(2, "creative_id")]


def test_only_a_lead_imports(floor: Any, tmp_path: Path) -> None:
    with pytest.raises(NotPermittedError):
        load(floor.desk, "adv", read_intake(_book(tmp_path), DEFAULTS))


def test_a_file_that_says_too_little_is_one_error_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(QueueInputError, match="no column buyer"):
        read_intake(_book(tmp_path), Defaults())
    with pytest.raises(WorkbookError):
        read_intake(tmp_path / "none.xlsx", DEFAULTS)


def _call(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(queue, [*arguments, "--database", f"sqlite:///{folder}/queue.db"])


def test_the_command_reports_on_stderr_and_counts_on_stdout(tmp_path: Path) -> None:
    _call(tmp_path, "migrate")
    _call(tmp_path, "person", "ann", "--role", "lead")
    call = ["import", str(_book(tmp_path)), "--as", "ann", "--buyer", "shop.example"]
    refused = _call(tmp_path, *call)
    call += ["--render-url", "https://shop.example/{ad_id}"]
    tried = _call(tmp_path, *call, "--dry-run")
    done = _call(tmp_path, *call, "--json")
    found = json.loads(done.stdout)

    assert isinstance(refused.exception, AdytonError)
    assert tried.stderr.endswith("2 ads and 0 people could be loaded; 3 bad rows\n")
    assert (found["n_new"], found["n_known"], len(found["faults"])) == (2, 0, 3)
    assert done.stderr.endswith("2 ads are new, 0 were there, 0 people are new; 3 bad rows\n")


@pytest.mark.parametrize("column", ["avg_ad_revenue", "baseline_st", "value_per_click"])
def test_a_number_beyond_the_desks_units_is_a_bad_row_and_the_others_come_in(tmp_path: Path, column: str) -> None:
    usual = {"ad_id": "1", "delivery_country": "US", "avg_ad_revenue": "2", "baseline_st": "1", "value_per_click": "1"}
    rows = [usual, usual | {"ad_id": "2", column: "1e306"}]
    lines = [",".join(usual), *(",".join(row.values()) for row in rows)]
    (tmp_path / "ads.csv").write_text("\n".join(lines))
    (tmp_path / "moderators.csv").write_text("moderator,market,handling time,accuracy\nm,US,1e308,0.9\n")

    intake = read_intake(tmp_path, DEFAULTS, with_moderators=True)

    assert [row for row, _ in intake.submissions] == [2]
    assert {(fault.sheet, fault.row, fault.column) for fault in intake.faults if fault.sheet == "ads"} == {
        ("ads", 3, column)
    }
    assert len(intake.people) == 0
