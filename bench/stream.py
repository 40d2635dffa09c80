"""From a sealed micro-batch to sealed scores: latency of a stream, after its first job.

    python bench/stream.py [--rows 20000] [--batch 200] [--batches 20] [--json FILE]

Two parties with `rows` impressions each; the first job trains on them. Then batches of `batch` rows of each arrive in
turn, each an appended version under its owner's key. `seal_ms` is what the owner needs to seal a batch; `latency_ms`
is from handing the sealed files to the enclave until receipt and boxes are on disk: two brokers, evidence, keys, join
with what is known, scores, gate, sealing. All in one run on one machine; the enclave's process does the work.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from adyton.cleanroom.contract import Template
from adyton.cleanroom.stream_run import CleanroomStream

_ROOM = Path(__file__).parent.parent / "tests" / "functional" / "cleanroom" / "conftest.py"


def small_room() -> Any:
    """The clean room of the functional tests as a module: two parties, brokers, one contract."""
    spec = importlib.util.spec_from_file_location("small_room", _ROOM)
    assert spec is not None, "the tests lie beside this folder"
    assert spec.loader is not None, "a Python file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules["small_room"] = module
    spec.loader.exec_module(module)
    return module


def measure(rows: int, batch: int, batches: int) -> dict[str, Any]:
    """All figures of one stream."""
    tests = small_room()
    users = range(max(rows // 10, 500))
    for name in ("publisher", "advertiser"):
        tests.TABLES[name] = tests.impressions(name, users, rows)
    with tempfile.TemporaryDirectory(prefix="adyton-stream-") as folder, ExitStack() as stack:
        room = tests.build_room(Path(folder), stack, appends=True)
        started = time.perf_counter()
        stream = stack.enter_context(
            CleanroomStream(
                room.folder / "contract.json",
                room.inputs(),
                room.brokers,
                room.job("bench", Template.TRAIN, Template.SCORE, lateness_ms=tests.DAY_MS),
                room.folder / "out",
                ledger=room.folder / "ledger" / "ledger.sqlite",
                counter=room.folder / "counter" / "counter.json",
            )
        )
        first_s = time.perf_counter() - started
        seals, waits = [], []
        for number in range(batches):
            version, files = number + 2, {}
            for name in ("publisher", "advertiser"):
                table = tests.impressions(name, users, batch, 1)
                # Later than every batch before.
                time_ms = pa.array(
                    table["time_ms"].to_numpy() // 100 + (10 * tests.DAY_MS + number * tests.DAY_MS // 5)
                )
                table = table.set_column(table.column_names.index("time_ms"), "time_ms", time_ms)
                started = time.perf_counter()
                files[f"{name}-log@v{version}"] = room.append(name, table, version)
                seals.append(time.perf_counter() - started)
            started = time.perf_counter()
            result = stream.score(files)
            waits.append(time.perf_counter() - started)
            assert result is not None, "every batch holds rows of the base"
    return {
        "rows_known": 2 * rows,
        "users": len(users),
        "batch_rows": 2 * batch,
        "batches": batches,
        "first_job_s": round(first_s, 1),
        "seal_ms_p50": round(1000 * float(np.percentile(seals, 50)), 1),
        "latency_ms_p50": round(1000 * float(np.percentile(waits, 50)), 1),
        "latency_ms_p99": round(1000 * float(np.percentile(waits, 99)), 1),
        "latency_ms_first": round(1000 * waits[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000, help="of each party before the stream")
    parser.add_argument("--batch", type=int, default=200, help="rows of each party in a batch")
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    figures = measure(arguments.rows, arguments.batch, arguments.batches)
    print(json.dumps(figures, indent=1))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
