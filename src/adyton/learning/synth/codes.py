"""Columns as small integers and back.

Each column becomes one or more *parts*, integer codes 0..K-1: a category one part, a number one part of bins, a
timestamp a day and an hour, a list its first elements. `B` rows, `P` parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from adyton.learning.schema import Column, Kind
from adyton.learning.synth.domains import Edges, Finder, PublicDomain, Span, Value, Values
from adyton.learning.synth.errors import SynthesisInputError
from adyton.learning.synth.noise import Ints

Floats = npt.NDArray[np.float64]

LIST_ELEMENTS = 3
"""How many elements of a list are kept; later ones are cut off."""
NUMBER_BINS = 24
_CELLS_PER_OCTAVE = 4
_SPAN_CELLS = 64
_MS_PER_HOUR, _MS_PER_DAY = 3_600_000, 86_400_000
_MOST_DAYS, _LAST_MS = 100_000, 1 << 53
_OCTAVE_OFFSET = 1100
"""Larger than any exponent of a float64, so that the octaves of positive numbers are positive and ascend."""
_NULL_OCTAVE = 1 << 20
_NULL_DAY = 1 << 40


class ColumnCode(Protocol):
    """Codes of one column."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many codes each part has, at least 1."""
        ...

    def encode(self, column: pa.ChunkedArray) -> Ints:
        """int64[B, parts]."""
        ...

    def decode(self, codes: Ints, rng: np.random.Generator) -> pa.Array:
        """An Arrow array of B values of the column's own type."""
        ...


def code_for(column: Column, data: pa.ChunkedArray, public: PublicDomain | None, finder: Finder | None) -> ColumnCode:
    """The coding of one column, its domain public or found by `finder` on the bounded rows `data`."""
    arrow_type = _plain(data.type)
    match column.kind:
        case Kind.BINARY:
            return CategoryCode((0, 1), pa.int8() if pa.types.is_boolean(arrow_type) else arrow_type)
        case Kind.CATEGORY:
            return _category(column, data, public, finder)
        case Kind.NUMBER:
            return _number(column, data, public, finder)
        case Kind.TIMESTAMP:
            return _timestamp(column, data, public, finder)
        case Kind.LIST:
            return _list(column, data, public, finder)


def check_domain(column: Column, arrow_type: pa.DataType, public: PublicDomain | None) -> None:
    """Check, before anything is drawn or paid, that a public domain is one of the column's kind and type.

    Raises SynthesisInputError.
    """
    if public is None or column.kind is Kind.BINARY:
        return
    takes, words = _DOMAINS[column.kind]
    if not isinstance(public, takes):
        raise SynthesisInputError(words, where=column.name)
    if isinstance(public, Values):
        plain = _plain(arrow_type)
        try:
            pa.array(public.values, type=plain.value_type if column.kind is Kind.LIST else plain)
        except (pa.ArrowException, TypeError, OverflowError):
            raise SynthesisInputError(f"a public value is no {plain}", where=column.name) from None
    elif column.kind is Kind.TIMESTAMP and isinstance(public, Span):
        days = (public.high - public.low) / _MS_PER_DAY
        if days > _MOST_DAYS or max(abs(public.low), abs(public.high)) > _LAST_MS:
            raise SynthesisInputError(
                f"a public span of time has at most {_MOST_DAYS} days",
                where=column.name,
                hint="spans of time are in milliseconds since 1970",
            )


_DOMAINS: Mapping[Kind, tuple[tuple[type, ...], str]] = {
    Kind.CATEGORY: ((Values,), "a category takes a public list of values"),
    Kind.LIST: ((Values,), "a list takes a public list of values"),
    Kind.NUMBER: ((Edges, Span), "a number takes public edges or a span"),
    Kind.TIMESTAMP: ((Span,), "a timestamp takes a public span in milliseconds"),
}


