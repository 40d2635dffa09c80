"""A job that trains under differential privacy: what it makes and costs; one user moves that user's rows alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from adyton.cleanroom.contract import Output, Template
from adyton.cleanroom.engine import open_engine
from adyton.cleanroom.job import JobSpec, PrivateTraining
from adyton.cleanroom.join import JoinedTable, PartyTable, join_tables
from adyton.cleanroom.reservations import planned_spending
from adyton.cleanroom.templates import private_features
from adyton.kernel.errors import BadInputError
from adyton.kernel.ids import DatasetId, JobId
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.errors import FeatureError, ModelError
from adyton.learning.schema import Column, Kind, Role, TableSchema

LOSS = PrivacyLoss.of("3/2", "1e-6")
JOB = JobSpec(
    job_id=JobId("private"),
    base=DatasetId("ads"),
    partners=(DatasetId("feeds"),),
    templates=frozenset({Template.TRAIN, Template.SCORE}),
    private_training=PrivateTraining(LOSS, 8),
)
SCHEMA = TableSchema(
    (
        Column("user_id", Role.USER_ID, Kind.CATEGORY),
        Column("item_id", Role.ITEM_ID, Kind.CATEGORY),
        Column("time_ms", Role.TIME, Kind.TIMESTAMP),
        Column("city", Role.USER, Kind.CATEGORY),
        Column("label", Role.LABEL, Kind.BINARY),
    )
)


def test_a_private_job_makes_one_model_and_pays_for_it() -> None:
    assert JOB.outputs == (Output.MODEL, Output.PREDICTIONS)
    assert replace(JOB, private_training=None).outputs == (
        Output.MODEL,
        Output.MODEL_WITHOUT_PARTNER,
        Output.PREDICTIONS,
        Output.EVALUATION,
    )
    (spending,) = planned_spending(JOB)
    assert (spending.output, spending.loss) == (Output.MODEL, LOSS)
    assert "zCDP" in spending.accountant
    assert planned_spending(replace(JOB, private_training=None)) == ()


def test_a_private_job_survives_json_and_a_misspelt_price_is_refused() -> None:
    assert JobSpec.from_json(JOB.as_json()) == JOB
    for wrong in (
        {"lose": {"epsilon": "1", "delta": "1e-6"}},
        {"loss": {"epsilon": "1", "delta": "1e-6"}, "rows": 3},
        {"loss": None},
        {"loss": {"epsilon": "0", "delta": "1e-6"}},
        {"loss": {"epsilon": "1", "delta": "0"}},
        [],
    ):
        with pytest.raises(BadInputError):
            JobSpec.from_json({**JOB.as_json(), "private_training": wrong})


@pytest.mark.parametrize("wrong", [{"members": 2}, {"templates": frozenset({Template.JOIN_STATISTICS})}])
def test_what_private_training_cannot_mean_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInputError, match="private"):
        replace(JOB, **wrong)


def joined(ads: pa.Table, feeds: pa.Table) -> JoinedTable:
    parties = [PartyTable(DatasetId(name), name, rows, SCHEMA) for name, rows in (("ads", ads), ("feeds", feeds))]
    with open_engine(memory_mb=64, threads=1) as engine:
        return join_tables(engine, parties[0], parties[1:], key=b"k" * 32)


def rows(seed: int, n: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    user = rng.integers(0, 6, n)
    return pa.table(
        {
            "user_id": [f"u{u}" for u in user],
            "item_id": rng.integers(0, 3, n),
            "time_ms": rng.permutation(n),
            "city": [f"c{u % 2}" for u in user],
            "label": rng.integers(0, 2, n).astype(np.int8),
        }
    )


@pytest.mark.parametrize("leaves", ["u0", "u3"])
def test_a_user_who_leaves_all_tables_moves_no_other_users_rows(leaves: str) -> None:
    """The neighbouring tables that the guarantee is about. With features over items this does not hold."""
    ads, feeds = rows(1, 60), rows(2, 80)
    whole = joined(ads, feeds)
    stays = np.array([user != leaves for user in ads["user_id"].to_pylist()])
    stays_there = np.array([user != leaves for user in feeds["user_id"].to_pylist()])
    without = joined(ads.filter(pa.array(stays)), feeds.filter(pa.array(stays_there)))

    assert whole.of_single_users.table.filter(pa.array(stays)).equals(without.of_single_users.table)
    assert not whole.table.filter(pa.array(stays)).equals(without.table)
    assert set(whole.item_columns) == {
        f"{party}_item_{what}" for party in ("own", "feeds") for what in ("impressions", "label_mean")
    }


def test_users_of_the_private_view_are_join_keys() -> None:
    """Ids that differ in blanks only are one user, who may not count twice."""
    ads = rows(1, 60)
    ids = [f" {user}" if i % 2 else user for i, user in enumerate(ads["user_id"].to_pylist())]
    blank = ads.set_column(0, "user_id", pa.array(ids))

    assert len(set(joined(blank, rows(2, 80)).of_single_users.table["user_id"].to_pylist())) == 6


def test_a_feature_over_items_and_the_user_id_are_refused_by_name() -> None:
    made = joined(rows(1, 60), rows(2, 80))

    with pytest.raises(FeatureError, match="own_item_impressions: counted over items"):
        private_features(made, replace(JOB, features=("city", "own_item_impressions")))
    with pytest.raises(ModelError, match="single users"):
        private_features(made, replace(JOB, features=("user_id",)))
    assert private_features(made, replace(JOB, features=("city", "feeds_city"))) == ("city", "feeds_city")
