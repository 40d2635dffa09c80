"""A table with its own past as features: counters that lift AUC and leave the order within a user alone.

Three kinds of counters, all point-in-time (`features`), none of them the user's newest outcomes:

    user, outcomes   clicks, likes, play time ... as of the last midnight, and from `live_from_ms` on as of that moment
    user, activity   impressions in the last 10 minutes, hour, day; hours since the last one: up to the row's own time
    item, outcomes   rates of the item, up to the row's own time

A user's own newest clicks are left out because they tell users apart and disorder each user's own rows: a click at
row i raises later rows of the same user, and among those the pairs that count (one click, one not) are then always
ordered wrongly (docs/explanation/counters-and-gauc.md has the argument and the figures).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from adyton.learning.ctr.features import MS_PER_HOUR, Counter, Statistic, event_times, point_in_time
from adyton.learning.errors import TableError
from adyton.learning.schema import Column, Kind, Role, TableSchema

MS_PER_DAY = 24 * MS_PER_HOUR
RECENT_HOURS = (1 / 6, 1, 24)
USER_STRENGTH, ITEM_STRENGTH = 5.0, 10.0
"""Impressions that the average rate weighs in a user's and an item's own."""


def with_history(
    table: pa.Table,
    schema: TableSchema,
    *,
    live_from_ms: int,
    midnight_ms: int = 0,
    newest: bool = False,
    groups: dict[str, NDArray[np.bool_]] | None = None,
) -> tuple[pa.Table, TableSchema]:
    """`table` and `schema` with history columns at the end.   The schema needs a label, a time, a user id, an item id.

    live_from_ms: when the model goes live, such as the start of the test: from then on the outcomes of users stand
        still, and the priors of rates know nothing later.   midnight_ms: when a day starts, after midnight UTC.
    newest: let outcomes of users go up to the row's own time instead; for comparison.
    groups: more columns from only some of the events, such as one scenario's: name -> bool[rows].
    Raises SchemaError for a missing role, TableError when no row is earlier than `live_from_ms`.
    """
    user, item = schema.user_id.name, schema.item_id.name
    moments = event_times(table, schema.time.name)
    snapshot = np.minimum((moments - midnight_ms) // MS_PER_DAY * MS_PER_DAY + midnight_ms, live_from_ms)
    rows = pa.table({user: table[user], item: table[item], "moment": moments})
    events = _events(table, schema, rows)
    known = moments < live_from_ms
    if not known.any():
        raise TableError("no row is earlier than the moment that the model goes live")
    outcomes = [column for column in (schema.label, *schema.with_role(Role.OUTCOME)) if column.kind is not Kind.LIST]
    priors = {c.name: _mean(events[c.name], known) for c in outcomes if c.kind is Kind.BINARY}
    columns: dict[str, tuple[Role, pa.Array]] = {}
    for group, is_in in {"": np.ones(len(moments), np.bool_), **(groups or {})}.items():
        part = events.filter(pa.array(is_in))
        prefix = f"{group} " if group else ""
        of_user = _counters(f"{prefix}user", user, Role.USER, outcomes, priors, USER_STRENGTH)
        of_item = _counters(f"{prefix}item", item, Role.AD, outcomes, priors, ITEM_STRENGTH)
        as_of = None if newest else snapshot
        found = point_in_time(rows, part, of_user, time="moment", as_of=as_of)
        columns |= {name: (Role.USER, values) for name, values in found.items()}
        found = point_in_time(rows, part, of_item, time="moment")
        columns |= {name: (Role.AD, values) for name, values in found.items()}
    gap = Counter("user gap hours", user, Role.USER, Statistic.GAP_HOURS)
    columns["user gap hours"] = (Role.USER, point_in_time(rows, events, [gap], time="moment")[gap.name])
    for hours in RECENT_HOURS:
        name = f"user impressions in {round(hours * 60)} minutes"
        shown = Counter(name, user, Role.USER, Statistic.IMPRESSIONS)
        since = moments - round(hours * MS_PER_HOUR)
        columns[name] = (Role.USER, point_in_time(rows, events, [shown], time="moment", since=since)[name])
    for name, (_, values) in columns.items():
        table = table.append_column(name, values)
    added = (Column(name, role, Kind.NUMBER, "of earlier events") for name, (role, _) in columns.items())
    return table, schema.extend(*added)


def with_target_statistics(table: pa.Table, schema: TableSchema, *, fit_until_ms: int) -> tuple[pa.Table, TableSchema]:
    """`table` and `schema` with how often each user was shown something and clicked, from training rows alone.

    A training row knows strictly earlier training rows, every later row knows all of them: an encoding of the user id
    as boosted trees make it inside (CatBoost's ordered target statistics), not a counter that goes on while serving.
    fit_until_ms: rows from here on are never counted.   Raises SchemaError, TableError as `with_history`.
    """
    user, label = schema.user_id.name, schema.label.name
    moments = event_times(table, schema.time.name)
    is_training = moments < fit_until_ms
    if not is_training.any():
        raise TableError("no row is earlier than the end of training")
    rows = pa.table({user: table[user], "moment": moments, label: table[label].cast(pa.float64())})
    prior = _mean(rows[label], is_training)
    counters = [
        Counter("user seen in training", user, Role.USER, Statistic.IMPRESSIONS),
        Counter("user rate in training", user, Role.USER, Statistic.RATE, label, prior, USER_STRENGTH),
    ]
    until = np.minimum(moments, fit_until_ms)
    found = point_in_time(rows, rows.filter(pa.array(is_training)), counters, time="moment", as_of=until)
    for name, values in found.items():
        table = table.append_column(name, values)
    return table, schema.extend(*(counter.as_column() for counter in counters))


def _events(table: pa.Table, schema: TableSchema, rows: pa.Table) -> pa.Table:
    for column in (schema.label, *schema.with_role(Role.OUTCOME)):
        if column.kind is not Kind.LIST:
            rows = rows.append_column(column.name, table[column.name].cast(pa.float64()))
    return rows


def _counters(
    who: str, key: str, role: Role, outcomes: Sequence[Column], priors: dict[str, float], strength: float
) -> list[Counter]:
    counters = [Counter(f"{who} impressions", key, role, Statistic.IMPRESSIONS)]
    for column in outcomes:
        if column.kind is Kind.BINARY:
            name = f"{who} rate {column.name}"
            prior = priors[column.name]
            counters.append(Counter(name, key, role, Statistic.RATE, column.name, prior, strength))
        else:
            counters.append(Counter(f"{who} mean {column.name}", key, role, Statistic.MEAN, column.name))
    return counters


def _mean(values: pa.ChunkedArray, known: NDArray[np.bool_]) -> float:
    mean = float(np.nanmean(values.to_numpy()[known]))
    return mean if np.isfinite(mean) else 0.0
