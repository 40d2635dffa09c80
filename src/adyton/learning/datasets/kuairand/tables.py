"""The shipped KuaiRand data as tables with schemas.

    from adyton.learning.datasets.kuairand import tables as kuairand
    ads, schema = kuairand.advertiser_table(), kuairand.ADVERTISER_SCHEMA

Every table is one impression per row in time order. Columns: `user_id` (16 hexadecimal digits, shared by the parties),
`item_id`, `time_ms` (UTC), `date` (yyyymmdd, China time), `hour`, `tab`, the party's own user columns, the item's
columns, the outcomes, and the label `is_click`. Categories are strings or integers; missing values are null.
"""

from __future__ import annotations

import hashlib
from enum import Enum
from functools import cache
from importlib import resources

import pyarrow as pa
import pyarrow.parquet as pq

from adyton.learning.errors import DataMissingError
from adyton.learning.schema import Column, Kind, Role, TableSchema

FIRST_DATE, LAST_TRAIN_DATE, VALIDATION_DATE, LAST_DATE = 20220425, 20220503, 20220504, 20220508


class Split(Enum):
    """The part of an experiment that a day belongs to."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


def split_of(date: int) -> Split:
    """Train to 3 May 2022, validation on 4 May, test from 5 May.   date: yyyymmdd."""
    if date <= LAST_TRAIN_DATE:
        return Split.TRAIN
    return Split.VALIDATION if date == VALIDATION_DATE else Split.TEST


def _columns(role: Role, kind: Kind, *names: str) -> tuple[Column, ...]:
    return tuple(Column(name, role, kind) for name in names)


_KEYS = (
    Column("user_id", Role.USER_ID, Kind.CATEGORY, "shared hashed id"),
    Column("item_id", Role.ITEM_ID, Kind.CATEGORY, "video"),
    Column("time_ms", Role.TIME, Kind.TIMESTAMP, "when it was shown"),
    Column("date", Role.IGNORED, Kind.CATEGORY, "day in China, for the split"),
    Column("hour", Role.CONTEXT, Kind.CATEGORY, "hour of the day in China"),
    Column("tab", Role.CONTEXT, Kind.CATEGORY, "scenario of the app"),
)
PUBLISHER_USER_COLUMNS = (
    *_columns(
        Role.USER,
        Kind.CATEGORY,
        "user_active_degree",
        "is_live_streamer",
        "is_video_author",
        "follow_user_num_range",
        "fans_user_num_range",
        "friend_user_num_range",
        "register_days_range",
    ),
    *_columns(Role.USER, Kind.NUMBER, "follow_user_num", "fans_user_num", "friend_user_num", "register_days"),
)
ADVERTISER_USER_COLUMNS = _columns(Role.USER, Kind.CATEGORY, *(f"onehot_feat{i}" for i in range(18)))
ITEM_COLUMNS = (
    *_columns(
        Role.AD,
        Kind.CATEGORY,
        "author_id",
        "video_type",
        "upload_dt",
        "upload_type",
        "visible_status",
        "music_id",
        "music_type",
        "tag",
    ),
    *_columns(Role.AD, Kind.NUMBER, "video_duration", "server_width", "server_height", "duration_ms"),
)
OUTCOME_COLUMNS = (
    *_columns(
        Role.OUTCOME,
        Kind.BINARY,
        "is_like",
        "is_follow",
        "is_comment",
        "is_forward",
        "is_hate",
        "long_view",
        "is_profile_enter",
    ),
    *_columns(Role.OUTCOME, Kind.NUMBER, "play_time_ms", "profile_stay_time", "comment_stay_time"),
)
_LABEL = Column("is_click", Role.LABEL, Kind.BINARY, "the video was opened")

PUBLISHER_SCHEMA = TableSchema((*_KEYS, *PUBLISHER_USER_COLUMNS, *ITEM_COLUMNS, *OUTCOME_COLUMNS, _LABEL))
"""Tab 1: a feed of content with engagement, and the columns about activity, followers and registration."""
ADVERTISER_SCHEMA = TableSchema((*_KEYS, *ADVERTISER_USER_COLUMNS, *ITEM_COLUMNS, *OUTCOME_COLUMNS, _LABEL))
"""Tabs 0 and 6: sparse clicks, and 18 coded columns about the user."""
FULL_SCHEMA = TableSchema(
    (*_KEYS, *PUBLISHER_USER_COLUMNS, *ADVERTISER_USER_COLUMNS, *ITEM_COLUMNS, *OUTCOME_COLUMNS, _LABEL)
)
"""All tabs and all columns: for benchmarks, where no party has all of it."""


@cache
def publisher_table() -> pa.Table:
    """173,008 impressions of the publisher with `PUBLISHER_SCHEMA`.   Raises DataMissingError."""
    return _party_table(("publisher",), PUBLISHER_SCHEMA)


@cache
def advertiser_table() -> pa.Table:
    """31,462 impressions of the advertiser with `ADVERTISER_SCHEMA`.   Raises DataMissingError."""
    return _party_table(("advertiser",), ADVERTISER_SCHEMA)


@cache
def full_log() -> pa.Table:
    """228,329 impressions with `FULL_SCHEMA`, in time order.   Raises DataMissingError."""
    return _party_table(("publisher", "advertiser", "other"), FULL_SCHEMA)


def _party_table(logs: tuple[str, ...], schema: TableSchema) -> pa.Table:
    users, items = _shipped("users"), _shipped("items")
    log = pa.concat_tables([_shipped(name) for name in logs])
    if len(logs) > 1:
        log = log.sort_by("time_ms")
    row_of_item = {item: row for row, item in enumerate(items["item_id"].to_pylist())}
    item_rows = pa.array([row_of_item[item] for item in log["item_id"].to_pylist()], pa.int32())
    user_rows = log["user_row"].combine_chunks()
    arrays = []
    for name in schema.names:
        if name in log.column_names:
            arrays.append(log[name])
        elif name in users.column_names:
            arrays.append(users[name].take(user_rows))
        else:
            arrays.append(items[name].take(item_rows))
    return pa.table(arrays, names=list(schema.names)).combine_chunks()


def shipped_sha256() -> tuple[str, ...]:
    """SHA-256 of the shipped files that tables are made of, in the order of their names, as hexadecimal digits."""
    folder = resources.files("adyton.learning.datasets.kuairand")
    files = sorted(file.name for file in folder.iterdir() if file.name.endswith(".parquet"))
    return tuple(hashlib.sha256(folder.joinpath(name).read_bytes()).hexdigest() for name in files)


def _shipped(name: str) -> pa.Table:
    path = resources.files("adyton.learning.datasets.kuairand").joinpath(f"{name}.parquet")
    try:
        with resources.as_file(path) as file:
            table = pq.read_table(file)
    except FileNotFoundError:
        raise DataMissingError(
            "the shipped KuaiRand data is missing",
            where=f"{name}.parquet",
            hint="install adyton again, or run python -m adyton.learning.datasets.kuairand.build",
        ) from None
    # Files hold the narrowest types; sums and products of 8-bit columns overflow, so nobody computes on those.
    return table.cast(pa.schema([pa.field(field.name, _computable(field.type)) for field in table.schema]))


def _computable(arrow_type: pa.DataType) -> pa.DataType:
    if pa.types.is_date(arrow_type):
        return pa.string()
    if pa.types.is_integer(arrow_type) and arrow_type.bit_width < 32:
        return pa.int32()
    return arrow_type
