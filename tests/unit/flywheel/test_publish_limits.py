"""Limits that no process of the auction can keep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from adyton.flywheel.publish_step import SNAPSHOT, publish_seller
from adyton.kernel.errors import BadInputError
from adyton.kernel.ids import AdId, BuyerId
from adyton.kernel.records import ApprovedAd

FREE = ApprovedAd(
    ad_id=AdId("ad-1"),
    creative_id="c1",
    buyer=BuyerId("shop.example"),
    render_url="https://shop.example/free",
    countries=("US",),
    product_line="auction",
    value_per_click_micros=1,
    currency="USD",
    decided_at_ms=0,
    decision_hash="0" * 64,
)
ADULTS = replace(FREE, ad_id=AdId("ad-2"), render_url="https://shop.example/adults", min_age=18)
NOT_IN_FEED = replace(FREE, ad_id=AdId("ad-3"), render_url="https://shop.example/feed", not_in_placements=("feed",))


def test_an_ad_that_may_not_be_shown_to_everybody_is_not_published(tmp_path: Path) -> None:
    publish_seller(tmp_path, [FREE, ADULTS, NOT_IN_FEED], at_ms=1)
    keys = pq.read_table(tmp_path / "lookup" / SNAPSHOT)["key"].to_pylist()

    assert keys == [FREE.render_url]


@pytest.mark.parametrize("age", [0, 100])
def test_an_age_limit_that_means_nothing_is_not_born(age: int) -> None:
    with pytest.raises(BadInputError):
        replace(FREE, min_age=age)
