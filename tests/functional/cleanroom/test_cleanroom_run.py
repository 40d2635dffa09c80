"""The clean room with real processes, sockets and keys: what it hands out, and what it refuses."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adyton.cleanroom.aggregate_request import AggregateRequest
from adyton.cleanroom.attestation.errors import EvidenceRefusedError
from adyton.cleanroom.broker_store import BrokerStore
from adyton.cleanroom.contract import Output, Template
from adyton.cleanroom.contract_states import ContractEvent
from adyton.cleanroom.errors import (
    ContractStateError,
    EnclaveUnavailableError,
    GateRefusedError,
    LedgerRollbackError,
    SealBrokenError,
    TemplateRefusedError,
)
from adyton.cleanroom.key_release import active_contracts, data_keys
from adyton.cleanroom.ledger_store import FileCounter, LedgerStore
from adyton.cleanroom.outputs import read_model, read_synthetic
from adyton.cleanroom.party import Party
from adyton.cleanroom.receipt import load_receipt, verify_receipt
from adyton.cleanroom.run import open_output
from adyton.cleanroom.sealed_table import owner_dek, seal_batches
from adyton.cleanroom.signed_contract import save_contract
from adyton.cleanroom.table_columns import arrow_schema
from adyton.kernel.clock import SystemClock
from adyton.kernel.errors import BadInputError
from adyton.kernel.ledger import Account, LedgerStateError, OverBudgetError, PrivacyLoss
from adyton.learning.metrics import auc

ALL = (Template.JOIN_STATISTICS, Template.TRAIN, Template.SCORE, Template.SYNTHESIZE)
STATISTICS = (Template.JOIN_STATISTICS,)


@pytest.mark.slow
def test_a_whole_job_hands_out_true_sealed_outputs_and_a_receipt(make_room: Callable[..., Any]) -> None:
    room = make_room()
    told: list[float] = []
    result = room.run(room.job("whole", *ALL), progress=lambda fraction, what: told.append(fraction))
    publisher, advertiser = room.parties["publisher"], room.parties["advertiser"]

    statistics = json.loads(open_output(result.box(Output.JOIN_STATISTICS, "publisher"), publisher))
    predictions = pq.read_table(io.BytesIO(open_output(result.box(Output.PREDICTIONS, "advertiser"), advertiser)))
    evaluation = json.loads(open_output(result.box(Output.EVALUATION, "advertiser"), advertiser))
    synthetic = read_synthetic(open_output(result.box(Output.SYNTHETIC_TABLE, "advertiser"), advertiser))
    model = read_model(open_output(result.box(Output.MODEL, "advertiser"), advertiser, receipt=result.receipt))

    assert statistics["users_joined"] == room.users_in_both()
    recomputed = auc(predictions["label"].to_numpy(), predictions["with_partner"].to_numpy())
    assert recomputed == pytest.approx(evaluation["model"]["auc"], abs=1e-9)
    assert synthetic.rows == 2_000
    assert synthetic.guarantee == PrivacyLoss.of(1, "1e-6")
    assert {"publisher_segment"} <= {f["name"] for f in model.manifest["fields"]["user"]}  # type: ignore[index]
    assert told == sorted(told)
    assert told[-1] == 1.0
    boxes = {path.name: path.read_bytes() for path in result.receipt_path.parent.iterdir()}
    verdict = verify_receipt(load_receipt(result.receipt_path), room.signed.contract, boxes)
    assert verdict.holds, verdict.as_json()
    assert verdict.is_development
    with pytest.raises(SealBrokenError):
        open_output(result.box(Output.MODEL, "advertiser"), publisher)
    assert nothing_in_the_clear(room.folder)


def nothing_in_the_clear(folder: Path) -> bool:
    """No user id of either party stands in any file that the run left."""
    return not any(b"person-0002" in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_users_joined_is_the_independent_count(room: Any) -> None:
    result = room.run(room.job("count", *STATISTICS))
    statistics = json.loads(open_output(result.box(Output.JOIN_STATISTICS, "publisher"), room.parties["publisher"]))

    assert statistics["users_joined"] == room.users_in_both()
    held = {m["name"] for m in result.receipt.body["hardening"] if m["held"]}
    assert "no-core-dump" in held


def test_a_partys_table_swapped_after_signing_is_refused(make_room: Callable[..., Any]) -> None:
    """The same columns, id and version, sealed by the same owner: only the rows are others."""
    room = make_room()
    other = room.folder / "other"
    manifest = room.manifests["publisher-log"]
    schema = arrow_schema(manifest.columns)
    rows = pa.table({f.name: pa.array([1]).cast(f.type) for f in schema}, schema=schema)
    seal_batches(
        iter(rows.to_batches()),
        other,
        manifest.columns,
        dataset_id="publisher-log",
        version=1,
        owner=room.parties["publisher"],
    )
    inputs = room.inputs()
    inputs["publisher-log"] = tuple(other / path.name for path in inputs["publisher-log"])

    with pytest.raises(SealBrokenError, match="not the one that the contract names"):
        room.run(room.job("swap", *STATISTICS), inputs=inputs)


def test_a_contract_that_does_not_allow_development_gets_no_key(make_room: Callable[..., Any]) -> None:
    room = make_room(allow_dev=False)
    with pytest.raises(EvidenceRefusedError, match="development"):
        room.run(room.job("dev", *STATISTICS))


def test_other_code_than_the_contract_allows_gets_no_key(make_room: Callable[..., Any]) -> None:
    room = make_room(measurements=frozenset({"ab" * 32}))
    with pytest.raises(EvidenceRefusedError, match="measurement"):
        room.run(room.job("code", *STATISTICS))


def test_an_over_budget_release_is_refused_before_anything_is_computed(room: Any) -> None:
    with pytest.raises(OverBudgetError, match="left are epsilon 2"):
        room.run(room.job("greedy", Template.SYNTHESIZE, epsilon="2.5"))
    assert not (room.folder / "out-greedy").exists()


@pytest.mark.slow
def test_a_template_that_one_owner_does_not_allow_is_refused(make_room: Callable[..., Any]) -> None:
    room = make_room(templates=frozenset({Template.JOIN_STATISTICS}))
    with pytest.raises(TemplateRefusedError, match="train"):
        room.run(room.job("malicious", Template.TRAIN))


@pytest.mark.slow
def test_a_suspended_contract_runs_nothing(make_room: Callable[..., Any]) -> None:
    room = make_room()
    now_ms = int(time.time() * 1000)
    suspended = room.signed.give_notice(room.parties["publisher"], ContractEvent.SUSPEND, now_ms)
    save_contract(suspended, room.folder / "contract.json")
    with pytest.raises(ContractStateError, match="suspended"):
        room.run(room.job("paused", *STATISTICS))


@pytest.mark.slow
def test_exact_statistics_need_every_owners_word(make_room: Callable[..., Any]) -> None:
    """Add-one/remove-one probing by match rate: without that word only noised counts leave, and they cost."""
    room = make_room(without_guarantee=frozenset())
    with pytest.raises(GateRefusedError, match="join_statistics: guarantee found no guarantee"):
        room.run(room.job("exact", *STATISTICS))
    noised = room.run(room.job("noised", *STATISTICS, statistics_loss=PrivacyLoss.of("0.5")))

    assert [entry["epsilon"] for entry in noised.receipt.body["ledger"]] == ["1/2", "1/2"]
    assert not (room.folder / "out-exact").exists()


@pytest.mark.slow
def test_a_join_of_too_few_users_is_refused(make_room: Callable[..., Any]) -> None:
    room = make_room(k=1_000)
    with pytest.raises(GateRefusedError, match="threshold found fewer than 1000 users"):
        room.run(room.job("few", *STATISTICS))


@pytest.mark.slow
def test_a_rolled_back_ledger_stops_the_run(make_room: Callable[..., Any]) -> None:
    room = make_room()
    ledger = room.folder / "ledger" / "ledger.sqlite"
    loss = PrivacyLoss.of("0.1")
    room.run(room.job("first", *STATISTICS, statistics_loss=loss))
    shutil.copy(ledger, room.folder / "old")
    room.run(room.job("second", *STATISTICS, statistics_loss=loss))
    shutil.copy(room.folder / "old", ledger)

    with pytest.raises(LedgerRollbackError):
        room.run(room.job("third", *STATISTICS, statistics_loss=loss))


@pytest.mark.slow
def test_a_job_id_runs_once(room: Any) -> None:
    job = room.job("again", *STATISTICS)
    room.run(job)
    with pytest.raises(BadInputError, match="exists"):
        room.run(job)


@pytest.mark.slow
@pytest.mark.parametrize("at", ["joining", "training", "synthesizing"])
def test_a_killed_enclave_leaks_nothing_and_the_job_runs_again(
    make_room: Callable[..., Any], enclaves: Callable[[], list[int]], at: str
) -> None:
    room = make_room()
    job = room.job("crash", *ALL)

    def kill_when_there(fraction: float, what: str) -> None:
        if at in what:
            for process in enclaves():
                os.kill(process, signal.SIGKILL)

    with pytest.raises(EnclaveUnavailableError, match="SIGKILL"):
        room.run(job, progress=kill_when_there)
    assert not any(path.name.startswith("out-") for path in room.folder.iterdir())
    assert nothing_in_the_clear(room.folder)
    again = room.run(job)

    assert again.receipt_path.exists()
    with pytest.raises(LedgerStateError, match="used before"):
        room.run(job, out_dir=room.folder / "out-twice")
    account = Account("publisher", "users")
    store = LedgerStore(room.folder / "ledger" / "ledger.sqlite", FileCounter(room.folder / "counter" / "counter.json"))
    assert store.ledger({account: PrivacyLoss.of(2, "1e-5")}).spent(account) == PrivacyLoss.of(1, "1e-6")


def test_the_operator_can_open_nothing(room: Any, tmp_path: Path) -> None:
    """It holds the files, the receipt and the ledger, and keys of its own."""
    result = room.run(room.job("operator", *STATISTICS))
    for one in result.outputs:
        with pytest.raises(SealBrokenError):
            open_output(one.path, Party.create(one.recipient))
    for path in room.folder.rglob("*"):
        if path.is_file():
            assert b"person-0002" not in path.read_bytes()


def test_a_forged_receipt_is_refused(room: Any) -> None:
    result = room.run(room.job("receipt", *STATISTICS))
    contract = room.signed.contract
    assert verify_receipt(result.receipt, contract).holds
    for field, value in (
        ("ledger", [{"owner": "publisher", "population": "users", "epsilon": "1", "delta": "0"}]),
        ("development", False),
        ("measurement", "00" * 32),
        ("job", {**result.receipt.body["job"], "seed": 99}),
        ("gate", []),
    ):
        forged = replace(result.receipt, body={**result.receipt.body, field: value})
        verdict = verify_receipt(forged, contract)
        assert not verdict.holds, field
    boxes = {result.outputs[0].path.name: result.outputs[0].path.read_bytes() + b"x"}
    assert not verify_receipt(result.receipt, contract, boxes).holds


def test_a_timer_kills_a_run_that_takes_too_long(room: Any, enclaves: Callable[[], list[int]]) -> None:
    with pytest.raises(EnclaveUnavailableError, match="which is all the time it had"):
        room.run(room.job("slow", *ALL), timeout_s=0.5)
    assert enclaves() == []


QUERY = (
    "SELECT segment, COUNT(*) AS shown, COUNT(DISTINCT user_id) AS users, AVG(watched) AS rate "
    "FROM joined WHERE publisher_matched GROUP BY segment"
)


def asked(name: str = "by_segment", sql: str = QUERY, epsilon: str = "1/2") -> AggregateRequest:
    bounds = {"rate": (Fraction(0), Fraction(1))} if "AS rate" in sql else {}
    return AggregateRequest(name, sql, PrivacyLoss.of(epsilon, "1e-6"), bounds, max_rows_per_group=10)


@pytest.mark.slow
def test_queries_leave_noised_and_each_costs_its_epsilon(make_room: Callable[..., Any]) -> None:
    room = make_room(query_columns=frozenset({"segment", "watched", "hour"}), k=5)
    by_publisher = "SELECT publisher_segment AS s, COUNT(DISTINCT user_id) AS users FROM joined GROUP BY s"
    queries = (asked(epsilon="3/2"), asked("by_publisher", by_publisher))
    job = room.job("queries", Template.AGGREGATE, Template.JOIN_STATISTICS, queries=queries)
    result = room.run(job)
    content = open_output(result.box(Output.AGGREGATE, "advertiser"), room.parties["advertiser"])
    first, second = json.loads(content)["queries"]

    assert [row[0] for row in first["rows"]] == [0, 1, 2, 3]
    assert sum(row[2] for row in first["rows"]) == pytest.approx(room.users_in_both(), abs=120)
    assert all(0 <= row[3] <= 1 for row in first["rows"])
    assert first["k"] == 5
    assert first["threshold_noised_users"] > 5
    assert {row[0] for row in second["rows"]} >= {0, 1, 2, 3}
    assert b"person-" not in content
    spent = {(e["owner"], e["purpose"], e["epsilon"]) for e in result.receipt.body["ledger"]}
    assert spent == {
        (owner, f"aggregate:{q.name}", str(q.loss.epsilon)) for owner in ("publisher", "advertiser") for q in queries
    }
    assert verify_receipt(result.receipt, room.signed.contract).holds
    with pytest.raises(OverBudgetError, match="left are epsilon 0,"):
        room.run(room.job("more", Template.AGGREGATE, queries=(asked(),)))


@pytest.mark.slow
def test_a_malicious_query_is_refused_before_any_key_is_asked_for(make_room: Callable[..., Any]) -> None:
    room = make_room(query_columns=frozenset({"segment"}))
    for sql, why in (
        ("SELECT user_id AS segment, COUNT(*) AS n FROM joined GROUP BY 1", "may only stand in COUNT"),
        ("SELECT hour, COUNT(*) AS n FROM joined GROUP BY hour", "not on the list"),
        ("SELECT COUNT(*) AS n FROM read_text('/etc/passwd')", "joined alone"),
        ("COPY joined TO '/tmp/rows.csv'", "one SELECT"),
    ):
        with pytest.raises(TemplateRefusedError, match=why):
            room.run(room.job("malicious", Template.AGGREGATE, queries=(asked("q", sql),)), brokers={})
    assert BrokerStore(room.folder / "publisher.sqlite").log() == ()


def test_a_job_of_templates_that_do_not_fit_together_is_no_job(room: Any) -> None:
    for templates in ((Template.SCORE,), (Template.AGGREGATE,), ()):
        with pytest.raises(BadInputError):
            room.job("odd", *templates)
    with pytest.raises(BadInputError, match="go together"):
        room.job("odd", Template.JOIN_STATISTICS, queries=(asked(),))


def test_a_key_of_another_version_is_not_released(make_room: Callable[..., Any]) -> None:
    """The broker knows the newer version of the same dataset only; the contract names the older one."""
    room = make_room()
    publisher, old = room.parties["publisher"], room.manifests["publisher-log"]
    newer = replace(old, version=2)
    other = replace(old, ciphertext_sha256="0" * 64)
    wanted = active_contracts([room.signed], publisher.name, SystemClock())(room.signed.contract.hash)
    assert wanted is not None
    name = wanted.key_names[old.dataset_id]

    assert data_keys([newer, other], publisher)(name) is None  # type: ignore[arg-type]
    key = data_keys([old, newer, other], publisher)(name)  # type: ignore[arg-type]
    assert key is not None
    assert key.data == owner_dek(old, publisher)
