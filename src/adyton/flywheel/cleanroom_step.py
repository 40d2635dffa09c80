"""Publisher and advertiser seal their tables, sign a contract, and let a development enclave learn from the join.

Each party has its own keys, its own broker over a loopback socket and its own sealed file. The enclave is a process of
its own. What comes out is opened here by its recipient, as that party would do at home.
"""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from adyton.cleanroom.broker import KeyBroker
from adyton.cleanroom.broker_server import running_broker
from adyton.cleanroom.broker_store import BrokerStore
from adyton.cleanroom.contract import Contract, DatasetTerms, Output, OutputTerms, OwnerRule, Template
from adyton.cleanroom.job import JobSpec, SynthesizeRequest
from adyton.cleanroom.key_release import active_contracts, data_keys
from adyton.cleanroom.measurement import code_measurement
from adyton.cleanroom.outputs import read_model, read_synthetic
from adyton.cleanroom.party import Party
from adyton.cleanroom.receipt import Receipt, require_receipt, verify_receipt
from adyton.cleanroom.run import RunResult, open_output, run_cleanroom
from adyton.cleanroom.sealed_table import Manifest, manifest_path, seal_batches, sealed_path
from adyton.cleanroom.signed_contract import SignedContract, save_contract, unsigned
from adyton.cleanroom.table_columns import arrow_schema, declare_columns
from adyton.flywheel import counters
from adyton.flywheel.held_out import Population
from adyton.flywheel.progress import StepProgress
from adyton.kernel.clock import Clock, SystemClock
from adyton.kernel.ids import DatasetId, JobId
from adyton.kernel.ledger import PrivacyLoss
from adyton.kernel.records import ModelArtifact, SyntheticTable
from adyton.learning.datasets.kuairand import tables as kuairand
from adyton.learning.schema import TableSchema

PUBLISHER, ADVERTISER = "publisher", "advertiser"
POPULATION = "app users"
DATASETS = {PUBLISHER: DatasetId("feed-log"), ADVERTISER: DatasetId("placement-log")}
BUDGET = PrivacyLoss.of(8, "1e-5")
SYNTHETIC_LOSS = PrivacyLoss.of(3, "1e-6")
K_USERS = 50
MEMBERS = 3
"""Networks whose scores are averaged in each model."""
SYNTHETIC_COLUMNS = (
    "hour",
    "tab",
    "onehot_feat0",
    "onehot_feat1",
    "onehot_feat5",
    "onehot_feat6",
    "onehot_feat7",
    "onehot_feat9",
    "onehot_feat11",
    "publisher_user_active_degree",
    "publisher_is_video_author",
    "publisher_follow_user_num_range",
    "upload_type",
    "music_type",
    "tag",
)
_DAY_MS = 86_400_000
_MODEL_OUTPUTS = (Output.MODEL, Output.MODEL_WITHOUT_PARTNER, Output.EVALUATION, Output.PREDICTIONS)


@dataclass(frozen=True)
class CleanroomStep:
    """What the parties hold afterwards. predictions: row, label, without_partner, with_partner of the test rows."""

    model: ModelArtifact
    model_without_partner: ModelArtifact
    synthetic: SyntheticTable
    predictions: pa.Table
    evaluation: Mapping[str, Any]
    statistics: Mapping[str, Any]
    receipt: Receipt
    contract: Contract

    @property
    def checks_passed(self) -> int:
        """Named checks that the enclave's evidence passed."""
        body: Any = self.receipt.body
        return sum(check["state"] == "ok" for check in body["checks"])

    @property
    def epsilon_spent(self) -> float:
        """Of the owner who spent most, per user."""
        body: Any = self.receipt.body
        spent: dict[str, Fraction] = defaultdict(Fraction)
        for entry in body["ledger"]:
            spent[entry["owner"]] += Fraction(entry["epsilon"])
        return float(max(spent.values()))


def run_step(
    population: Population,
    out: Path,
    work: Path,
    *,
    seed: int,
    fixed_noise: bool,
    progress: StepProgress,
    clock: Clock | None = None,
) -> CleanroomStep:
    """Everything from sealing to opened outputs. Boxes, contract and receipt go to `out`; keys and ledger to `work`."""
    clock = clock or SystemClock()
    parties = {name: Party.create(name) for name in (PUBLISHER, ADVERTISER)}
    tables = {
        PUBLISHER: (population.publisher, kuairand.PUBLISHER_SCHEMA),
        ADVERTISER: (population.advertiser, kuairand.ADVERTISER_SCHEMA),
    }
    progress.update(0.0, "sealing tables")
    manifests = {
        name: _seal(parties[name], table, schema, work / "sealed" / name) for name, (table, schema) in tables.items()
    }
    signed = _contract(parties, manifests, clock.now_ms())
    contract_file = out / "contract.json"
    save_contract(signed, contract_file)
    job = _job(population.advertiser, seed)
    with ExitStack() as stack:
        brokers = {name: _broker(stack, party, manifests[name], signed, work, clock) for name, party in parties.items()}
        result = run_cleanroom(
            contract_file,
            {DATASETS[name]: _files(work / "sealed" / name, manifests[name]) for name in parties},
            brokers,
            job,
            out / "boxes",
            ledger=work / "ledger.sqlite",
            counter=work / "counter" / "ledger.json",
            insecure_fixed_noise=seed if fixed_noise else None,
            progress=lambda fraction, what: progress.update(0.1 + 0.85 * fraction, what),
        )
    progress.update(0.97, "opening outputs")
    boxes = {one.path.name: one.path.read_bytes() for one in result.outputs}
    require_receipt(verify_receipt(result.receipt, signed.contract, boxes))
    return _opened(result, parties, signed.contract)


