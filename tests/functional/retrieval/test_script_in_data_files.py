"""A retrieval script that arrives as data (§10.5), over the service's own gRPC: swapped under load, never for worse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import orjson
import pytest

from adyton.auction.config import parse_config
from adyton.auction.errors import ConfigError
from adyton.auction.kv_messages import retrieval_request
from adyton.auction.retrieval.files import write_snapshot
from adyton.auction.retrieval.records import UdfRecord, string_record
from adyton.auction.retrieval.store import AdRetrievalStore
from adyton.auction.retrieval.watcher import FolderWatcher
from adyton.auction.services.process import PartyProcess
from adyton.protocol.messages import kv_server_v2_pb2 as kv
from adyton.protocol.messages import kv_server_v2_pb2_grpc as kv_grpc

REQUEST = retrieval_request(prepared=b'"p"', device_metadata={}, buyer_signals="{}", ad_render_ids=())


def code(version: int) -> str:
    answer = f"{{ version: {version}, is_pas: metadata.requestMetadata.is_pas, signals }}"
    return f"function getCandidateAds(metadata, signals) {{ return {answer} }}"


def put(folder: Path, version: int, text: str) -> None:
    write_snapshot(folder / f"DELTA_{version:016d}.csv", [UdfRecord(text, "getCandidateAds", version, version)])


@asynccontextmanager
async def service(folder: Path) -> AsyncIterator[kv_grpc.KeyValueServiceStub]:
    section = {"snapshot": str(folder), "poll_period_ms": 20}
    sandbox = {"spares": 0, "workers_per_udf": 1}
    config = parse_config({"name": "b", "test_mode": True, "sandbox": sandbox, "key_value": section})
    async with PartyProcess(config) as party, grpc.aio.insecure_channel(party.addresses.grpc) as channel:
        yield kv_grpc.KeyValueServiceStub(channel)


async def version_of(stub: kv_grpc.KeyValueServiceStub) -> int:
    """The version that answers; fails unless the request is answered as a script's output."""
    answer: kv.GetValuesResponse = await stub.GetValues(REQUEST, timeout=30)
    assert not answer.single_partition.HasField("status"), answer.single_partition.status.message
    output = orjson.loads(answer.single_partition.string_output)
    assert output == {"version": output["version"], "is_pas": "true", "signals": '"p"'}
    return int(output["version"])


def test_new_scripts_answer_without_a_lost_request_and_a_broken_one_never(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, 1, code(1))

    async def scenario() -> None:
        async with service(tmp_path) as stub:

            async def until(version: int) -> list[int]:
                seen: list[int] = []
                async with asyncio.timeout(30):
                    while not seen or seen[-1] != version:
                        seen.append(await version_of(stub))
                return seen

            assert await until(1) == [1]
            callers = [asyncio.create_task(until(3)) for _ in range(3)]
            put(tmp_path, 2, "function getCandidateAds( {")
            async with asyncio.timeout(30):
                while "retrieval script version 2 is not loaded" not in caplog.text:
                    await asyncio.sleep(0.01)
            put(tmp_path, 3, code(3))
            answers = await asyncio.gather(*callers)
            assert {version for seen in answers for version in seen} == {1, 3}
            assert caplog.text.count("is not loaded") == 1

    asyncio.run(scenario())


def test_without_any_script_that_loads_requests_are_told_so_until_one_comes(tmp_path: Path) -> None:
    put(tmp_path, 1, "function getCandidateAds( {")

    async def scenario() -> None:
        async with service(tmp_path) as stub:
            answer: kv.GetValuesResponse = await stub.GetValues(REQUEST, timeout=30)
            assert answer.single_partition.status.code == grpc.StatusCode.INTERNAL.value[0]
            assert answer.single_partition.string_output == ""
            put(tmp_path, 2, code(2))
            async with asyncio.timeout(30):
                while not (await stub.GetValues(REQUEST, timeout=30)).single_partition.string_output:
                    await asyncio.sleep(0.01)
            assert await version_of(stub) == 2

    asyncio.run(scenario())


def test_a_folder_that_cannot_be_read_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    async def start(folder: Path) -> None:
        async with service(folder):
            pass

    for folder in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(ConfigError, match="the snapshot folder cannot be read") as caught:
            asyncio.run(start(folder))
        assert caught.value.where == str(folder)


def test_work_in_the_background_that_ends_by_a_defect_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def defect(_: FolderWatcher) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(FolderWatcher, "run", defect)

    async def start() -> None:
        async with service(tmp_path):
            await asyncio.sleep(0)

    asyncio.run(start())
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "a defect ended work in the background"
    ]


def test_a_file_that_cannot_be_read_does_not_hold_up_the_others_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 2):
        write_snapshot(tmp_path / f"DELTA_{number:016d}.csv", [string_record(f"k{number}", "v", 1)])
    store = AdRetrievalStore()
    watcher = FolderWatcher(store, tmp_path)
    real_open = Path.open

    def refusing(path: Path, *arguments: object, **options: object) -> object:
        if path.name == "DELTA_0000000000000001.csv":
            raise PermissionError(13, "Permission denied")
        return real_open(path, *arguments, **options)  # type: ignore[call-overload]

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refusing)
        assert asyncio.run(watcher.scan()) == 1
    assert "DELTA_0000000000000001.csv: Permission denied" in caplog.text
    assert (store.values.get("k1"), store.values.get("k2")) == (None, "v")
    assert asyncio.run(watcher.scan()) == 1
    assert store.values.get("k1") == "v"
