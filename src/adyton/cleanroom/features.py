"""Point-in-time features as Ibis expressions: what was known strictly before each impression.

`count_past` gives for every impression the counters over events with the same key (a user or an item) that happened
strictly earlier. It is one sort: impressions and events are put into one list ordered by (key, time, impressions
first), and running sums over events are read off at each impression. An event at the very same millisecond does not
count, since it may be the outcome of the impression itself. The same expression runs on DuckDB and on Spark.

An event may stand for several: one with a `weight` is that many events, the newest of them at its `time`, with the sums
of their columns. So what is known of long ago is one row for each key (`join_state`), and counts all the same.

A counter's meaning is `learning.ctr.features.Counter`; its numpy computation there is the twin that tests compare with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ibis

from adyton.learning.ctr.features import MS_PER_HOUR, Counter, Statistic

ROW, KEY, TIME, WEIGHT = "row", "key", "time", "weight"


def count_past(impressions: Any, events: Any, counters: Sequence[Counter]) -> Any:
    """An Ibis table with one row per impression: row, and one float64 column for each counter.

    impressions: columns row int64 (unique), key int64, time int64 (ms).   events: key, time, the counters' columns, and
    weight int64 where an event may stand for several.
    counters: all over the same key; `Counter.key` is not looked at.
    """
    zero = ibis.literal(0, type="float64")
    summed = list(dict.fromkeys(counter.column for counter in counters if counter.column is not None))
    now = impressions.select(
        row=impressions[ROW].cast("int64"),
        key=impressions[KEY].cast("int64"),
        time=impressions[TIME].cast("int64"),
        is_event=ibis.literal(0, type="int8"),
        weight=ibis.literal(0, type="int64"),
        event_time=ibis.null("int64"),
        **{f"value_{name}": zero for name in summed},
    )
    past = events.select(
        row=ibis.null("int64"),
        key=events[KEY].cast("int64"),
        time=events[TIME].cast("int64"),
        is_event=ibis.literal(1, type="int8"),
        weight=events[WEIGHT].cast("int64") if WEIGHT in events.columns else ibis.literal(1, type="int64"),
        event_time=events[TIME].cast("int64"),
        **{f"value_{name}": ibis.coalesce(events[name].cast("float64"), zero) for name in summed},
    )
    both = ibis.union(now, past, distinct=False)
    before = ibis.window(group_by=both[KEY], order_by=[both[TIME], both.is_event], preceding=(None, 0))
    running = both.mutate(
        shown=both.weight.sum().over(before),
        last=both.event_time.max().over(before),
        **{f"sum_{name}": both[f"value_{name}"].sum().over(before) for name in summed},
    )
    seen = running.filter(running.is_event == 0)
    return seen.select(row=seen[ROW], **{counter.name: _value(seen, counter) for counter in counters})


def _value(seen: Any, counter: Counter) -> Any:
    shown = seen.shown.cast("float64")
    total: Any = seen[f"sum_{counter.column}"] if counter.column is not None else None
    match counter.statistic:
        case Statistic.IMPRESSIONS:
            return shown
        case Statistic.GAP_HOURS:
            return (seen[TIME] - seen["last"]).cast("float64") / MS_PER_HOUR
        case Statistic.TOTAL:
            return total
        case Statistic.RATE:
            return (total + counter.prior * counter.strength) / (shown + counter.strength)
        case Statistic.MEAN:
            return total / shown.nullif(0.0)


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
