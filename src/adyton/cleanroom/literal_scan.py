"""The literal-value scan: does a user id of any party stand in what would leave?

An output's bytes are read for what they are, so that nothing that is written into them is left out:

    ZIP        each member, by itself           Parquet   every text and whole number, column names, metadata
    JSON       every text, key and number       other     every run of printable characters, of 1 or 2 bytes each

An id counts as found as a whole text, inside a longer text, or as a number. Case and surrounding white space do not
matter. Two limits keep chance out: ids under six characters are left alone, and parts of texts and numbers are looked
up only where less than a hundredth of a hit is expected by chance: a thousand counts against e-mail addresses or phone
numbers, say, and not against ids that are the numbers up to a million.

Non-goals: an id that is enciphered, split or coded in weights. Only differential privacy bounds that.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adyton.cleanroom.join import PartyTable

MIN_CHARACTERS: Final = 6
MOST_HITS_BY_CHANCE: Final = 0.01
_MOST_LOOKED_UP: Final = 1 << 21
_ROW_NUMBERS: Final = "row"
"""The column of predictions that numbers the recipient's own rows."""
_RUNS: Final = (
    re.compile(rb"[\x20-\x7e]{6,}"),
    re.compile(rb"(?:[\x20-\x7e]\x00){6,}"),
)
_ALPHABETS: Final = {10: r"^[0-9]+$", 16: r"^[0-9a-f]+$", 36: r""}
"""How many characters a kind of id is made of, and what all of its ids match."""


@dataclass(frozen=True)
class OutputTexts:
    """What stands in an output. `numbers`: whole numbers in decimal. All in lower case, trimmed."""

    texts: frozenset[str]
    numbers: frozenset[str] = frozenset()

    def __or__(self, other: OutputTexts) -> OutputTexts:
        return OutputTexts(self.texts | other.texts, self.numbers | other.numbers)


def texts_of(content: bytes) -> OutputTexts:
    """Every text and whole number in an output's bytes."""
    if content[:2] == b"PK" and zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            found = _of_texts([*archive.namelist(), archive.comment.decode("latin-1")])
            for info in archive.infolist():
                found |= _of_texts([info.comment.decode("latin-1"), info.extra.decode("latin-1")])
                found |= texts_of(archive.read(info))
            return found
    if content[:4] == content[-4:] == b"PAR1":
        return _of_parquet(content) | _of_bytes(content)
    try:
        return _of_json(json.loads(content))
    except (ValueError, RecursionError):
        return _of_bytes(content)


@dataclass(frozen=True)
class IdKind:
    """Ids that look alike: so many of one length, of digits only, of hex digits, or of any."""

    length: int
    alphabet: int
    number: int

    def telling(self, candidates: Iterable[str]) -> set[str]:
        """Those that look like such an id; none if some would be one by chance."""
        alike = {text for text in candidates if re.search(_ALPHABETS[self.alphabet], text)}
        expected = len(alike) * self.number / float(self.alphabet) ** self.length
        return alike if expected < MOST_HITS_BY_CHANCE else set()


class LiteralScan:
    """The user ids of all tables, to be looked for. Nothing of them is kept but the columns themselves."""

    def __init__(self, tables: Sequence[PartyTable]) -> None:
        with ThreadPoolExecutor() as pool:
            self._ids = list(pool.map(lambda one: _distinct(one.table[one.schema.user_id.name]), tables))
        self._kinds = frozenset(kind for ids in self._ids for kind in _kinds(ids))

    def found_in(self, outputs: Mapping[str, OutputTexts]) -> dict[str, int]:
        """By output, how many user ids of any party stand in it."""
        wanted = {name: self._candidates(texts) for name, texts in outputs.items()}
        found = self._among_ids(frozenset().union(*wanted.values()) if wanted else frozenset())
        return {name: len(candidates & found) for name, candidates in wanted.items()}

    def _candidates(self, output: OutputTexts) -> frozenset[str]:
        """Texts, their parts and numbers that could be an id."""
        found = {text for text in output.texts if len(text) >= MIN_CHARACTERS}
        for length in {kind.length for kind in self._kinds}:
            parts = {text[i : i + length] for text in output.texts for i in range(len(text) - length + 1)}
            parts |= {number for number in output.numbers if len(number) == length}
            for kind in self._kinds:
                if kind.length == length:
                    found |= kind.telling(parts)
        return frozenset(found)

    def _among_ids(self, candidates: Set[str]) -> frozenset[str]:
        ordered, found = sorted(candidates), set[str]()
        for start in range(0, len(ordered), _MOST_LOOKED_UP):
            wanted = pa.array(ordered[start : start + _MOST_LOOKED_UP], pa.string())
            for ids in self._ids:
                found.update(ids.filter(pc.is_in(ids, wanted)).to_pylist())
        return frozenset(found)


