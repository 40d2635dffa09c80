"""Time-honest counters: what was known strictly before an impression.

A `Counter` says what is counted: over the *events* (one party's impressions with outcomes) of the same user or the same
item, with `event.time_ms < row.time_ms`. Equal times are left out on purpose: KuaiRand has exact duplicate rows, and a
row that sees its twin's label is a leak (with it, own-history AUC on tabs {0, 6} reads .754 instead of .657 in
LightGBM; docs/explanation/duplicates-in-kuairand.md).

As SQL, for any counter (a window over the union of events and rows says the same):

    SELECT ... FROM rows r LEFT JOIN events e ON e.key = r.key AND e.time_ms < r.time_ms GROUP BY r.row

    IMPRESSIONS   count(e)
    TOTAL         sum(e.column)
    RATE          (sum(e.column) + prior * strength) / (count(e) + strength)     0 events give the prior
    MEAN          sum(e.column) / count(e)                                       null for 0 events
    GAP_HOURS     (r.time_ms - max(e.time_ms)) / 3.6e6                           null for 0 events

`point_in_time` is that in numpy: events sorted by (key, time), running sums, one binary search per row.

Two bounds per row narrow what is counted. `as_of` ends it earlier than the row's time: a snapshot of last midnight, or
of the day when a model went live, as a table that is refreshed in batches would say it. `since` starts it later: the
last hour only. Why a snapshot may be better than the newest state: docs/explanation/counters-and-gauc.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from adyton.learning.errors import FeatureError, TableError
from adyton.learning.schema import Column, Kind, Role

MS_PER_HOUR = 3_600_000
Times = NDArray[np.int64]


class Statistic(Enum):
    """What a counter gives; see the table in the module's head."""

    IMPRESSIONS = "impressions"
    TOTAL = "total"
    RATE = "rate"
    MEAN = "mean"
    GAP_HOURS = "gap_hours"


@dataclass(frozen=True)
class Counter:
    """One point-in-time feature.

    name: of the new column.   key: column shared by rows and events, a user id or an item id.   role: USER or AD.
    column: what is summed over earlier events; may be an outcome, since those events are in the past.
    prior, strength: of a RATE, in units of the rate and of impressions.
    """

    name: str
    key: str
    role: Role
    statistic: Statistic
    column: str | None = None
    prior: float = 0.0
    strength: float = 0.0

    def __post_init__(self) -> None:
        if self.role not in (Role.USER, Role.AD):
            raise FeatureError(f"a counter belongs to a user or an ad, not to {self.role.value}", where=self.name)
        needs_column = self.statistic in (Statistic.TOTAL, Statistic.RATE, Statistic.MEAN)
        if needs_column != (self.column is not None):
            raise FeatureError(
                f"{self.statistic.value} {'needs a' if needs_column else 'takes no'} column", where=self.name
            )
        if (self.statistic is Statistic.RATE) != (self.strength > 0):
            raise FeatureError("a rate, and only a rate, has a strength above 0", where=self.name)

    def as_column(self) -> Column:
        """How the new column stands in a schema."""
        return Column(self.name, self.role, Kind.NUMBER, f"{self.statistic.value} of earlier events")


def with_counters(
    rows: pa.Table,
    events: pa.Table,
    counters: Sequence[Counter],
    *,
    time: str = "time_ms",
    as_of: Times | None = None,
    since: Times | None = None,
) -> pa.Table:
    """`rows` with one float64 column per counter at the end; arguments and errors as in `point_in_time`."""
    for name, values in point_in_time(rows, events, counters, time=time, as_of=as_of, since=since).items():
        rows = rows.append_column(name, values)
    return rows


