"""The shipped data is the log it says it is: counts, rates and shared users."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc
import pytest

from adyton.learning.datasets.kuairand import tables as kuairand
from adyton.learning.datasets.kuairand.build import hashed_user_id
from adyton.learning.datasets.kuairand.tables import Split
from adyton.learning.errors import FeatureError


def test_the_two_parties_have_the_published_rows_users_and_click_rates() -> None:
    publisher, advertiser = kuairand.publisher_table(), kuairand.advertiser_table()
    publisher_users = set(publisher["user_id"].to_pylist())
    advertiser_users = set(advertiser["user_id"].to_pylist())

    assert (publisher.num_rows, len(publisher_users)) == (173_008, 23_569)
    assert (advertiser.num_rows, len(advertiser_users)) == (31_462, 10_225)
    assert len(publisher_users & advertiser_users) == 9_405
    assert pc.mean(publisher["is_click"]).as_py() == pytest.approx(0.494, abs=5e-4)
    assert pc.mean(advertiser["is_click"]).as_py() == pytest.approx(0.108, abs=5e-4)
    assert set(publisher["tab"].to_pylist()) == {1}
    assert set(advertiser["tab"].to_pylist()) == {0, 6}


def test_the_full_log_keeps_every_impression_once_in_time_order() -> None:
    log = kuairand.full_log()

    assert log.num_rows == 228_329
    assert len(set(log["user_id"].to_pylist())) == 25_156
    assert len(set(log["item_id"].to_pylist())) == 6_361
    assert np.all(np.diff(log["time_ms"].to_numpy()) >= 0)


def test_every_table_fits_its_schema() -> None:
    kuairand.PUBLISHER_SCHEMA.check(kuairand.publisher_table())
    kuairand.ADVERTISER_SCHEMA.check(kuairand.advertiser_table())
    kuairand.FULL_SCHEMA.check(kuairand.full_log())


def test_neither_party_has_the_other_partys_user_columns() -> None:
    publisher = {c.name for c in kuairand.PUBLISHER_USER_COLUMNS}
    advertiser = {c.name for c in kuairand.ADVERTISER_USER_COLUMNS}

    assert not publisher & set(kuairand.advertiser_table().column_names)
    assert not advertiser & set(kuairand.publisher_table().column_names)


def test_the_split_has_the_published_sizes() -> None:
    dates = kuairand.full_log()["date"].to_pylist()
    ads_dates = kuairand.advertiser_table()["date"].to_pylist()

    assert sum(kuairand.split_of(d) is Split.TEST for d in dates) == 56_658
    assert sum(kuairand.split_of(d) is Split.TEST for d in ads_dates) == 7_021
    assert {kuairand.split_of(d) for d in dates} == set(Split)


def test_user_ids_are_hashed() -> None:
    assert hashed_user_id(0) in set(kuairand.full_log()["user_id"].to_pylist())
    assert len(hashed_user_id(1)) == 16
    assert hashed_user_id(1) != hashed_user_id(2)


def test_play_time_cannot_be_a_feature() -> None:
    with pytest.raises(FeatureError):
        kuairand.ADVERTISER_SCHEMA.features(["play_time_ms"])
