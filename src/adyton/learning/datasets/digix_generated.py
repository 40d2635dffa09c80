"""Generated rows of the DIGIX challenge's schema and shape, for tests of scale. Nothing in them is about anybody.

    write_ads(Path("ads.parquet"), Size(rows=7_675_517), seed=1)
    write_feeds(Path("feeds.parquet"), Size(rows=3_227_732), seed=1)

What follows the challenge (learning §1): the columns of `digix.ADS_SCHEMA` and `digix.FEEDS_SCHEMA`, their numbers of
distinct values, about 118 ads rows and 18 feeds rows per user with a long tail, every ads user in feeds, click rate
1.55 %, `^`-lists as lists, seven days. Clicks follow from a hidden taste of each user for the ad's creative type, and
clicks on articles follow the same taste, so that the feeds help a model of the ads. Files are written batch by batch
with memory for one batch, and say `generated` in their metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from adyton.kernel.chance import stream
from adyton.learning.datasets.delimited import arrow_schema
from adyton.learning.datasets.digix import ADS_SCHEMA, FEEDS_SCHEMA
from adyton.learning.errors import TableError
from adyton.learning.schema import Column, Kind, Role, TableSchema

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

METADATA = {"origin": "generated", "schema": "DIGIX 2022", "about": "random rows; nobody's data"}
FIRST_MS, DAYS, MINUTE_MS = 1_654_185_600_000, 7, 60_000  # 2022-06-03 00:00 in China
CLICK_RATE, FEEDS_CLICK_RATE = 0.0155, 0.1
ADS_ROWS_PER_USER, FEEDS_ROWS_PER_USER = 118, 18
BATCH_ROWS = 100_000
_TASTES, _MEAN_LIST = 9, 3
_DEFAULT_VALUES = 1_000
_VALUES: Mapping[str, int] = {
    "age": 8, "gender": 3, "residence": 35, "city": 340, "city_rank": 4, "series_dev": 27, "series_group": 7,
    "emui_dev": 27, "device_name": 256, "device_size": 150, "net_type": 6, "task_id": 11_000, "adv_id": 12_500,
    "creat_type_cd": 9, "adv_prim_id": 545, "inter_type_cd": 4, "slot_id": 60, "site_id": 1, "spread_app_id": 116,
    "hispace_app_tags": 43, "app_second_class": 20, "app_score": 3, "u_refreshTimes": 10, "u_feedLifeCycle": 8,
    "u_phonePrice": 7, "u_browserLifeCycle": 8, "u_browserMode": 8, "u_feedLifeCycle_feeds": 8,
    "u_refreshTimes_feeds": 10, "i_docId": 98_600, "i_s_sourceId": 4_040, "i_regionEntity": 378, "i_cat": 208,
    "i_entities": 92_747, "i_dislikeTimes": 10, "i_upTimes": 10, "i_dtype": 5, "e_ch": 19, "e_m": 274, "e_po": 27,
    "e_pl": 3_113, "e_rn": 99, "e_section": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """How much to make.   rows: in the file.   users: of it; None keeps the challenge's rows per user."""

    rows: int
    users: int | None = None

    def __post_init__(self) -> None:
        if self.rows < 1 or (self.users is not None and self.users < 1):
            raise TableError("a generated table needs rows and users")