def _distinct(column: pa.ChunkedArray) -> pa.Array:
    """The distinct ids of a column as trimmed texts in lower case."""
    if pa.types.is_dictionary(column.type):
        column = pa.chunked_array([chunk.dictionary for chunk in column.chunks], column.type.value_type)
    texts = pc.utf8_trim_whitespace(pc.utf8_lower(column.cast(pa.string())))
    distinct = pc.unique(texts).drop_null()
    return distinct.filter(pc.greater_equal(pc.utf8_length(distinct), MIN_CHARACTERS))


def _kinds(ids: pa.Array) -> Iterable[IdKind]:
    rest = ids
    for alphabet, pattern in _ALPHABETS.items():
        matches = pc.match_substring_regex(rest, pattern)
        lengths = pc.value_counts(pc.utf8_length(rest.filter(matches)))
        for one in lengths.to_pylist():
            yield IdKind(one["values"], alphabet, one["counts"])
        rest = rest.filter(pc.invert(matches))


def _of_texts(texts: Iterable[str]) -> OutputTexts:
    return OutputTexts(frozenset(text.strip().lower() for text in texts))


def _of_bytes(content: bytes) -> OutputTexts:
    narrow, wide = (pattern.findall(content) for pattern in _RUNS)
    return _of_texts([*(run.decode() for run in narrow), *(run[::2].decode() for run in wide)])


def _of_json(value: object) -> OutputTexts:
    texts: list[str] = []
    numbers: set[str] = set()
    pending: list[Any] = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, Mapping):
            texts += map(str, one)
            pending += one.values()
        elif isinstance(one, list):
            pending += one
        elif isinstance(one, str):
            texts.append(one)
        elif isinstance(one, int | float) and not isinstance(one, bool):
            numbers |= _whole(one)
    return OutputTexts(_of_texts(texts).texts, frozenset(numbers))


def _whole(number: float) -> set[str]:
    """The number in decimal, if it is whole; -7 reads as 7."""
    return {str(abs(int(number)))} if abs(number) < 1e18 and number == int(number) else set()


def _of_parquet(content: bytes) -> OutputTexts:
    table = pq.read_table(io.BytesIO(content))
    metadata = {**(table.schema.metadata or {}), **(pq.ParquetFile(io.BytesIO(content)).metadata.metadata or {})}
    texts = [*table.column_names, *(part.decode("latin-1") for pair in metadata.items() for part in pair)]
    numbers: set[str] = set()
    for name, column in zip(table.column_names, table.columns, strict=True):
        values = pa.chunked_array([_flat(chunk) for chunk in column.chunks]) if column.num_chunks else column
        if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
            texts += [value.decode("latin-1") for value in pc.unique(values).drop_null().to_pylist()]
        elif pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
            texts += pc.unique(values).drop_null().to_pylist()
        elif name != _ROW_NUMBERS and (pa.types.is_integer(values.type) or pa.types.is_float64(values.type)):
            numbers |= set().union(*map(_whole, _finite(pc.unique(values).drop_null())))
    return OutputTexts(_of_texts(texts).texts, frozenset(numbers))


def _finite(values: pa.Array) -> list[float]:
    finite: list[float] = values.filter(pc.is_finite(values)).to_pylist()
    return finite


def _flat(chunk: pa.Array) -> pa.Array:
    """The values inside lists and dictionaries."""
    while True:
        if pa.types.is_dictionary(chunk.type):
            chunk = chunk.dictionary
        elif pa.types.is_list(chunk.type) or pa.types.is_large_list(chunk.type):
            chunk = chunk.flatten()
        else:
            return chunk
