"""What sealing and the enclave cost: seal against a plain write, a whole job against plain DuckDB, in the same run.

    python bench/cleanroom.py [--rows 1000000] [--large] [--json FILE]

Two generated tables of equal size, ten rows per user, half of the users shared. The job joins them and aggregates by
the partner's segment and the base's hour: rows, users, mean spent. The plain side runs the same Ibis expression (the
same join, the same bounding of users) in DuckDB over plaintext Parquet files, in a process of its own. The enclave's
side is `run_cleanroom`: process, evidence, two brokers, hashes, decryption, join, noise, gate, receipt, sealed output.

Each side is timed from the start of its process to the end, and without the start of the interpreter and imports
("work"). Peak memory is the process's largest resident set.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adyton.cleanroom.aggregate_request import AggregateRequest
from adyton.cleanroom.aggregate_sql import check_sql
from adyton.cleanroom.broker import KeyBroker
from adyton.cleanroom.broker_server import running_broker
from adyton.cleanroom.broker_store import BrokerStore
from adyton.cleanroom.contract import Contract, DatasetTerms, Output, OutputTerms, OwnerRule, Template
from adyton.cleanroom.job import JobSpec
from adyton.cleanroom.joined_view import joined_view, view_expression
from adyton.cleanroom.key_release import active_contracts, data_keys
from adyton.cleanroom.measurement import code_measurement
from adyton.cleanroom.party import Party
from adyton.cleanroom.sealed_table import ROW_GROUP_ROWS, manifest_path, seal_batches, sealed_path
from adyton.cleanroom.signed_contract import load_contract, save_contract, unsigned
from adyton.cleanroom.table_columns import arrow_schema, declare_columns
from adyton.kernel.chance import stream
from adyton.kernel.clock import SystemClock
from adyton.kernel.ids import DatasetId, JobId
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.schema import Column, Kind, Role, TableSchema

ROWS_PER_USER = 10
NAMES = ("advertiser", "publisher")
SCHEMA = TableSchema(
    (
        Column("user_id", Role.USER_ID, Kind.CATEGORY),
        Column("item_id", Role.ITEM_ID, Kind.CATEGORY),
        Column("time_ms", Role.TIME, Kind.TIMESTAMP),
        Column("hour", Role.CONTEXT, Kind.CATEGORY),
        Column("segment", Role.USER, Kind.CATEGORY),
        Column("spent", Role.OUTCOME, Kind.NUMBER),
        Column("label", Role.LABEL, Kind.BINARY),
    )
)
QUERY = AggregateRequest(
    "by_segment",
    "SELECT publisher_segment AS segment, hour, COUNT(*) AS shown, COUNT(DISTINCT user_id) AS users, "
    "AVG(spent) AS spent FROM joined WHERE publisher_matched GROUP BY 1, 2",
    PrivacyLoss.of(8, "1e-6"),
    {"spent": (Fraction(0), Fraction(100))},
    max_groups_per_user=4,
    max_rows_per_group=4,
)


def generated(name: str, rows: int) -> pa.Table:
    """One party's table."""
    rng = stream(7, "cleanroom bench", name)
    users = max(rows // ROWS_PER_USER, 100)
    user = rng.integers(0, users, rows) + (users // 2 if name == "publisher" else 0)
    texts = pa.array([f"person-{u:09d}" for u in range(int(user.max()) + 1)])
    return pa.table(
        {
            "user_id": texts.take(pa.array(user)),
            "item_id": pa.array(rng.integers(0, 50_000, rows)),
            "time_ms": pa.array(rng.integers(0, 10**9, rows)),
            "hour": pa.array(rng.integers(0, 24, rows)),
            "segment": pa.array(user % 12),
            "spent": pa.array(rng.uniform(0, 120, rows)),
            "label": pa.array((rng.random(rows) < 0.1).astype(np.int8)),
        }
    )


def prepare(folder: Path, rows: int, repeats: int) -> dict[str, float]:
    """Write plain and sealed tables and a signed contract; gives the times of both writes, in seconds."""
    parties, manifests, times = {}, [], {"plain_write_s": 0.0, "seal_s": 0.0}
    for name in NAMES:
        parties[name] = Party.create(name)
        table = generated(name, rows)
        columns = declare_columns(SCHEMA, table.schema)
        table = table.cast(arrow_schema(columns))
        # Several times each, alternating, and the best one counts: the first write also warms allocator and page cache.
        plain, sealed = [], []
        for version in range(1, repeats + 1):
            started = time.perf_counter()
            with (
                (folder / f"{name}.parquet").open("wb") as file,
                pq.ParquetWriter(file, table.schema, compression="zstd") as writer,
            ):
                writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
                file.flush()
                os.fsync(file.fileno())
            plain.append(time.perf_counter() - started)
            started = time.perf_counter()
            manifest = seal_batches(
                iter(table.to_batches(max_chunksize=1 << 17)),
                folder / "sealed",
                columns,
                dataset_id=f"{name}-log",
                version=version,
                owner=parties[name],
            )
            sealed.append(time.perf_counter() - started)
        manifests.append(manifest)
        times["plain_write_s"] += min(plain)
        times["seal_s"] += min(sealed)
    now_ms = SystemClock().now_ms()
    contract = Contract(
        contract_id="bench",
        parties=tuple(p.identity for p in parties.values()),
        datasets=tuple(
            DatasetTerms(m.dataset_id, m.version, m.owner, "users", m.columns, "user_id", m.rows, m.ciphertext_sha256)
            for m in manifests
        ),
        rules=tuple(
            OwnerRule(
                owner=p.name,
                population="users",
                budget=PrivacyLoss.of(100, "1e-3"),
                measurements=frozenset({code_measurement().hex()}),
                templates=frozenset({Template.AGGREGATE}),
                allow_dev=True,
                query_columns=frozenset({"segment", "hour", "spent"}),
            )
            for p in parties.values()
        ),
        outputs=(OutputTerms(Output.AGGREGATE, (parties["advertiser"].name,)),),
        starts_at_ms=now_ms - 1_000,
        expires_at_ms=now_ms + 3_600_000,
    )
    signed = unsigned(contract)
    for party in parties.values():
        signed = signed.sign(party)
    save_contract(signed, folder / "contract.json")
    for name, party in parties.items():
        _PARTIES[name] = party
    return times


_PARTIES: dict[str, Party] = {}


def plain(folder: Path, memory_mb: int) -> None:
    """The same relational work in DuckDB over plaintext Parquet; prints seconds of work."""
    import duckdb
    import ibis

    from adyton.cleanroom.aggregate import bounded_groups

    contract = load_contract(folder / "contract.json").contract
    started = time.perf_counter()
    connection = duckdb.connect(":memory:")
    connection.execute(f"SET memory_limit = '{memory_mb}MB'; SET threads = 2; SET preserve_insertion_order = false")
    backend = ibis.duckdb.from_connection(connection)
    view = joined_view(contract, DatasetId("advertiser-log"), [DatasetId("publisher-log")])
    query = check_sql(QUERY.sql, view.types, view.user_id, where="bench")
    tables: dict[DatasetId, Any] = {}
    for name in NAMES:
        connection.execute(
            f"CREATE VIEW {name} AS SELECT *, user_id AS user_key FROM read_parquet('{folder / name}.parquet')"
        )
        tables[DatasetId(f"{name}-log")] = backend.table(name)
    rows = view_expression(view, tables, dict.fromkeys(tables, "time_ms"), query.columns)
    groups = bounded_groups(rows, query, QUERY).to_pyarrow()
    print(json.dumps({"work_s": time.perf_counter() - started, "groups": groups.num_rows}))


def enclave(folder: Path, memory_mb: int) -> dict[str, Any]:
    """The job in the enclave's process."""
    from adyton.cleanroom.run import open_output, run_cleanroom

    signed, clock = load_contract(folder / "contract.json"), SystemClock()
    sealed = folder / "sealed"
    inputs = {str(d.dataset_id): d for d in signed.contract.datasets}
    from adyton.cleanroom.sealed_table import load_manifest

    marks: list[tuple[float, str]] = []
    peaks = [0.0]

    def on_progress(_: float, what: str) -> None:
        marks.append((time.perf_counter() - started, what))
        peaks.append(_enclave_peak_mb())

    with ExitStack() as stack:
        brokers = {}
        for name, party in _PARTIES.items():
            store = BrokerStore(folder / f"{name}.sqlite")
            stack.callback(store.close)
            manifest = load_manifest(manifest_path(sealed, f"{name}-log", inputs[f"{name}-log"].version))
            broker = KeyBroker(
                party.name, store, active_contracts([signed], party.name, clock), data_keys([manifest], party)
            )
            brokers[name] = stack.enter_context(running_broker(broker, f"unix:{folder}/{name}.sock"))
        job = JobSpec(
            job_id=JobId(f"bench-{time.time_ns()}"),
            base=DatasetId("advertiser-log"),
            partners=(DatasetId("publisher-log"),),
            templates=frozenset({Template.AGGREGATE}),
            queries=(QUERY,),
            memory_mb=memory_mb,
        )
        cpu_before = _children_cpu_s()
        started = time.perf_counter()
        result = run_cleanroom(
            folder / "contract.json",
            {i: (sealed_path(sealed, i, d.version), manifest_path(sealed, i, d.version)) for i, d in inputs.items()},
            brokers,
            job,
            folder / f"out-{job.job_id}",
            ledger=folder / "ledger" / "ledger.sqlite",
            counter=folder / "counter" / "counter.json",
            progress=on_progress,
        )
        whole_s = time.perf_counter() - started
        cpu_s = _children_cpu_s() - cpu_before
    content = json.loads(open_output(result.box(Output.AGGREGATE, "advertiser"), _PARTIES["advertiser"]))
    return {
        "enclave_s": whole_s,
        "enclave_work_s": whole_s - marks[0][0],
        "steps_s": {what: round(at, 2) for at, what in marks},
        "enclave_cpu_s": cpu_s,
        "enclave_peak_mb": max(peaks),
        "groups_shown": len(content["queries"][0]["rows"]),
    }


def _enclave_peak_mb() -> float:
    """The enclave's largest resident set so far, from /proc: usage of dead children would mix both sides."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"adyton.cleanroom.enclave_main" in (path / "cmdline").read_bytes():
                status = (path / "status").read_text()
                return int(status.partition("VmHWM:")[2].split()[0]) / 1024
        except (OSError, ValueError, IndexError):
            continue
    return 0.0


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(rows: int, memory_mb: int, repeats: int) -> dict[str, Any]:
    """All figures for one size."""
    with tempfile.TemporaryDirectory(prefix="adyton-bench-") as name:
        folder = Path(name)
        figures: dict[str, Any] = {"rows_each": rows, **prepare(folder, rows, repeats)}
        figures["seal_ratio"] = figures["seal_s"] / figures["plain_write_s"]
        plains, enclaves = [], []
        for _ in range(repeats):
            command = [sys.executable, __file__, "--plain", str(folder), "--memory-mb", str(memory_mb)]
            started = time.perf_counter()
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            said = json.loads(process.stdout.read())
            _, status, usage = os.wait4(process.pid, 0)
            assert status == 0, "the plain side failed"
            plains.append(
                {
                    "plain_s": time.perf_counter() - started,
                    "plain_work_s": said["work_s"],
                    "plain_cpu_s": usage.ru_utime + usage.ru_stime,
                    "plain_peak_mb": usage.ru_maxrss / 1024,
                }
            )
            enclaves.append(enclave(folder, memory_mb))
        figures |= min(plains, key=lambda one: one["plain_s"]) | min(enclaves, key=lambda one: one["enclave_s"])
        figures["whole_ratio"] = figures["enclave_s"] / figures["plain_s"]
        figures["work_ratio"] = figures["enclave_work_s"] / figures["plain_work_s"]
        # Processor time says more than wall time on a machine that others use too.
        figures["cpu_ratio"] = figures["enclave_cpu_s"] / figures["plain_cpu_s"]
        figures["memory_ratio"] = figures["enclave_peak_mb"] / figures["plain_peak_mb"]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of each table")
    parser.add_argument("--large", action="store_true", help="also ten million rows")
    parser.add_argument("--memory-mb", type=int, default=4096, help="DuckDB's cap on both sides")
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many counts")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plain is not None:
        plain(arguments.plain, arguments.memory_mb)
        return
    sizes = [arguments.rows, *([10_000_000] if arguments.large else [])]
    results = [measure(rows, arguments.memory_mb, arguments.repeats) for rows in sizes]
    print(json.dumps(results, indent=1))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