def needs_finding(column: Column, public: PublicDomain | None) -> bool:
    """True when coding the column costs privacy budget."""
    if column.kind is Kind.BINARY:
        return False
    return public is None or (isinstance(public, Span) and column.kind is Kind.NUMBER)


@dataclass(frozen=True)
class CategoryCode:
    """One code for each value; None, if present, is last and also stands for what was not released."""

    values: tuple[Value, ...]
    arrow_type: pa.DataType

    @property
    def sizes(self) -> tuple[int, ...]:
        return (len(self.values),)

    def encode(self, column: pa.ChunkedArray) -> Ints:
        return _indices(column, self.values)[:, None]

    def decode(self, codes: Ints, rng: np.random.Generator) -> pa.Array:  # noqa: ARG002 - the protocol's signature
        values = pa.array(list(self.values), type=self.arrow_type)
        return values.take(pa.array(codes[:, 0]))


@dataclass(frozen=True)
class NumberCode:
    """Bins made of cells: bin b holds cells with `bin_of_cell == b`; cell c is [lows[c], highs[c]).

    weights: noisy mass of each cell, used to place values inside a bin.   has_null: the last code is null.
    """

    lows: Floats
    highs: Floats
    weights: Floats
    bin_of_cell: Ints
    has_null: bool
    arrow_type: pa.DataType

    @property
    def sizes(self) -> tuple[int, ...]:
        bins = int(self.bin_of_cell.max()) + 1 if self.bin_of_cell.size else 0
        return (max(1, bins + self.has_null),)

    def encode(self, column: pa.ChunkedArray) -> Ints:
        numbers = floats(column)
        if not self.lows.size:
            return np.zeros((numbers.size, 1), np.int64)
        null = np.isnan(numbers)
        cell = np.searchsorted(self.lows, np.where(null, self.lows[0], numbers), side="right") - 1
        cell = np.clip(cell, 0, self.lows.size - 1)
        after = np.minimum(cell + 1, self.lows.size - 1)
        gap_below = numbers - self.highs[cell]
        nearer_above = (gap_below > 0) & (self.lows[after] - numbers < gap_below)
        codes = self.bin_of_cell[np.where(nearer_above, after, cell)]
        if self.has_null:
            codes = np.where(null, self.sizes[0] - 1, codes)
        return codes[:, None]

    def decode(self, codes: Ints, rng: np.random.Generator) -> pa.Array:
        n = codes.shape[0]
        numbers, null = np.zeros(n), np.zeros(n, bool)
        integer = pa.types.is_integer(self.arrow_type)
        for code in range(self.sizes[0]):
            rows = np.flatnonzero(codes[:, 0] == code)
            cells = np.flatnonzero(self.bin_of_cell == code)
            if not cells.size:
                null[rows] = True
                continue
            weights = self.weights[cells]
            chosen = rng.choice(cells, size=rows.size, p=weights / weights.sum())
            low, high = self.lows[chosen], self.highs[chosen]
            if integer:
                low, high = np.ceil(low), np.maximum(np.ceil(high), np.ceil(low) + 1)
                numbers[rows] = np.floor(low + rng.random(rows.size) * (high - low))
            else:
                numbers[rows] = low + rng.random(rows.size) * (high - low)
        plain = numbers.astype(np.int64) if integer else numbers
        return pa.array(plain, mask=null).cast(self.arrow_type, safe=False)


