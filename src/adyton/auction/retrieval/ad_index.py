"""Embedding search over ads that change while it serves: a built index plus the changes since, merged exactly.

`put` and `remove` cost no rebuild. `rebuild` folds the changes into a new index; it may run in another thread while
searches go on, since the old index stays in place until the new one is whole.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

import numpy as np

from adyton.auction.retrieval.ad_table import Ad, AdTable, Condition, FloatMatrix, satisfies
from adyton.auction.retrieval.errors import AdFilterError
from adyton.auction.retrieval.top_k import ApproximateEngine, ExactEngine, TopKEngine

APPROXIMATE_FROM = 200_000
_REBUILD_AT = 256
_REBUILD_FRACTION = 0.05


class ScoredAd(NamedTuple):
    """One answer of a search: inner product and the ad's JSON. A tuple, because every search makes a hundred."""

    key: str
    score: float
    text: str


class AdIndex:
    """All ads of one store that have an embedding. All embeddings must have the same number of dimensions.

    approximate_from: number of ads from which the inverted file is used.   partition_by: attributes of the exact
    engine's slices.
    """

    def __init__(
        self, *, partition_by: tuple[str, ...] = ("country", "size"), approximate_from: int = APPROXIMATE_FROM
    ) -> None:
        self._partition_by = partition_by
        self._approximate_from = approximate_from
        self._ads: dict[str, Ad] = {}
        self._engine: TopKEngine | None = None
        self._row_of: dict[str, int] = {}
        self._changed: set[str] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._ads)

    @property
    def n_changes(self) -> int:
        """Changes that are not yet in the built index."""
        return len(self._changed)

    @property
    def wants_rebuild(self) -> bool:
        """Whether the changes are enough to make searches slow."""
        return len(self._changed) > max(_REBUILD_AT, _REBUILD_FRACTION * len(self._ads))

    def accepts(self, ad: Ad) -> bool:
        """Whether the ad's embedding is as long as those of the ads already here."""
        other = next(iter(self._ads.values()), None)
        return other is None or len(other.embedding) == len(ad.embedding)

    def put(self, ad: Ad) -> None:
        """Add or replace an ad. Raises AdFilterError for an embedding of another length than those already here."""
        if not self.accepts(ad):
            raise AdFilterError(f"an embedding of {len(ad.embedding)} dimensions is not like those of the other ads")
        with self._lock:
            self._ads[ad.key] = ad
            self._changed.add(ad.key)

    def remove(self, key: str) -> None:
        """Take an ad out; harmless when it is not here."""
        with self._lock:
            if self._ads.pop(key, None) is not None:
                self._changed.add(key)

    def rebuild(self) -> None:
        """Put all changes so far into a new index."""
        with self._lock:
            ads = list(self._ads.values())
            taken = set(self._changed)
        engine = self._build(ads) if ads else None
        row_of = {key: row for row, key in enumerate(engine.table.keys)} if engine else {}
        with self._lock:
            self._engine, self._row_of = engine, row_of
            # What changed again while the index was being built stays on top of it.
            snapshot = {ad.key: ad for ad in ads}
            self._changed = {
                key for key in self._changed if key not in taken or self._ads.get(key) is not snapshot.get(key)
            }

    def top_k(self, query: FloatMatrix, conditions: tuple[Condition, ...], k: int) -> list[ScoredAd]:
        """At most k ads that satisfy the conditions, by inner product, ties by key. query: float32[D]."""
        with self._lock:
            engine, changed = self._engine, list(self._changed)
            fresh = [self._ads[key] for key in changed if key in self._ads]
            n_dimensions = len(next(iter(self._ads.values())).embedding) if self._ads else len(query)
            stale = {self._row_of[key] for key in changed if key in self._row_of}
        if len(query) != n_dimensions:
            raise AdFilterError(f"the query vector has {len(query)} dimensions, the ads have {n_dimensions}")
        found: list[ScoredAd] = []
        if engine is not None:
            # Rows that have changed may take places among the best, so that many more are asked for.
            neighbours = engine.top_k(query, conditions, k + len(stale))
            table = engine.table
            for row, score in zip(neighbours.rows.tolist(), neighbours.scores.tolist(), strict=True):
                if row not in stale:
                    found.append(ScoredAd(table.keys[row], score, table.texts[row]))
        matching = [ad for ad in fresh if satisfies(ad, conditions)]
        if matching:
            scores = np.stack([ad.embedding for ad in matching]) @ query
            found += [ScoredAd(ad.key, score, ad.text) for ad, score in zip(matching, scores.tolist(), strict=True)]
        found.sort(key=lambda ad: (-ad.score, ad.key))
        return found[:k]

    def _build(self, ads: list[Ad]) -> TopKEngine:
        exact = ExactEngine(AdTable.of(ads), self._partition_by)
        if len(ads) < self._approximate_from:
            return exact
        return ApproximateEngine(exact.table, exact)
