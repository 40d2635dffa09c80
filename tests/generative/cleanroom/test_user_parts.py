"""Cut into any number of parts by user, or into days, queries have the same groups as all rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adyton.cleanroom.aggregate_request import AggregateRequest
from adyton.cleanroom.aggregate_sql import ValueType, check_sql
from adyton.cleanroom.contract import DatasetTerms
from adyton.cleanroom.join_keys import UserKeys
from adyton.cleanroom.joined_view import JoinedView, ViewColumn, newest_known
from adyton.cleanroom.opened_inputs import OpenedTable
from adyton.cleanroom.table_columns import TableColumn
from adyton.cleanroom.user_level import UserLevelWork, narrowed
from adyton.kernel.ids import DatasetId, PartyName
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.schema import Column, Kind, Role

COLUMNS = (
    TableColumn(Column("user_id", Role.USER_ID, Kind.CATEGORY), "string", nullable=False),
    TableColumn(Column("time_ms", Role.TIME, Kind.TIMESTAMP), "int64"),
    TableColumn(Column("city", Role.USER, Kind.CATEGORY), "string"),
    TableColumn(Column("spent", Role.OUTCOME, Kind.NUMBER), "int64"),
)
BASE, PARTNER = DatasetId("ads"), DatasetId("feeds")
VIEW = JoinedView(
    {
        "spent": ViewColumn(BASE, "spent", ValueType.NUMBER),
        "feeds_city": ViewColumn(PARTNER, "city", ValueType.TEXT),
        "feeds_spent": ViewColumn(PARTNER, "spent", ValueType.NUMBER),
        "feeds_rows": ViewColumn(PARTNER, None, ValueType.NUMBER),
        "feeds_matched": ViewColumn(PARTNER, None, ValueType.FLAG),
    },
    "user_id",
    {BASE: "ads", PARTNER: "feeds"},
)
ASKED = AggregateRequest(
    "q",
    "SELECT feeds_city, FLOOR(feeds_rows / 2) AS many, COUNT(*) AS n, COUNT(DISTINCT user_id) AS users, "
    "SUM(spent) AS spent, SUM(feeds_spent) AS theirs FROM joined WHERE feeds_matched OR spent > 2 GROUP BY 1, 2",
    PrivacyLoss.of(1, "1e-6"),
    {"spent": (Fraction(0), Fraction(9)), "theirs": (Fraction(0), Fraction(9))},
    max_groups_per_user=2,
    max_rows_per_group=3,
)
ROWS = st.lists(
    st.tuples(st.integers(-3, 5), st.sampled_from(["Ulm", "Bern", None]), st.one_of(st.none(), st.integers(0, 9))),
    max_size=25,
)


@dataclass
class Rows:
    """Stands for an opened sealed table: the same methods over rows in memory."""

    table: pa.Table

    @property
    def rows(self) -> int:
        return int(self.table.num_rows)

    def read(self, names: Sequence[str]) -> pa.Table:
        return self.table.select(list(names))

    def batches(self, names: Sequence[str]) -> list[pa.RecordBatch]:
        return self.read(names).to_batches(max_chunksize=4)


def opened(dataset_id: DatasetId, name: str, rows: list[Any], first_time: int) -> tuple[OpenedTable, Any]:
    table = pa.table(
        {
            "user_id": pa.array([str(r[0]) for r in rows], pa.string()),
            "time_ms": pa.array(range(first_time, first_time + len(rows)), pa.int64()),
            "city": pa.array([r[1] for r in rows], pa.string()),
            "spent": pa.array([r[2] for r in rows], pa.int64()),
        }
    )
    terms = DatasetTerms(dataset_id, 1, PartyName(name), "users", COLUMNS, "user_id", len(rows), "0" * 64)
    one = OpenedTable(dataset_id, name, terms, tuple(table.column_names), [Rows(table)])  # type: ignore[list-item]
    return one, UserKeys.of_rows(np.array([r[0] for r in rows], np.int64))


def work(base: Any, partner: Any, **more: Any) -> UserLevelWork:
    return UserLevelWork([base[0], partner[0]], [base[1], partner[1]], 64, 1, **more)


def groups(one: UserLevelWork) -> list[Any]:
    query = check_sql(ASKED.sql, VIEW.types, VIEW.user_id, where="q")
    found = one.groups(VIEW, query, ASKED).to_pylist()
    return sorted(found, key=lambda row: (str(row["g0"]), str(row["g1"])))


@settings(max_examples=4, deadline=None)
@given(ads=ROWS, feeds=ROWS, parts=st.integers(2, 3))
def test_groups_are_the_same_for_any_number_of_parts(ads: list[Any], feeds: list[Any], parts: int) -> None:
    base, partner = opened(BASE, "ads", ads, 0), opened(PARTNER, "feeds", feeds, 0)

    assert groups(work(base, partner, parts=1)) == groups(work(base, partner, parts=parts))


@settings(max_examples=4, deadline=None)
@given(ads=ROWS, days=st.lists(ROWS, min_size=2, max_size=2), parts=st.integers(1, 2))
def test_what_is_known_of_a_partner_after_several_days_is_what_all_days_say(
    ads: list[Any], days: list[list[Any]], parts: int
) -> None:
    base = opened(BASE, "ads", ads, 0)
    known: dict[str, pa.Table] = {}
    for number, day in enumerate(days):
        partner = opened(PARTNER, "feeds", day, 100 * number)
        found = groups(work(base, partner, known=known, parts=parts))
        everything = [row for earlier in days[: number + 1] for row in earlier]
        # Times of all days at once ascend in the same order.
        assert found == groups(work(base, opened(PARTNER, "feeds", everything, 0), parts=1))
        known = work(base, partner, known=known).newly_known({PARTNER: ("city", "spent")})
        assert known["feeds"].num_rows <= 3 * 9


@settings(max_examples=6, deadline=None)
@given(ads=ROWS, feeds=ROWS)
def test_rows_of_users_whom_the_base_does_not_know_change_nothing(ads: list[Any], feeds: list[Any]) -> None:
    """The enclave leaves them out before it joins, and what is left is in the order that it was."""
    base, partner = opened(BASE, "ads", ads, 0), opened(PARTNER, "feeds", feeds, 0)
    strangers = [(row[0] + 100, *row[1:]) for row in feeds]

    assert groups(work(base, opened(PARTNER, "feeds", feeds + strangers, 0))) == groups(work(base, partner))
    keys, is_wanted = partner[1], partner[1].known_to(base[1])
    rows = partner[0].part(keys, ["city"], is_wanted).to_pylist()
    known = {row[0] for row in ads}
    assert rows == [{"user_key": user, "city": city} for user, city, _ in feeds if user in known]


@pytest.mark.parametrize("ahead", [["city"], ["spent"], ["city", "spent"]])
def test_rows_that_were_read_ahead_are_those_that_are_asked_for(ahead: list[str]) -> None:
    one, keys = opened(PARTNER, "feeds", [(1, "Ulm", 1), (2, "Bern", 2), (1, None, 3)], 0)
    for is_wanted in (None, keys.of_code == 1):
        one.read_ahead(ahead)
        found = one.part(keys, ["city"], is_wanted)
        assert found.equals(one.part(keys, ["city"], is_wanted))
        assert found["city"].to_pylist() == (["Ulm", "Bern", None] if is_wanted is None else ["Ulm", None])


@pytest.mark.parametrize(
    ("values", "wanted"),
    [([-128, 127], pa.int8()), ([128, None], pa.int16()), ([-(2**15) - 1], pa.int32()), ([2**31], pa.int64())],
)
def test_numbers_keep_their_values_in_the_narrowest_type(values: list[int | None], wanted: pa.DataType) -> None:
    rows = pa.table({"user_key": pa.array([1] * len(values), pa.int64()), "n": pa.array(values, pa.int64())})
    found = narrowed(rows.append_column("none", pa.nulls(len(values), pa.int64())))

    assert (found["n"].type, found["n"].to_pylist()) == (wanted, values)
    assert (found["user_key"].type, found["none"].type) == (pa.int64(), pa.int64())


def test_counts_of_a_new_day_include_the_users_of_earlier_days() -> None:
    base, partner = opened(BASE, "ads", [(1, None, 1), (2, None, 1)], 0), opened(PARTNER, "feeds", [(2, None, 1)], 0)
    past = {"ads": pa.array([3, 4], pa.int64()), "feeds": pa.array([1, 4], pa.int64())}
    counts = work(base, partner, past_users=past, past_rows={"ads": 5, "feeds": 6}).counts()

    assert (counts.users_base, counts.users_partners, counts.users_joined) == (4, 3, 3)
    assert (counts.rows_base, counts.rows_partners) == (7, 7)


def test_a_user_nobody_described_has_a_row_count_and_no_values() -> None:
    rows = pa.table({"user_key": [7, 7], "time_ms": [1, 2], "city": pa.array([None, None], pa.string())})

    assert newest_known(None, rows, "time_ms").to_pylist() == [
        {"user_key": 7, "time_ms": None, "city": None, "weight": 2}
    ]
