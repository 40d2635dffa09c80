"""Contracts: one hash, every signature, the strictest rule, one state table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adyton.cleanroom.aggregate_request import AggregateRequest
from adyton.cleanroom.contract import Contract, DatasetTerms, Output, OutputTerms, OwnerRule, Template
from adyton.cleanroom.contract_states import TRANSITIONS, ContractEvent, ContractState, next_state
from adyton.cleanroom.errors import ContractError, ContractSignatureError, ContractStateError
from adyton.cleanroom.job import JobSpec
from adyton.cleanroom.party import Party
from adyton.cleanroom.signed_contract import SignedContract, load_contract, save_contract, unsigned
from adyton.cleanroom.table_columns import TableColumn
from adyton.kernel.errors import BadInputError
from adyton.kernel.ids import DatasetId
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.schema import Column, Kind, Role

PARTIES = {name: Party.create(name) for name in ("publisher", "advertiser", "observer")}
COLUMNS = (
    TableColumn(Column("user_id", Role.USER_ID, Kind.CATEGORY), "string", nullable=False),
    TableColumn(Column("age", Role.USER, Kind.CATEGORY), "int64"),
)
START_MS, END_MS = 1_000, 9_000
CODE = "ab" * 32


def rule(owner: str, **changes: object) -> OwnerRule:
    values: dict[str, object] = {
        "owner": owner,
        "population": "users",
        "budget": PrivacyLoss.of(8, "1e-5"),
        "measurements": frozenset({CODE}),
        "templates": frozenset({Template.TRAIN, Template.SYNTHESIZE}),
        "allow_dev": True,
    }
    return OwnerRule(**{**values, **changes})  # type: ignore[arg-type]


def terms(owner: str) -> DatasetTerms:
    return DatasetTerms(DatasetId(f"{owner}-log"), 1, PARTIES[owner].name, "users", COLUMNS, "user_id", 10, "00" * 32)


def contract(**changes: object) -> Contract:
    values: dict[str, object] = {
        "contract_id": "c1",
        "parties": tuple(party.identity for party in PARTIES.values()),
        "datasets": (terms("publisher"), terms("advertiser")),
        "rules": (rule("publisher"), rule("advertiser")),
        "outputs": (OutputTerms(Output.MODEL, (PARTIES["advertiser"].name,)),),
        "starts_at_ms": START_MS,
        "expires_at_ms": END_MS,
    }
    return Contract(**{**values, **changes})  # type: ignore[arg-type]


def signed_by_all(of: Contract | None = None) -> SignedContract:
    signed = unsigned(of or contract())
    for party in PARTIES.values():
        signed = signed.sign(party)
    return signed


def test_the_strictest_owner_wins() -> None:
    """k 100 and 150 gives 150; what one owner does not allow is not allowed."""
    strict = contract(
        rules=(
            rule("publisher", k=100, measurements=frozenset({CODE, "cd" * 32})),
            rule("advertiser", k=150, allow_dev=False, templates=frozenset({Template.TRAIN})),
        )
    ).binding_rule

    assert (strict.k, strict.allow_dev) == (150, False)
    assert (strict.templates, strict.measurements) == (frozenset({Template.TRAIN}), frozenset({CODE}))


def test_owners_who_share_no_measurement_have_no_contract() -> None:
    with pytest.raises(ContractError, match="no measurement"):
        contract(rules=(rule("publisher"), rule("advertiser", measurements=frozenset({"cd" * 32}))))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"parties": (PARTIES["publisher"].identity,)}, "two parties"),
        ({"datasets": ()}, "at least one dataset"),
        ({"datasets": (terms("publisher"), terms("publisher"))}, "named twice"),
        ({"rules": (rule("publisher"),)}, "no rule"),
        ({"expires_at_ms": START_MS}, "ends before"),
        ({"outputs": (OutputTerms(Output.MODEL, ("stranger",)),)}, "not a party"),  # type: ignore[arg-type]
    ],
)
def test_a_contract_that_cannot_hold_is_refused(changes: dict[str, object], what: str) -> None:
    with pytest.raises(ContractError, match=what):
        contract(**changes)


def test_a_contract_file_comes_back_the_same(tmp_path: Path) -> None:
    signed = signed_by_all().give_notice(PARTIES["publisher"], ContractEvent.SUSPEND, START_MS)
    save_contract(signed, tmp_path / "c.json")

    loaded = load_contract(tmp_path / "c.json")

    assert loaded.as_json() == signed.as_json()
    assert loaded.contract.hash == signed.contract.hash


def test_any_edit_changes_the_hash_and_voids_the_signatures() -> None:
    signed = signed_by_all()
    edited = replace(signed, contract=replace(signed.contract, expires_at_ms=END_MS + 1))

    assert edited.contract.hash != signed.contract.hash
    with pytest.raises(ContractSignatureError, match="does not fit"):
        edited.state(START_MS)


def test_a_stated_hash_that_is_not_the_contracts_is_refused() -> None:
    record = json.loads(json.dumps(signed_by_all().as_json()))
    record["contract"]["rules"][0]["epsilon"] = "80"
    with pytest.raises(ContractError, match="hash"):
        SignedContract.from_json(record)


def test_a_field_that_a_signer_would_not_have_seen_is_refused() -> None:
    record = {**contract().as_json(), "secret_annex": 1}
    with pytest.raises(ContractError, match="secret_annex"):
        Contract.from_json(record)


def test_a_party_with_other_keys_cannot_sign() -> None:
    with pytest.raises(ContractError, match="other keys"):
        unsigned(contract()).sign(Party.create("publisher"))


def test_states_follow_signatures_and_time() -> None:
    draft = unsigned(contract())
    proposed = draft.sign(PARTIES["publisher"])
    complete = signed_by_all()

    assert [draft.state(0), proposed.state(0), complete.state(0)] == [
        ContractState.DRAFT,
        ContractState.PROPOSED,
        ContractState.SIGNED_BY_ALL,
    ]
    assert [complete.state(START_MS), complete.state(END_MS)] == [ContractState.ACTIVE, ContractState.EXPIRED]
    with pytest.raises(ContractStateError, match="proposed") as caught:
        proposed.require_active(START_MS)
    assert "advertiser" in str(caught.value.hint)


def test_a_suspended_contract_resumes_only_by_who_suspended_it() -> None:
    suspended = signed_by_all().give_notice(PARTIES["publisher"], ContractEvent.SUSPEND, START_MS)

    assert suspended.state(START_MS) is ContractState.SUSPENDED
    with pytest.raises(ContractStateError, match="only the party"):
        suspended.give_notice(PARTIES["advertiser"], ContractEvent.RESUME, START_MS + 1)
    resumed = suspended.give_notice(PARTIES["publisher"], ContractEvent.RESUME, START_MS + 1)
    assert resumed.state(START_MS + 2) is ContractState.ACTIVE


def test_a_revoked_contract_stays_revoked() -> None:
    revoked = signed_by_all().give_notice(PARTIES["observer"], ContractEvent.REVOKE, START_MS)

    assert revoked.state(END_MS + 1) is ContractState.REVOKED
    with pytest.raises(ContractStateError):
        revoked.give_notice(PARTIES["observer"], ContractEvent.RESUME, START_MS + 1)


def test_a_notice_signed_for_another_place_in_the_list_is_refused() -> None:
    suspended = signed_by_all().give_notice(PARTIES["publisher"], ContractEvent.SUSPEND, START_MS)
    resumed = suspended.give_notice(PARTIES["publisher"], ContractEvent.RESUME, START_MS + 1)
    shuffled = replace(resumed, notices=(resumed.notices[1],))

    with pytest.raises(ContractSignatureError, match=r"notices\[0\]"):
        shuffled.state(START_MS + 2)


def test_every_state_has_a_way_out_except_the_last_two() -> None:
    ends = {state for state in ContractState if not any(start is state for start, _ in TRANSITIONS)}

    assert ends == {ContractState.EXPIRED, ContractState.REVOKED}
    with pytest.raises(ContractStateError):
        next_state(ContractState.EXPIRED, ContractEvent.START)


@pytest.mark.parametrize(
    "number",
    [
        "-1",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "1e-400",
        "1e999999999",
        "1e-999999999",
        "1/0",
        "",
        "0x10",
        "1" * 300,
        "1e1e1",
        -1,
        *(float("nan"), float("inf"), True, None),
        *([], {}),
    ],
)
def test_an_epsilon_that_is_no_number_of_a_budget_is_refused_at_once(number: object) -> None:
    """A few characters could ask for a number of a billion digits, or be taken for another one."""
    job = {"job_id": "j", "base": "a", "partners": ["b"], "templates": ["join_statistics"]}
    query = {"name": "q", "sql": "SELECT 1", "loss": {"epsilon": number, "delta": "1e-6"}}
    signed: Any = contract().as_json()
    [rule, *rules] = signed["rules"]

    for made in (
        lambda: JobSpec.from_json({**job, "statistics_loss": {"epsilon": number, "delta": 0}}),
        lambda: JobSpec.from_json({**job, "statistics_loss": {"epsilon": 1, "delta": number}}),
        lambda: AggregateRequest.from_json(query),
        lambda: AggregateRequest.from_json({**query, "loss": {"epsilon": 1, "delta": number}}),
        lambda: AggregateRequest.from_json(
            {**query, "loss": {"epsilon": 1, "delta": "1e-6"}, "bounds": {"x": [0, number]}}
        ),
        lambda: Contract.from_json({**signed, "rules": [{**rule, "epsilon": number}, *rules]}),
    ):
        with pytest.raises(BadInputError):
            made()


@pytest.mark.parametrize(
    "field", [{"memory_mb": float("inf")}, {"incremental": "yes"}, {"statistics_loss": {"epsilon": 0, "delta": 0}}]
)
def test_a_field_that_could_be_taken_for_another_is_refused(field: dict[str, object]) -> None:
    with pytest.raises(BadInputError):
        JobSpec.from_json({"job_id": "j", "base": "a", "partners": ["b"], "templates": ["join_statistics"], **field})


@pytest.mark.parametrize("memory_mb", [-5, 31, 10**30])
def test_memory_that_no_machine_has_is_refused_before_the_job_begins(memory_mb: int) -> None:
    job = {"job_id": "j", "base": "a", "partners": ["b"], "templates": ["join_statistics"], "memory_mb": memory_mb}
    with pytest.raises(BadInputError, match="memory_mb lies in"):
        JobSpec.from_json(job)


@pytest.mark.parametrize("k", [1, 0, -50, 50.0, "50", True, None])
def test_a_contract_for_single_users_is_no_contract(k: object) -> None:
    signed: Any = contract().as_json()
    [first, *rules] = signed["rules"]

    with pytest.raises(ContractError):
        Contract.from_json({**signed, "rules": [{**first, "k": k}, *rules]})


def test_a_notice_at_no_time_is_refused_in_words() -> None:
    signed: Any = signed_by_all().as_json()
    notice = {"event": "suspend", "party": "publisher", "at_ms": float("inf"), "signature": "00"}
    with pytest.raises(ContractError, match="malformed"):
        SignedContract.from_json({**signed, "notices": [notice]})
