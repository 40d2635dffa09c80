"""Features fit their bits, are learned from training rows, and are noised as the platform does."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from adyton.learning.egress.errors import EgressInputError
from adyton.learning.egress.features import EgressData, UserFeature, egress_data
from adyton.learning.errors import SchemaError
from adyton.learning.schema import Column, Kind, Role, TableSchema

SCHEMA = TableSchema(
    (
        Column("clicked", Role.LABEL, Kind.BINARY),
        Column("age", Role.USER, Kind.CATEGORY),
        Column("follows", Role.USER, Kind.NUMBER),
        Column("slot", Role.CONTEXT, Kind.CATEGORY),
        Column("seconds", Role.OUTCOME, Kind.NUMBER),
    )
)


def _table() -> pa.Table:
    return pa.table(
        {
            "clicked": pa.array([0, 1, 0, 1, 0, 1], pa.int8()),
            "age": ["b", "b", "a", None, "new", "a"],
            "follows": [1.0, 2.0, 3.0, None, 5.0, 6.0],
            "slot": ["x", "y", "x", "y", "z", "x"],
            "seconds": [9.0] * 6,
        }
    )


IS_TEST = np.array([False, False, False, False, True, True])


def test_codes_come_from_training_rows_and_strangers_share_a_code() -> None:
    data = egress_data(_table(), SCHEMA, IS_TEST)
    age, follows = data.user_features

    assert (age.name, age.bits, age.codes.tolist()) == ("age", 2, [0, 0, 1, 2, 0, 1])
    assert follows.bits == 4
    assert follows.codes[3] == 0  # null
    assert data.free[:, 0].tolist()[4] == 0  # slot z was never seen in training
    assert data.bits == 6


def test_what_happens_after_the_impression_is_no_free_field() -> None:
    assert egress_data(_table(), SCHEMA, IS_TEST).free.shape == (6, 1)


def test_columns_that_do_not_exist_or_cannot_be_coded_are_refused() -> None:
    with pytest.raises(SchemaError):
        egress_data(_table(), SCHEMA, IS_TEST, user_features=["height"])
    with pytest.raises(EgressInputError):
        egress_data(_table(), SCHEMA.select(["clicked", "slot"]), IS_TEST)


@pytest.mark.parametrize(("bits", "codes"), [(0, [0]), (33, [0]), (2, [4]), (2, [-1])])
def test_a_feature_is_valid_from_birth(bits: int, codes: list[int]) -> None:
    with pytest.raises(EgressInputError):
        UserFeature("f", bits, np.array(codes))


def test_a_split_with_one_class_is_refused(data: EgressData) -> None:
    with pytest.raises(EgressInputError, match="test rows"):
        EgressData(data.user_features, data.free, data.free_sizes, np.where(data.is_test, 0, data.labels), data.is_test)


def test_noise_replaces_whole_payloads_of_training_rows_only(data: EgressData) -> None:
    noised = data.noised(0.2, np.random.default_rng(1))
    changed = np.stack([a.codes != b.codes for a, b in zip(data.user_features, noised.user_features, strict=True)])

    assert not changed[:, data.is_test].any()
    hit = changed.any(axis=0)[~data.is_test].mean()
    assert 0.17 < hit < 0.22
    # In a chosen payload all features are drawn anew: a 4-bit one then differs in 15 of 16 cases.
    assert changed[3][changed.any(axis=0)].mean() > 0.9


def test_no_noise_changes_nothing_and_a_share_above_one_is_refused(data: EgressData) -> None:
    same = data.noised(0.0, np.random.default_rng(1))

    assert all((a.codes == b.codes).all() for a, b in zip(data.user_features, same.user_features, strict=True))
    with pytest.raises(EgressInputError):
        data.noised(1.5, np.random.default_rng(1))