def _seal(owner: Party, table: pa.Table, schema: TableSchema, folder: Path) -> Manifest:
    columns = declare_columns(schema, table.schema)
    batches = iter(table.select([column.name for column in columns]).cast(arrow_schema(columns)).to_batches())
    return seal_batches(batches, folder, columns, dataset_id=DATASETS[owner.name], version=1, owner=owner)


def _files(folder: Path, manifest: Manifest) -> tuple[Path, Path]:
    return (
        sealed_path(folder, manifest.dataset_id, manifest.version),
        manifest_path(folder, manifest.dataset_id, manifest.version),
    )


def _contract(parties: Mapping[str, Party], manifests: Mapping[str, Manifest], now_ms: int) -> SignedContract:
    """Both owners allow this very code and a development enclave.

    The models go to the advertiser and exact join counts to both without a guarantee; the contract says so.
    """
    allowed = frozenset({code_measurement().hex()})
    templates = frozenset({Template.JOIN_STATISTICS, Template.TRAIN, Template.SCORE, Template.SYNTHESIZE})
    rules = tuple(
        OwnerRule(
            owner=party.name,
            population=POPULATION,
            budget=BUDGET,
            measurements=allowed,
            templates=templates,
            k=K_USERS,
            allow_dev=True,
            without_guarantee=frozenset({Output.JOIN_STATISTICS, *_MODEL_OUTPUTS}),
        )
        for party in parties.values()
    )
    both = tuple(party.name for party in parties.values())
    advertiser = (parties[ADVERTISER].name,)
    outputs = (
        OutputTerms(Output.JOIN_STATISTICS, both),
        OutputTerms(Output.SYNTHETIC_TABLE, both),
        *(OutputTerms(output, advertiser) for output in _MODEL_OUTPUTS),
    )
    contract = Contract(
        contract_id="demo-1",
        parties=tuple(party.identity for party in parties.values()),
        datasets=tuple(
            DatasetTerms(
                manifest.dataset_id,
                manifest.version,
                manifest.owner,
                POPULATION,
                manifest.columns,
                "user_id",
                manifest.rows,
                manifest.ciphertext_sha256,
            )
            for manifest in manifests.values()
        ),
        rules=rules,
        outputs=outputs,
        starts_at_ms=now_ms - 1,
        expires_at_ms=now_ms + _DAY_MS,
    )
    signed = unsigned(contract)
    for party in parties.values():
        signed = signed.sign(party)
    return signed


def _job(advertiser: pa.Table, seed: int) -> JobSpec:
    dates, times = advertiser["date"].to_numpy(), advertiser["time_ms"].to_numpy()
    return JobSpec(
        job_id=JobId("demo-1"),
        base=DATASETS[ADVERTISER],
        partners=(DATASETS[PUBLISHER],),
        templates=frozenset({Template.JOIN_STATISTICS, Template.TRAIN, Template.SCORE, Template.SYNTHESIZE}),
        validation_from_ms=int(times[dates == kuairand.VALIDATION_DATE].min()),
        test_from_ms=int(times[dates > kuairand.VALIDATION_DATE].min()),
        seed=seed,
        synthesize=SynthesizeRequest(SYNTHETIC_LOSS, advertiser.num_rows, SYNTHETIC_COLUMNS),
        counters={DATASETS[ADVERTISER]: counters.OWN, DATASETS[PUBLISHER]: counters.PARTNER},
        features=(*counters.STATIC, *(counter.name for counter in (*counters.OWN, *counters.PARTNER))),
        members=MEMBERS,
    )


def _broker(
    stack: ExitStack, party: Party, manifest: Manifest, signed: SignedContract, work: Path, clock: Clock
) -> str:
    folder = work / "brokers" / party.name
    folder.mkdir(parents=True)
    store = BrokerStore(folder / "broker.sqlite")
    stack.callback(store.close)
    broker = KeyBroker(
        party.name, store, active_contracts([signed], party.name, clock), data_keys([manifest], party), clock=clock
    )
    return stack.enter_context(running_broker(broker))


def _opened(result: RunResult, parties: Mapping[str, Party], contract: Contract) -> CleanroomStep:
    advertiser = parties[ADVERTISER]

    def content(output: Output) -> bytes:
        return open_output(result.box(output, advertiser.name), advertiser, receipt=result.receipt)

    return CleanroomStep(
        model=read_model(content(Output.MODEL)),
        model_without_partner=read_model(content(Output.MODEL_WITHOUT_PARTNER)),
        synthetic=read_synthetic(content(Output.SYNTHETIC_TABLE)),
        predictions=pq.read_table(io.BytesIO(content(Output.PREDICTIONS))),
        evaluation=json.loads(content(Output.EVALUATION)),
        statistics=json.loads(content(Output.JOIN_STATISTICS)),
        receipt=result.receipt,
        contract=contract,
    )
