"""The gate and the exact or noised statistics in front of it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest

from adyton.cleanroom.contract import BindingRule, Contract, Output, Template
from adyton.cleanroom.disclosure import join_statistics
from adyton.cleanroom.errors import GateRefusedError
from adyton.cleanroom.gate import Candidate, GateLimits, check_candidate, check_model, require_all
from adyton.cleanroom.join import JoinCounts, keep_common
from adyton.kernel.ledger import PrivacyLoss

ONE = PrivacyLoss.of(1, "1e-6")


def contract(**changes: Any) -> Contract:
    """The two questions that the gate asks a contract, answered without signing one."""
    rule = {
        "k": 50,
        "measurements": frozenset({"00"}),
        "templates": frozenset(Template),
        "allow_dev": True,
        "without_guarantee": frozenset({Output.MODEL}),
    }
    recipients = changes.pop("recipients", ("advertiser",))
    answers = SimpleNamespace(binding_rule=BindingRule(**{**rule, **changes}), recipients=lambda _: recipients)  # type: ignore[arg-type]
    return cast("Contract", answers)


def candidate(output: Output = Output.MODEL, users: int = 50, loss: PrivacyLoss | None = None) -> Candidate:
    return Candidate(output, users, loss)


def failed(one: Candidate, of: Contract, *, reserved: PrivacyLoss | None = None, ids: int = 0) -> set[str]:
    checks = check_candidate(one, of, reserved=reserved, user_ids_found=ids)
    return {check.name for check in checks if not check.passed}


def test_what_the_contract_allows_passes() -> None:
    assert failed(candidate(), contract()) == set()


@pytest.mark.parametrize(
    ("one", "of", "ids", "name"),
    [
        (candidate(users=49), contract(), 0, "threshold"),
        (candidate(), contract(recipients=()), 0, "recipients"),
        (candidate(), contract(templates=frozenset({Template.SCORE})), 0, "template"),
        (candidate(), contract(without_guarantee=frozenset()), 0, "guarantee"),
        (candidate(), contract(), 1, "literals"),
        (candidate(Output.SYNTHETIC_TABLE, loss=ONE), contract(), 0, "guarantee"),
    ],
)
def test_each_check_fails_alone(one: Candidate, of: Contract, ids: int, name: str) -> None:
    assert failed(one, of, ids=ids) == {name}


def test_a_guarantee_must_fit_into_what_was_reserved() -> None:
    noised = candidate(Output.SYNTHETIC_TABLE, loss=ONE)

    assert failed(noised, contract(), reserved=ONE) == set()
    assert failed(noised, contract(), reserved=PrivacyLoss.of("0.9", "1e-6")) == {"guarantee"}


def test_a_refusal_names_check_figure_and_limit_but_no_count_of_users() -> None:
    checks = check_candidate(candidate(users=37), contract(), reserved=None, user_ids_found=0)
    checks += check_model(Output.MODEL, 0.91, GateLimits())
    with pytest.raises(GateRefusedError) as caught:
        require_all(checks)

    assert "membership found AUC 0.910, wanted at most 0.75" in str(caught.value)
    assert "threshold found fewer than 50 users" in str(caught.value)
    assert "37" not in str(caught.value)


def test_small_counts_are_suppressed_and_counted() -> None:
    shown = json.loads(join_statistics(JoinCounts(1_000, 2_000, 60, 49, 12), k=50, loss=None))

    assert (shown["users_base"], shown["users_partners"], shown["users_joined"]) == (60, None, None)
    assert (shown["suppressed"], shown["guarantee"]) == (2, None)


def test_noised_counts_differ_between_runs_and_stay_near() -> None:
    """Scale 3 at epsilon 1: off by more than 100 once in 10^14."""
    counts = JoinCounts(1, 1, 10_000, 20_000, 5_000)
    shown = [json.loads(join_statistics(counts, k=50, loss=PrivacyLoss.of(1))) for _ in range(40)]

    assert len({one["users_joined"] for one in shown}) > 1
    assert all(abs(one["users_joined"] - 5_000) <= 100 for one in shown)
    assert shown[0]["guarantee"] == {"epsilon": "1", "delta": "0"}


def test_values_of_few_users_do_not_enter_a_vocabulary() -> None:
    """Two rows of one user are one user."""
    values = pa.chunked_array([["common", "common", "rare", "rare", None]])
    users = pa.chunked_array([[1, 2, 3, 3, 4]])

    assert keep_common(values, users, 2).to_pylist() == ["common", "common", None, None, None]
