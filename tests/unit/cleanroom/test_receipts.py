"""A receipt is believed only if it shows every check that its own job needed, whoever signed it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from adyton.cleanroom.attestation.checks import Platform
from adyton.cleanroom.broker import KeyGrant
from adyton.cleanroom.contract import Contract, DatasetTerms, Output, OutputTerms, OwnerRule, Template
from adyton.cleanroom.enclave import Enclave
from adyton.cleanroom.gate import GateCheck, required_checks
from adyton.cleanroom.job import JobSpec
from adyton.cleanroom.key_exchange import DevelopmentEvidence, EnclaveKeys
from adyton.cleanroom.ledger_store import CounterValue, FileCounter, LedgerStore
from adyton.cleanroom.party import Party
from adyton.cleanroom.receipt import Receipt, verify_receipt
from adyton.cleanroom.receipt_page import receipt_page
from adyton.cleanroom.receipt_writer import RunFacts, SealedOutput, write_receipt
from adyton.cleanroom.signed_contract import unsigned
from adyton.cleanroom.table_columns import TableColumn
from adyton.kernel.chance import InsecureFixedRandom, OsRandom
from adyton.kernel.clock import ManualClock
from adyton.kernel.errors import AdytonError
from adyton.kernel.ids import DatasetId, JobId
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.schema import Column, Kind, Role

CODE = b"c" * 32
NOW_MS = 1_800_000_000_000
PARTIES = {name: Party.create(name) for name in ("publisher", "advertiser")}
USER = TableColumn(Column("user_id", Role.USER_ID, Kind.CATEGORY), "string", nullable=False)
CONTRACT = Contract(
    contract_id="receipts",
    parties=tuple(party.identity for party in PARTIES.values()),
    datasets=tuple(
        DatasetTerms(DatasetId(f"{n}-log"), 1, p.name, "users", (USER,), "user_id", 9, "ab" * 32)
        for n, p in PARTIES.items()
    ),
    rules=tuple(
        OwnerRule(p.name, "users", PrivacyLoss.of(1), frozenset({CODE.hex()}), frozenset(Template), allow_dev=True)
        for p in PARTIES.values()
    ),
    outputs=(OutputTerms(Output.JOIN_STATISTICS, tuple(p.name for p in PARTIES.values())),),
    starts_at_ms=NOW_MS - 1,
    expires_at_ms=NOW_MS + 1_000_000,
)
LOSS = PrivacyLoss.of("1/2")
JOB = JobSpec(
    job_id=JobId("one"),
    base=DatasetId("advertiser-log"),
    partners=(DatasetId("publisher-log"),),
    templates=frozenset({Template.JOIN_STATISTICS}),
    statistics_loss=LOSS,
)
SPENT = [
    {"owner": n, "population": "users", "purpose": "join_statistics", **LOSS.as_json(), "noise_is_secure": True}
    for n in ("advertiser", "publisher")
]
CHECKS = [
    GateCheck(Output.JOIN_STATISTICS, name, True, "found", "limit")
    for name in sorted(required_checks(Output.JOIN_STATISTICS))
]
BOXES = [SealedOutput(Output.JOIN_STATISTICS, name, f"join_statistics.{name}.box", b"box") for name in PARTIES]


def honest() -> RunFacts:
    terms = [CONTRACT.dataset(d) for d in (JOB.base, *JOB.partners)]
    grants = [
        KeyGrant(one.owner, one.dataset_id, CONTRACT.hash, b"n" * 32, b"", Platform.DEV_SIM, CODE.hex(), "0" * 64)
        for one in terms
    ]
    return RunFacts(
        contract=CONTRACT,
        job=JOB,
        terms=terms,
        grants=grants,
        hardening=(),
        spent=SPENT,
        ledger_head=CounterValue(2, "0" * 64),
        checks=CHECKS,
        outputs=BOXES,
        started_at_ms=NOW_MS,
        finished_at_ms=NOW_MS + 5,
    )


def signed(facts: RunFacts) -> Receipt:
    """With a key that evidence vouches for: what an enclave with a defect, or a malicious one, would hand out."""
    return write_receipt(facts, EnclaveKeys(OsRandom()), DevelopmentEvidence(CODE))


def failed(facts: RunFacts) -> set[str]:
    return {check.name for check in verify_receipt(signed(facts), CONTRACT).checks if not check.passed}


def test_an_honest_receipt_holds() -> None:
    assert failed(honest()) == set()


@pytest.mark.parametrize("name", sorted(required_checks(Output.JOIN_STATISTICS)))
def test_a_receipt_without_one_of_the_gates_checks_is_refused(name: str) -> None:
    facts = replace(honest(), checks=[check for check in CHECKS if check.name != name])
    assert failed(facts) == {"gate"}
    [gate] = [c for c in verify_receipt(signed(facts), CONTRACT).checks if c.name == "gate"]
    assert gate.found == f"join_statistics {name} missing"


def test_a_receipt_that_hides_what_was_spent_is_refused() -> None:
    assert failed(replace(honest(), spent=())) == {"ledger"}
    assert failed(replace(honest(), spent=SPENT[:1])) == {"ledger"}
    assert failed(replace(honest(), spent=[SPENT[0], {**SPENT[1], "epsilon": "1/4"}])) == {"ledger"}
    assert failed(replace(honest(), spent=[*SPENT, SPENT[1]])) == {"ledger"}


def test_a_receipt_for_more_than_the_budget_is_refused() -> None:
    more = PrivacyLoss.of(2)
    spent = [{**entry, **more.as_json()} for entry in SPENT]
    assert failed(replace(honest(), job=replace(JOB, statistics_loss=more), spent=spent)) == {"ledger"}


def test_a_box_too_many_or_too_few_is_refused() -> None:
    assert failed(replace(honest(), outputs=BOXES[:1])) == {"recipients"}
    stray = SealedOutput(Output.MODEL, "publisher", "model.publisher.box", b"box")
    assert failed(replace(honest(), outputs=[*BOXES, stray])) == {"recipients"}
    assert failed(replace(honest(), outputs=[*BOXES, BOXES[0]])) == {"recipients"}


def test_inputs_of_another_job_are_refused() -> None:
    facts = honest()
    assert failed(replace(facts, terms=facts.terms[:1])) == {"job"}


@pytest.mark.parametrize("output", list(Output))
def test_every_output_has_checks_that_a_receipt_must_show(output: Output) -> None:
    assert {"template", "recipients", "guarantee", "threshold", "literals"} <= required_checks(output)
    attacked = output in (Output.SYNTHETIC_TABLE, Output.MODEL, Output.MODEL_WITHOUT_PARTNER)
    assert ("membership" in required_checks(output)) == attacked


def test_the_page_says_what_holds_and_escapes_what_it_shows() -> None:
    good = signed(honest())
    page = receipt_page(good, verify_receipt(good, CONTRACT), CONTRACT)
    assert "Every fact below was computed again and holds." in page
    assert "DEVELOPMENT platform" in page
    for check in verify_receipt(good, CONTRACT).checks:
        assert f"<td>{check.name}</td>" in page

    spent = [{**entry, "purpose": "<script>alert(1)</script>"} for entry in SPENT]
    odd = signed(replace(honest(), spent=spent))
    page = receipt_page(odd, verify_receipt(odd, CONTRACT), CONTRACT)
    assert "does NOT hold" in page
    assert "<script" not in page


def test_fixed_noise_is_no_guarantee_and_the_receipt_says_so() -> None:
    fixed = [{**entry, "noise_is_secure": False} for entry in SPENT]
    unsaid = [{name: value for name, value in entry.items() if name != "noise_is_secure"} for entry in SPENT]

    for spent in (fixed, unsaid):
        receipt = signed(replace(honest(), spent=spent))
        [ledger] = [c for c in verify_receipt(receipt, CONTRACT).checks if c.name == "ledger"]
        assert ledger.found.startswith("FIXED NOISE")


def test_an_operator_cannot_ask_for_noise_that_it_knows(tmp_path: Path) -> None:
    for allow_dev in (False, True):
        contract = replace(CONTRACT, rules=tuple(replace(rule, allow_dev=allow_dev) for rule in CONTRACT.rules))
        agreed = unsigned(contract)
        for party in PARTIES.values():
            agreed = agreed.sign(party)
        store = LedgerStore(tmp_path / f"{allow_dev}.sqlite", FileCounter(tmp_path / f"{allow_dev}.json"))
        enclave = Enclave(
            signed=agreed,
            inputs={},
            brokers={},
            ledger=store,
            maker=DevelopmentEvidence(CODE),
            hardening=(),
            clock=ManualClock(NOW_MS),
            random=OsRandom(),
            noise=InsecureFixedRandom(1, "test"),
        )
        # Where development runs are allowed it gets as far as its tables, which are not there.
        with pytest.raises(AdytonError) as caught:
            enclave.run(JOB, lambda _fraction, _what: None)
        assert ("fixed noise" in str(caught.value)) is not allow_dev
