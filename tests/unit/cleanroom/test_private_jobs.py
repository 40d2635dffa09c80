"""A job that trains or synthesizes for a loss: what it makes and costs; one user moves that user's rows alone."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from adyton.cleanroom.contract import Output, Template
from adyton.cleanroom.engine import open_engine
from adyton.cleanroom.job import JobSpec, PrivateTraining, SynthesizeRequest
from adyton.cleanroom.join import JoinedTable, PartyTable, join_tables, joined_shape
from adyton.cleanroom.join_keys import join_keys
from adyton.cleanroom.reservations import planned_spending
from adyton.cleanroom.single_users import synthetic_schema
from adyton.cleanroom.templates import private_features, synthesis_rows, synthesize
from adyton.kernel.chance import OsRandom
from adyton.kernel.errors import BadInputError
from adyton.kernel.ids import DatasetId, JobId
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.errors import FeatureError, ModelError
from adyton.learning.schema import Column, Kind, Role, TableSchema

LOSS = PrivacyLoss.of("3/2", "1e-6")
JOIN_KEY, SECRET = b"k" * 32, b"s" * 32
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
        return join_tables(engine, parties[0], parties[1:], key=JOIN_KEY)


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


REQUEST = SynthesizeRequest(
    LOSS, 100, ("city", "feeds_city", "item_id", "own_user_impressions", "feeds_user_label_mean"), 2
)


@pytest.mark.parametrize("leaves", ["u0", "u1", "u2", "u3", "u4", "u5"])
def test_a_user_who_leaves_moves_nobody_else_of_what_is_fitted_and_held_out(leaves: str) -> None:
    ads, feeds = rows(1, 60), rows(2, 80)
    stays, stays_there = (pc.not_equal(table["user_id"], leaves) for table in (ads, feeds))
    whole = synthesis_rows(joined(ads, feeds), REQUEST, 50, SECRET)
    without = synthesis_rows(joined(ads.filter(stays), feeds.filter(stays_there)), REQUEST, 50, SECRET)
    gone = join_keys(pa.chunked_array([[leaves]]), JOIN_KEY)[0]

    for with_all, with_others in ((whole.fitted, without.fitted), (whole.holdout, without.holdout)):
        assert with_all.num_rows > 0
        assert with_all.filter(pc.not_equal(with_all["user_id"], gone)).equals(with_others)
    assert whole.fitted.num_rows + whole.holdout.num_rows == pc.sum(pc.less(ads["time_ms"], 50)).as_py()
    assert not set(whole.fitted["user_id"].to_pylist()) & set(whole.holdout["user_id"].to_pylist())


def test_who_is_held_out_follows_the_jobs_secret_and_the_trimmed_id() -> None:
    ids = [f"u{i}" for i in range(1_000) for _ in range(2)]
    ads = pa.table(
        {
            "user_id": [f"{user} " if i % 2 else user for i, user in enumerate(ids)],
            "item_id": np.zeros(2_000, np.int64),
            "time_ms": np.arange(2_000),
            "city": ["c"] * 2_000,
            "label": np.zeros(2_000, np.int8),
        }
    )
    made = joined(ads, rows(2, 80))
    held = [set(synthesis_rows(made, REQUEST, 2_000, s).holdout["user_id"].to_pylist()) for s in (SECRET, b"t" * 32)]

    assert all(150 < len(one) < 250 for one in held)
    assert len(held[0] & held[1]) < 100
    assert synthesis_rows(made, REQUEST, 2_000, SECRET).holdout.num_rows == 2 * len(held[0])


def test_what_a_join_gives_is_known_before_a_row_is_read() -> None:
    made = joined(rows(1, 60), rows(2, 80))
    base, partner = (PartyTable(DatasetId(name), name, pa.table({}), SCHEMA) for name in ("ads", "feeds"))
    shape = joined_shape(base, [partner])

    assert list(shape.schema.names) == made.table.column_names
    assert set(shape.item_columns) == {
        f"{party}_item_{what}" for party in ("own", "feeds") for what in ("impressions", "label_mean")
    }
    assert set(shape.partner_columns) == {name for name in made.table.column_names if name.startswith("feeds_")}


@pytest.mark.parametrize(
    ("column", "error", "message"),
    [
        ("feeds_item_label_mean", FeatureError, "synthesize: feeds_item_label_mean: counted over items"),
        ("time_ms", BadInputError, "exact times"),
        ("town", BadInputError, "unknown columns: town"),
    ],
)
def test_columns_that_may_not_be_synthesized_are_refused_by_name(
    column: str, error: type[Exception], message: str
) -> None:
    made = joined(rows(1, 60), rows(2, 80))

    with pytest.raises(error, match=message):
        synthetic_schema(made.schema, made.item_columns, ("city", column))
    chosen = synthetic_schema(made.schema, made.item_columns, ("feeds_city", "city"))
    assert chosen.names == ("user_id", "city", "label", "feeds_city")


def test_a_value_that_fewer_than_k_users_share_is_not_in_a_synthetic_table() -> None:
    """Sixty users live in the small town, some of them held out."""
    n = 900
    ads = pa.table(
        {
            "user_id": [f"person-{i:04d}" for i in range(n)],
            "item_id": np.arange(n) % 3,
            "time_ms": np.arange(n),
            "city": ["small" if i < 60 else f"c{i % 2}" for i in range(n)],
            "label": (np.arange(n) % 5 == 0).astype(np.int8),
        }
    )
    made, request = joined(ads, rows(2, 80)), SynthesizeRequest(PrivacyLoss.of(40, "1e-6"), 3_000, ("city",), 1)

    def cities(k: int) -> set[str | None]:
        record = synthesize(made, request, n, k, 0, OsRandom()).record
        return set(pq.read_table(io.BytesIO(record.table_parquet))["city"].to_pylist()) - {None}

    assert cities(2) == {"c0", "c1", "small"}
    assert cities(61) == {"c0", "c1"}
