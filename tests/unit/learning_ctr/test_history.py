"""History columns see the past only, and a user's outcomes stand still between snapshots."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from adyton.learning.ctr.history import MS_PER_DAY, with_history, with_target_statistics
from adyton.learning.errors import SchemaError, TableError
from adyton.learning.schema import Column, Kind, Role, TableSchema

SCHEMA = TableSchema(
    (
        Column("user", Role.USER_ID, Kind.CATEGORY),
        Column("item", Role.ITEM_ID, Kind.CATEGORY),
        Column("at", Role.TIME, Kind.TIMESTAMP),
        Column("stay", Role.OUTCOME, Kind.NUMBER),
        Column("label", Role.LABEL, Kind.BINARY),
    )
)
LIVE = 3 * MS_PER_DAY
N_ROWS = 600


def impressions(seed: int = 1) -> pa.Table:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, N_ROWS)
    return pa.table(
        {
            "user": rng.integers(0, 12, N_ROWS),
            "item": rng.integers(0, 9, N_ROWS),
            "at": np.sort(rng.integers(0, 5 * MS_PER_DAY, N_ROWS)),
            "stay": label * rng.random(N_ROWS),
            "label": label,
        }
    )


def test_a_users_outcomes_stand_still_within_a_day_and_after_the_model_went_live() -> None:
    table, schema = with_history(impressions(), SCHEMA, live_from_ms=LIVE)
    schema.check(table)
    frame = table.to_pandas()
    epoch = np.minimum(frame["at"] // MS_PER_DAY, LIVE // MS_PER_DAY)
    own = ["user impressions", "user rate label", "user mean stay"]

    assert (frame.groupby(["user", epoch])[own].nunique(dropna=False) == 1).all(axis=None)
    assert frame.groupby("user")["user rate label"].nunique().min() > 1
    assert frame.groupby("item")["item rate label"].nunique().min() > 5, "items go on"
    newest = with_history(impressions(), SCHEMA, live_from_ms=LIVE, newest=True)[0].to_pandas()
    assert newest[newest["at"] >= LIVE].groupby("user")["user rate label"].nunique().min() > 1


def test_outcomes_of_the_row_and_of_the_future_change_no_column() -> None:
    table, now = impressions(), 250
    rng = np.random.default_rng(2)
    label = table["label"].to_numpy().copy()
    later = np.flatnonzero(table["at"].to_numpy() >= table["at"][now].as_py())
    label[later] = rng.permutation(label[later])
    shuffled = table.set_column(4, "label", pa.array(label))
    live = table["at"][now].as_py()

    for newest in (False, True):
        a, schema = with_history(table, SCHEMA, live_from_ms=live, newest=newest)
        b, _ = with_history(shuffled, SCHEMA, live_from_ms=live, newest=newest)
        added = [name for name in schema.names if name not in SCHEMA]
        assert len(added) == 6 + 4
        assert a.slice(0, now + 1).select(added).equals(b.slice(0, now + 1).select(added))


def test_recent_impressions_are_those_of_the_window_and_groups_count_their_own_rows() -> None:
    raw = impressions()
    is_even = np.arange(N_ROWS) % 2 == 0
    table, _ = with_history(raw, SCHEMA, live_from_ms=LIVE, groups={"even": is_even})
    user, at = raw["user"].to_numpy(), raw["at"].to_numpy()
    day = [np.sum((user == u) & (at < t) & (at >= t - MS_PER_DAY)) for u, t in zip(user, at, strict=True)]
    even = [
        np.sum((user == u) & (at < min(t // MS_PER_DAY * MS_PER_DAY, LIVE)) & is_even)
        for u, t in zip(user, at, strict=True)
    ]

    assert table["user impressions in 1440 minutes"].to_pylist() == day
    assert table["even user impressions"].to_pylist() == even


def test_tables_without_a_past_or_without_ids_are_refused() -> None:
    with pytest.raises(TableError):
        with_history(impressions(), SCHEMA, live_from_ms=-1)
    with pytest.raises(SchemaError):
        with_history(impressions(), SCHEMA.select(["user", "at", "label"]), live_from_ms=LIVE)


def test_target_statistics_count_training_rows_alone() -> None:
    raw = impressions()
    table, schema = with_target_statistics(raw, SCHEMA, fit_until_ms=LIVE)
    user, at, label = (raw[name].to_numpy() for name in ("user", "at", "label"))
    training = at < LIVE
    seen = [training & (user == u) & (at < t) for u, t in zip(user, at, strict=True)]
    prior = label[training].mean()

    assert table["user seen in training"].to_pylist() == [rows.sum() for rows in seen]
    assert table["user rate in training"].to_pylist() == pytest.approx(
        [(label[rows].sum() + 5 * prior) / (rows.sum() + 5) for rows in seen]
    )
    assert {c.name for c in schema.with_role(Role.USER)} == {"user seen in training", "user rate in training"}
    with pytest.raises(TableError):
        with_target_statistics(raw, SCHEMA, fit_until_ms=0)
