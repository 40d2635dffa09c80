"""From columns to vocabulary indices, in a form that an outside program can repeat.

A `FieldSpec` says how one column becomes `slots` small integers; index 0 always means unknown, missing or padding.

    category   index = position in `values` + 1, compared as decimal or plain text; anything else is 0
    number     index = 1 + number of `edges` that are <= the number; missing is 0
    list       the newest `slots` elements, each as a category; shorter lists are padded with 0

The JSON form goes into the model's manifest: a device or a UDF that holds a raw user record can compute the
same indices with nothing else (`encode_record` is that computation in a few lines of Python).
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from adyton.learning.errors import ModelError, TableError
from adyton.learning.schema import Column, Kind, Role

Indices = NDArray[np.int64]
Places = NDArray[np.int32]
Apply = Callable[..., Iterable[Any]]
"""`map`, or what calls as it does."""


class Side(Enum):
    """The three parts that a score splits into."""

    USER = "user"
    AD = "ad"
    CONTEXT = "context"


SIDE_OF_ROLE: Mapping[Role, Side] = {
    Role.USER_ID: Side.USER,
    Role.USER: Side.USER,
    Role.SEQUENCE: Side.USER,
    Role.ITEM_ID: Side.AD,
    Role.AD: Side.AD,
    Role.CONTEXT: Side.CONTEXT,
}


@dataclass(frozen=True)
class FieldSpec:
    """One field: how a column is encoded.   values: sorted texts (category, list).   edges: ascending (number)."""

    name: str
    side: Side
    kind: Kind
    values: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    slots: int = 1

    def __post_init__(self) -> None:
        if self.kind not in (Kind.CATEGORY, Kind.NUMBER, Kind.LIST, Kind.BINARY):
            raise ModelError(f"a {self.kind.value} cannot be a field", where=self.name)
        if list(self.edges) != sorted(set(self.edges)):
            raise ModelError("bucket edges must ascend", where=self.name)

    @property
    def size(self) -> int:
        """Number of indices, 0 included."""
        return 1 + (len(self.edges) + 1 if self.kind is Kind.NUMBER else len(self.values))

    def encode(self, column: pa.ChunkedArray | pa.Array) -> Indices:
        """Indices int64[B, slots] of a column.   Raises TableError when its type does not fit the field."""
        return self.codes(column).astype(np.int64)

    def codes(self, column: pa.ChunkedArray | pa.Array) -> Places:
        """`encode` in half the memory, int32[B, slots].   Raises TableError when its type does not fit the field."""
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        if pa.types.is_dictionary(array.type) and self.kind in (Kind.NUMBER, Kind.LIST):
            array = array.dictionary_decode()
        try:
            if self.kind is Kind.NUMBER:
                return self._encode_numbers(array)
            if self.kind is Kind.LIST:
                return self._encode_lists(array)
            return self._encode_texts(array)[:, None]
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
            raise TableError(f"{array.type} does not hold a {self.kind.value}", where=self.name) from None

    def encode_value(self, value: Any) -> list[int]:
        """Indices of one raw value: the same as `encode`, in plain Python, as an outside program would do it."""
        if value is None:
            return [0] * self.slots
        if self.kind is Kind.NUMBER:
            return [1 + bisect.bisect_right(self.edges, float(value)) if value == value else 0]
        if self.kind is Kind.LIST:
            newest = list(value)[-self.slots :]
            return [self._position(v) for v in newest] + [0] * (self.slots - len(newest))
        return [self._position(value)]

    def as_json(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"name": self.name, "kind": self.kind.value, "slots": self.slots, "size": self.size}
        if self.kind is Kind.NUMBER:
            entry["edges"] = list(self.edges)
        else:
            entry["values"] = list(self.values)
        return entry

    @classmethod
    def from_json(cls, side: Side, entry: Mapping[str, Any]) -> FieldSpec:
        return cls(
            name=str(entry["name"]),
            side=side,
            kind=Kind(entry["kind"]),
            values=tuple(entry.get("values", ())),
            edges=tuple(float(edge) for edge in entry.get("edges", ())),
            slots=int(entry["slots"]),
        )

    def _position(self, value: Any) -> int:
        if value is None:
            return 0
        text = as_text(value)
        position = bisect.bisect_left(self.values, text)
        return position + 1 if position < len(self.values) and self.values[position] == text else 0

    def _encode_numbers(self, array: pa.Array) -> Places:
        numbers = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
        buckets = 1 + np.searchsorted(np.asarray(self.edges), numbers, side="right")
        return np.where(np.isnan(numbers), 0, buckets).astype(np.int32)[:, None]

    def _encode_texts(self, array: pa.Array) -> Places:
        # Text is made of the distinct values only: most columns have few.
        coded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
        positions = pc.index_in(_texts(coded.dictionary), self._vocabulary)
        lookup = np.zeros(len(coded.dictionary) + 1, np.int32)
        lookup[:-1] = pc.fill_null(pc.add(positions, 1), 0).to_numpy(zero_copy_only=False)
        codes = coded.indices
        if codes.null_count:
            codes = pc.fill_null(codes.cast(pa.int64()), len(coded.dictionary))
        result: Places = lookup[codes.to_numpy(zero_copy_only=False)]
        return result

    @cached_property
    def _vocabulary(self) -> pa.Array:
        return pa.array(self.values, pa.string())

    def _encode_lists(self, array: pa.Array) -> Places:
        if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
            raise TableError(f"{array.type} does not hold a list", where=self.name)
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        flat = self._encode_texts(array.flatten())
        ends = np.cumsum(lengths)
        kept = np.minimum(lengths, self.slots)
        result = np.zeros((len(array), self.slots), np.int32)
        slot = np.arange(self.slots)[None, :]
        used = slot < kept[:, None]
        result[used] = flat[((ends - kept)[:, None] + slot)[used]]
        return result


@dataclass(frozen=True)
class FieldEncoder:
    """The fields of all three sides, fixed when a model is trained."""

    fields: tuple[FieldSpec, ...]

    def of(self, side: Side) -> tuple[FieldSpec, ...]:
        return tuple(field for field in self.fields if field.side is side)

    def width(self, side: Side) -> int:
        """Number of index columns of a side: the sum of its fields' slots."""
        return sum(field.slots for field in self.of(side))

    def encode(self, table: pa.Table, side: Side) -> Indices:
        """Indices int64[B, width(side)], fields in order.   Raises TableError for a missing or unfit column."""
        return np.ascontiguousarray(self.columns(table, side).T, np.int64)

    def columns(self, table: pa.Table, side: Side, apply: Apply = map) -> Places:
        """Like `encode`, but column by column: int32[width(side), B].

        apply: `map`, or a pool's, which encodes several fields at once.   Raises TableError.
        """
        fields = self.of(side)
        for field in fields:
            if field.name not in table.column_names:
                raise TableError(
                    f"column {field.name!r} is missing", hint=f"the model needs it on the {side.value} side"
                )
        columns = np.empty((self.width(side), table.num_rows), np.int32)
        ends = accumulate(field.slots for field in fields)

        def fill(field: FieldSpec, end: int) -> None:
            columns[end - field.slots : end] = field.codes(table[field.name]).T

        list(apply(fill, fields, ends))
        return columns

    def encode_record(self, record: Mapping[str, Any], side: Side) -> list[int]:
        """Indices of one raw record; absent keys are unknown."""
        return [index for field in self.of(side) for index in field.encode_value(record.get(field.name))]

    def as_json(self) -> dict[str, list[dict[str, Any]]]:
        return {side.value: [field.as_json() for field in self.of(side)] for side in Side}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FieldEncoder:
        return cls(tuple(FieldSpec.from_json(side, entry) for side in Side for entry in value[side.value]))


