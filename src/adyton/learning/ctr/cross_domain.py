"""What each of two parties gains from the other's data: advertiser with publisher's, publisher with advertiser's.

For each party two models of the same shape are trained on the same rows and tested on the same later rows:

    own       the party's own columns + counters over its own past impressions, of the user and of the item
    joined    own + counters over the user's past impressions at the partner

The fair baseline is `own`: against bare columns, any history would look like a gain. Counters follow from the schemas
(impressions, click rate, rate of each binary outcome, mean of each number outcome, hours since the last one) and look
only at events strictly before the row, so that test rows may see test days as a running service would. No model reads
the user id. Differences come with intervals over users, from the same draws for both models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from adyton.kernel.chance import stream
from adyton.learning.ctr.data import RowSplit
from adyton.learning.ctr.features import Counter, Statistic, point_in_time
from adyton.learning.ctr.recipe import cross_domain_config
from adyton.learning.ctr.training import train
from adyton.learning.errors import TableError
from adyton.learning.metrics import Evaluation, Interval, Metric, evaluate, paired_user_bootstrap
from adyton.learning.schema import Column, Kind, Role, TableSchema

_USER, _ITEM, _TIME = "user", "item", "time_ms"
_USER_STRENGTH, _ITEM_STRENGTH = 5.0, 10.0
"""Impressions that the average rate weighs in a user's and an item's own."""


@dataclass(frozen=True)
class Party:
    """One side of the exchange.   schema: needs a label, a time and a user id; an item id adds counters of items."""

    name: str
    table: pa.Table
    schema: TableSchema


@dataclass(frozen=True)
class Gain:
    """What `party` gains from `partner`: both models on the same test rows.

    rows_shared: share of test rows whose user the partner has seen at any time.   difference: joined - own, by metric.
    """

    party: str
    partner: str
    rows_shared: float
    own: Evaluation
    joined: Evaluation
    difference: dict[Metric, Interval]

    def as_json(self) -> dict[str, object]:
        return {
            "party": self.party,
            "partner": self.partner,
            "share_of_test_rows_with_shared_user": self.rows_shared,
            "own": self.own.as_json(),
            "joined": self.joined.as_json(),
            "difference": {metric.value: interval.as_json() for metric, interval in self.difference.items()},
        }


def cross_domain(
    first: Party,
    second: Party,
    *,
    validation_from_ms: int,
    test_from_ms: int,
    members: int = 3,
    seed: int = 0,
    draws: int = 500,
) -> tuple[Gain, Gain]:
    """What each party gains from the other, first and second.

    Train rows lie before `validation_from_ms`, validation rows before `test_from_ms`, test rows after.   members:
    networks averaged in each model.   draws: of the bootstrap over users.
    Raises SchemaError, TableError for tables that do not fit, ModelError for a part without rows or with one class.
    """
    for party in (first, second):
        party.schema.check(party.table, where=party.name)
    times = (validation_from_ms, test_from_ms)
    return (
        _gain(first, second, times, members, seed, draws),
        _gain(second, first, times, members, seed, draws),
    )


def _gain(party: Party, partner: Party, times: tuple[int, int], members: int, seed: int, draws: int) -> Gain:
    own_events, partner_events = _events(party), _events(partner)
    own_counters = _own_counters(party, own_events, times[0])
    partner_counters = _partner_counters(partner, partner_events, times[0])
    rows = own_events.select([name for name in (_USER, _ITEM, _TIME) if name in own_events.column_names])
    table = party.table
    for events, counters in ((own_events, own_counters), (partner_events, partner_counters)):
        for name, values in point_in_time(rows, events, counters, time=_TIME).items():
            table = table.append_column(name, values)
    schema = party.schema.extend(*(counter.as_column() for counter in (*own_counters, *partner_counters)))

    moments = own_events[_TIME].to_numpy()
    split = RowSplit.of_times(moments, validation_from_ms=times[0], test_from_ms=times[1])
    is_test = moments >= times[1]
    if not is_test.any():
        raise TableError("no rows from the start of the test on", where=party.name)
    test = table.filter(pa.array(is_test))
    labels = test[schema.label.name].cast(pa.int64()).to_numpy()
    users = own_events[_USER].to_numpy()[is_test]
    static = [column.name for column in party.schema.features() if column.role is not Role.USER_ID]
    own_features = (*static, *(counter.name for counter in own_counters))
    predicted = []
    for features in (own_features, (*own_features, *(counter.name for counter in partner_counters))):
        config = cross_domain_config(features, members=members)
        predicted.append(train(table, schema, split=split, config=config, seed=seed).predict(test))
    return Gain(
        party=party.name,
        partner=partner.name,
        rows_shared=float(np.isin(users, np.unique(partner_events[_USER].to_numpy())).mean()),
        own=evaluate(labels, predicted[0], users),
        joined=evaluate(labels, predicted[1], users),
        difference={
            metric: paired_user_bootstrap(
                labels, users, *predicted, rng=stream(seed, "cross-domain", party.name), metric=metric, draws=draws
            )
            for metric in Metric
        },
    )


def _events(party: Party) -> pa.Table:
    """Impressions under common names; ids as text, so that parties that store them differently still meet."""
    schema, table = party.schema, party.table
    moments = table[schema.time.name]
    if pa.types.is_timestamp(moments.type):
        moments = moments.cast(pa.timestamp("ms"))
    columns = {_USER: table[schema.user_id.name].cast(pa.string()), _TIME: moments.cast(pa.int64())}
    for name in (_USER, _TIME):
        if columns[name].null_count:
            raise TableError("ids and times must not be missing", where=f"{party.name}, {name}")
    if schema.with_role(Role.ITEM_ID):
        columns[_ITEM] = table[schema.item_id.name].cast(pa.string())
    counted = (schema.label, *_outcomes(schema, Kind.BINARY), *_outcomes(schema, Kind.NUMBER))
    for column in counted:
        columns[f"event {column.name}"] = table[column.name].cast(pa.float64())
    return pa.table(columns)


def _outcomes(schema: TableSchema, kind: Kind) -> list[Column]:
    return [column for column in schema.with_role(Role.OUTCOME) if column.kind is kind]


def _own_counters(party: Party, events: pa.Table, before_ms: int) -> list[Counter]:
    label = f"event {party.schema.label.name}"
    rate = _mean(events, label, before_ms, party)
    counters = [
        Counter("own user impressions", _USER, Role.USER, Statistic.IMPRESSIONS),
        Counter("own user clicks", _USER, Role.USER, Statistic.TOTAL, label),
        Counter("own user click rate", _USER, Role.USER, Statistic.RATE, label, rate, _USER_STRENGTH),
        Counter("own user gap hours", _USER, Role.USER, Statistic.GAP_HOURS),
    ]
    if party.schema.with_role(Role.ITEM_ID):
        counters += [
            Counter("own item impressions", _ITEM, Role.AD, Statistic.IMPRESSIONS),
            Counter("own item click rate", _ITEM, Role.AD, Statistic.RATE, label, rate, _ITEM_STRENGTH),
        ]
    return counters


def _partner_counters(partner: Party, events: pa.Table, before_ms: int) -> list[Counter]:
    schema = partner.schema
    counters = [
        Counter("partner user impressions", _USER, Role.USER, Statistic.IMPRESSIONS),
        Counter("partner user gap hours", _USER, Role.USER, Statistic.GAP_HOURS),
    ]
    for column in (schema.label, *_outcomes(schema, Kind.BINARY)):
        name = f"event {column.name}"
        rate = _mean(events, name, before_ms, partner)
        counters.append(
            Counter(f"partner user rate {column.name}", _USER, Role.USER, Statistic.RATE, name, rate, _USER_STRENGTH)
        )
    for column in _outcomes(schema, Kind.NUMBER):
        name = f"event {column.name}"
        counters.append(Counter(f"partner user mean {column.name}", _USER, Role.USER, Statistic.MEAN, name))
    return counters


def _mean(events: pa.Table, name: str, before_ms: int, party: Party) -> float:
    """The mean over the time of training: a prior must not know the test."""
    values: NDArray[np.float64] = events[name].to_numpy()[events[_TIME].to_numpy() < before_ms]
    if not np.isfinite(values).any():
        raise TableError("no rows before the start of validation", where=party.name)
    return float(np.nanmean(values))
