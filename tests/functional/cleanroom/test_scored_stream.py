"""A stream of sealed micro-batches: scores are those of one job over everything, and a refused batch ends nothing."""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adyton.cleanroom.contract import Output, Template
from adyton.cleanroom.errors import SealBrokenError
from adyton.cleanroom.receipt import verify_receipt
from adyton.cleanroom.run import RunResult, open_output
from adyton.cleanroom.stream_run import CleanroomStream
from adyton.kernel.errors import BadInputError

pytestmark = pytest.mark.slow
DAY_MS = 86_400_000


def scores(room: Any, result: RunResult) -> pa.Table:
    box = result.box(Output.PREDICTIONS, "advertiser")
    return pq.read_table(io.BytesIO(open_output(box, room.parties["advertiser"], receipt=result.receipt)))


def started(room: Any, name: str, **job: Any) -> CleanroomStream:
    return CleanroomStream(
        room.folder / "contract.json",
        room.inputs(),
        room.brokers,
        room.job(name, Template.TRAIN, Template.SCORE, **job),
        room.folder / f"out-{name}",
        ledger=room.folder / "ledger" / "ledger.sqlite",
        counter=room.folder / "counter" / "counter.json",
        threads=1,
    )


def cut(table: pa.Table, moments: list[int]) -> Iterator[pa.Table]:
    """The rows between two moments of `moments` each, in the table's order."""
    time = table["time_ms"].to_numpy()
    for first, end in itertools.pairwise(moments):
        yield table.filter(pa.array((time >= first) & (time < end)))


def test_scores_of_batches_are_those_of_one_job_and_bad_batches_are_passed_over(
    make_room: Callable[..., Any], later_impressions: Callable[[str, int], pa.Table]
) -> None:
    room = make_room(appends=True)
    moments = [(10 + n) * DAY_MS for n in (0, 2, 4, 10)]
    theirs = list(cut(later_impressions("publisher", 1), moments))
    mine = list(cut(later_impressions("advertiser", 1), moments))
    found, inputs = [], dict(room.inputs())
    with started(room, "stream", lateness_ms=DAY_MS) as stream:
        for number, (feeds, ads) in enumerate(zip(theirs, mine, strict=True), start=2):
            inputs[f"publisher-log@v{number}"] = room.append("publisher", feeds, number)
            batch = {f"publisher-log@v{number}": inputs[f"publisher-log@v{number}"]}
            assert stream.score(batch) is None
            inputs[f"advertiser-log@v{number}"] = room.append("advertiser", ads, number)
            result = stream.score({f"advertiser-log@v{number}": inputs[f"advertiser-log@v{number}"]})
            assert result is not None
            verdict = verify_receipt(
                result.receipt,
                room.signed.contract,
                {p.name: p.read_bytes() for p in result.receipt_path.parent.iterdir()},
            )
            assert verdict.holds, verdict.as_json()
            assert scores(room, result)["version"].to_pylist() == [number] * ads.num_rows
            found += scores(room, result)["with_partner"].to_pylist()
            if number == 2:
                with pytest.raises(BadInputError, match="version 3 is missing"):
                    stream.score({"advertiser-log@v4": inputs["advertiser-log@v2"]})
                with pytest.raises(SealBrokenError):
                    stream.score({"advertiser-log@v3": inputs["advertiser-log@v2"]})
    # One job over all versions trains on the same rows, since they are chosen by time.
    whole = room.run(room.job("whole", Template.TRAIN, Template.SCORE), inputs=inputs)
    wanted = scores(room, whole)["with_partner"].to_pylist()[-len(found) :]

    assert len(found) == sum(part.num_rows for part in mine)
    assert found == pytest.approx(wanted, abs=1e-5)
    assert not any(b"person-0002" in path.read_bytes() for path in room.folder.rglob("*") if path.is_file())


def test_a_batch_of_late_rows_is_refused_and_the_next_one_scored(
    make_room: Callable[..., Any], later_impressions: Callable[[str, int], pa.Table]
) -> None:
    room = make_room(appends=True)
    with started(room, "late") as stream:
        early = later_impressions("advertiser", 0)
        with pytest.raises(BadInputError, match="older than what was summed up"):
            stream.score({"advertiser-log@v2": room.append("advertiser", early, 2)})
        (room.folder / "sealed" / "advertiser-log.v2.manifest.json").unlink()
        (room.folder / "sealed" / "advertiser-log.v2.sealed").unlink()
        files = room.append("advertiser", later_impressions("advertiser", 1), 2)
        assert stream.score({"advertiser-log@v2": files}) is not None


def test_the_command_scores_what_is_sealed_into_the_folder(
    make_room: Callable[..., Any], later_impressions: Callable[[str, int], pa.Table], tmp_path: Path
) -> None:
    room = make_room(appends=True)
    job = room.job("typed", Template.TRAIN, Template.SCORE)
    (tmp_path / "job.json").write_text(json.dumps(job.as_json()))
    command = [sys.executable, "-m", "adyton", "cleanroom", "stream", str(room.folder / "contract.json")]
    command += ["--job", str(tmp_path / "job.json"), "--sealed", str(room.folder / "sealed"), "--batches", "1"]
    command += [f"--broker={name}={address}" for name, address in room.brokers.items()]
    command += ["--ledger", str(tmp_path / "l" / "ledger.sqlite"), "--counter", str(tmp_path / "c" / "counter.json")]
    process = subprocess.Popen([*command, "--out", str(tmp_path / "out")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert json.loads(process.stdout.readline())["folder"].endswith("first")
        room.append("advertiser", later_impressions("advertiser", 1), 2)
        told = json.loads(process.stdout.readline())
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()

    assert told["batch"] == ["advertiser-log@v2"]
    assert (Path(told["folder"]) / "predictions.advertiser.box").exists()
    assert told["took_ms"] > 0
