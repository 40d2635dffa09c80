"""The gate and the exact or noised statistics in front of it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

from adyton.cleanroom.contract import BindingRule, Contract, Output, Template
from adyton.cleanroom.disclosure import join_statistics
from adyton.cleanroom.errors import GateRefusedError
from adyton.cleanroom.gate import (
    Candidate,
    GateLimits,
    check_candidate,
    check_model,
    check_synthetic,
    require_all,
    required_checks,
)
from adyton.cleanroom.join import JoinCounts, keep_common
from adyton.cleanroom.model_attacks import ModelAttacks
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.schema import Column, Kind, Role, TableSchema
from adyton.learning.synth.gate_measures import measure
from adyton.learning.synth.privacy import Advantage

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
    checks += check_model(Output.MODEL, ModelAttacks(0.91, None, None), GateLimits())
    with pytest.raises(GateRefusedError) as caught:
        require_all(checks)

    assert "membership found AUC 0.910, wanted at most 0.75" in str(caught.value)
    assert "threshold found fewer than 50 users" in str(caught.value)
    assert "37" not in str(caught.value)


def test_a_model_that_gives_an_attribute_away_is_refused() -> None:
    """1,000 rows on each side: .80 of the members' attributes are guessed, and .60 of the others'."""
    leaking = ModelAttacks(0.5, "age", Advantage.of(800, 600, 1_000, 1_000))
    harmless = ModelAttacks(0.5, "age", Advantage.of(610, 600, 1_000, 1_000))

    assert [c.passed for c in check_model(Output.MODEL, leaking, GateLimits())] == [True, False]
    assert [c.passed for c in check_model(Output.MODEL, harmless, GateLimits())] == [True, True]
    names = {check.name for check in check_model(Output.MODEL, harmless, GateLimits())}
    assert names == required_checks(Output.MODEL) - required_checks(Output.EVALUATION)


def test_a_synthetic_table_of_copied_rows_fails_every_attack_that_sees_copies() -> None:
    """Control: rows of the same population that were drawn afresh pass."""
    rng = np.random.default_rng(2)
    schema = TableSchema(tuple(Column(f"c{i}", Role.USER, Kind.CATEGORY) for i in range(6)))

    def rows(n: int) -> pa.Table:
        return pa.table({f"c{i}": rng.integers(0, 12, n) for i in range(6)})

    real, holdout, fresh = rows(2_000), rows(2_000), rows(2_000)
    copied = {c.name: c.passed for c in check_synthetic(measure(real, holdout, real, schema, seed=1), GateLimits())}
    drawn = {c.name: c.passed for c in check_synthetic(measure(real, holdout, fresh, schema, seed=1), GateLimits())}

    assert all(drawn.values()), drawn
    seen = {name for name, passed in copied.items() if not passed}
    assert {"exact-matches", "distance", "membership", "attribute-inference", "singling-out"} <= seen
    assert set(copied) == required_checks(Output.SYNTHETIC_TABLE) - required_checks(Output.EVALUATION)


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