@dataclass(frozen=True)
class TimestampCode:
    """A day since the epoch and an hour of the day (UTC).   has_null: the last code of the day is null."""

    days: Ints
    arrow_type: pa.DataType
    has_null: bool = False

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.days.size + self.has_null, 24)

    def encode(self, column: pa.ChunkedArray) -> Ints:
        at_ms = milliseconds(column)
        day = at_ms // _MS_PER_DAY
        after = np.clip(np.searchsorted(self.days, day), 0, self.days.size - 1)
        before = np.maximum(after - 1, 0)
        nearest = np.where(np.abs(self.days[before] - day) < np.abs(self.days[after] - day), before, after)
        if self.has_null:
            nearest = np.where(_is_null(column), self.days.size, nearest)
        return np.column_stack([nearest, at_ms // _MS_PER_HOUR % 24])

    def decode(self, codes: Ints, rng: np.random.Generator) -> pa.Array:
        null = codes[:, 0] == self.days.size
        day = self.days[np.minimum(codes[:, 0], self.days.size - 1)]
        at_ms = day * _MS_PER_DAY + codes[:, 1] * _MS_PER_HOUR + rng.integers(0, _MS_PER_HOUR, codes.shape[0])
        if pa.types.is_integer(self.arrow_type):
            return pa.array(at_ms, mask=null).cast(self.arrow_type)
        return pa.array(at_ms, pa.timestamp("ms"), mask=null).cast(self.arrow_type)


@dataclass(frozen=True)
class ListCode:
    """The first `LIST_ELEMENTS` elements; the last code of each part means absent, or not released."""

    values: tuple[Value, ...]
    arrow_type: pa.DataType

    @property
    def sizes(self) -> tuple[int, ...]:
        return (len(self.values) + 1,) * LIST_ELEMENTS

    def encode(self, column: pa.ChunkedArray) -> Ints:
        array = combined(column)
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        elements = _indices(pa.chunked_array([array.flatten()]), (*self.values, None))
        starts = np.cumsum(lengths) - lengths
        codes = np.full((lengths.size, LIST_ELEMENTS), len(self.values), np.int64)
        for position in range(LIST_ELEMENTS):
            rows = np.flatnonzero(lengths > position)
            codes[rows, position] = elements[starts[rows] + position]
        return codes

    def decode(self, codes: Ints, rng: np.random.Generator) -> pa.Array:  # noqa: ARG002 - the protocol's signature
        present = codes < len(self.values)
        offsets = np.r_[0, np.cumsum(present.sum(axis=1))]
        values = pa.array([*self.values, None], type=self.arrow_type.value_type)
        flat = values.take(pa.array(codes[present]))
        large = pa.types.is_large_list(self.arrow_type)
        made = (
            pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), flat)
            if large
            else pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)
        )
        return made.cast(self.arrow_type)


def _category(
    column: Column, data: pa.ChunkedArray, public: PublicDomain | None, finder: Finder | None
) -> CategoryCode:
    arrow_type = _plain(data.type)
    if isinstance(public, Values):
        return CategoryCode(public.values, arrow_type)
    array = combined(data)
    return CategoryCode((*_found_values(column, array, np.arange(len(array)), finder, 1), None), arrow_type)


def _list(column: Column, data: pa.ChunkedArray, public: PublicDomain | None, finder: Finder | None) -> ListCode:
    arrow_type = data.type
    if isinstance(public, Values):
        return ListCode(tuple(v for v in public.values if v is not None), arrow_type)
    # Only elements that can be kept are counted, so that a row's influence is bounded.
    first = pc.list_slice(combined(data), 0, LIST_ELEMENTS)
    row = pc.list_parent_indices(first).to_numpy(zero_copy_only=False).astype(np.int64)
    return ListCode(_found_values(column, first.flatten(), row, finder, LIST_ELEMENTS), arrow_type)


def _found_values(
    column: Column, elements: pa.Array, row: Ints, finder: Finder | None, elements_per_row: int
) -> tuple[Value, ...]:
    """Values that may be known.   elements: [E], nulls are left out.   row: int64[E], the row of each."""
    finder = _required(column, finder)
    encoded = elements.dictionary_encode()
    if elements.null_count:
        row = row[elements.is_valid().to_numpy(zero_copy_only=False)]
    indices = encoded.indices.drop_null().to_numpy(zero_copy_only=False).astype(np.int64)
    distinct = len(encoded.dictionary)
    kept = finder.released(row, indices, distinct, column.name, elements_per_row=elements_per_row)
    # Sorted, so that the order of release says nothing about the order of rows.
    return tuple(sorted(encoded.dictionary.take(pa.array(kept)).to_pylist(), key=lambda v: (str(type(v)), v)))