def write_ads(path: Path, size: Size, *, seed: int) -> None:
    """Write ads impressions as Parquet, a row group per batch, replacing the file whole or not at all."""
    _write(path, ADS_SCHEMA, size, size.users or -(-size.rows // ADS_ROWS_PER_USER), CLICK_RATE, seed)


def write_feeds(path: Path, size: Size, *, seed: int) -> None:
    """Write feeds impressions: users 0.. are those of the ads file of the same seed, and others follow."""
    _write(path, FEEDS_SCHEMA, size, size.users or -(-size.rows // FEEDS_ROWS_PER_USER), FEEDS_CLICK_RATE, seed)


def _write(path: Path, schema: TableSchema, size: Size, users: int, click_rate: float, seed: int) -> None:
    columns = arrow_schema(schema).with_metadata(METADATA)
    partial = path.with_name(path.name + ".partial")
    try:
        with pq.ParquetWriter(partial, columns, compression="zstd") as writer:
            for number, start in enumerate(range(0, size.rows, BATCH_ROWS)):
                rows = np.arange(start, min(start + BATCH_ROWS, size.rows))
                rng = stream(seed, schema.label.name, number)
                writer.write_batch(_batch(schema, columns, rows, size.rows, users, click_rate, seed, rng))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _batch(
    schema: TableSchema, columns: pa.Schema, rows: Ints, n_rows: int, users: int, click_rate: float, seed: int,
    rng: np.random.Generator,
) -> pa.RecordBatch:  # fmt: skip
    user = _users(rows, users, rng)
    taste = _mixed(user, "taste", seed) % _TASTES
    item = _skewed(rng, _VALUES[schema.item_id.name], len(rows))
    is_tasty = _mixed(item, "creative", seed) % _TASTES == taste
    # A matching ad is clicked eight times as often, a match happens once in `_TASTES`, and the mean is `click_rate`.
    base = click_rate / (1 + 7 / _TASTES)
    clicked = rng.random(len(rows)) < np.where(is_tasty, 8 * base, base)
    times = FIRST_MS + (rows * (DAYS * 1440) // n_rows) * MINUTE_MS
    arrays = []
    for column in schema.columns:
        field = columns.field(column.name)
        if column.role is Role.USER_ID:
            arrays.append(_dictionary(user))
        elif column.role is Role.ITEM_ID:
            arrays.append(_dictionary(item))
        elif column.role is Role.LABEL:
            arrays.append(pa.array(clicked.astype(np.int8)))
        elif column.role is Role.TIME:
            arrays.append(pa.array(times, pa.int64()))
        elif column.role is Role.OUTCOME:
            happened = clicked & (rng.random(len(rows)) < 0.3)
            amount = happened * (rng.integers(1, 85, len(rows)) if column.kind is Kind.NUMBER else 1)
            arrays.append(pa.array(amount).cast(field.type))
        else:
            arrays.append(_feature(column, rows, user, item, taste, seed, rng))
    return pa.record_batch(arrays, schema=columns)


def _feature(
    column: Column, rows: Ints, user: Ints, item: Ints, taste: Ints, seed: int, rng: np.random.Generator
) -> pa.Array:
    values = _VALUES.get(column.name, _DEFAULT_VALUES)
    if column.name == "log_id":
        return _dictionary(rows)
    if column.kind is Kind.LIST:
        lengths = np.minimum(rng.poisson(_MEAN_LIST, len(rows)), 10)
        near_taste = np.repeat(taste, lengths) + _TASTES * _skewed(rng, max(1, values // _TASTES), int(lengths.sum()))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(near_taste % values).cast(pa.string()))
    owner: Mapping[Role, Callable[[], Ints]] = {
        Role.USER: lambda: _mixed(user, column.name, seed) % values,
        Role.AD: lambda: (
            _mixed(item, "creative", seed) % _TASTES
            if column.name in ("creat_type_cd", "i_cat")
            else _mixed(item, column.name, seed) % values
        ),
    }
    of_owner = owner.get(column.role, lambda: _skewed(rng, values, len(rows)))
    return _dictionary(of_owner() + 1)


def _users(rows: Ints, users: int, rng: np.random.Generator) -> Ints:
    """Activity with a long tail; the first `users` rows of the file name every user once."""
    drawn: Ints = (users * rng.random(len(rows)) ** 1.7).astype(np.int64)
    return np.where(rows < users, rows, drawn)


def _skewed(rng: np.random.Generator, values: int, n: int) -> Ints:
    drawn: Ints = (values * rng.random(n) ** 2.5).astype(np.int64)
    return drawn


def _mixed(ids: Ints, what: str, seed: int) -> Ints:
    """A fixed pseudo-random number below 2^31 for each id, another one for each `what`."""
    key = int(stream(seed, "generated column", what).integers(1, 2**31)) | 1
    mixed = (ids.astype(np.uint64) + np.uint64(key)) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    result: Ints = (mixed >> np.uint64(33)).astype(np.int64)
    return result


def _dictionary(codes: Ints) -> pa.Array:
    distinct, places = np.unique(codes, return_inverse=True)
    return pa.DictionaryArray.from_arrays(pa.array(places.astype(np.int32)), pa.array(distinct).cast(pa.string()))
