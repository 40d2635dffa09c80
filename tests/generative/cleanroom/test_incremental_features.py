"""Joining a new day to what is kept of earlier days gives the features that joining all days at once gives."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adyton.cleanroom.engine import Engine, open_engine
from adyton.cleanroom.join import PartyTable, join_tables
from adyton.cleanroom.join_state import JoinState, PartyPast, check_order, past_of
from adyton.kernel.errors import BadInputError
from adyton.kernel.ids import DatasetId
from adyton.learning.schema import Column, Kind, Role, TableSchema

SCHEMA = TableSchema(
    (
        Column("user_id", Role.USER_ID, Kind.CATEGORY),
        Column("item_id", Role.ITEM_ID, Kind.CATEGORY),
        Column("time_ms", Role.TIME, Kind.TIMESTAMP),
        Column("city", Role.USER, Kind.CATEGORY),
        Column("play", Role.OUTCOME, Kind.NUMBER),
        Column("label", Role.LABEL, Kind.BINARY),
    )
)
ARROW = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.int64()),
        ("time_ms", pa.int64()),
        ("city", pa.string()),
        ("play", pa.int64()),
        ("label", pa.int8()),
    ]
)
DAY = 10
COLUMNS = ("label", "play")
ROW = st.tuples(
    st.sampled_from(["u1", "u2", "u3", "u4"]),
    st.integers(0, 2),
    st.integers(0, DAY - 1),
    st.sampled_from(["Ulm", "Bern", None]),
    st.one_of(st.none(), st.integers(0, 9)),
    st.integers(0, 1),
)
DAYS = st.lists(st.tuples(st.lists(ROW, min_size=1, max_size=8), st.lists(ROW, max_size=8)), min_size=2, max_size=3)


def table(rows: list[Any], day: int, early: int) -> pa.Table:
    """A day's rows; every day but the first begins `early` before the day before it has ended."""
    start = day * DAY - (early if day else 0)
    moved = [{**dict(zip(ARROW.names, row, strict=True)), "time_ms": row[2] + start} for row in rows]
    return pa.Table.from_pylist(moved, schema=ARROW)


def party(name: str, rows: pa.Table) -> PartyTable:
    return PartyTable(DatasetId(name), name, rows, SCHEMA)


def features(engine: Engine, ads: pa.Table, feeds: pa.Table, past: dict[str, PartyPast] | None = None) -> Any:
    return join_tables(engine, party("ads", ads), [party("feeds", feeds)], key=b"k" * 32, past=past)


@pytest.mark.parametrize("early", [0, DAY // 2])
@settings(max_examples=6, deadline=None)
@given(days=DAYS)
def test_a_new_day_joined_to_the_state_has_the_features_of_all_days_at_once(days: list[Any], early: int) -> None:
    past: dict[str, PartyPast] | None = None
    watermark = -1
    with open_engine(memory_mb=64, threads=1) as engine:
        for day, (ads, feeds) in enumerate(days):
            made = features(engine, table(ads, day, early), table(feeds, day, 0), past)
            bases = [table(rows, d, early) for d, (rows, _) in enumerate(days[: day + 1])]
            partners = [table(rows, d, 0) for d, (_, rows) in enumerate(days[: day + 1])]
            whole = features(engine, pa.concat_tables(bases), pa.concat_tables(partners))

            check_order(bases[-1]["time_ms"], watermark)
            wanted = whole.table.to_pylist()[-len(ads) :]
            for row, wanted_row in zip(made.table.to_pylist(), wanted, strict=True):
                assert row == pytest.approx(wanted_row)
            watermark = max([watermark, *bases[-1]["time_ms"].to_pylist()]) - early
            past = {
                name: past_of((past or {}).get(name), made.events[name], watermark, COLUMNS, ("label",))
                for name in ("ads", "feeds")
            }
            kept = JoinState(b"k" * 32, {"ads": day + 1}, {}, {}, watermark, past).to_bytes()
            past = dict(JoinState.from_bytes(kept).parties)


def test_a_row_older_than_what_was_summed_up_is_refused() -> None:
    with pytest.raises(BadInputError, match="older"):
        check_order(pa.chunked_array([[11, 10]]), 10)
    check_order(pa.chunked_array([[11, 12]]), 10)
