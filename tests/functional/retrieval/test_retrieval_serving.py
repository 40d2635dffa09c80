"""The store as a script sees it, and files that arrive while it serves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest

from adyton.auction.retrieval.errors import AdFilterError, RecordError
from adyton.auction.retrieval.files import data_files, read_records, write_snapshot
from adyton.auction.retrieval.records import Mutation, StoreRecord, UdfRecord, ValueType, string_record
from adyton.auction.retrieval.store import AdRetrievalStore
from adyton.auction.retrieval.watcher import FolderWatcher
from adyton.sandbox.errors import UdfThrewError
from adyton.sandbox.pool import SandboxPool
from adyton.sandbox.values import UdfKind

SCRIPT = """
    function HandleRequest(metadata, vector) {
      return {
        values: JSON.parse(getValues(["ad_id1", "ad_id2"])),
        wrong: JSON.parse(getValues("ad_id1")),
        set: runQuery('names - SET("b")'),
        bad: runQuery("(").map(JSON.parse),
        numbers: Array.from(new Uint32Array(runSetQueryUInt32("ids | SET(7)").buffer)),
        long: Array.from(new BigUint64Array(runSetQueryUInt64("SET(18446744073709551615)").buffer), String),
        binary: Array.from(getValuesBinary(["ad_id1"])),
        top: runTopK(vector, {filter: {country: ["DE", "AT"]}, k: 2}),
        inference: typeof runInference,
      };
    }
    function bad_query() { return runSetQueryUInt32("("); }
    function bad_search() { return runTopK([1, 2, 3], {k: 1}); }
    function bad_text() { return runTopK([1, 2], {filter: {country: "\\ud800"}}); }
    function greedy() { for (let i = 0; i < 1000; i++) getValues([]); }
