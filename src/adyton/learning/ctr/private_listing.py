"""Which ads and contexts a privately trained model lists: combinations of values that enough users share.

An exported model holds a vector for each ad and each context. Taken from the table, that list would tell what a single
user saw. So a combination (an ad's id with all its fields, or all fields of a context), as the model encodes them, is
one value that has to be found by noisy counts of users like any other (`synth.domains`). What is not listed scores as
the row `unknown`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from adyton.learning.ctr.fields import FieldEncoder, FieldSpec, Side, as_text
from adyton.learning.schema import Kind
from adyton.learning.synth.domains import Finder

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Listing:
    """Tables for `artifact.export`: `items` has one row per ad with its id and fields, `contexts` one per context.

    A number stands for its bucket: it is the bucket's lower edge.
    """

    items: pa.Table
    contexts: pa.Table


def released_listing(table: pa.Table, item_id: str, encoder: FieldEncoder, finder: Finder) -> Listing:
    """The ads and contexts of the bounded `table` that may be known; charges `finder` twice."""
    return Listing(_items(table, item_id, encoder, finder), _contexts(table, encoder, finder))


def _items(table: pa.Table, item_id: str, encoder: FieldEncoder, finder: Finder) -> pa.Table:
    ids = table[item_id].combine_chunks()
    ids = (ids.dictionary_decode() if pa.types.is_dictionary(ids.type) else ids).dictionary_encode()
    texts = [None if value is None else as_text(value) for value in ids.dictionary.to_pylist()]
    place = ids.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    codes = np.column_stack([place, encoder.encode(table, Side.AD)])
    kept = _released(codes, np.flatnonzero(place >= 0), finder, "ads that are listed")
    # An id with several sets of fields is listed once, with the one that the model knows most of.
    known = np.lexsort((-(kept[:, 1:] > 0).sum(axis=1), kept[:, 0]))
    kept = kept[known]
    kept = kept[np.unique(kept[:, 0], return_index=True)[1]]
    columns = {field.name: _values(field, kept[:, 1 + position]) for position, field in enumerate(encoder.of(Side.AD))}
    columns[item_id] = pa.array([texts[position] for position in kept[:, 0].tolist()], pa.string())
    return pa.table(columns)


def _contexts(table: pa.Table, encoder: FieldEncoder, finder: Finder) -> pa.Table:
    codes = encoder.encode(table, Side.CONTEXT)
    if codes.shape[1] == 0:
        # Without context fields there is one context, which everybody knows.
        return pa.table({"row": pa.array([0])})
    kept = _released(codes, np.flatnonzero((codes > 0).any(axis=1)), finder, "contexts that are listed")
    return pa.table({field.name: _values(field, kept[:, i]) for i, field in enumerate(encoder.of(Side.CONTEXT))})


def _released(codes: Ints, rows: Ints, finder: Finder, purpose: str) -> Ints:
    """Distinct rows int64[R, F] of `codes[rows]` that may be known."""
    distinct, value = np.unique(codes[rows], axis=0, return_inverse=True)
    return distinct[finder.released(rows, value.ravel(), len(distinct), purpose)]


def _values(field: FieldSpec, codes: Ints) -> pa.Array:
    """A value of each index: what the field encodes to that index again."""
    if field.kind is Kind.NUMBER:
        lower = np.array([np.nan, -np.inf, *field.edges])
        return pa.array(lower[codes], pa.float64())
    return pa.array([None if code == 0 else field.values[code - 1] for code in codes.tolist()], pa.string())
