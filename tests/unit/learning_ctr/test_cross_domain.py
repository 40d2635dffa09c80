"""The gain from a partner's data shows where there is one, and only there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from adyton.learning.ctr.cross_domain import Party, cross_domain
from adyton.learning.errors import TableError
from adyton.learning.metrics import Metric
from adyton.learning.schema import Column, Kind, Role, TableSchema

DAY = 86_400_000
N_USERS = 400


def schema(user: str, time: str, outcome: str) -> TableSchema:
    return TableSchema(
        (
            Column(user, Role.USER_ID, Kind.CATEGORY),
            Column("item", Role.ITEM_ID, Kind.CATEGORY),
            Column(time, Role.TIME, Kind.TIMESTAMP),
            Column("hour", Role.CONTEXT, Kind.CATEGORY),
            Column(outcome, Role.OUTCOME, Kind.NUMBER),
            Column("label", Role.LABEL, Kind.BINARY),
        )
    )


ADS, FEED = schema("user", "at", "price"), schema("u_id", "moment", "stay")


def impressions(names: TableSchema, rows_each: int, taste: np.ndarray, seed: int) -> pa.Table:
    """Each user's taste (in logits) is what moves clicks, and shows in the outcome too."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(N_USERS), rows_each)
    label = rng.random(user.size) < 1 / (1 + np.exp(1 - taste[user]))
    columns = (
        user if names is ADS else [str(u) for u in user.tolist()],
        rng.integers(0, 4, user.size),
        rng.integers(0, 10 * DAY, user.size),
        rng.integers(0, 3, user.size),
        taste[user] + rng.normal(0, 1, user.size),
        label.astype(np.int8),
    )
    table = pa.table(dict(zip(names.names, columns, strict=True)))
    return table.sort_by(names.time.name)


@pytest.fixture(scope="module")
def taste() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1.5, N_USERS)


def gains(ads: Party, feed: Party) -> tuple:
    return cross_domain(ads, feed, validation_from_ms=6 * DAY, test_from_ms=7 * DAY, members=1, seed=1, draws=100)


def test_a_party_with_little_history_gains_and_both_are_reported(taste: np.ndarray) -> None:
    """Two ads a user say little about tastes, thirty feed rows say nearly all; ids are numbers here, text there."""
    ads = Party("advertiser", impressions(ADS, 4, taste, 1), ADS)
    feed = Party("publisher", impressions(FEED, 30, taste, 2), FEED)
    of_ads, of_feed = gains(ads, feed)

    assert (of_ads.party, of_ads.partner, of_feed.party, of_feed.partner) == (
        "advertiser", "publisher", "publisher", "advertiser",
    )  # fmt: skip
    assert of_ads.difference[Metric.AUC].low > 0
    assert of_ads.difference[Metric.AUC].value == pytest.approx(of_ads.joined.auc - of_ads.own.auc)
    assert of_ads.difference[Metric.LOGLOSS].high < 0
    assert of_feed.own.rows == int((feed.table["moment"].to_numpy() >= 7 * DAY).sum())
    assert abs(of_feed.difference[Metric.AUC].value) < of_ads.difference[Metric.AUC].value / 3
    assert of_ads.rows_shared == 1


def test_the_feed_of_other_people_brings_nothing(taste: np.ndarray) -> None:
    ads = Party("advertiser", impressions(ADS, 4, taste, 1), ADS)
    strangers = impressions(FEED, 30, np.random.default_rng(9).permutation(taste), 2)
    of_ads, _ = gains(ads, Party("publisher", strangers, FEED))

    assert of_ads.difference[Metric.AUC].low <= 0
    assert of_ads.difference[Metric.AUC].value < 0.02


def test_what_happens_at_the_partner_afterwards_changes_no_prediction(taste: np.ndarray) -> None:
    """Time-honest: every later event of the partner may be turned over, the advertiser's figures stay as they were."""
    ads = impressions(ADS, 4, taste, 1)
    ads = ads.filter(pa.array(ads["at"].to_numpy() < 8 * DAY))
    feed = impressions(FEED, 30, taste, 2)
    is_later = feed["moment"].to_numpy() >= 8 * DAY
    label = feed["label"].to_numpy()
    turned = feed.set_column(5, "label", pa.array(np.where(is_later, 1 - label, label)))
    one, _ = gains(Party("advertiser", ads, ADS), Party("publisher", feed, FEED))
    other, _ = gains(Party("advertiser", ads, ADS), Party("publisher", turned, FEED))

    assert is_later.sum() > 1_000
    assert one.joined == other.joined


def test_missing_ids_and_empty_test_days_are_refused(taste: np.ndarray) -> None:
    ads = Party("advertiser", impressions(ADS, 4, taste, 1), ADS)
    feed = Party("publisher", impressions(FEED, 5, taste, 2), FEED)
    nobody = pa.array([None, *feed.table["u_id"].to_pylist()[1:]])
    early = ads.table.filter(pa.array(ads.table["at"].to_numpy() < 7 * DAY))

    with pytest.raises(TableError, match="missing"):
        gains(ads, replace(feed, table=feed.table.set_column(0, "u_id", nobody)))
    with pytest.raises(TableError, match="test"):
        gains(replace(ads, table=early), feed)
