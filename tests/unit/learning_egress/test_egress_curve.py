"""Selection keeps to its bits and prefers what helps; the curve compares under the same chance."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from adyton.learning.egress.curve import (
    Curve,
    FeatureUtility,
    Method,
    Selection,
    ablation,
    curve,
    forward_selections,
    revenue,
    schema_for,
    select_features,
)
from adyton.learning.egress.errors import EgressInputError
from adyton.learning.egress.features import EgressData, egress_data
from adyton.learning.egress.machine import FactorizationTrainer
from adyton.learning.schema import Column, Kind, Role, TableSchema

TRAINER = FactorizationTrainer(epochs=4, learning_rate=0.03)


@pytest.fixture(scope="module")
def by_code(data: EgressData) -> Curve:
    return curve(data, [1, 3, 5], method=Method.CODE, trainer=TRAINER)


def test_greedy_selection_of_a_worked_example() -> None:
    utilities = [FeatureUtility("a", 4, 0.4), FeatureUtility("b", 1, 0.05), FeatureUtility("c", 2, -0.1)]
    small, large = select_features(utilities, [3, 7])

    assert small.features == (("b", 1),)
    assert large.features == (("a", 4), ("b", 1))  # c does harm
    assert (large.limit_bits, large.bits) == (7, 5)


def test_ablation_finds_the_useless_feature_last_or_harmful(data: EgressData) -> None:
    without_copy = replace(data, user_features=data.chosen(["strong", "weak", "noise"]))
    utilities = {u.name: u for u in ablation(without_copy, TRAINER)}

    assert utilities["strong"].per_bit > utilities["weak"].per_bit > utilities["noise"].per_bit


def test_drop_one_is_blind_to_redundancy_and_forward_selection_is_not(data: EgressData) -> None:
    """With a copy of it in the set, leaving the strong feature out costs little: the protocol's known weakness."""
    utilities = {u.name: u for u in ablation(data, TRAINER)}
    (forward,) = forward_selections(data, [5], TRAINER)

    assert utilities["strong"].logloss_saved < 0.01
    assert {name for name, _ in forward.features} in ({"strong", "weak"}, {"copy", "weak"})


def test_selections_never_pass_their_size(data: EgressData) -> None:
    for method in (Method.DROP_ONE, Method.FORWARD, Method.CODE):
        for point in curve(data, [1, 2, 6], method=method, trainer=TRAINER).points:
            assert point.selection.bits <= point.bits


def test_a_learned_code_keeps_most_of_the_lift_in_few_bits(by_code: Curve) -> None:
    lifts = [point.lift_share for point in by_code.points]

    assert by_code.baseline.auc > by_code.empty.auc + 0.1
    assert lifts[0] > 0.4
    assert lifts[2] > 0.85
    assert lifts[2] > lifts[0]


def test_a_code_uses_fewer_bits_where_more_do_not_help(data: EgressData) -> None:
    """Only `strong` matters here: eight values, and 3 bits say all of it."""
    rng = np.random.default_rng(4)
    strong = data.chosen(["strong"])[0].codes
    labels = (rng.random(strong.size) < 1 / (1 + np.exp(-0.5 * (strong - 3.5)))).astype(np.int64)
    point = curve(replace(data, labels=labels), [20], method=Method.CODE, trainer=TRAINER).point(20)

    assert point.selection.bits < 12
    assert point.lift_share > 0.9


def test_payload_noise_costs_quality(data: EgressData) -> None:
    def loss(noise_share: float) -> float:
        return curve(data, [6], method=Method.CODE, trainer=TRAINER, noise_share=noise_share).points[0].logloss

    assert loss(0.6) > loss(0.0) + 0.002


def test_the_same_seed_gives_the_same_curve(data: EgressData) -> None:
    first, second = (curve(data, [4], method=Method.DROP_ONE, trainer=TRAINER, seed=5) for _ in range(2))

    assert first.as_json() == second.as_json()


def test_revenue_rewards_the_better_ranking() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(4000) < 0.2).astype(np.int64)
    oracle, coin = labels * 0.9 + 0.05, np.full(4000, 0.2)

    assert revenue(labels, oracle, seed=1) > 2 * revenue(labels, coin, seed=1)
    assert revenue(labels, coin, seed=1) == revenue(labels, coin, seed=1)


def test_the_schema_has_one_unsigned_integer_for_each_feature() -> None:
    assert schema_for(Selection(8, (("a", 3), ("b", 1))), version=2) == {
        "cddl_version": "1.0.0",
        "version": 2,
        "features": [
            {"name": "unsigned-integer-feature", "size": 3},
            {"name": "unsigned-integer-feature", "size": 1},
        ],
    }


def test_what_cannot_be_meant_is_refused(data: EgressData, by_code: Curve) -> None:
    with pytest.raises(EgressInputError):
        curve(data, [0])
    with pytest.raises(EgressInputError):
        curve(data, [])
    with pytest.raises(EgressInputError):
        by_code.point(4)
    with pytest.raises(EgressInputError):
        schema_for(Selection(4, ()))
    with pytest.raises(EgressInputError):
        schema_for(Selection(4, (("a", 3),)), version=8)


def test_where_all_features_add_nothing_the_share_of_the_lift_is_null_in_json(by_code: Curve) -> None:
    point = replace(by_code.points[0], lift_share=float("nan"))

    assert json.loads(json.dumps(point.as_json(), allow_nan=False))["lift_share"] is None


@pytest.mark.parametrize("label", [None, 2])
def test_labels_other_than_0_and_1_are_refused(label: int | None) -> None:
    schema = TableSchema((Column("age", Role.USER, Kind.CATEGORY), Column("clicked", Role.LABEL, Kind.BINARY)))
    table = pa.table({"age": [1, 2, 3, 4], "clicked": pa.array([0, 1, label, 1])})

    with pytest.raises(EgressInputError):
        egress_data(table, schema, np.array([False, False, True, True]))
