"""Point-in-time counters agree with a loop over earlier events, and cannot see the future."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adyton.learning.ctr.features import Counter, Statistic, point_in_time, with_counters
from adyton.learning.errors import FeatureError, TableError
from adyton.learning.schema import Role

COUNTERS = (
    Counter("n", "user", Role.USER, Statistic.IMPRESSIONS),
    Counter("clicks", "user", Role.USER, Statistic.TOTAL, "click"),
    Counter("rate", "item", Role.AD, Statistic.RATE, "click", prior=0.2, strength=4),
    Counter("mean", "item", Role.AD, Statistic.MEAN, "play"),
    Counter("gap", "user", Role.USER, Statistic.GAP_HOURS),
)
KEYED = st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 2), st.integers(-5, 10))
EVENT = st.tuples(KEYED, st.integers(0, 1), st.one_of(st.none(), st.integers(0, 9)))


def tables(rows: list[Any], events: list[Any]) -> tuple[pa.Table, pa.Table]:
    def columns(keys: list[Any]) -> dict[str, pa.Array]:
        return {
            "user": pa.array([k[0] for k in keys], pa.string()),
            "item": pa.array([k[1] for k in keys], pa.int32()),
            "time_ms": pa.array([k[2] for k in keys], pa.int64()),
        }

    return pa.table(columns(rows)), pa.table(
        {
            **columns([e[0] for e in events]),
            "click": pa.array([e[1] for e in events], pa.int8()),
            "play": pa.array([e[2] for e in events], pa.int32()),
        }
    )


def slow(row: Any, events: list[Any]) -> list[float | None]:
    of_user = [e for e in events if e[0][0] == row[0] and e[0][2] < row[2]]
    of_item = [e for e in events if e[0][1] == row[1] and e[0][2] < row[2]]
    return [
        float(len(of_user)),
        float(sum(e[1] for e in of_user)),
        (sum(e[1] for e in of_item) + 0.2 * 4) / (len(of_item) + 4),
        sum(e[2] or 0 for e in of_item) / len(of_item) if of_item else None,
        (row[2] - max(e[0][2] for e in of_user)) / 3.6e6 if of_user else None,
    ]


@given(st.lists(KEYED, max_size=12), st.lists(EVENT, max_size=25))
def test_counters_agree_with_a_loop_over_strictly_earlier_events(rows: list[Any], events: list[Any]) -> None:
    row_table, event_table = tables(rows, events)

    result = point_in_time(row_table, event_table, COUNTERS)

    got = list(zip(*(result[c.name].to_pylist() for c in COUNTERS), strict=True))
    assert [pytest.approx(slow(row, events), nan_ok=True) for row in rows] == [list(values) for values in got]


@given(st.lists(st.tuples(KEYED, st.integers(-6, 12), st.integers(-6, 12)), max_size=12), st.lists(EVENT, max_size=25))
def test_bounds_count_events_from_since_to_as_of_and_never_the_future(rows: list[Any], events: list[Any]) -> None:
    row_table, event_table = tables([row[0] for row in rows], events)
    as_of, since = (np.array([row[i] for row in rows], np.int64) for i in (1, 2))

    result = point_in_time(row_table, event_table, COUNTERS, as_of=as_of, since=since)

    got = [list(values) for values in zip(*(result[c.name].to_pylist() for c in COUNTERS), strict=True)]
    for (row, until, start), values in zip(rows, got, strict=True):
        seen = [e for e in events if start <= e[0][2] < until]
        assert values == pytest.approx(slow(row, seen), nan_ok=True)
    with pytest.raises(TableError):
        point_in_time(row_table, event_table, COUNTERS, as_of=np.zeros(len(rows) + 1, np.int64))


@given(st.lists(EVENT, min_size=2, max_size=25), st.integers(-5, 10), st.randoms())
def test_shuffling_what_happens_later_changes_no_counter(events: list[Any], now: int, random: Any) -> None:
    rows = [e[0] for e in events if e[0][2] <= now]
    later = [i for i, e in enumerate(events) if e[0][2] >= now]
    outcomes = [events[i][1:] for i in later]
    random.shuffle(outcomes)
    shuffled = list(events)
    for i, outcome in zip(later, outcomes, strict=True):
        shuffled[i] = (events[i][0], *outcome)

    before = point_in_time(*tables(rows, events), COUNTERS)
    after = point_in_time(*tables(rows, shuffled), COUNTERS)

    assert before == after


def test_a_row_does_not_see_its_exact_duplicate() -> None:
    events = tables([], [(("a", 1, 7), 1, 3), (("a", 1, 7), 1, 3)])[1]

    counted = with_counters(events, events, COUNTERS)

    assert counted["n"].to_pylist() == [0, 0]
    assert counted["rate"].to_pylist() == [0.2, 0.2]
    assert counted["gap"].to_pylist() == [None, None]


def test_counters_that_make_no_sense_are_refused() -> None:
    with pytest.raises(FeatureError):
        Counter("x", "user", Role.USER, Statistic.IMPRESSIONS, "click")
    with pytest.raises(FeatureError):
        Counter("x", "user", Role.USER, Statistic.TOTAL)
    with pytest.raises(FeatureError):
        Counter("x", "user", Role.USER, Statistic.RATE, "click")
    with pytest.raises(FeatureError):
        Counter("x", "user", Role.CONTEXT, Statistic.IMPRESSIONS)
    with pytest.raises(TableError):
        point_in_time(pa.table({"user": ["a"]}), pa.table({"user": ["a"]}), COUNTERS[:1])


def test_times_of_real_size_do_not_overflow() -> None:
    n = 40_000
    table = pa.table({"user": [str(i) for i in range(n)], "time_ms": np.arange(n) * 10**8 + 1_650_000_000_000})

    assert set(point_in_time(table, table, COUNTERS[:1])["n"].to_pylist()) == {0.0}


def test_counts_do_not_depend_on_the_unit_of_time() -> None:
    """Ten thousand users at nanosecond times: a product of key and time would not fit into 64 bits."""
    rng = np.random.default_rng(0)
    n = 30_000
    seconds = 1_651_000_000 + rng.integers(0, 86_400, n)
    columns = {"user": rng.integers(0, 10_000, n).astype(str), "item": np.zeros(n, np.int64), "click": np.ones(n)}
    counter = (Counter("n", "user", Role.USER, Statistic.IMPRESSIONS),)
    coarse, fine = (pa.table({**columns, "time_ms": seconds * factor}) for factor in (1, 10**9))

    counted = point_in_time(coarse, coarse, counter)["n"]

    assert counted.to_numpy().max() >= 2
    assert counted.equals(point_in_time(fine, fine, counter)["n"])
