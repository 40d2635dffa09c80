"""Ads as columns: embeddings and attributes of many ads, and the filters over them. Immutable once built.

An ad is a JSON object with `embedding`, a list of floats, and attributes: text, booleans and numbers, or lists of
texts (an ad that may run in several countries). Axes: N ads, in the order of their keys; D dimensions.

A filter is an object; every member must hold:

    {"language": "de",                    equal (for a list attribute: contains)
     "country": ["DE", "AT"],             any of
     "budget_micros": {"gt": 0}}          greater than; also "ge", "lt", "le"

An ad that lacks an attribute never satisfies a condition on it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import reduce

import numpy as np
import numpy.typing as npt
import orjson

from adyton.auction.retrieval.errors import AdFilterError

FloatMatrix = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

EMBEDDING = "embedding"
Scalar = str | bool | float
Attribute = Scalar | tuple[str, ...]
MAX_CONDITIONS = 32
MAX_CHOICES = 1000


class Bound(Enum):
    """Comparisons with a number."""

    GREATER = "gt"
    AT_LEAST = "ge"
    LESS = "lt"
    AT_MOST = "le"


_COMPARE = {
    Bound.GREATER: np.greater,
    Bound.AT_LEAST: np.greater_equal,
    Bound.LESS: np.less,
    Bound.AT_MOST: np.less_equal,
}


@dataclass(frozen=True)
class AnyOf:
    """The attribute is one of `values` (one value: equality)."""

    attribute: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True)
class Compared:
    """The attribute is a number on the right side of `bound`."""

    attribute: str
    bound: Bound
    number: float


Condition = AnyOf | Compared


@dataclass(frozen=True)
class Ad:
    """One ad: its key in the store, its embedding float32[D] and its attributes. `text` is its JSON."""

    key: str
    embedding: npt.NDArray[np.float32]
    attributes: Mapping[str, Attribute]
    text: str


def parse_ad(key: str, text: str) -> Ad | None:
    """The ad in a JSON value, or None if the value is not a JSON object with a usable embedding."""
    if '"embedding"' not in text:
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict):
        return None
    floats = value.pop(EMBEDDING, None)
    if not isinstance(floats, list) or not floats or not all(type(x) in (int, float) for x in floats):
        return None
    with np.errstate(over="ignore"):
        embedding = np.array(floats, dtype=np.float32)
    if not np.isfinite(embedding).all():
        return None
    return Ad(
        key, embedding, {name: kept for name, found in value.items() if (kept := _attribute(found)) is not None}, text
    )


def parse_filter(value: object) -> tuple[Condition, ...]:
    """The conditions of a filter object (None: no conditions). Raises AdFilterError."""
    if value is None:
        return ()
    if not isinstance(value, dict) or len(value) > MAX_CONDITIONS:
        raise AdFilterError(f"a filter must be an object of at most {MAX_CONDITIONS} members")
    conditions: list[Condition] = []
    for position, (attribute, wanted) in enumerate(value.items()):
        where = f"filter member {position}"
        if isinstance(wanted, dict):
            for name, number in wanted.items():
                if name not in _BOUNDS or type(number) not in (int, float):
                    raise AdFilterError("a comparison must be gt, ge, lt or le with a number", where=where)
                conditions.append(Compared(attribute, Bound(name), float(number)))
        else:
            values = wanted if isinstance(wanted, list) else [wanted]
            if len(values) > MAX_CHOICES or not all(isinstance(one, str | bool | int | float) for one in values):
                raise AdFilterError("a filter value must be text, a number, a boolean or a list of these", where=where)
            conditions.append(AnyOf(attribute, tuple(_scalar(one) for one in values)))
    return tuple(conditions)


def satisfies(ad: Ad, conditions: Sequence[Condition]) -> bool:
    """The plain meaning of a filter, for one ad. The slow twin of `AdTable.mask`."""
    return all(_holds(ad.attributes.get(condition.attribute), condition) for condition in conditions)


class AdTable:
    """Many ads as columns.

    keys: list[N].   embeddings: float32[N, D].   texts: JSON of each ad.
    A categorical column is int32[N] codes, -1 where absent; lists are extra (row, code) pairs; numbers are float64[N],
    NaN where absent. One attribute may have all three.
    """

    def __init__(
        self,
        keys: Sequence[str],
        embeddings: FloatMatrix,
        attributes: Mapping[str, Sequence[Attribute | None]],
        texts: Sequence[str],
    ) -> None:
        self.keys = list(keys)
        self.embeddings = np.ascontiguousarray(embeddings, dtype=np.float32)
        self.texts = texts
        self._columns = {name: _Column(values) for name, values in attributes.items()}
        self._masks: dict[tuple[str, bool, Scalar], BoolArray] = {}

    @classmethod
    def of(cls, ads: Sequence[Ad]) -> AdTable:
        """The table of `ads` (all of one dimension, at least one), in the order of their keys."""
        ordered = sorted(ads, key=lambda ad: ad.key)
        names = sorted({name for ad in ordered for name in ad.attributes})
        return cls(
            [ad.key for ad in ordered],
            np.stack([ad.embedding for ad in ordered]),
            {name: [ad.attributes.get(name) for ad in ordered] for name in names},
            [ad.text for ad in ordered],
        )

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def dimensions(self) -> int:
        return int(self.embeddings.shape[1])

    def mask(self, conditions: Sequence[Condition]) -> BoolArray | None:
        """bool[N], True where all conditions hold; None when there are none. Masks of AnyOf values are kept."""
        if not conditions:
            return None
        return reduce(np.logical_and, (self._mask(condition) for condition in conditions))

    def codes(self, attribute: str) -> npt.NDArray[np.int32] | None:
        """int32[N] codes of a purely categorical single-valued attribute, or None."""
        column = self._columns.get(attribute)
        return None if column is None or column.has_lists or column.has_numbers else column.codes

    def code_of(self, attribute: str, value: Scalar) -> int:
        """The code of a value, -2 if no ad has it."""
        return self._columns[attribute].code_of(value)

    def _mask(self, condition: Condition) -> BoolArray:
        column = self._columns.get(condition.attribute)
        if column is None:
            return np.zeros(len(self), dtype=np.bool_)
        if isinstance(condition, Compared):
            return column.compared(condition)
        parts = [self._value_mask(column, condition.attribute, value) for value in condition.values]
        return reduce(np.logical_or, parts) if parts else np.zeros(len(self), dtype=np.bool_)

    def _value_mask(self, column: _Column, attribute: str, value: Scalar) -> BoolArray:
        # True and 1.0 are equal and hash alike in Python, but not here.
        key = (attribute, isinstance(value, bool), value)
        found = self._masks.get(key)
        if found is None:
            found = column.equal(value)
            if len(self._masks) < MAX_CHOICES:
                self._masks[key] = found
        return found


class _Column:
    def __init__(self, values: Sequence[Attribute | None]) -> None:
        self._dictionary: dict[tuple[bool, Scalar], int] = {}
        self.codes = np.full(len(values), -1, dtype=np.int32)
        numbers = np.full(len(values), np.nan)
        rows: list[int] = []
        list_codes: list[int] = []
        for row, value in enumerate(values):
            if isinstance(value, tuple):
                rows += [row] * len(value)
                list_codes += [self._encode(one) for one in value]
            elif isinstance(value, str | bool):
                self.codes[row] = self._encode(value)
            elif value is not None:
                numbers[row] = value
        self._numbers = numbers
        self.has_numbers = not np.isnan(numbers).all()
        self._rows = np.array(rows, dtype=np.int64)
        self._list_codes = np.array(list_codes, dtype=np.int32)
        self.has_lists = bool(rows)

    def code_of(self, value: Scalar) -> int:
        return self._dictionary.get((isinstance(value, bool), value), -2)

    def equal(self, value: Scalar) -> BoolArray:
        mask: BoolArray
        if isinstance(value, float):
            mask = np.equal(self._numbers, value)
            return mask
        code = self.code_of(value)
        mask = np.equal(self.codes, code)
        if self.has_lists:
            mask[self._rows[self._list_codes == code]] = True
        return mask

    def compared(self, condition: Compared) -> BoolArray:
        # Comparisons with NaN, the mark of an absent number, are False.
        mask: BoolArray = _COMPARE[condition.bound](self._numbers, condition.number)
        return mask

    def _encode(self, value: str | bool) -> int:
        return self._dictionary.setdefault((isinstance(value, bool), value), len(self._dictionary))


_BOUNDS = frozenset(bound.value for bound in Bound)


def _scalar(value: str | bool | float) -> Scalar:
    return value if isinstance(value, str | bool) else float(value)


def _attribute(value: object) -> Attribute | None:
    if isinstance(value, str | bool):
        return value
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    return None


def _holds(value: Attribute | None, condition: Condition) -> bool:
    if value is None:
        return False
    if isinstance(condition, AnyOf):
        if isinstance(value, tuple):
            return any(isinstance(one, str) and one in value for one in condition.values)
        return any(type(one) is type(value) and one == value for one in condition.values)
    if not isinstance(value, float):
        return False
    return {
        Bound.GREATER: value > condition.number,
        Bound.AT_LEAST: value >= condition.number,
        Bound.LESS: value < condition.number,
        Bound.AT_MOST: value <= condition.number,
    }[condition.bound]
