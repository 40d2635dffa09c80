"""The train template under differential privacy, with real enclaves: paid for, gated, stated, and never overspent."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow.parquet as pq
import pytest

from adyton.cleanroom.contract import Output, Template
from adyton.cleanroom.errors import GateRefusedError
from adyton.cleanroom.job import PrivateTraining
from adyton.cleanroom.ledger_store import FileCounter, LedgerStore
from adyton.cleanroom.outputs import read_model
from adyton.cleanroom.receipt import verify_receipt
from adyton.cleanroom.run import RunResult, open_output
from adyton.kernel.errors import AdytonError
from adyton.kernel.ledger import ZERO_LOSS, Account, OverBudgetError, PrivacyLoss
from adyton.learning.errors import FeatureError

BUDGET = PrivacyLoss.of(8, "1e-5")
STRICT: dict[str, Any] = {"budget": BUDGET, "k": 5, "without_guarantee": frozenset()}
"""Owners who let nothing leave without a guarantee."""


def private(room: Any, job_id: str, epsilon: str, *templates: Template, **changes: Any) -> Any:
    training = PrivateTraining(PrivacyLoss.of(epsilon, "1e-6"), max_rows_per_user=4)
    wanted = templates or (Template.TRAIN,)
    return room.job(job_id, *wanted, private_training=training, synthesize=None, **changes)


def spent(room: Any) -> PrivacyLoss:
    """Of the publisher; every account of the job pays alike."""
    store = LedgerStore(room.folder / "ledger" / "ledger.sqlite", FileCounter(room.folder / "counter" / "counter.json"))
    ledger = store.ledger({})
    assert ledger.spent(Account("publisher", "users")) == ledger.spent(Account("advertiser", "users"))
    assert list(ledger.open_reservations()) == []
    return ledger.spent(Account("publisher", "users"))


def test_a_private_model_leaves_where_nothing_else_may_and_the_receipt_says_what_it_cost(
    make_room: Callable[..., Any],
) -> None:
    room = make_room(**STRICT)
    result = room.run(private(room, "private", "6"))
    model = read_model(open_output(result.box(Output.MODEL, "advertiser"), room.parties["advertiser"]))
    entries = [
        (e["owner"], e["purpose"], e["epsilon"], e["delta"], e["unit"], e["noise_is_secure"])
        for e in result.receipt.body["ledger"]
    ]

    assert [one.output for one in result.outputs] == [Output.MODEL]
    assert entries == [(who, "model", "6", "1/1000000", "user", True) for who in ("advertiser", "publisher")]
    assert all("zCDP" in e["accountant"] for e in result.receipt.body["ledger"])
    told = model.manifest["training"]["differential_privacy"]  # type: ignore[index, call-overload]
    assert str(told).startswith("epsilon 6, delta 1e-06, unit user (at most 4 rows per user)")
    names = {field["name"] for side in model.manifest["fields"].values() for field in side}  # type: ignore[union-attr]
    assert {"segment", "publisher_segment", "own_user_impressions"} <= names
    assert not {name for name in names if "item_impressions" in name or name == "user_id"}
    gate = {c["name"]: c["passed"] for c in result.receipt.body["gate"]}
    assert {"guarantee", "threshold", "literals", "membership", "attribute-inference"} <= set(gate)
    assert all(gate.values())
    boxes = {one.path.name: one.path.read_bytes() for one in result.outputs}
    assert verify_receipt(result.receipt, room.signed.contract, boxes).holds
    assert spent(room) == PrivacyLoss.of(6, "1e-6")

    with pytest.raises(OverBudgetError, match="model needs epsilon 3, delta 1e-06; left are epsilon 2"):
        room.run(private(room, "too-much", "3"))
    assert not (room.folder / "out-too-much").exists()
    assert spent(room) == PrivacyLoss.of(6, "1e-6")


@pytest.mark.slow
def test_scores_of_a_private_model_leave_by_the_owners_word_only(make_room: Callable[..., Any]) -> None:
    """They are exact figures of exact rows: the model's epsilon does not cover them."""
    templates = (Template.TRAIN, Template.SCORE)
    strict = make_room(**STRICT)
    with pytest.raises(GateRefusedError, match="predictions: guarantee found no guarantee"):
        strict.run(private(strict, "scored", "2", *templates))
    assert spent(strict) == PrivacyLoss.of(2, "1e-6")

    room = make_room(**{**STRICT, "without_guarantee": frozenset({Output.PREDICTIONS})})
    result = room.run(private(room, "scored", "2", *templates))
    box = open_output(result.box(Output.PREDICTIONS, "advertiser"), room.parties["advertiser"])
    assert pq.read_table(io.BytesIO(box)).column_names == ["row", "label", "with_partner"]
    assert {one.output for one in result.outputs} == {Output.MODEL, Output.PREDICTIONS}


@pytest.mark.slow
def test_too_few_users_refuse_a_private_model_and_what_was_drawn_stays_paid(make_room: Callable[..., Any]) -> None:
    room = make_room(**{**STRICT, "k": 1_000})
    with pytest.raises(GateRefusedError, match="model: threshold found fewer than 1000 users"):
        room.run(private(room, "few", "2"))

    assert not (room.folder / "out-few").exists()
    assert spent(room) == PrivacyLoss.of(2, "1e-6")


@pytest.mark.slow
def test_a_feature_that_other_users_move_is_refused_and_costs_nothing(make_room: Callable[..., Any]) -> None:
    room = make_room(**STRICT)
    with pytest.raises(FeatureError, match="own_item_impressions"):
        room.run(private(room, "crowd", "2", features=("segment", "own_item_impressions")))

    assert spent(room) == ZERO_LOSS


@pytest.mark.slow
def test_two_private_trainings_at_once_never_overspend(make_room: Callable[..., Any]) -> None:
    """Each fits into the budget, both do not: one model leaves, the other job is refused before it looks at a row."""
    room = make_room(**STRICT)

    def attempt(job_id: str) -> RunResult | AdytonError:
        try:
            result: RunResult = room.run(private(room, job_id, "5"))
            return result
        except AdytonError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(attempt, ["one", "two"]))

    assert sorted(type(end).__name__ for end in ends) == ["OverBudgetError", "RunResult"]
    assert spent(room) == PrivacyLoss.of(5, "1e-6")
    assert sum((room.folder / f"out-{name}").exists() for name in ("one", "two")) == 1


@pytest.mark.slow
def test_asking_again_and_again_ends_with_the_budget(make_room: Callable[..., Any]) -> None:
    """The same question many times would average the noise away."""
    room = make_room(**STRICT)
    for number in range(2):
        room.run(private(room, f"again-{number}", "4"))
    with pytest.raises(OverBudgetError, match="left are epsilon 0"):
        room.run(private(room, "again-2", "4"))

    assert spent(room).epsilon == BUDGET.epsilon
