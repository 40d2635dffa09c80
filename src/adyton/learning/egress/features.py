"""What could leave in a payload: coded user features, beside the fields that the server knows anyway.

A payload holds unsigned integers of fixed width; so every user feature is first coded into 0 .. 2^bits - 1. Item and
context fields are free: the server has them in its own logs.

`B` rows, `F` fields.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from adyton.learning.egress.errors import EgressInputError
from adyton.learning.schema import Column, Kind, Role, TableSchema

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NUMBER_BITS = 4
_FREE_ROLES = (Role.ITEM_ID, Role.AD, Role.CONTEXT)
_FREE_CODES = 1 << 14
"""Free fields keep this many frequent values; the rest share code 0."""


@dataclass(frozen=True)
class Coding:
    """How a raw value becomes a code: by its place in `values`, or by the number of `edges` at or below it plus one.

    values: of a category, text by falling frequency, None for null; a value outside has code 0.   edges: of a number,
    ascending; null has code 0.
    """

    values: tuple[str | None, ...] | None = None
    edges: tuple[float, ...] | None = None

    def as_json(self) -> dict[str, object]:
        return {"values": list(self.values)} if self.values is not None else {"edges": list(self.edges or ())}


@dataclass(frozen=True)
class UserFeature:
    """One feature of a payload.   bits: width, 1..32.   codes: int64[B], each in [0, 2^bits).

    coding: how raw values became codes, where the feature is a column of a table.
    """

    name: str
    bits: int
    codes: Ints
    coding: Coding | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 32:
            raise EgressInputError("a feature takes 1 to 32 bits", where=self.name)
        if self.codes.size and not (self.codes.min() >= 0 and self.codes.max() < 1 << self.bits):
            raise EgressInputError(f"a code does not fit into {self.bits} bits", where=self.name)

    @property
    def size(self) -> int:
        """How many codes there can be."""
        return 1 << self.bits


@dataclass(frozen=True)
class EgressData:
    """Impressions of the experiment.

    free: int64[B, F], free_sizes: number of codes of each.   labels: int64[B] of 0 and 1.   is_test: bool[B], the later
    rows on which models are compared; all others train.
    """

    user_features: tuple[UserFeature, ...]
    free: Ints
    free_sizes: tuple[int, ...]
    labels: Ints
    is_test: Bools

    def __post_init__(self) -> None:
        n = self.labels.size
        if self.free.shape != (n, len(self.free_sizes)) or self.is_test.shape != (n,):
            raise EgressInputError("free fields, labels and split must describe the same rows")
        if any(feature.codes.shape != (n,) for feature in self.user_features):
            raise EgressInputError("every user feature must have one code for each row")
        if len({feature.name for feature in self.user_features}) != len(self.user_features):
            raise EgressInputError("two user features have the same name")
        for side, name in ((self.is_test, "test"), (~self.is_test, "training")):
            if np.unique(self.labels[side]).size < 2:
                raise EgressInputError(f"the {name} rows need both clicks and non-clicks")

    @property
    def bits(self) -> int:
        """Bits of a payload with all features."""
        return sum(feature.bits for feature in self.user_features)

    def chosen(self, names: Iterable[str]) -> tuple[UserFeature, ...]:
        """The features called `names`, in that order.   Raises EgressInputError for an unknown name."""
        by_name = {feature.name: feature for feature in self.user_features}
        try:
            return tuple(by_name[name] for name in names)
        except KeyError as error:
            raise EgressInputError(f"no user feature is called {error.args[0]!r}") from None

    def noised(self, share: float, rng: np.random.Generator) -> EgressData:
        """The same impressions as the collector sees them: a `share` of *training* payloads replaced by random codes.

        In a chosen payload every feature is replaced (protected-auction §11.6). Test rows stay as they are: the auction
        serves with the true features, only what is reported is noised.
        """
        if not 0 <= share <= 1:
            raise EgressInputError("the share of noised payloads lies between 0 and 1")
        hit = (rng.random(self.labels.size) < share) & ~self.is_test
        features = tuple(
            replace(f, codes=np.where(hit, rng.integers(0, f.size, f.codes.size), f.codes)) for f in self.user_features
        )
        return replace(self, user_features=features)


def egress_data(
    table: pa.Table, schema: TableSchema, is_test: Bools, *, user_features: Iterable[str] | None = None
) -> EgressData:
    """Code a table for the experiment; every code is learned from the training rows only.

    user_features: names of the columns that could be sent, all columns with role USER if None. Categories get
    ceil(log2(values)) bits, null counting as a value and code 0 standing for the most frequent one and for values that
    training rows lack; numbers get 4 bits of quantiles.   is_test: bool[B].
    Raises EgressInputError for columns that cannot be coded, SchemaError for unknown names.
    """
    schema.check(table)
    names = [c.name for c in schema.with_role(Role.USER)] if user_features is None else list(user_features)
    if not names:
        raise EgressInputError("the schema has no user column that could be sent")
    features = []
    for column in (schema.column(name) for name in names):
        codes, size, coding = _coded(table.column(column.name), column, ~is_test)
        features.append(UserFeature(column.name, max(1, (size - 1).bit_length()), codes, coding))
    free = [
        _coded(table.column(c.name), c, ~is_test, most=_FREE_CODES, unknown_apart=True)[:2]
        for c in schema.with_role(*_FREE_ROLES)
        if c.name not in names and c.kind is not Kind.LIST
    ]
    clicked = table.column(schema.label.name).cast(pa.int64())
    if not set(clicked.unique().to_pylist()) <= {0, 1}:
        raise EgressInputError("labels must be 0 or 1", where=schema.label.name)
    labels = np.asarray(clicked.to_numpy(), np.int64)
    matrix = np.column_stack([codes for codes, _ in free]) if free else np.zeros((labels.size, 0), np.int64)
    return EgressData(tuple(features), matrix, tuple(size for _, size in free), labels, np.asarray(is_test, bool))


def _coded(
    data: pa.ChunkedArray, column: Column, train: Bools, *, most: int | None = None, unknown_apart: bool = False
) -> tuple[Ints, int, Coding]:
    """(int64[B], number of codes, coding): by falling frequency in the training rows, at most `most` of them.

    unknown_apart: code 0 is kept for values that training rows lack; otherwise they share the most frequent code.
    """
    if column.kind is Kind.NUMBER:
        return _quantile_codes(data, train)
    if column.kind not in (Kind.CATEGORY, Kind.BINARY):
        raise EgressInputError(f"a {column.kind.value} cannot be one feature of a payload", where=column.name)
    array = data.combine_chunks()
    array = array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array
    encoded = array.dictionary_encode(null_encoding="encode")
    index = np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.int64)
    counts = np.bincount(index[train], minlength=len(encoded.dictionary))
    known = np.flatnonzero(counts > 0)
    frequent = known[np.argsort(-counts[known], kind="stable")][: most and most - 1]
    lookup = np.zeros(len(encoded.dictionary), np.int64)
    lookup[frequent] = np.arange(frequent.size) + unknown_apart
    texts = encoded.dictionary.take(pa.array(frequent)).to_pylist()
    coding = Coding(values=tuple(None if text is None else str(text) for text in texts))
    return lookup[index], frequent.size + unknown_apart, coding


def _quantile_codes(data: pa.ChunkedArray, train: Bools) -> tuple[Ints, int, Coding]:
    numbers = data.cast(pa.float64()).to_numpy()
    known = numbers[train & ~np.isnan(numbers)]
    bins = (1 << NUMBER_BITS) - 1
    edges = np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)[1:-1])) if known.size else np.zeros(0)
    codes = np.where(np.isnan(numbers), 0, np.digitize(numbers, edges) + 1).astype(np.int64)
    return codes, 1 << NUMBER_BITS, Coding(edges=tuple(edges.tolist()))