"""


def ad(key: str, embedding: list[float], country: str, time: int = 1) -> StoreRecord:
    return string_record(key, orjson.dumps({"embedding": embedding, "country": country}).decode(), time)


def test_a_script_reads_values_sets_and_nearest_ads() -> None:
    store = AdRetrievalStore()
    store.apply(string_record("ad_id1", "ad_id1_value", 1))
    store.apply(StoreRecord("names", 1, Mutation.UPDATE, ValueType.STRING_SET, frozenset({"a", "b"})))
    store.apply(StoreRecord("ids", 1, Mutation.UPDATE, ValueType.UINT32_SET, frozenset({5, 1})))
    for record in (ad("x", [1, 0], "DE"), ad("y", [2, 0], "US"), ad("z", [3, 0], "AT"), ad("w", [0, 1], "DE")):
        store.apply(record)

    async def run() -> None:
        async with SandboxPool(spares=0) as pool:
            handle = await pool.load("buyer.example", SCRIPT, UdfKind.RETRIEVAL)
            result = await pool.call(
                handle, "HandleRequest", [b"{}", b"[1,0]"], deadline_ms=20_000, hooks=store.hooks()
            )

            assert result.value == {
                "values": {
                    "kvPairs": {
                        "ad_id1": {"value": "ad_id1_value"},
                        "ad_id2": {"status": {"code": 5, "message": "Key not found: ad_id2"}},
                    },
                    "status": {"code": 0, "message": "ok"},
                },
                "wrong": {"code": 3, "message": "getValues input must be list of strings"},
                "set": ["a"],
                "bad": [{"code": 3, "message": "offset 1: expected a set"}],
                "numbers": [1, 5, 7],
                "long": ["18446744073709551615"],
                "binary": list(b"\x0a\x04\x12\x02ok\x12\x18\x0a\x06ad_id1\x12\x0e\x12\x0cad_id1_value"),
                "top": [
                    {"key": "z", "score": 3, "ad": {"embedding": [3, 0], "country": "AT"}},
                    {"key": "x", "score": 1, "ad": {"embedding": [1, 0], "country": "DE"}},
                ],
                "inference": "undefined",
            }
            for function in ("bad_query", "bad_search", "bad_text", "greedy"):
                with pytest.raises(UdfThrewError):
                    await pool.call(handle, function, [], deadline_ms=20_000, hooks=store.hooks())

    asyncio.run(run())


def test_new_files_are_applied_while_serving(tmp_path: Path) -> None:
    store = AdRetrievalStore()
    watcher = FolderWatcher(store, tmp_path, period_s=0.02)

    async def until(key: str, value: str | None) -> None:
        async with asyncio.timeout(20):
            while store.values.get(key) != value:
                await asyncio.sleep(0.01)

    async def run() -> None:
        write_snapshot(tmp_path / "SNAPSHOT_0000000000000001.csv", [string_record("k", "first", 1)])
        following = asyncio.create_task(watcher.run())
        await until("k", "first")
        (tmp_path / "DELTA_0000000000000002.csv").write_text("not,a,data,file\n1,2,3,4\n")
        write_snapshot(tmp_path / "DELTA_0000000000000003.parquet", [string_record("k", "second", 2)])
        await until("k", "second")
        write_snapshot(
            tmp_path / "DELTA_0000000000000004.csv", [UdfRecord("function HandleRequest() {}", "HandleRequest", 9, 3)]
        )
        gone = StoreRecord("k", 3, Mutation.DELETE, ValueType.STRING, "")
        write_snapshot(tmp_path / "DELTA_0000000000000005", [gone])
        await until("k", None)
        following.cancel()

        assert store.udf is not None
        assert store.udf.version == 3
        assert await watcher.scan() == 0

    asyncio.run(run())


def test_snapshots_come_before_deltas_and_other_names_are_ignored(tmp_path: Path) -> None:
    names = [
        "SNAPSHOT_0000000000000002",
        "DELTA_0000000000000003.csv",
        "SNAPSHOT_0000000000000001.parquet",
        "DELTA_0000000000000001",
        "DELTA_1",
        "DELTA_0000000000000001.csv.partial",
        "notes.txt",
    ]
    for name in names:
        (tmp_path / name).touch()

    assert [path.name for path in data_files(tmp_path)] == [names[2], names[0], names[3], names[1]]


@pytest.mark.parametrize(
    "rows",
    [
        "k,1,UPSERT,v,string",
        "k,1,UPDATE,v,float_set",
        "k,one,UPDATE,v,string",
        "k,1,UPDATE,1|x,uint32_set",
        "k,1,UPDATE,4294967296,uint32_set",
        "k,1,UPDATE,v",
        "k,1,UPDATE,v,string,more",
        'k,1,UPDATE,"v,string',
    ],
)
def test_a_bad_row_names_its_place_and_changes_nothing(tmp_path: Path, rows: str) -> None:
    path = tmp_path / "DELTA_0000000000000001.csv"
    path.write_text(f"key,logical_commit_time,mutation_type,value,value_type\ngood,1,UPDATE,v,string\n{rows}\n")
    store = AdRetrievalStore()
    with pytest.raises(RecordError) as caught:
        store.load_snapshot(path)

    assert path.name in str(caught.value)
    assert store.values.get("good") is None


def test_broken_parquet_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "DELTA_0000000000000001.parquet"
    path.write_bytes(b"PAR1 but no more")
    with pytest.raises(RecordError):
        list(read_records(path))
    with pytest.raises(RecordError):
        write_snapshot(tmp_path / "data.csv", [])


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ([], {}),
        (["1"], {}),
        ("1", {}),
        ([1, 2, 3], {}),
        ([1e39, 0], {}),
        ([1, 0], {"k": -1}),
        ([1, 0], {"k": True}),
        ([1, 0], {"k": 10**9}),
        ([1, 0], {"limit": 1}),
        ([1, 0], {"filter": []}),
        ([1, 0], {"filter": {"country": None}}),
        ([1, 0], {"filter": {"budget": {"above": 1}}}),
        ([1, 0], {"filter": {"budget": {"gt": "1"}}}),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(query: object, options: object) -> None:
    store = AdRetrievalStore()
    store.apply(ad("x", [1, 0], "DE"))
    with pytest.raises(AdFilterError):
        store.top_k(query, options)


def test_values_without_a_usable_embedding_stay_values() -> None:
    store = AdRetrievalStore()
    store.apply(ad("x", [1, 0], "DE"))
    for number, text in enumerate(['{"embedding":', '{"embedding":"1"}', '{"embedding":[]}', '{"embedding":[1,2,3]}']):
        store.apply(string_record(f"k{number}", text, 1))

        assert store.values.get(f"k{number}") == text
    assert len(store.ads) == 1

    store.apply(string_record("x", "no longer an ad", 2))

    assert store.top_k([1, 0], None) == []
