"""A small clean room: two parties with a few thousand generated impressions, their brokers, one signed contract."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from adyton.cleanroom.attestation.expected import Expected
from adyton.cleanroom.broker import KeyBroker
from adyton.cleanroom.broker_server import running_broker
from adyton.cleanroom.broker_store import BrokerStore
from adyton.cleanroom.contract import Contract, DatasetTerms, Output, OutputTerms, OwnerRule, Template
from adyton.cleanroom.job import JobSpec, SynthesizeRequest
from adyton.cleanroom.key_release import active_contracts, data_keys
from adyton.cleanroom.measurement import code_measurement
from adyton.cleanroom.party import Party
from adyton.cleanroom.run import RunResult, run_cleanroom
from adyton.cleanroom.sealed_table import Manifest, load_manifest, manifest_path, seal_batches, sealed_path
from adyton.cleanroom.signed_contract import SignedContract, save_contract, unsigned
from adyton.cleanroom.table_columns import arrow_schema, declare_columns
from adyton.kernel.chance import stream
from adyton.kernel.clock import SystemClock
from adyton.kernel.ids import DatasetId, JobId
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.schema import Column, Kind, Role, TableSchema

DAY_MS = 86_400_000
UNGUARDED = frozenset(Output) - {Output.SYNTHETIC_TABLE, Output.AGGREGATE}


def impressions(name: str, users: range, rows: int, block: int = 0) -> pa.Table:
    """Clicks that depend on the user's taste, which both parties see a little of. `block`: of ten days."""
    rng = stream(3, name, *([block] if block else []))
    user = rng.choice(np.array(list(users)), size=rows)
    taste = (user * 7919 % 10) / 10
    item = rng.integers(0, 40, size=rows)
    click = rng.random(rows) < 0.1 + 0.6 * taste * (item % 4 == user % 4)
    return pa.table(
        {
            "user_id": [f"person-{u:06d}" for u in user],
            "item_id": pa.array(item, pa.int64()),
            "time_ms": np.sort(rng.integers(0, 10 * DAY_MS, size=rows)) + block * 10 * DAY_MS,
            "hour": pa.array(rng.integers(0, 24, size=rows), pa.int64()),
            "segment": pa.array(user % 4, pa.int64()),
            "watched": pa.array(click & (rng.random(rows) < 0.7)),
            "label": pa.array(click.astype(np.int8)),
        }
    )


SCHEMA = TableSchema(
    (
        Column("user_id", Role.USER_ID, Kind.CATEGORY),
        Column("item_id", Role.ITEM_ID, Kind.CATEGORY),
        Column("time_ms", Role.TIME, Kind.TIMESTAMP),
        Column("hour", Role.CONTEXT, Kind.CATEGORY),
        Column("segment", Role.USER, Kind.CATEGORY),
        Column("watched", Role.OUTCOME, Kind.BINARY),
        Column("label", Role.LABEL, Kind.BINARY),
    )
)
TABLES = {
    "publisher": impressions("publisher", range(100, 700), 6_000),
    "advertiser": impressions("advertiser", range(500), 4_000),
}


@dataclass(frozen=True)
class Room:
    """Everything of one clean room on disk, with brokers running."""

    folder: Path
    parties: dict[str, Party]
    manifests: dict[str, Manifest]
    signed: SignedContract
    brokers: dict[str, str]

    def job(self, job_id: str, *templates: Template, epsilon: str = "1", **changes: object) -> JobSpec:
        fields: dict[str, object] = {
            "job_id": JobId(job_id),
            "base": DatasetId("advertiser-log"),
            "partners": (DatasetId("publisher-log"),),
            "templates": frozenset(templates),
            "validation_from_ms": 6 * DAY_MS,
            "test_from_ms": 8 * DAY_MS,
            "seed": 1,
            "synthesize": SynthesizeRequest(PrivacyLoss.of(epsilon, "1e-6"), 2_000, ("hour", "segment")),
            "max_epochs": 2,
        }
        return JobSpec(**{**fields, **changes})  # type: ignore[arg-type]

    @property
    def tables(self) -> dict[str, pa.Table]:
        return TABLES

    def users_in_both(self) -> int:
        """Counted without any of the code under test."""
        both = (set(table["user_id"].to_pylist()) for table in TABLES.values())
        return len(set.intersection(*both))

    def inputs(self) -> dict[str, tuple[Path, Path]]:
        sealed = self.folder / "sealed"
        return {i: (sealed_path(sealed, i, 1), manifest_path(sealed, i, 1)) for i in self.manifests}

    def append(self, name: str, table: pa.Table, version: int) -> tuple[Path, Path]:
        """Seal a later version of a party's table; gives its file and manifest."""
        columns, sealed = self.manifests[f"{name}-log"].columns, self.folder / "sealed"
        batches = iter(table.cast(arrow_schema(columns)).to_batches())
        dataset, owner = f"{name}-log", self.parties[name]
        seal_batches(batches, sealed, columns, dataset_id=dataset, version=version, owner=owner)
        return sealed_path(sealed, dataset, version), manifest_path(sealed, dataset, version)

    def run(self, job: JobSpec, **changes: object) -> RunResult:
        arguments: dict[str, object] = {
            "contract": self.folder / "contract.json",
            "inputs": self.inputs(),
            "brokers": self.brokers,
            "job": job,
            "out_dir": self.folder / f"out-{job.job_id}",
            "ledger": self.folder / "ledger" / "ledger.sqlite",
            "counter": self.folder / "counter" / "counter.json",
            "threads": 1,
            "timeout_s": 240,
        }
        return run_cleanroom(**{**arguments, **changes})  # type: ignore[arg-type]


