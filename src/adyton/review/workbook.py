"""Workbooks of ads and moderators, recognised by their headings (spec/review §1.2).

A source is one `.xlsx` file with two sheets, or a folder (or one named file) holding `ads` and `moderators` as `.csv`
or `.parquet`. Sheets are told apart by their headings, never by their names; headings match without regard to case and
spacing, and may stand below a title or blank rows, as in the source's own workbook. Unknown headings become properties.
An ad id that appears again is one more review, named `ID/2`. A row that cannot be used is left out and reported as a
`RowFault`; a file that cannot be used is one `WorkbookError`, and nothing of it is loaded.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time
from decimal import Decimal
from importlib.resources import as_file, files
from pathlib import Path
from types import MappingProxyType

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq

from adyton.review.errors import WorkbookError
from adyton.review.tables import AdTable, FloatArray, ModeratorTable, ObjectArray, RowFault, Workbook

AD_HEADINGS = (
    "p_date",
    "ad_id",
    "delivery_country",
    "queue_market",
    "punish_num",
    "latest_punish_begin_date",
    "ad_revenue",
    "avg_ad_revenue",
    "start_time",
    "baseline_st",
    "product_line",
    "task_type_en",
)
MODERATOR_HEADINGS = ("moderator", "market", "Productivity", "Utilisation %", "handling time", "accuracy")

_AD_NEEDS = ("ad_id", "delivery_country", "avg_ad_revenue", "baseline_st")
_MODERATOR_NEEDS = ("moderator", "market", "handling time", "accuracy")
_MISSING_WORDS = frozenset({"", "-", "nan", "none", "null", "n/a", "na", "#n/a"})
_SUFFIXES = (".csv", ".parquet")
_STEMS = ("ads", "moderators")
_MARKET = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_CLOCK = re.compile(r"(?:^|[T ])(\d{1,2}):\d{2}")


_HEADING_ROWS = 20
"""Headings are looked for in this many rows."""


@dataclass(frozen=True)
class _Sheet:
    """Raw cells by heading. numbers: the row of each, as a spreadsheet counts."""

    name: str
    columns: dict[str, Sequence[object]]
    numbers: Sequence[int]

    @property
    def n_rows(self) -> int:
        return len(self.numbers)

    def find(self, heading: str) -> str | None:
        """The heading as this sheet spells it."""
        wanted = _plain(heading)
        return next((name for name in self.columns if _plain(name) == wanted), None)

    def has_all(self, headings: Sequence[str]) -> bool:
        return all(self.find(heading) is not None for heading in headings)


def load_default_workbook() -> Workbook:
    """The shipped synthetic workbook: 40,679 ads and 1,414 moderators, drawn from `generator` (own ids)."""
    with as_file(files("adyton.review") / "data") as folder:
        return read_workbook(folder)


def read_workbook(source: Path | str) -> Workbook:
    """The ads and moderators of `source`: an `.xlsx` file, or a folder or file with `ads` and `moderators` tables.

    Raises WorkbookError when the file is missing or unreadable, or lacks a sheet or a heading.
    """
    path = Path(source)
    if not path.exists():
        raise WorkbookError("there is no such file or folder", where=str(path))
    if path.is_dir():
        ads, moderators = (_read_table(_table_in(path, stem)) for stem in _STEMS)
    elif path.suffix.lower() in (".xlsx", ".xlsm"):
        ads, moderators = _read_xlsx(path)
    elif path.suffix.lower() in _SUFFIXES:
        if path.stem not in _STEMS:
            hint = (
                f"name one of {' or '.join(stem + path.suffix for stem in _STEMS)}, the other beside it, or the folder"
            )
            raise WorkbookError("one table is not enough: ads and moderators are two", where=str(path), hint=hint)
        ads, moderators = (_read_table(_table_in(path.parent, stem, path.suffix)) for stem in _STEMS)
    else:
        raise WorkbookError("unknown kind of file", where=str(path), hint="use .xlsx, .csv or .parquet")
    for sheet, needs in ((ads, _AD_NEEDS), (moderators, _MODERATOR_NEEDS)):
        absent = [heading for heading in needs if sheet.find(heading) is None]
        if absent:
            raise WorkbookError(f"missing headings: {', '.join(absent)}", where=sheet.name)
    faults: list[RowFault] = []
    ad_table = _parse_ads(ads, faults)
    moderator_table = _parse_moderators(moderators, faults)
    if not len(ad_table) or not len(moderator_table):
        first = f"; first fault: {faults[0]}" if faults else ""
        raise WorkbookError(f"no usable rows{first}", where=str(path))
    faults.sort(key=lambda fault: (fault.sheet != ads.name, fault.row))
    return Workbook(ad_table, moderator_table, tuple(faults), _rows_used(ads, faults), _rows_used(moderators, faults))


def _rows_used(sheet: _Sheet, faults: Sequence[RowFault]) -> tuple[int, ...]:
    left_out = {fault.row for fault in faults if fault.sheet == sheet.name}
    return tuple(row for row in sheet.numbers if row not in left_out)


def _table_in(folder: Path, stem: str, suffix: str | None = None) -> Path:
    suffixes = (suffix,) if suffix else (".parquet", ".csv")
    for candidate in suffixes:
        if (folder / f"{stem}{candidate}").is_file():
            return folder / f"{stem}{candidate}"
    raise WorkbookError(
        f"no {stem}{' or '.join(suffixes)}", where=str(folder), hint="put the ads and the moderators side by side"
    )


def _read_xlsx(path: Path) -> tuple[_Sheet, _Sheet]:
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        cells = [(sheet.title, list(sheet.iter_rows(values_only=True))) for sheet in book.worksheets]
        book.close()
    except Exception as error:  # openpyxl passes on whatever the broken part inside runs into
        hint = "the file is empty" if not path.stat().st_size else "save it again as .xlsx, without a password"
        raise WorkbookError("not a readable .xlsx workbook", where=str(path), hint=hint) from error
    sheets = [_sheet_of_rows(title, rows) for title, rows in cells]
    ads = next((sheet for sheet in sheets if sheet.has_all(("avg_ad_revenue",))), None)
    moderators = next((sheet for sheet in sheets if sheet.has_all(("accuracy",))), None)
    if ads is None or moderators is None:
        lacking = "ads (heading avg_ad_revenue)" if ads is None else "moderators (heading accuracy)"
        found = ", ".join(sheet.name for sheet in sheets)
        raise WorkbookError(
            f"no sheet of {lacking}", where=str(path), hint=f"looked at {found}; headings tell sheets apart, not names"
        )
    return ads, moderators


def _sheet_of_rows(name: str, rows: Sequence[Sequence[object]]) -> _Sheet:
    top = _heading_row(rows)
    headings = [str(cell).strip() if cell is not None else "" for cell in rows[top]] if rows else []
    numbers = [n for n in range(top + 1, len(rows)) if not all(_is_blank(cell) for cell in rows[n])]
    _refuse_twins(headings, f"{name} row {top + 1}")
    columns: dict[str, Sequence[object]] = {}
    for index, heading in enumerate(headings):
        if heading:
            columns[heading] = [rows[n][index] if index < len(rows[n]) else None for n in numbers]
    return _Sheet(name, columns, [n + 1 for n in numbers])


def _refuse_twins(headings: Sequence[str], where: str) -> None:
    """Nothing, unless two columns answer to one heading: nobody could tell which of them counts."""
    known = {_plain(heading) for heading in (*AD_HEADINGS, *MODERATOR_HEADINGS)}
    seen: set[str] = set()
    for heading in filter(None, headings):
        name = _plain(heading) if _plain(heading) in known else heading
        if name in seen:
            raise WorkbookError(f"the heading {heading} stands over two columns", where=where, hint="take one out")
        seen.add(name)


def _heading_row(rows: Sequence[Sequence[object]]) -> int:
    """The index of the row that holds most of the known headings, the first of several; 0 when none holds any."""
    known = {_plain(heading) for heading in (*AD_HEADINGS, *MODERATOR_HEADINGS)}
    found = [len(known & {_plain(cell) for cell in row if isinstance(cell, str)}) for row in rows[:_HEADING_ROWS]]
    return int(np.argmax(found)) if found else 0


def _is_blank(cell: object) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())


def _read_table(path: Path) -> _Sheet:
    try:
        if path.suffix.lower() == ".parquet":
            _refuse_twins(pq.read_schema(path).names, path.name)
            table = pq.read_table(path)
            columns = {name: table.column(name).to_pylist() for name in table.column_names}
            return _Sheet(path.name, columns, range(2, table.num_rows + 2))
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise WorkbookError("not a readable table", where=str(path)) from error
    return _sheet_of_rows(path.name, rows)


class _RowReader:
    """Typed columns of one sheet; remembers which rows are bad and why."""

    def __init__(self, sheet: _Sheet, faults: list[RowFault]) -> None:
        self._sheet = sheet
        self._faults = faults
        self.good = np.ones(sheet.n_rows, dtype=bool)
        self._used: set[str] = set()

    def raw(self, heading: str) -> Sequence[object]:
        name = self._sheet.find(heading)
        if name is None:
            return [None] * self._sheet.n_rows
        self._used.add(name)
        return self._sheet.columns[name]

    def numbers(self, heading: str, *, low: float, high: float = math.inf, required: bool = False) -> FloatArray:
        out = np.full(self._sheet.n_rows, np.nan)
        for row, cell in enumerate(self.raw(heading)):
            if _is_missing(cell):
                if required:
                    self._fault(row, heading, "missing")
                continue
            number = _number(cell)
            if number is None:
                self._fault(row, heading, "not a number")
            elif not low <= number <= high:
                self._fault(row, heading, f"outside [{low:g}, {high:g}]")
            else:
                out[row] = number
        return out

    def words(self, heading: str, *, required: bool = False) -> ObjectArray:
        out = np.empty(self._sheet.n_rows, dtype=object)
        for row, cell in enumerate(self.raw(heading)):
            if _is_missing(cell):
                out[row] = ""
                if required:
                    self._fault(row, heading, "missing")
            else:
                out[row] = _word(cell)
        return out

    def unique(self, heading: str, words: ObjectArray) -> None:
        seen: set[str] = set()
        for row, word in enumerate(words):
            if word and word in seen:
                self._fault(row, heading, "appears a second time")
            seen.add(word)

    def numbered(self, words: ObjectArray) -> ObjectArray:
        """The same with the second, third, … appearance of a word marked `/2`, `/3`, …"""
        seen: Counter[str] = Counter()
        out = np.empty(len(words), dtype=object)
        for row, word in enumerate(words):
            seen[word] += 1
            out[row] = word if seen[word] == 1 else f"{word}/{seen[word]}"
        return out

    def properties(self) -> MappingProxyType[str, ObjectArray]:
        kept = {}
        for heading, cells in self._sheet.columns.items():
            if heading not in self._used:
                column = np.empty(self._sheet.n_rows, dtype=object)
                column[:] = list(cells)
                kept[heading] = column[self.good]
        return MappingProxyType(kept)

    def _fault(self, row: int, heading: str, reason: str) -> None:
        self.good[row] = False
        self._faults.append(RowFault(self._sheet.name, self._sheet.numbers[row], heading, reason))


def _parse_ads(sheet: _Sheet, faults: list[RowFault]) -> AdTable:
    reader = _RowReader(sheet, faults)
    # An ad is a row for each country it runs in, and spreadsheets round long ids: each row is a review of its own.
    ad_id = reader.numbered(reader.words("ad_id", required=True))
    country = reader.words("delivery_country", required=True)
    revenue = reader.numbers("avg_ad_revenue", low=0, required=True)
    baseline_st = reader.numbers("baseline_st", low=1e-9, required=True)
    punish_num = reader.numbers("punish_num", low=0)
    start_hour = np.array([_hour(cell) for cell in reader.raw("start_time")], dtype=np.float64)
    product_line = reader.words("product_line")
    good = reader.good
    return AdTable(
        ad_id=ad_id[good],
        country=country[good],
        revenue=revenue[good],
        baseline_st=baseline_st[good],
        punish_num=punish_num[good],
        start_hour=start_hour[good],
        product_line=product_line[good],
        properties=reader.properties(),
    )


def _parse_moderators(sheet: _Sheet, faults: list[RowFault]) -> ModeratorTable:
    reader = _RowReader(sheet, faults)
    moderator_id = reader.words("moderator", required=True)
    reader.unique("moderator", moderator_id)
    markets = [_markets(cell) for cell in reader.raw("market")]
    productivity = reader.numbers("Productivity", low=0)
    utilisation = reader.numbers("Utilisation %", low=0)
    handling_time = reader.numbers("handling time", low=0)
    accuracy = reader.numbers("accuracy", low=0, high=1)
    good = reader.good
    return ModeratorTable(
        moderator_id=moderator_id[good],
        markets=tuple(m for m, is_good in zip(markets, good, strict=True) if is_good),
        productivity=productivity[good],
        utilisation=utilisation[good],
        handling_time=handling_time[good],
        accuracy=accuracy[good],
        properties=reader.properties(),
    )


def _plain(heading: str) -> str:
    return re.sub(r"[\s_%]+", "", heading).casefold().replace("utilization", "utilisation")


def _is_missing(cell: object) -> bool:
    if cell is None:
        return True
    if isinstance(cell, float):
        return math.isnan(cell)
    return isinstance(cell, str) and cell.strip().casefold() in _MISSING_WORDS


def _number(cell: object) -> float | None:
    if isinstance(cell, bool):
        return None
    if isinstance(cell, int | float | Decimal):
        try:
            number = float(cell)
        except (OverflowError, ValueError):  # a whole number beyond any float, a decimal that is a signalling NaN
            return None
        return number if math.isfinite(number) else None
    if isinstance(cell, str):
        text = cell.strip().replace(",", "")
        scale = 0.01 if text.endswith("%") else 1.0
        try:
            number = float(text.rstrip("%")) * scale
        except ValueError:
            return None
        return number if math.isfinite(number) else None
    return None


def _word(cell: object) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def _hour(cell: object) -> float:
    match cell:
        case datetime() | time():
            return float(cell.hour)
        case str():
            found = _CLOCK.search(cell)
            return float(found.group(1)) if found and int(found.group(1)) < 24 else math.nan
        case _:
            return math.nan


def _markets(cell: object) -> tuple[str, ...]:
    if isinstance(cell, list | tuple):
        return tuple(dict.fromkeys(str(item).strip() for item in cell if not _is_missing(item)))
    return () if _is_missing(cell) else tuple(dict.fromkeys(_MARKET.findall(str(cell))))
