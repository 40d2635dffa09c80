"""Two or more tables as aligned arrays, so that they can be compared column by column.

Categories share one vocabulary, numbers stay numbers, the elements of a list become one category (its first element and
its length). `B` rows, `F` columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from adyton.learning.errors import TableError
from adyton.learning.schema import Column, Kind, Role, TableSchema
from adyton.learning.synth.codes import combined, floats, milliseconds

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

COMPARED_ROLES = frozenset({Role.LABEL, Role.TIME, Role.ITEM_ID, Role.USER, Role.AD, Role.CONTEXT, Role.SEQUENCE})
QUANTILE_BINS = 20


@dataclass(frozen=True)
class ComparedColumn:
    """One column of several tables.

    categories: int64[B] for each table, one shared vocabulary 0..size-1 (None for numbers).
    numbers: float64[B] for each table, nulls as NaN (None for categories).
    """

    name: str
    role: Role
    size: int
    categories: tuple[Ints, ...] | None
    numbers: tuple[Floats, ...] | None

    def binned(self, edges: Floats | None = None) -> tuple[tuple[Ints, ...], int]:
        """(int64[B] for each table, number of codes); numbers are cut at `edges`, nulls get a code of their own."""
        if self.categories is not None:
            return self.categories, self.size
        assert self.numbers is not None, "a column is one or the other"
        if edges is None:
            edges = quantile_edges(self.numbers[0])
        null = edges.size + 1
        return tuple(np.where(np.isnan(n), null, np.digitize(n, edges)) for n in self.numbers), null + 1


def compared(tables: Sequence[pa.Table], schema: TableSchema) -> tuple[ComparedColumn, ...]:
    """The columns of `tables` that may be compared; user ids, outcomes and ignored columns are left out.

    Raises TableError if a table lacks a column or is empty.
    """
    for table in tables:
        if not table.num_rows:
            raise TableError("an empty table cannot be compared")
    columns = [c for c in schema.columns if c.role in COMPARED_ROLES]
    for column in columns:
        for number, table in enumerate(tables):
            if column.name not in table.column_names:
                raise TableError(f"column {column.name!r} is missing", where=f"table {number}")
    return tuple(_column([table.column(c.name) for table in tables], c) for c in columns)


def code_matrices(columns: Sequence[ComparedColumn]) -> tuple[Ints, ...]:
    """int64[B, F] for each table, numbers in quantile bins of the first table."""
    binned = [column.binned()[0] for column in columns]
    return tuple(np.column_stack(codes) for codes in zip(*binned, strict=True))


def quantile_edges(numbers: Floats, bins: int = QUANTILE_BINS) -> Floats:
    """Inner edges of up to `bins` bins of like mass: float64[<= bins - 1]."""
    known = numbers[~np.isnan(numbers)]
    return np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)[1:-1])) if known.size else np.zeros(0)


def _column(data: list[pa.ChunkedArray], column: Column) -> ComparedColumn:
    match column.kind:
        case Kind.NUMBER:
            return ComparedColumn(column.name, column.role, 0, None, tuple(floats(d) for d in data))
        case Kind.TIMESTAMP:
            numbers = tuple(milliseconds(d).astype(float) for d in data)
            return ComparedColumn(column.name, column.role, 0, None, numbers)
        case Kind.LIST:
            texts = [_list_text(combined(d)) for d in data]
        case Kind.CATEGORY | Kind.BINARY:
            texts = [combined(d).cast(pa.string()) for d in data]
    encoded = pa.concat_arrays(texts).dictionary_encode(null_encoding="encode")
    indices = np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.int64)
    categories = tuple(np.split(indices, np.cumsum([len(text) for text in texts])[:-1]))
    return ComparedColumn(column.name, column.role, len(encoded.dictionary), categories, None)


def _list_text(array: pa.Array) -> pa.Array:
    lengths = pc.min_element_wise(pc.fill_null(pc.list_value_length(array), 0), 3).cast(pa.string())
    first = pc.list_element(pc.if_else(pc.equal(lengths, "0"), None, array), 0) if len(array) else lengths
    return pc.binary_join_element_wise(pc.fill_null(first.cast(pa.string()), ""), lengths, "/")
