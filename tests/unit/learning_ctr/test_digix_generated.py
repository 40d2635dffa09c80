"""Generated challenge files have the challenge's schema and shape, and say that they are generated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from adyton.learning.datasets.digix import ADS_SCHEMA, FEEDS_SCHEMA
from adyton.learning.datasets.digix_generated import Size, write_ads, write_feeds
from adyton.learning.errors import TableError


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[pa.Table, pa.Table]:
    folder = tmp_path_factory.mktemp("generated")
    write_ads(folder / "ads.parquet", Size(rows=120_000), seed=1)
    write_feeds(folder / "feeds.parquet", Size(rows=60_000), seed=1)
    assert not list(folder.glob("*.partial"))
    return pq.read_table(folder / "ads.parquet"), pq.read_table(folder / "feeds.parquet")


def test_columns_types_users_and_click_rate_follow_the_challenge(files: tuple[pa.Table, pa.Table]) -> None:
    ads, feeds = files
    users = set(ads["user_id"].unique().to_pylist())

    assert (ads.num_columns, feeds.num_columns) == (35, 28)
    ADS_SCHEMA.check(ads)
    FEEDS_SCHEMA.check(feeds)
    assert ads.schema.metadata[b"origin"] == feeds.schema.metadata[b"origin"] == b"generated"
    assert users <= set(feeds["user_id"].unique().to_pylist())
    assert len(users) == pytest.approx(120_000 / 118, rel=0.01)
    assert pc.mean(ads["label"]).as_py() == pytest.approx(0.0155, abs=0.002)
    assert ads["creat_type_cd"].combine_chunks().unique().__len__() == 9
    assert np.all(np.diff(ads["pt_d"].to_numpy()) >= 0)


def test_a_users_own_columns_do_not_change_from_row_to_row(files: tuple[pa.Table, pa.Table]) -> None:
    ads = files[0].select(["user_id", "age", "city"])
    plain = pa.table({name: ads[name].cast(pa.string()) for name in ads.column_names})

    assert plain.group_by(["user_id", "age", "city"]).aggregate([]).num_rows == len(plain["user_id"].unique())


def test_the_same_seed_writes_the_same_rows_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_ads(tmp_path / name, Size(rows=500, users=20), seed=seed)
    a, b, c = (pq.read_table(tmp_path / name) for name in "abc")

    assert a.equals(b)
    assert not a["label"].equals(c["label"]) or not a["adv_id"].equals(c["adv_id"])
    with pytest.raises(TableError):
        Size(rows=0)
