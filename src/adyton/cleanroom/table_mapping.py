"""Declared mappings from a party's own file to the declared columns: names, types, time zones, normalised ids.

    {"columns": {"user_id": {"from": "E-Mail", "as": "email", "hash": true},
                 "phone":   {"from": "Tel.", "as": "phone", "country_code": "49"},
                 "time_ms": {"from": "When", "as": "time", "format": "%d.%m.%Y %H:%M", "zone": "Europe/Berlin"},
                 "spent":   {"from": "Betrag", "as": "number", "decimal": ",", "thousands": ".", "unreadable": "empty"},
                 "label":   {"from": "Klick", "as": "flag", "true": ["ja"], "false": ["nein"]}},
     "empty": ["", "NULL"], "drop_rows_without": ["user_id"], "drop_duplicates": true}

email   trimmed, lower case.   phone   E.164: `+`, country code, no separators.   Both may be hashed: hex SHA-256 of the
normalised text, as IAB Tech Lab's PAIR 1.1 describes, so that two parties who hash apart still match.
time    milliseconds since the epoch; a wall clock that shows a time twice means the earlier one.
A cell that cannot be read refuses the file, naming its row, unless its column says `"unreadable": "empty"`. The report
holds counts only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adyton.cleanroom.errors import ContractError, TableRejectedError
from adyton.kernel.canonical import Json
from adyton.learning.schema import TableSchema

_READERS: Final = ("text", "email", "phone", "number", "flag", "time")
_FIELDS: Final = frozenset(
    (
        *("from", "as", "hash", "country_code", "format", "zone"),
        *("decimal", "thousands", "true", "false", "unreadable"),
    )
)
_EMAIL = r"^[^@\s]+@[^@\s]+\.[^@\s]+$"
_E164 = r"^\+[1-9][0-9]{6,14}$"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"


@dataclass(frozen=True)
class ColumnMapping:
    """How one declared column is read from one of the file's. The fields are those of the JSON form."""

    source: str
    reader: str = "text"
    is_hashed: bool = False
    country_code: str = ""
    time_format: str = ""
    zone: str = "UTC"
    decimal: str = "."
    thousands: str = ""
    true: tuple[str, ...] = ("1", "true")
    false: tuple[str, ...] = ("0", "false")
    is_refused_if_unreadable: bool = True

    def __post_init__(self) -> None:
        if self.reader not in _READERS:
            raise ContractError(f"unknown reader {self.reader!r}", where=self.source, hint=", ".join(_READERS))
        if self.reader == "phone" and not re.fullmatch(r"[1-9][0-9]{0,2}", self.country_code):
            raise ContractError("a phone needs the country code of numbers without one", where=self.source)
        if self.reader == "time" and not self.time_format:
            raise ContractError("a time needs a format such as %Y-%m-%d %H:%M:%S", where=self.source)
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ContractError("unknown time zone", where=self.source, hint="for example Europe/Berlin") from error


@dataclass(frozen=True)
class TableMapping:
    """Mappings by declared column; a column that is not named is taken as it is.   empty: texts that mean nothing."""

    columns: Mapping[str, ColumnMapping]
    empty: frozenset[str] = frozenset(("",))
    drop_rows_without: tuple[str, ...] = ()
    drop_duplicates: bool = False

    def source(self, name: str) -> str:
        """The file's name for a declared column."""
        return self.columns[name].source if name in self.columns else name

    @classmethod
    def from_json(cls, value: object) -> TableMapping:
        """Parse the JSON form above. Raises ContractError naming the column."""
        if not isinstance(value, Mapping) or not isinstance(value.get("columns"), Mapping):
            raise ContractError("a mapping is a JSON object with an object called 'columns'")
        if unknown := set(value) - {"columns", "empty", "drop_rows_without", "drop_duplicates"}:
            raise ContractError(f"unknown keys: {', '.join(sorted(map(str, unknown)))}", where="mapping")
        return cls(
            columns={str(name): _column(str(name), item) for name, item in value["columns"].items()},
            empty=frozenset(str(text) for text in value.get("empty", [""])),
            drop_rows_without=tuple(str(name) for name in value.get("drop_rows_without", ())),
            drop_duplicates=value.get("drop_duplicates", False) is True,
        )


@dataclass
class CoercionReport:
    """What a mapping did, in counts.   changed: cells that normalising altered.   emptied: unreadable, now empty."""

    rows_read: int = 0
    rows_sealed: int = 0
    duplicates_dropped: int = 0
    dropped_without: dict[str, int] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    emptied: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Json]:
        return {
            "rows_read": self.rows_read,
            "rows_sealed": self.rows_sealed,
            "duplicates_dropped": self.duplicates_dropped,
            "dropped_without": dict(self.dropped_without),
            "changed": dict(self.changed),
            "emptied": dict(self.emptied),
        }