def fit_fields(
    table: pa.Table, columns: Sequence[Column], *, min_count: int, number_buckets: int, list_slots: int
) -> FieldEncoder:
    """Vocabularies and bucket edges from training rows only.

    min_count: values in fewer rows are left to index 0.   number_buckets: quantile buckets, fewer where values repeat.
    Raises ModelError when a column has no side.
    """
    fields = []
    for column in columns:
        if column.role not in SIDE_OF_ROLE:
            raise ModelError(f"a column with role {column.role.value} cannot be a field", where=column.name)
        side, data = SIDE_OF_ROLE[column.role], table[column.name]
        match column.kind:
            case Kind.NUMBER:
                fields.append(FieldSpec(column.name, side, Kind.NUMBER, edges=_quantile_edges(data, number_buckets)))
            case Kind.LIST:
                values = _frequent_texts(data.combine_chunks().flatten(), min_count)
                fields.append(FieldSpec(column.name, side, Kind.LIST, values=values, slots=list_slots))
            case _:
                values = _frequent_texts(data.combine_chunks(), min_count)
                fields.append(FieldSpec(column.name, side, Kind.CATEGORY, values=values))
    return FieldEncoder(tuple(sorted(fields, key=lambda field: list(Side).index(field.side))))


def as_text(value: Any) -> str:
    """The text under which a category stands in a vocabulary: whole floats and booleans read as integers."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _texts(array: pa.Array) -> pa.Array:
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int8())
    elif pa.types.is_floating(array.type):
        return pa.array([None if v is None or v != v else as_text(v) for v in array.to_pylist()], pa.string())
    return array.cast(pa.string())


def _frequent_texts(array: pa.Array, min_count: int) -> tuple[str, ...]:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    counts = array.drop_null().value_counts()
    frequent = counts.field("values").filter(pc.greater_equal(counts.field("counts"), min_count))
    return tuple(sorted(text for text in _texts(frequent).to_pylist() if text is not None))


def _quantile_edges(column: pa.ChunkedArray, buckets: int) -> tuple[float, ...]:
    numbers = column.cast(pa.float64()).drop_null().to_numpy()
    numbers = numbers[np.isfinite(numbers)]
    if len(numbers) == 0:
        return ()
    # "lower" keeps edges at values that occur, so that a repeated value such as 0 gets a bucket of its own.
    edges = np.unique(np.quantile(numbers, np.arange(1, buckets) / buckets, method="lower"))
    return tuple(float(edge) for edge in edges if edge > numbers.min())
