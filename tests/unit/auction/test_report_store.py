"""Reports that wait for their file: how many, of how many kinds, and what a full disk does to them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from adyton.auction import collector
from adyton.auction.collector import MAX_KINDS, Report, ReportStore, serve_collector
from adyton.kernel.clock import ManualClock
from adyton.kernel.errors import UnavailableError


def report(kind: str, number: int = 0) -> Report:
    return Report(kind, 1, {"n": str(number)})


def test_a_flush_has_at_most_as_many_kinds_as_files_are_allowed(tmp_path: Path) -> None:
    store = ReportStore(tmp_path, ManualClock(5))

    assert all(store.add(report(f"k{n}")) for n in range(MAX_KINDS))
    assert not store.add(report("one_more"))
    assert store.add(report("k0"))
    assert store.flush() == MAX_KINDS + 1
    assert store.add(report("one_more"))
    assert len(list(tmp_path.iterdir())) == MAX_KINDS


def test_more_than_may_wait_are_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "MAX_PENDING", 3)
    store = ReportStore(tmp_path, ManualClock(5))

    assert [store.add(report("win")) for _ in range(4)] == [True, True, True, False]


def test_what_cannot_be_written_waits_for_the_next_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = ReportStore(tmp_path, ManualClock(5))
    for number in range(2):
        store.add(report("win", number))
    real = Path.replace

    def full_disk(path: Path, target: Path) -> Path:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "replace", full_disk)
    assert store.flush() == 0
    assert "stay pending: No space left on device" in caplog.text
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(Path, "replace", real)
    store.add(report("win", 2))
    assert store.flush() == 3
    (written,) = tmp_path.glob("win-*.parquet")
    assert pq.read_table(written)["n"].to_pylist() == ["0", "1", "2"]
    assert store.flush() == 0


def test_a_collector_that_cannot_write_at_its_end_says_what_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReportStore, "_write", _full_disk)

    async def report_and_stop(address: str) -> None:
        reader, writer = await asyncio.open_connection(*address.split(":"))
        writer.write(b"GET /win?bid=1 HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n")
        assert b" 204 " in await reader.read()
        writer.close()
        signal.raise_signal(signal.SIGTERM)

    async def scenario() -> None:
        client: list[asyncio.Task[None]] = []

        def announce(line: str) -> None:
            client.append(asyncio.create_task(report_and_stop(json.loads(line)["http"])))

        with pytest.raises(UnavailableError, match="1 reports could not be written") as caught:
            await serve_collector(tmp_path, "127.0.0.1:0", announce=announce)
        await client[0]
        assert caught.value.where == str(tmp_path)

    asyncio.run(scenario())


def _full_disk(*_: object) -> None:
    raise OSError(28, os.strerror(28))
