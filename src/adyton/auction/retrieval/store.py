"""The ad retrieval store: current values, set queries, embedding search and the script version that is in force.

    store = AdRetrievalStore()
    store.load_snapshot(Path("SNAPSHOT_0000000000000001.csv"))
    result = await pool.call(handle, "HandleRequest", arguments, deadline_ms=5000, hooks=store.hooks())

Writers (`apply`, the watcher) and readers share one thread, the event loop's; only `rebuild_index` may run in another.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import orjson

from adyton.auction.retrieval.ad_index import APPROXIMATE_FROM, AdIndex, ScoredAd
from adyton.auction.retrieval.ad_table import parse_ad, parse_filter
from adyton.auction.retrieval.binary_values import encode_binary_values
from adyton.auction.retrieval.errors import AdFilterError, SetQueryError
from adyton.auction.retrieval.files import read_records
from adyton.auction.retrieval.key_values import KeyValues, UIntArray
from adyton.auction.retrieval.records import UINT_BITS, Mutation, StoreRecord, UdfRecord, ValueType
from adyton.auction.retrieval.set_query import evaluate_strings, evaluate_uints, parse_set_query
from adyton.sandbox.values import HostHook

MAX_K = 10_000
# google.rpc.Code
_OK, _INVALID_ARGUMENT, _NOT_FOUND = 0, 3, 5


class AdRetrievalStore:
    """Everything a retrieval script can read.

    partition_by: attributes whose equality filters the exact search turns into slices.
    approximate_from: number of ads from which searches are approximate.
    """

    def __init__(
        self, *, partition_by: tuple[str, ...] = ("country", "size"), approximate_from: int = APPROXIMATE_FROM
    ) -> None:
        self.values = KeyValues()
        self.ads = AdIndex(partition_by=partition_by, approximate_from=approximate_from)
        self.udf: UdfRecord | None = None
        self.newest_commit_time = 0

    def load_snapshot(self, path: Path) -> int:
        """Apply every record of a SNAPSHOT_ or DELTA_ file; gives back how many there were. Raises RecordError.

        The file is read to its end before anything is applied, so a broken file changes nothing.
        """
        records = list(read_records(path))
        for record in records:
            self.apply(record)
        if self.ads.wants_rebuild:
            self.ads.rebuild()
        return len(records)

    def apply(self, record: StoreRecord | UdfRecord) -> bool:
        """Apply one record; True if something readable changed."""
        self.newest_commit_time = max(self.newest_commit_time, record.logical_commit_time)
        if isinstance(record, UdfRecord):
            if self.udf is not None and record.logical_commit_time <= self.udf.logical_commit_time:
                return False
            self.udf = record
            return True
        changed = self.values.apply(record)
        if changed and record.value_type is ValueType.STRING:
            assert isinstance(record.value, str)
            ad = parse_ad(record.key, record.value) if record.mutation is Mutation.UPDATE else None
            # An embedding of another length than the others is kept as a value but cannot be searched.
            if ad is None or not self.ads.accepts(ad):
                self.ads.remove(record.key)
            else:
                self.ads.put(ad)
        return changed

    def rebuild_index(self) -> None:
        """Fold recent changes into the search index; may run in another thread."""
        self.ads.rebuild()

    def get_values(self, keys: list[str]) -> dict[str, str | None]:
        """The string of each key, None where there is none."""
        return {key: self.values.get(key) for key in keys}

    def string_query(self, query: str) -> list[str]:
        """Members of a set expression over string sets, sorted. Raises SetQueryError."""
        expression = parse_set_query(query, integers=False)
        return [] if expression is None else sorted(evaluate_strings(expression, self.values.string_set))

    def uint_query(self, query: str, kind: ValueType) -> UIntArray:
        """Members of a set expression over integer sets, ascending. Raises SetQueryError."""
        bits = UINT_BITS[kind]
        expression = parse_set_query(query, integers=True)
        if expression is None:
            return np.empty(0, dtype=np.uint32) if bits == 32 else np.empty(0, dtype=np.uint64)
        return evaluate_uints(expression, lambda name: self.values.uint_set(kind, name), bits=bits)

    def top_k(self, query: object, options: object) -> list[ScoredAd]:
        """`runTopK(query, {filter, k})`: the k (default 100) best ads that pass the filter. Raises AdFilterError."""
        if not isinstance(query, list) or not query or not all(type(x) in (int, float) for x in query):
            raise AdFilterError("the query vector must be a list of numbers")
        if options is None:
            options = {}
        if not isinstance(options, dict) or not set(options) <= {"filter", "k"}:
            raise AdFilterError("the options of a search are filter and k")
        k = options.get("k", 100)
        if type(k) is not int or not 0 <= k <= MAX_K:
            raise AdFilterError(f"k must be a whole number from 0 to {MAX_K}")
        with np.errstate(over="ignore"):
            vector = np.array(query, dtype=np.float32)
        if not np.isfinite(vector).all():
            raise AdFilterError("the query vector must be finite")
        return self.ads.top_k(vector, parse_filter(options.get("filter")), k)

    def hooks(self) -> Mapping[str, HostHook]:
        """Host functions for a script of kind RETRIEVAL (protected-auction §10.5, and `runTopK`)."""
        return {
            "getValues": self._get_values_hook,
            "getValuesBinary": self._get_values_binary_hook,
            "runQuery": self._run_query_hook,
            "runSetQueryUInt32": self._uint32_hook,
            "runSetQueryUInt64": self._uint64_hook,
            "runTopK": self._top_k_hook,
            "logCustomMetric": self._metric_hook,
        }

    async def _get_values_hook(self, text: str) -> str:
        keys = _keys(text)
        if keys is None:
            return _status_text(_INVALID_ARGUMENT, "getValues input must be list of strings")
        pairs = {
            key: {"status": {"code": _NOT_FOUND, "message": f"Key not found: {key}"}}
            if value is None
            else {"value": value}
            for key, value in self.get_values(keys).items()
        }
        return orjson.dumps({"kvPairs": pairs, "status": {"code": _OK, "message": "ok"}}).decode()

    async def _get_values_binary_hook(self, text: str) -> bytes:
        keys = _keys(text)
        if keys is None:
            return encode_binary_values({}, _INVALID_ARGUMENT, "getValues input must be list of strings")
        return encode_binary_values(self.get_values(keys), _OK, "ok")

    async def _run_query_hook(self, query: str) -> str:
        try:
            return orjson.dumps(self.string_query(query)).decode()
        except SetQueryError as error:
            return orjson.dumps([_status_text(_INVALID_ARGUMENT, str(error))]).decode()

    async def _uint32_hook(self, query: str) -> bytes:
        return self.uint_query(query, ValueType.UINT32_SET).astype("<u4").tobytes()

    async def _uint64_hook(self, query: str) -> bytes:
        return self.uint_query(query, ValueType.UINT64_SET).astype("<u8").tobytes()

    async def _top_k_hook(self, text: str) -> str:
        """JSON `[{"key", "score", "ad"}, ...]`, best first; `ad` is the ad's own JSON, embedding included."""
        try:
            arguments = orjson.loads(text)
        except orjson.JSONDecodeError as error:  # scripts may hold text that is none, such as half a surrogate pair
            raise AdFilterError("the arguments of runTopK are not JSON") from error
        if not isinstance(arguments, list) or not 1 <= len(arguments) <= 2:
            raise AdFilterError("runTopK takes a query vector and options")
        found = self.top_k(arguments[0], arguments[1] if len(arguments) == 2 else None)
        answer = [{"key": ad.key, "score": ad.score, "ad": orjson.Fragment(ad.text)} for ad in found]
        return orjson.dumps(answer).decode()

    async def _metric_hook(self, text: str) -> str:  # noqa: ARG002
        """Custom metrics are accepted and dropped: a script could encode signals in them."""
        return ""


def _keys(text: str) -> list[str] | None:
    try:
        keys = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        return None
    return keys


def _status_text(code: int, message: str) -> str:
    return orjson.dumps({"code": code, "message": message}).decode()
