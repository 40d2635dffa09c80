"""The one-sort counters agree with nested loops and with numpy, and know nothing of the same moment or later."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adyton.cleanroom.engine import open_engine
from adyton.cleanroom.features import count_past
from adyton.learning.ctr.features import Counter, Statistic, point_in_time
from adyton.learning.schema import Role

COUNTERS = (
    Counter("shown", "user", Role.USER, Statistic.IMPRESSIONS),
    Counter("gap", "user", Role.USER, Statistic.GAP_HOURS),
    Counter("clicks", "user", Role.USER, Statistic.TOTAL, "label"),
    Counter("play", "user", Role.USER, Statistic.MEAN, "play"),
)
# Few keys and times, so that ties and repeats are common.
SHOWN = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), min_size=1, max_size=25)
SEEN = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(0, 1), st.integers(0, 9)), max_size=25)
EVENTS = pa.schema([("user", pa.int64()), ("time", pa.int64()), ("label", pa.int64()), ("play", pa.int64())])


def slow(shown: list[tuple[int, int]], seen: list[Any]) -> list[dict[str, float | None]]:
    """For each impression, look at every event."""
    result: list[dict[str, float | None]] = []
    for key, time in shown:
        earlier = [event for event in seen if event[0] == key and event[1] < time]
        result.append(
            {
                "shown": float(len(earlier)),
                "gap": (time - max(e[1] for e in earlier)) / 3_600_000 if earlier else None,
                "clicks": float(sum(e[2] for e in earlier)),
                "play": sum(e[3] for e in earlier) / len(earlier) if earlier else None,
            }
        )
    return result


@settings(max_examples=40, deadline=None)
@given(SHOWN, SEEN)
def test_counters_agree_with_their_slow_twins(shown: list[tuple[int, int]], seen: list[Any]) -> None:
    rows = pa.table({"user": [k for k, _ in shown], "time": [t for _, t in shown], "row": range(len(shown))})
    events = pa.Table.from_pylist([dict(zip(EVENTS.names, event, strict=True)) for event in seen], schema=EVENTS)
    with open_engine(memory_mb=64, threads=1) as engine:
        now = engine.register("now", rows.rename_columns({"user": "key"}))
        past = engine.register("past", events.rename_columns({"user": "key"}))
        fast = engine.run(count_past(now, past, COUNTERS)).sort_by("row").drop_columns(["row"]).to_pylist()
    vectorised = pa.table(point_in_time(rows, events, COUNTERS, time="time")).to_pylist()

    for engine_row, numpy_row, slow_row in zip(fast, vectorised, slow(shown, seen), strict=True):
        assert engine_row == pytest.approx(slow_row, nan_ok=False)
        assert numpy_row == pytest.approx(slow_row)
