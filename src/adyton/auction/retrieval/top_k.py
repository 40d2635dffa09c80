"""The k ads with the largest inner product with a query vector, among those that pass a filter.

Three engines with one meaning: `naive_top_k` (plain Python, the twin of tests), `ExactEngine` (numpy on slices
partitioned by attributes: the oracle and the default) and `ApproximateEngine` (faiss IVF-Flat with a bitmap of the
filter: part of the answer may be missing, what it returns is scored exactly). Ties are broken by key, ascending, so
exact engines agree; scores are float32 sums, whose last bits depend on the order of addition.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import faiss
import numpy as np
import numpy.typing as npt

from adyton.auction.retrieval.ad_table import (
    Ad,
    AdTable,
    AnyOf,
    BoolArray,
    Condition,
    FloatMatrix,
    IntArray,
    satisfies,
)

DEFAULT_PARTITIONS = ("country", "size")
_PROBES = 32
_TRAINING_ROWS_PER_LIST = 64
# Under about this many candidates, scoring all of them is faster than visiting lists, and exact.
_EXACT_BELOW = 20_000
_RECENT_FILTERS = 64
_Kept = TypeVar("_Kept")


@dataclass(frozen=True)
class Neighbours:
    """Rows of a table, int64[k], best first, with their inner products, float32[k]."""

    rows: IntArray
    scores: FloatMatrix


class TopKEngine(Protocol):
    """An index over one table."""

    table: AdTable

    def top_k(self, query: FloatMatrix, conditions: Sequence[Condition], k: int) -> Neighbours:
        """At most k rows. query: float32[D]; k >= 0."""
        ...


def naive_top_k(ads: Sequence[Ad], query: Sequence[float], conditions: Sequence[Condition], k: int) -> list[str]:
    """Keys of the k best ads, by definition."""
    scored = [
        (-sum(float(x) * float(q) for x, q in zip(ad.embedding, query, strict=True)), ad.key)
        for ad in ads
        if satisfies(ad, conditions)
    ]
    return [key for _, key in sorted(scored)[:k]]


class ExactEngine:
    """Rows sorted by the codes of the partition attributes, so that an equality filter on them is a slice."""

    def __init__(self, table: AdTable, partition_by: Sequence[str] = DEFAULT_PARTITIONS) -> None:
        self.table = table
        self._masks: _Recent[BoolArray] = _Recent()
        self._partition_by = [name for name in partition_by if table.codes(name) is not None]
        columns = [
            codes.astype(np.int64) + 1 for name in self._partition_by if (codes := table.codes(name)) is not None
        ]
        if not columns:
            self._order: IntArray = np.arange(len(table))
            self._slices: dict[tuple[int, ...], tuple[int, int]] = {}
            self._vectors = table.embeddings
            return
        self._order = np.lexsort(columns[::-1])
        sorted_codes = np.stack([column[self._order] - 1 for column in columns], axis=1)
        changes = np.flatnonzero(np.any(sorted_codes[1:] != sorted_codes[:-1], axis=1)) + 1
        edges = [0, *changes.tolist(), len(table)]
        self._slices = {
            tuple(sorted_codes[start].tolist()): (start, end) for start, end in itertools.pairwise(edges) if end > start
        }
        self._vectors = np.ascontiguousarray(table.embeddings[self._order])

    def top_k(self, query: FloatMatrix, conditions: Sequence[Condition], k: int) -> Neighbours:
        spans, remaining = self._spans(conditions)
        mask = self._sorted_mask(tuple(remaining))
        rows_parts: list[IntArray] = []
        score_parts: list[FloatMatrix] = []
        for start, end in spans:
            rows = self._order[start:end]
            if mask is None:
                scores = self._vectors[start:end] @ query
            else:
                kept = np.flatnonzero(mask[start:end])
                rows = rows[kept]
                # Gathering rows costs more than scoring the whole slice once about a third of it is wanted.
                if 3 * len(kept) > end - start:
                    scores = (self._vectors[start:end] @ query)[kept]
                else:
                    scores = self._vectors[start:end][kept] @ query
            best = _best(rows, scores, k)
            rows_parts.append(best.rows)
            score_parts.append(best.scores)
        if not rows_parts:
            return Neighbours(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
        return _best(np.concatenate(rows_parts), np.concatenate(score_parts), k)

    def _sorted_mask(self, conditions: tuple[Condition, ...]) -> BoolArray | None:
        """The filter in the order of `_vectors`; kept, since requests repeat their filters and tables never change."""
        if not conditions:
            return None
        found = self._masks.get(conditions)
        if found is None:
            mask = self.table.mask(conditions)
            assert mask is not None, "there is at least one condition"
            found = mask[self._order]
            self._masks.put(conditions, found)
        return found

    def _spans(self, conditions: Sequence[Condition]) -> tuple[list[tuple[int, int]], list[Condition]]:
        """Slices that can hold matches, and the conditions that slices do not settle."""
        wanted: dict[str, set[int]] = {}
        remaining: list[Condition] = []
        for condition in conditions:
            if isinstance(condition, AnyOf) and condition.attribute in self._partition_by:
                codes = {self.table.code_of(condition.attribute, value) for value in condition.values}
                wanted[condition.attribute] = wanted.get(condition.attribute, codes) & codes
            else:
                remaining.append(condition)
        if not wanted:
            return [(0, len(self.table))], remaining
        spans: list[tuple[int, int]] = []
        for codes_of_slice, (start, end) in self._slices.items():
            if all(
                codes_of_slice[position] in wanted[name]
                for position, name in enumerate(self._partition_by)
                if name in wanted
            ):
                if spans and spans[-1][1] == start:
                    spans[-1] = (spans[-1][0], end)
                else:
                    spans.append((start, end))
        return spans, remaining


class ApproximateEngine:
    """faiss IVF-Flat over the whole table; the filter is a bitmap that the search consults.

    n_probes: lists visited by a search, may be changed at any time; more find more and take longer.
    Falls back to `exact` when few ads pass the filter, where an inverted file would miss most of them.
    """

    def __init__(
        self, table: AdTable, exact: ExactEngine, *, n_lists: int | None = None, n_probes: int = _PROBES
    ) -> None:
        self.table = table
        self._exact = exact
        self.n_probes = n_probes
        self._bitmaps: _Recent[_Allowed] = _Recent()
        n_lists = n_lists or max(1, min(4096, int(np.sqrt(len(table)))))
        quantizer = faiss.IndexFlatIP(table.dimensions)
        self._index = faiss.IndexIVFFlat(quantizer, table.dimensions, n_lists, faiss.METRIC_INNER_PRODUCT)
        self._index.cp.seed = 1
        step = max(1, len(table) // (n_lists * _TRAINING_ROWS_PER_LIST))
        self._index.train(table.embeddings[::step])
        self._index.add(table.embeddings)

    def top_k(self, query: FloatMatrix, conditions: Sequence[Condition], k: int) -> Neighbours:
        allowed = self._allowed(tuple(conditions))
        n_candidates = len(self.table) if allowed is None else allowed.n_rows
        if k == 0 or n_candidates <= max(_EXACT_BELOW, 4 * k):
            return self._exact.top_k(query, conditions, k)
        # The bitmap must outlive the search, since faiss keeps only its address: `allowed` holds it.
        selector = None if allowed is None else faiss.IDSelectorBitmap(len(self.table), faiss.swig_ptr(allowed.bitmap))
        parameters = faiss.SearchParametersIVF(nprobe=self.n_probes, sel=selector)  # type: ignore[call-arg]
        scores, rows = self._index.search(query.reshape(1, -1), k, params=parameters)
        found = rows[0] >= 0
        return _best(rows[0][found], scores[0][found], k)

    def _allowed(self, conditions: tuple[Condition, ...]) -> _Allowed | None:
        if not conditions:
            return None
        found = self._bitmaps.get(conditions)
        if found is None:
            mask = self.table.mask(conditions)
            assert mask is not None, "there is at least one condition"
            found = _Allowed(int(np.count_nonzero(mask)), np.packbits(mask, bitorder="little"))
            self._bitmaps.put(conditions, found)
        return found


@dataclass(frozen=True)
class _Allowed:
    """Rows that pass a filter: how many, and uint8[N / 8] with one bit for each row."""

    n_rows: int
    bitmap: npt.NDArray[np.uint8]


class _Recent(Generic[_Kept]):
    """The last few filters' results. Keyed by text, since 1 and True are equal in Python but not in a filter."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    def get(self, conditions: tuple[Condition, ...]) -> _Kept | None:
        return self._kept.get(repr(conditions))

    def put(self, conditions: tuple[Condition, ...], value: _Kept) -> None:
        while len(self._kept) >= _RECENT_FILTERS:
            self._kept.pop(next(iter(self._kept)), None)
        self._kept[repr(conditions)] = value


def _best(rows: IntArray, scores: FloatMatrix, k: int) -> Neighbours:
    """The k best of some rows; a table's rows are in key order, so ties go to the smaller row."""
    if k == 0 or len(rows) == 0:
        return Neighbours(rows[:0], scores[:0])
    if len(rows) > k:
        threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
        kept = np.flatnonzero(scores >= threshold)
        rows, scores = rows[kept], scores[kept]
    order = np.lexsort((rows, -scores))[:k]
    return Neighbours(rows[order], scores[order])