@pytest.fixture
def enclaves() -> Callable[[], list[int]]:
    """Asks for the process ids of enclaves that this test's process started."""

    def found() -> list[int]:
        running = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == os.getpid() and b"adyton.cleanroom.enclave_main" in (path / "cmdline").read_bytes():
                    running.append(int(path.name))
            except OSError:
                continue
        return running

    return found


@pytest.fixture
def later_impressions() -> Callable[[str, int], pa.Table]:
    """A party's impressions of a later block of ten days."""
    users = {"publisher": range(100, 700), "advertiser": range(500)}
    return lambda name, block: impressions(name, users[name], 1_500, block)


@pytest.fixture
def make_room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Room]]:
    with ExitStack() as stack:
        yield lambda **rules: build_room(tmp_path_factory.mktemp("r"), stack, **rules)


@pytest.fixture(scope="session")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with ExitStack() as stack:
        yield build_room(tmp_path_factory.mktemp("r"), stack)


def build_room(
    folder: Path, stack: ExitStack, *, trust: tuple[bytes, ...] = (), appends: bool = False, **rule_changes: object
) -> Room:
    parties = {name: Party.create(name) for name in TABLES}
    manifests: dict[str, Manifest] = {}
    for name, table in TABLES.items():
        columns = declare_columns(SCHEMA, table.schema)
        batches = iter(table.cast(arrow_schema(columns)).to_batches())
        manifests[f"{name}-log"] = seal_batches(
            batches, folder / "sealed", columns, dataset_id=f"{name}-log", version=1, owner=parties[name]
        )
    clock = SystemClock()
    rule: dict[str, object] = {
        "population": "users",
        "budget": PrivacyLoss.of(2, "1e-5"),
        "measurements": frozenset({code_measurement().hex()}),
        "templates": frozenset(Template),
        "allow_dev": True,
        "without_guarantee": UNGUARDED,
        **rule_changes,
    }
    recipients = {Output.JOIN_STATISTICS: tuple(p.name for p in parties.values())}
    contract = Contract(
        contract_id="test",
        parties=tuple(p.identity for p in parties.values()),
        datasets=tuple(
            DatasetTerms(m.dataset_id, 1, m.owner, "users", m.columns, "user_id", m.rows, m.ciphertext_sha256, appends)
            for m in manifests.values()
        ),
        rules=tuple(OwnerRule(owner=p.name, **rule) for p in parties.values()),  # type: ignore[arg-type]
        outputs=tuple(OutputTerms(o, recipients.get(o, (parties["advertiser"].name,))) for o in Output),
        starts_at_ms=clock.now_ms() - 1_000,
        expires_at_ms=clock.now_ms() + 3_600_000,
    )
    signed = unsigned(contract)
    for party in parties.values():
        signed = signed.sign(party)
    save_contract(signed, folder / "contract.json")
    brokers = {}
    for name, party in parties.items():
        store = BrokerStore(folder / f"{name}.sqlite")
        stack.callback(store.close)

        def owned(owner: str = name) -> list[Manifest]:
            return [load_manifest(path) for path in (folder / "sealed").glob(f"{owner}-log.*.manifest.json")]

        broker = KeyBroker(
            party.name,
            store,
            active_contracts([signed], party.name, clock, owned),
            data_keys(owned, party),
            reference=Expected(at_ms=0, trust_anchors=trust),
        )
        brokers[name] = stack.enter_context(running_broker(broker, f"unix:{folder}/{name}.sock"))
    return Room(folder, parties, manifests, signed, brokers)