def _number(column: Column, data: pa.ChunkedArray, public: PublicDomain | None, finder: Finder | None) -> NumberCode:
    arrow_type = _plain(data.type)
    if isinstance(public, Edges):
        edges = np.asarray(public.edges, float)
        n = edges.size - 1
        return NumberCode(edges[:-1], edges[1:], np.ones(n), np.arange(n), public.nullable, arrow_type)
    finder = _required(column, finder)
    numbers = floats(data)
    is_known = np.isfinite(numbers)
    known = numbers[is_known]
    if isinstance(public, Span):
        edges = np.linspace(public.low, public.high, _SPAN_CELLS + 1)
        cell = np.clip(np.searchsorted(edges, known, side="right") - 1, 0, _SPAN_CELLS - 1)
        noisy = finder.noisy_cells(np.bincount(cell, minlength=_SPAN_CELLS).astype(np.int64), column.name)
        weights = np.maximum(noisy, 0.0) + 1e-6
        return NumberCode(edges[:-1], edges[1:], weights, _merged(weights), public.nullable, arrow_type)
    octaves, cell = _octave_cells(known)
    row = np.r_[np.flatnonzero(is_known), np.flatnonzero(~is_known)]
    nulls = numbers.size - known.size
    if nulls:  # one more group, so that whether nulls occur is itself found under DP
        octaves, cell = np.r_[octaves, np.full(nulls, _NULL_OCTAVE)], np.r_[cell, np.zeros(nulls, np.int64)]
    groups, group_of = np.unique(octaves, return_inverse=True)
    counts = np.bincount(group_of * _CELLS_PER_OCTAVE + cell, minlength=groups.size * _CELLS_PER_OCTAVE)
    counts = counts.reshape(-1, _CELLS_PER_OCTAVE).astype(np.int64)
    kept, noisy = finder.released_groups(row, group_of, counts, column.name)
    is_number = groups[kept] != _NULL_OCTAVE
    lows, highs, weights = _grid_cells(groups[kept][is_number], noisy[is_number])
    return NumberCode(lows, highs, weights, _merged(weights), not is_number.all(), arrow_type)