def point_in_time(
    rows: pa.Table,
    events: pa.Table,
    counters: Sequence[Counter],
    *,
    time: str = "time_ms",
    as_of: Times | None = None,
    since: Times | None = None,
) -> dict[str, pa.Array]:
    """Each counter at the time of each row, from events strictly before it: name -> float64[rows], null if undefined.

    time: the column of both tables in integer milliseconds.
    as_of, since: int64[rows], ms; only events with `since <= time < min(as_of, row's time)` count. A later `as_of` than
        the row's time cannot show it the future.
    O((rows + events) log events) per key.   Raises TableError for a missing column, or bounds of another length.
    """
    for bound in (as_of, since):
        if bound is not None and len(bound) != rows.num_rows:
            raise TableError(f"got {len(bound)} bounds for {rows.num_rows} rows")
    result: dict[str, pa.Array] = {}
    for key in dict.fromkeys(counter.key for counter in counters):
        own = [counter for counter in counters if counter.key == key]
        result |= _by_key(rows, events, key, own, time, as_of, since)
    return {counter.name: result[counter.name] for counter in counters}


def _by_key(
    rows: pa.Table, events: pa.Table, key: str, counters: Sequence[Counter], time: str, as_of: Times | None,
    since: Times | None,
) -> dict[str, pa.Array]:  # fmt: skip
    needed = [key, time, *(c.column for c in counters if c.column is not None)]
    for table, names, what in ((events, needed, "events"), (rows, [key, time], "rows")):
        missing = [name for name in names if name not in table.column_names]
        if missing:
            raise TableError(f"{what} lack the columns {', '.join(missing)}")
    event_key = events[key].combine_chunks().dictionary_encode()
    event_codes = event_key.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    positions = pc.index_in(rows[key].combine_chunks().cast(event_key.dictionary.type), event_key.dictionary)
    row_codes: NDArray[np.int64] = pc.fill_null(positions, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    times_of_events, row_times = event_times(events, time), event_times(rows, time)

    order = np.lexsort((times_of_events, event_codes))
    codes, times = event_codes[order], times_of_events[order]
    # One integer that sorts like (key, time): a binary search then counts the key's events before a row's time. Times
    # are replaced by their ranks, since keys times a span of milliseconds or less can exceed 64 bits.
    moments = np.unique(times)
    n_ranks = len(moments) + 1
    until = row_times if as_of is None else np.minimum(row_times, as_of)
    places = codes * n_ranks + np.searchsorted(moments, times)
    ends = np.searchsorted(places, row_codes * n_ranks + np.searchsorted(moments, until), side="left")
    if since is None:
        starts = np.searchsorted(codes, row_codes, side="left")
    else:
        starts = np.searchsorted(places, row_codes * n_ranks + np.searchsorted(moments, since), side="left")
        starts = np.minimum(starts, ends)
    is_known = row_codes >= 0
    starts, ends = np.where(is_known, starts, 0), np.where(is_known, ends, 0)
    n = (ends - starts).astype(np.float64)

    result = {}
    for counter in counters:
        if counter.statistic is Statistic.IMPRESSIONS:
            result[counter.name] = pa.array(n)
        elif counter.statistic is Statistic.GAP_HOURS:
            last = times[np.maximum(ends - 1, 0)] if len(times) else np.zeros(len(n), np.int64)
            result[counter.name] = pa.array((row_times - last) / MS_PER_HOUR, mask=n == 0)
        else:
            values = pc.fill_null(events[counter.column].cast(pa.float64()), 0.0).to_numpy()[order]
            running = np.concatenate([[0.0], np.cumsum(values)])
            total = running[ends] - running[starts]
            if counter.statistic is Statistic.TOTAL:
                result[counter.name] = pa.array(total)
            elif counter.statistic is Statistic.RATE:
                result[counter.name] = pa.array((total + counter.prior * counter.strength) / (n + counter.strength))
            else:
                result[counter.name] = pa.array(total / np.maximum(n, 1), mask=n == 0)
    return result


def event_times(table: pa.Table, time: str) -> NDArray[np.int64]:
    """The column `time` in milliseconds, int64[rows].   Raises TableError for a missing time."""
    column = table[time]
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ms"))
    if column.null_count:
        raise TableError("times must not be missing", where=time)
    times: NDArray[np.int64] = column.cast(pa.int64()).to_numpy()
    return times
