"""Point-in-time features as Ibis expressions: what was known strictly before each impression.

`history` gives for every impression the sums of events with the same key (a user or an item) that happened strictly
earlier. It is one sort: impressions and events are put into one list ordered by (key, time, impressions first), and a
running sum over events is read off at each impression. An event at the very same millisecond does not count, since it
may be the outcome of the impression itself. The same expression runs on DuckDB and on Spark.

`naive_history` is the slow twin: two nested loops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ibis

ROW, KEY, TIME = "row", "key", "time"


@dataclass(frozen=True)
class Signal:
    """One thing summed over past events: `column` of the events, `name` of the features made of it."""

    column: str
    name: str


def history(impressions: Any, events: Any, signals: Sequence[Signal], prefix: str) -> Any:
    """An Ibis table with one row per impression.

    impressions: columns row int64 (unique), key int64, time int64 (ms).   events: key, time and the signals' columns.
    Gives row, PREFIX_shown int64 (events before), PREFIX_last_ms int64 (ms since the newest one, null if none), and
    for each signal PREFIX_NAME_rate float64: its mean over those events, null if there are none.
    """
    zero = ibis.literal(0, type="float64")
    now = impressions.select(
        row=impressions[ROW].cast("int64"),
        key=impressions[KEY].cast("int64"),
        time=impressions[TIME].cast("int64"),
        is_event=ibis.literal(0, type="int8"),
        event_time=ibis.null("int64"),
        **{s.name: zero for s in signals},
    )
    past = events.select(
        row=ibis.null("int64"),
        key=events[KEY].cast("int64"),
        time=events[TIME].cast("int64"),
        is_event=ibis.literal(1, type="int8"),
        event_time=events[TIME].cast("int64"),
        **{s.name: ibis.coalesce(events[s.column].cast("float64"), zero) for s in signals},
    )
    both = ibis.union(now, past, distinct=False)
    before = ibis.window(group_by=both[KEY], order_by=[both[TIME], both.is_event], preceding=(None, 0))
    running = both.mutate(
        shown=both.is_event.cast("int64").sum().over(before),
        last=both.event_time.max().over(before),
        **{f"sum_{s.name}": both[s.name].sum().over(before) for s in signals},
    )
    seen = running.filter(running.is_event == 0)
    return seen.select(
        row=seen[ROW],
        **{
            f"{prefix}_shown": seen.shown.cast("int64"),
            f"{prefix}_last_ms": (seen[TIME] - seen["last"]).cast("int64"),
            **{f"{prefix}_{s.name}_rate": seen[f"sum_{s.name}"] / seen.shown.nullif(0) for s in signals},
        },
    )


def naive_history(
    impressions: Sequence[Mapping[str, int]],
    events: Sequence[Mapping[str, Any]],
    signals: Sequence[Signal],
    prefix: str,
) -> list[dict[str, Any]]:
    """The slow twin of `history`: for each impression, look at every event."""
    result = []
    for impression in impressions:
        earlier = [e for e in events if e[KEY] == impression[KEY] and e[TIME] < impression[TIME]]
        row: dict[str, Any] = {
            ROW: impression[ROW],
            f"{prefix}_shown": len(earlier),
            f"{prefix}_last_ms": impression[TIME] - max(e[TIME] for e in earlier) if earlier else None,
        }
        for signal in signals:
            total = sum(float(e[signal.column] or 0) for e in earlier)
            row[f"{prefix}_{signal.name}_rate"] = total / len(earlier) if earlier else None
        result.append(row)
    return result


def profile_before(impressions: Any, events: Any, columns: Mapping[str, str]) -> Any:
    """An Ibis table: row, and for each (source column, new name) the value of the key's newest earlier event.

    impressions: row, key, time.   events: key, time, event int64 (unique, breaks ties in time) and the source columns.
    """
    order = events.select(
        row=ibis.null("int64"),
        key=events[KEY].cast("int64"),
        time=events[TIME].cast("int64"),
        is_event=ibis.literal(1, type="int8"),
        event=events["event"].cast("int64"),
    )
    now = impressions.select(
        row=impressions[ROW].cast("int64"),
        key=impressions[KEY].cast("int64"),
        time=impressions[TIME].cast("int64"),
        is_event=ibis.literal(0, type="int8"),
        event=ibis.null("int64"),
    )
    both = ibis.union(now, order, distinct=False)
    # Structs are not ordered the same on every engine; the newest time first, then the largest event at that time.
    before = ibis.window(group_by=both[KEY], order_by=[both[TIME], both.is_event], preceding=(None, 0))
    newest = both.mutate(last_time=ibis.ifelse(both.is_event == 1, both[TIME], ibis.null("int64")).max().over(before))
    seen = newest.filter(newest.is_event == 0).select("row", "key", "last_time")
    at_last = events.select(
        event_key=events[KEY].cast("int64"),
        event_time=events[TIME].cast("int64"),
        event=events["event"].cast("int64"),
        **{new: events[source] for source, new in columns.items()},
    )
    rank = ibis.row_number().over(
        ibis.window(group_by=[at_last.event_key, at_last.event_time], order_by=ibis.desc(at_last.event))
    )
    latest = at_last.mutate(rank=rank)
    latest = latest.filter(latest["rank"] == 0)
    joined = seen.left_join(latest, [seen[KEY] == latest.event_key, seen.last_time == latest.event_time])
    return joined.select("row", *columns.values())