class Mapper:
    """Applies one mapping batch by batch; `report` grows with it."""

    def __init__(self, mapping: TableMapping) -> None:
        self._mapping = mapping
        self._seen = np.zeros(0, np.uint64)
        self.report = CoercionReport()

    def source(self, name: str) -> str:
        """The file's name for a declared column."""
        return self._mapping.source(name)

    def schema(self, declared: TableSchema, held: pa.Schema) -> pa.Schema:
        """The Arrow types that the declared columns have after mapping a file that holds `held`.

        Raises ContractError for a column that is in neither.
        """
        fields = []
        for column in declared.columns:
            how = self._mapping.columns.get(column.name)
            if self.source(column.name) not in held.names:
                raise ContractError("the mapped column is not in the file", where=self.source(column.name))
            found = held.field(self.source(column.name)).type if how is None else _MADE.get(how.reader, pa.string())
            fields.append(pa.field(column.name, found))
        return pa.schema(fields)

    def apply(self, batch: pa.RecordBatch, names: Sequence[str], file_name: str, first_row: int) -> pa.RecordBatch:
        """The batch with the declared columns `names`; mapped ones converted, rows dropped as declared.

        Raises TableRejectedError naming row and column.
        """
        arrays = []
        for name in names:
            array = batch.column(batch.schema.get_field_index(self._mapping.source(name)))
            how = self._mapping.columns.get(name)
            arrays.append(array if how is None else self._read(array, how, name, file_name, first_row))
        self.report.rows_read += batch.num_rows
        mapped = pa.RecordBatch.from_arrays(arrays, names=list(names))
        for name in self._mapping.drop_rows_without:
            if name not in names:
                raise ContractError("rows cannot be dropped for a column that is not declared", where=name)
            column = mapped.column(mapped.schema.get_field_index(name))
            is_there = pc.is_valid(column)
            if pa.types.is_binary(column.type):
                is_there = pc.and_(is_there, pc.not_equal(pc.binary_length(column), 0))
            dropped = mapped.num_rows - int(pc.sum(is_there).as_py() or 0)
            self.report.dropped_without[name] = self.report.dropped_without.get(name, 0) + dropped
            mapped = mapped.filter(is_there)
        if self._mapping.drop_duplicates:
            mapped = self._without_duplicates(mapped)
        self.report.rows_sealed += mapped.num_rows
        return mapped

    def _read(self, array: pa.Array, how: ColumnMapping, name: str, file_name: str, first_row: int) -> pa.Array:
        where = f"{file_name}, column {how.source}"
        try:
            text = array.cast(pa.string())
        except pa.ArrowInvalid:
            raise TableRejectedError("the column is no UTF-8 text", where=where) from None
        trimmed = pc.utf8_trim_whitespace(text)
        is_empty = pc.fill_null(pc.is_in(trimmed, value_set=pa.array(sorted(self._mapping.empty))), True)
        trimmed = pc.if_else(is_empty, pa.scalar(None, pa.string()), trimmed)
        value = _READ[how.reader](trimmed, how)
        is_bad = pc.and_(pc.is_null(value), pc.is_valid(trimmed))
        bad = int(pc.sum(is_bad).as_py() or 0)
        if bad and how.is_refused_if_unreadable:
            row = first_row + pc.index(is_bad, pa.scalar(True)).as_py()
            raise TableRejectedError(f"the cell is no {how.reader}", where=f"{where}, row {row}")
        self.report.emptied[name] = self.report.emptied.get(name, 0) + bad
        if pa.types.is_string(value.type):
            differs = pc.fill_null(pc.not_equal(value, text), False)
            self.report.changed[name] = self.report.changed.get(name, 0) + int(pc.sum(differs).as_py() or 0)
            if how.is_hashed:
                value = _hashed(value)
        return value

    def _without_duplicates(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Without rows that are equal in every column to an earlier one.

        Among n rows two different ones collide with probability n^2 / 2^65: 3e-6 for ten million.
        """
        hashes = _row_hashes(batch)
        _, first = np.unique(hashes, return_index=True)
        is_new = np.zeros(len(hashes), bool)
        is_new[first] = True
        if len(self._seen):
            place = np.minimum(np.searchsorted(self._seen, hashes), len(self._seen) - 1)
            is_new &= self._seen[place] != hashes
        self._seen = np.sort(np.concatenate([self._seen, hashes[is_new]]), kind="stable")
        self.report.duplicates_dropped += int((~is_new).sum())
        return batch.filter(pa.array(is_new))


def _column(name: str, item: object) -> ColumnMapping:
    if not isinstance(item, Mapping) or not isinstance(item.get("from"), str):
        raise ContractError("a column's mapping is an object that says 'from'", where=name)
    if unknown := set(item) - _FIELDS:
        raise ContractError(f"unknown keys: {', '.join(sorted(map(str, unknown)))}", where=name)
    if item.get("unreadable", "refuse") not in ("refuse", "empty"):
        raise ContractError("unreadable is 'refuse' or 'empty'", where=name)
    return ColumnMapping(
        source=item["from"],
        reader=str(item.get("as", "text")),
        is_hashed=item.get("hash", False) is True,
        country_code=str(item.get("country_code", "")),
        time_format=str(item.get("format", "")),
        zone=str(item.get("zone", "UTC")),
        decimal=str(item.get("decimal", ".")),
        thousands=str(item.get("thousands", "")),
        true=tuple(str(t).lower() for t in item.get("true", ("1", "true"))),
        false=tuple(str(t).lower() for t in item.get("false", ("0", "false"))),
        is_refused_if_unreadable=item.get("unreadable", "refuse") == "refuse",
    )


_MADE: Final = {"number": pa.float64(), "flag": pa.int8(), "time": pa.int64()}


def _matching(text: pa.Array, pattern: str) -> pa.Array:
    return pc.if_else(pc.match_substring_regex(text, pattern), text, pa.scalar(None, pa.string()))


def _email(text: pa.Array, _how: ColumnMapping) -> pa.Array:
    return _matching(pc.utf8_lower(text), _EMAIL)


def _phone(text: pa.Array, how: ColumnMapping) -> pa.Array:
    plain = pc.replace_substring_regex(text, r"\(0\)|[\s().\-/]", "")
    plain = pc.replace_substring_regex(plain, "^00", "+")
    return _matching(pc.replace_substring_regex(plain, "^0", f"+{how.country_code}"), _E164)


def _number(text: pa.Array, how: ColumnMapping) -> pa.Array:
    plain = pc.replace_substring(text, how.thousands, "") if how.thousands else text
    if how.decimal != ".":
        # A point that is neither the declared separator must not become one.
        plain = pc.if_else(pc.match_substring(plain, "."), pa.scalar("?"), plain)
        plain = pc.replace_substring(plain, how.decimal, ".")
    return _matching(plain, _NUMBER).cast(pa.float64())


def _flag(text: pa.Array, how: ColumnMapping) -> pa.Array:
    lower = pc.utf8_lower(text)
    yes, no = (pc.is_in(lower, value_set=pa.array(words, pa.string())) for words in (how.true, how.false))
    return pc.if_else(pc.or_(yes, no), yes.cast(pa.int8()), pa.scalar(None, pa.int8()))


def _bare(text: pa.Array) -> pa.Array:
    """Lower case, without zeros before a digit."""
    return pc.replace_substring_regex(pc.utf8_lower(text), r"\b0+([0-9])", r"\1")


def _time(text: pa.Array, how: ColumnMapping) -> pa.Array:
    wall = pc.strptime(text, format=how.time_format, unit="s", error_is_null=True)
    # Arrow reads 31 February as 2 March: a time counts only if it is written again as it was read.
    again = pc.strftime(wall, format=how.time_format)
    wall = pc.if_else(pc.equal(_bare(again), _bare(text)), wall, pa.scalar(None, wall.type))
    # The hour that summer time skips is read as its end: nobody's clock showed it.
    at = pc.assume_timezone(wall, how.zone, ambiguous="earliest", nonexistent="latest")
    return at.cast(pa.timestamp("ms", how.zone)).cast(pa.int64())


_READ: Final[Mapping[str, Callable[[Any, ColumnMapping], Any]]] = {
    "text": lambda text, _: text,
    "email": _email,
    "phone": _phone,
    "number": _number,
    "flag": _flag,
    "time": _time,
}


def _hashed(text: pa.Array) -> pa.Array:
    """Lower-case hex SHA-256 of each text; each distinct one is hashed once."""
    coded = text.dictionary_encode()
    hashes = [hashlib.sha256(value.encode()).hexdigest() for value in coded.dictionary.to_pylist()]
    return pa.array(hashes, pa.string()).take(coded.indices)


def _row_hashes(batch: pa.RecordBatch) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """uint64[B]: a hash of each whole row, the same in every batch."""
    total = np.zeros(batch.num_rows, np.uint64)
    for column in batch.columns:
        coded = column.cast(pa.string()) if not pa.types.is_binary(column.type) else column.cast(pa.large_binary())
        encoded = coded.dictionary_encode()
        values = encoded.dictionary.cast(pa.large_binary()).to_pylist()
        digests = [int.from_bytes(hashlib.blake2b(v, digest_size=8).digest(), "big") for v in values]
        table = np.array([*digests, 0x9E3779B97F4A7C15], np.uint64)
        index = encoded.indices.fill_null(len(digests)).to_numpy(zero_copy_only=False)
        # An odd multiplier between columns makes their order count.
        total = (total * np.uint64(0x100000001B3)) ^ table[index]
        total *= np.uint64(0xFF51AFD7ED558CCD)
    return total
