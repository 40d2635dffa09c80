"""The files of the DIGIX 2022 cross-domain challenge: ads and news feeds of the same users.

    ads, ads_schema = digix.read_ads(Path("train_data_ads.csv"))         35 columns, 34 in the test file (no label)
    feeds, feeds_schema = digix.read_feeds(Path("train_data_feeds.csv")) 28 columns

Both give a table and a schema like every other reader, so that the same commands run on them. Feeds labels of -1/1
become 0/1; `^` separates the elements of a list; times are YYYYMMDDHHMM in China time. The user id is called `user_id`
in both, and names that both files have (`label`, `u_feedLifeCycle`, `u_refreshTimes`, `u_newsCatInterestsST`) end in
`_feeds` in the feeds table. `pro` and `cillabel` happen after the click: outcomes. Both spellings of the lists
(`..._v001`, `..._001`) and of the app tags (`hispace_app_tags`, `Tags`) are read.   Source: learning §1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa

from adyton.learning.datasets.delimited import CsvFormat, TimeFormat, collect, read_batches, read_header
from adyton.learning.schema import Column, Kind, Role, TableSchema

FORMAT = CsvFormat(list_separator="^", time_format=TimeFormat.CHINA_MINUTES)


def _categories(role: Role, names: str) -> tuple[Column, ...]:
    return tuple(Column(name, role, Kind.CATEGORY) for name in names.split())


def _lists(role: Role, names: str) -> tuple[Column, ...]:
    return tuple(Column(name, role, Kind.LIST) for name in names.split())


ADS_SCHEMA = TableSchema(
    (
        Column("log_id", Role.IGNORED, Kind.CATEGORY, "sample id"),
        Column("label", Role.LABEL, Kind.BINARY, "the ad was clicked"),
        Column("user_id", Role.USER_ID, Kind.CATEGORY),
        *_categories(Role.USER, "age gender residence city city_rank"),
        *_categories(Role.USER, "series_dev series_group emui_dev device_name device_size"),
        *_categories(Role.CONTEXT, "net_type"),
        *_categories(Role.AD, "task_id"),
        Column("adv_id", Role.ITEM_ID, Kind.CATEGORY, "creative material"),
        *_categories(Role.AD, "creat_type_cd adv_prim_id inter_type_cd"),
        *_categories(Role.CONTEXT, "slot_id"),
        Column("site_id", Role.IGNORED, Kind.CATEGORY, "one value only"),
        *_categories(Role.AD, "spread_app_id hispace_app_tags app_second_class app_score"),
        *_lists(Role.SEQUENCE, "ad_click_list_v001 ad_click_list_v002 ad_click_list_v003"),
        *_lists(Role.SEQUENCE, "ad_close_list_v001 ad_close_list_v002 ad_close_list_v003"),
        Column("pt_d", Role.TIME, Kind.TIMESTAMP),
        *_lists(Role.USER, "u_newsCatInterestsST"),
        *_categories(Role.USER, "u_refreshTimes u_feedLifeCycle"),
    )
)

FEEDS_SCHEMA = TableSchema(
    (
        Column("user_id", Role.USER_ID, Kind.CATEGORY),
        *_categories(Role.USER, "u_phonePrice u_browserLifeCycle u_browserMode u_feedLifeCycle_feeds"),
        *_categories(Role.USER, "u_refreshTimes_feeds"),
        *_lists(Role.USER, "u_newsCatInterests u_newsCatDislike u_newsCatInterestsST_feeds u_click_ca2_news"),
        Column("i_docId", Role.ITEM_ID, Kind.CATEGORY),
        *_categories(Role.AD, "i_s_sourceId i_regionEntity i_cat"),
        *_lists(Role.AD, "i_entities"),
        *_categories(Role.AD, "i_dislikeTimes i_upTimes i_dtype"),
        *_categories(Role.CONTEXT, "e_ch"),
        *_categories(Role.USER, "e_m"),
        *_categories(Role.CONTEXT, "e_po e_pl e_rn e_section"),
        Column("e_et", Role.TIME, Kind.TIMESTAMP),
        Column("label_feeds", Role.LABEL, Kind.BINARY, "the article was opened"),
        Column("cillabel", Role.OUTCOME, Kind.BINARY, "liked, after the click"),
        Column("pro", Role.OUTCOME, Kind.NUMBER, "read progress, after the click"),
    )
)

_FEEDS_NAMES_IN_FILE = {
    "user_id": "u_userId",
    "label_feeds": "label",
    "u_feedLifeCycle_feeds": "u_feedLifeCycle",
    "u_refreshTimes_feeds": "u_refreshTimes",
    "u_newsCatInterestsST_feeds": "u_newsCatInterestsST",
}
_OTHER_SPELLINGS = {
    "hispace_app_tags": ("Tags", "tags"),
    **{f"ad_{what}_list_v00{i}": (f"ad_{what}_list_00{i}",) for what in ("click", "close") for i in (1, 2, 3)},
}


def read_ads(path: Path) -> tuple[pa.Table, TableSchema]:
    """All of an ads file; the schema has no label when the file has none.   Raises TableError with row and column."""
    schema, batches = stream_ads(path)
    return collect(schema, batches), schema


def read_feeds(path: Path) -> tuple[pa.Table, TableSchema]:
    """All of a feeds file.   Raises TableError with row and column."""
    schema, batches = stream_feeds(path)
    return collect(schema, batches), schema


def stream_ads(path: Path) -> tuple[TableSchema, Iterator[pa.RecordBatch]]:
    """The schema and batches of an ads file, for files that do not fit into memory."""
    header = read_header(path)
    schema = ADS_SCHEMA
    if "label" not in header:
        schema = schema.select([name for name in schema.names if name != "label"])
    return schema, read_batches(path, schema, FORMAT, names_in_file=_spelled(schema, header, {}))


def stream_feeds(path: Path) -> tuple[TableSchema, Iterator[pa.RecordBatch]]:
    """The schema and batches of a feeds file, for files that do not fit into memory."""
    names = _spelled(FEEDS_SCHEMA, read_header(path), _FEEDS_NAMES_IN_FILE)
    return FEEDS_SCHEMA, read_batches(path, FEEDS_SCHEMA, FORMAT, names_in_file=names)


def _spelled(schema: TableSchema, header: list[str], names: Mapping[str, str]) -> dict[str, str]:
    result = dict(names)
    for name, others in _OTHER_SPELLINGS.items():
        if name in schema and name not in header:
            found = [other for other in others if other in header]
            if found:
                result[name] = found[0]
    return result
