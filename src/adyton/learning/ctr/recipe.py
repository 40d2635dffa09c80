"""The cross-domain experiment on the shipped data: what the advertiser's model gains from the publisher's feed.

Three sets of features for the advertiser's rows, all factorisable and none with the user id:

    STATIC      item, hour, tab, the advertiser's own user and item columns
    OWN         STATIC + counters over the advertiser's own past impressions       (the fair baseline)
    PARTNER     OWN + counters over the user's past impressions in the publisher's feed

Counters per item over the feed, the publisher's profile columns and training on the feed's rows as well were tried and
do not add to this (learning §3 saw the same order: feed behaviour per user helps most).
"""

from __future__ import annotations

from dataclasses import replace

from adyton.learning.ctr.config import TrainConfig
from adyton.learning.ctr.features import Counter, Statistic
from adyton.learning.datasets.kuairand import tables as kuairand
from adyton.learning.schema import Role, TableSchema

OWN_COUNTERS = (
    Counter("own_user_impressions", "user_id", Role.USER, Statistic.IMPRESSIONS),
    Counter("own_user_clicks", "user_id", Role.USER, Statistic.TOTAL, "is_click"),
    Counter("own_user_click_rate", "user_id", Role.USER, Statistic.RATE, "is_click", prior=0.1, strength=5),
    Counter("own_user_gap_hours", "user_id", Role.USER, Statistic.GAP_HOURS),
    Counter("own_item_impressions", "item_id", Role.AD, Statistic.IMPRESSIONS),
    Counter("own_item_click_rate", "item_id", Role.AD, Statistic.RATE, "is_click", prior=0.1, strength=10),
)
"""Over the advertiser's table."""

FEED_COUNTERS = (
    Counter("feed_user_impressions", "user_id", Role.USER, Statistic.IMPRESSIONS),
    Counter("feed_user_click_rate", "user_id", Role.USER, Statistic.RATE, "is_click", prior=0.5, strength=3),
    Counter("feed_user_long_view_rate", "user_id", Role.USER, Statistic.RATE, "long_view", prior=0.35, strength=3),
    Counter("feed_user_like_rate", "user_id", Role.USER, Statistic.RATE, "is_like", prior=0.02, strength=3),
    Counter("feed_user_profile_rate", "user_id", Role.USER, Statistic.RATE, "is_profile_enter", prior=0.02, strength=3),
    Counter("feed_user_play_ms", "user_id", Role.USER, Statistic.MEAN, "play_time_ms"),
    Counter("feed_user_gap_hours", "user_id", Role.USER, Statistic.GAP_HOURS),
)
"""Over the publisher's table."""

ENSEMBLE = TrainConfig(
    fm_dim=16, head_dim=16, hidden=(64,), members=12, max_epochs=1, checks_per_epoch=1, taste_epochs=1, threads=2
)
"""One model of twelve members, each of one pass over the rows and a second one for tastes: best on the full log
(`bench/ctr.py`).

Their logits are averaged, which is again a factorised score: the parts are six times as long. Ids overfit in a second
pass, and one pass leaves noise that averaging removes."""

DISTILLED = replace(ENSEMBLE, members=15, distil_passes=2, students=3)
"""Three networks that learned from an ensemble: its scores, vectors an eighth as long (`bench/ctr.py --distilled`). Its
members cost training only, so that there are more of them."""

STATIC_FEATURES = (
    "item_id",
    "hour",
    "tab",
    *(column.name for column in kuairand.ADVERTISER_USER_COLUMNS),
    *(column.name for column in kuairand.ITEM_COLUMNS),
)
OWN_FEATURES = (*STATIC_FEATURES, *(counter.name for counter in OWN_COUNTERS))
PARTNER_FEATURES = (*OWN_FEATURES, *(counter.name for counter in FEED_COUNTERS))

JOINED_SCHEMA: TableSchema = kuairand.ADVERTISER_SCHEMA.extend(
    *(counter.as_column() for counter in (*OWN_COUNTERS, *FEED_COUNTERS))
)
"""The advertiser's rows with all counters."""


def cross_domain_config(features: tuple[str, ...], *, members: int = 3) -> TrainConfig:
    """The configuration that all feature sets share, so that a difference is a difference of data."""
    return TrainConfig(features=features, members=members, min_count=30, checks_per_epoch=2, patience=3)