def _timestamp(
    column: Column, data: pa.ChunkedArray, public: PublicDomain | None, finder: Finder | None
) -> TimestampCode:
    if isinstance(public, Span):
        first, last = int(public.low) // _MS_PER_DAY, int(public.high - 1) // _MS_PER_DAY
        return TimestampCode(np.arange(first, last + 1), data.type, public.nullable)
    # Nulls are one more "day", so that whether they occur is itself found under DP.
    day_of_row = np.where(_is_null(data), _NULL_DAY, milliseconds(data) // _MS_PER_DAY)
    days, day = np.unique(day_of_row, return_inverse=True)
    kept = days[_required(column, finder).released(np.arange(day.size), day, days.size, column.name)]
    known = kept[kept != _NULL_DAY]
    if not known.size:
        raise SynthesisInputError(
            "too few rows on any day to release a date", where=column.name, hint="state a public span of days"
        )
    return TimestampCode(known, data.type, known.size < kept.size)


def _required(column: Column, finder: Finder | None) -> Finder:
    if finder is None:
        raise SynthesisInputError("the domain of a column is neither public nor budgeted for", where=column.name)
    return finder


def _merged(weights: Floats) -> Ints:
    """Neighbouring cells put into at most about `NUMBER_BINS` bins of like mass: int64[C], ascending from 0."""
    if not weights.size:
        return np.zeros(0, np.int64)
    middle = (np.cumsum(weights) - weights / 2) / weights.sum()
    return np.unique(np.floor(middle * NUMBER_BINS), return_inverse=True)[1].astype(np.int64)


def _octave_cells(numbers: Floats) -> tuple[Ints, Ints]:
    """(octave, cell 0..3 in it) of each number, on a grid that depends on nothing: int64[B] each.

    Octave +-(e + offset) holds numbers of that sign with magnitude in [2^e, 2^(e + 1)); zero has octave 0 to itself.
    """
    with np.errstate(divide="ignore"):
        quarter = np.floor(_CELLS_PER_OCTAVE * np.log2(np.abs(numbers)))
    quarter = np.where(numbers == 0, 0, np.maximum(quarter, -_CELLS_PER_OCTAVE * (_OCTAVE_OFFSET - 1))).astype(np.int64)
    octave, cell = quarter // _CELLS_PER_OCTAVE, quarter % _CELLS_PER_OCTAVE
    signed = np.sign(numbers).astype(np.int64) * (octave + _OCTAVE_OFFSET)
    return signed, cell


def _grid_cells(octaves: Ints, noisy: Ints) -> tuple[Floats, Floats, Floats]:
    """Lower bounds (included), upper bounds (excluded) and weights > 0 of the cells of `octaves`, ascending."""
    zero = octaves == 0
    quarter = (np.abs(octaves) - _OCTAVE_OFFSET)[:, None] * _CELLS_PER_OCTAVE + np.arange(_CELLS_PER_OCTAVE)
    # The last cell of a float64 ends beyond what it can hold.
    near, far = (np.exp2(np.minimum(q / _CELLS_PER_OCTAVE, 1023.99)) for q in (quarter, quarter + 1))
    negative = (octaves < 0)[:, None]
    lows, highs = np.where(negative, -far, near), np.where(negative, -near, far)
    weights = np.maximum(noisy.astype(float), 1e-3)
    lows, highs, weights = (array[~zero].ravel() for array in (lows, highs, weights))
    if zero.any():
        total = max(float(noisy[zero].sum()), 1e-3)
        lows, highs = np.r_[lows, 0.0], np.r_[highs, np.nextafter(0.0, 1.0)]
        weights = np.r_[weights, total]
    order = np.argsort(lows, kind="stable")
    return lows[order], highs[order], weights[order]


def _indices(column: pa.ChunkedArray, values: tuple[Value, ...]) -> Ints:
    """The position in `values` of each element: int64[B]; nulls and strangers get the last one."""
    encoded = combined(column).dictionary_encode()
    position: Mapping[Value, int] = {value: i for i, value in enumerate(values)}
    last = len(values) - 1
    lookup = np.array([position.get(value, last) for value in encoded.dictionary.to_pylist()] + [last], np.int64)
    indices = pc.fill_null(encoded.indices.cast(pa.int64()), len(lookup) - 1)
    return np.asarray(lookup[indices.to_numpy(zero_copy_only=False)], np.int64)


def combined(column: pa.ChunkedArray) -> pa.Array:
    """One Arrow array of the plain type, dictionaries decoded."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    return array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array


def _plain(arrow_type: pa.DataType) -> pa.DataType:
    return arrow_type.value_type if pa.types.is_dictionary(arrow_type) else arrow_type


def floats(column: pa.ChunkedArray) -> Floats:
    """float64[B], nulls as NaN; integers beyond 2^53 are rounded."""
    numbers: Floats = combined(column).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _is_null(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    return np.asarray(combined(column).is_null().to_numpy(zero_copy_only=False), bool)


def milliseconds(column: pa.ChunkedArray) -> Ints:
    """int64[B] milliseconds since the epoch; nulls as 0."""
    array = combined(column)
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.timestamp("ms"), safe=False)
    return np.asarray(pc.fill_null(array.cast(pa.int64()), 0).to_numpy(zero_copy_only=False), np.int64)
