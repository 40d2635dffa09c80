"""From opened tables to one training table: join on keyed user ids, add what each party knew before each impression.

The base table (say, the advertiser's impressions) keeps its rows, order and columns. Added are

    counters    over each party's earlier events of the same user or item, as the job declares them; the names are the
                job's, or own_user_*, own_item_*, P_user_* and P_item_* (P: the partner's name) where it declares none
    P_COLUMN    a partner's user columns, as of the user's newest earlier event there

Own history is always added, so that "with partner" is compared with the best the base could do alone. For models
without a guarantee, values of a partner's category columns that fewer than k distinct users share are made null: a
model's vocabulary goes out with it. What has a guarantee for users reads `JoinedTable.of_single_users` instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adyton.cleanroom.engine import Engine
from adyton.cleanroom.features import WEIGHT, count_past, profile_before
from adyton.cleanroom.join_keys import join_keys
from adyton.cleanroom.join_state import PartyPast
from adyton.cleanroom.number_steps import NumberSteps, steps_of
from adyton.kernel.errors import BadInputError
from adyton.kernel.ids import DatasetId
from adyton.learning.ctr.features import Counter, Statistic
from adyton.learning.schema import Column, Kind, Role, TableSchema

ROW = "row"
_KEPT_KEY = "adyton_user_key"


class HasSchema(Protocol):
    """A party's table, opened or not."""

    @property
    def name(self) -> str: ...
    @property
    def schema(self) -> TableSchema: ...


@dataclass(frozen=True)
class PartyTable:
    """One opened table. `name` is a short word that becomes part of feature names."""

    dataset_id: DatasetId
    name: str
    table: pa.Table
    schema: TableSchema


@dataclass(frozen=True)
class JoinedShape:
    """What columns a join gives, known before a row is read; the fields are those of `JoinedTable`."""

    schema: TableSchema
    partner_columns: tuple[str, ...]
    item_columns: tuple[str, ...]


@dataclass(frozen=True)
class JoinCounts:
    """Distinct users, exact. Never leaves the enclave as it is: `disclosure` thresholds or noises it."""

    rows_base: int
    rows_partners: int
    users_base: int
    users_partners: int
    users_joined: int


@dataclass(frozen=True)
class JoinedTable:
    """table: the base's columns, then the features.   schema: roles of all of them.   user_key: int64[B] join keys.

    partner_columns: names of the features that come from partners.   item_columns: of the features that count over
    items, and so tell of other users than the row's.   events: by party, its rows as events.
    """

    table: pa.Table
    schema: TableSchema
    user_key: pa.ChunkedArray
    partner_columns: tuple[str, ...]
    item_columns: tuple[str, ...]
    events: Mapping[str, pa.Table]

    @property
    def without_partner(self) -> TableSchema:
        """The schema of what the base could know alone."""
        return self.schema.select([name for name in self.schema.names if name not in self.partner_columns])

    @property
    def of_single_users(self) -> JoinedTable:
        """The joined table with only such features that no other user's rows move, and users known by their join keys.

        Adding or taking away a user, in all parties' tables, changes that user's rows here and no others: what
        differential privacy for users rests on. Masked values would not do, since one user can decide what is rare.
        """
        schema = self.schema.select([name for name in self.schema.names if name not in self.item_columns])
        table = _set(self.table.select(list(schema.names)), schema.user_id.name, self.user_key)
        return replace(self, table=table, schema=schema, item_columns=())


def join_tables(
    engine: Engine,
    base: PartyTable,
    partners: Sequence[PartyTable],
    *,
    key: bytes,
    counters: Mapping[str, Sequence[Counter]] | None = None,
    past: Mapping[str, PartyPast] | None = None,
    is_small: bool = False,
) -> JoinedTable:
    """The base table with everything known before each impression; `mask_rare` makes it fit to leave in a model.

    key: HMAC key for user ids.   counters: by party name; `standard_counters` for a party that is not in it.
    past: by party name, what earlier tables told, where the given ones are only what is new.   is_small: whether they
    are so few that looking for their keys in the past saves more than it costs.
    Raises BadInputError if a table lacks user id, item id, time or label, or a name is used twice.
    """
    names = [base.name, *(partner.name for partner in partners)]
    if len(set(names)) != len(names):
        raise BadInputError("two tables have the same short name")
    impressions = keyed_events(base, key)
    news = {base.name: impressions, **{party.name: keyed_events(party, key) for party in partners}}
    parts: list[pa.Table] = []
    if past is not None and is_small:
        users, items = (pc.unique(impressions[name]) for name in ("user_key", "item"))
        past = {name: one.of_keys(users, items) for name, one in past.items()}
    shown = engine.register("impressions", impressions.select([ROW, "user_key", "time", "item"]))
    for party, prefix in [(base, "own"), *((partner, partner.name) for partner in partners)]:
        events, known = news[party.name], (past or {}).get(party.name)
        source: Any = engine.register(f"events_{prefix}", events) if known is None else None
        wanted = party_counters(party, prefix, counters)
        for key_column, id_column in (("user_key", party.schema.user_id.name), ("item", party.schema.item_id.name)):
            # Items are shared only if both parties name them alike; the time rule is the same.
            here = [counter for counter in wanted if counter.key == id_column]
            if not here:
                continue
            columns = list(dict.fromkeys(counter.column for counter in here if counter.column is not None))
            weight: list[str] = []
            if known is not None:
                weight = [WEIGHT]
                source = engine.register(f"events_{prefix}_{key_column}", known.weighted(key_column, columns, events))
            features = count_past(
                shown.select(row=shown[ROW], key=shown[key_column], time=shown.time),
                source.select(*columns, *weight, key=source[key_column], time=source.time),
                here,
            )
            parts.append(_in_row_order(engine.run(features), impressions.num_rows))
        if party is not base:
            profile = {c.name: f"{party.name}_{c.name}" for c in party.schema.with_role(Role.USER)}
            if profile:
                if known is not None:
                    source = engine.register(f"profiles_{prefix}", _numbered(known.profiled(events)))
                newest = profile_before(
                    shown.select(row=shown[ROW], key=shown.user_key, time=shown.time),
                    source.select(*profile, key=source.user_key, time=source.time, event=source[ROW]),
                    profile,
                )
                parts.append(_in_row_order(engine.run(newest), impressions.num_rows))
    user_key = impressions["user_key"]
    table = base.table
    for part in parts:
        for name in part.column_names:
            table = table.append_column(name, part[name])
    shape = joined_shape(base, partners, counters)
    return JoinedTable(table, shape.schema, user_key, shape.partner_columns, shape.item_columns, news)


def joined_shape(
    base: HasSchema, partners: Sequence[HasSchema], counters: Mapping[str, Sequence[Counter]] | None = None
) -> JoinedShape:
    """What columns `join_tables` gives. Raises SchemaError if a name is used twice."""
    own: list[Column] = []
    theirs: list[Column] = []
    over_items: list[str] = []
    for party, prefix, added in [(base, "own", own), *((partner, partner.name, theirs) for partner in partners)]:
        wanted = party_counters(party, prefix, counters)
        for side, key in ((Role.USER, party.schema.user_id.name), (Role.AD, party.schema.item_id.name)):
            here = [counter.name for counter in wanted if counter.key == key]
            added.extend(Column(name, side, Kind.NUMBER) for name in here)
            over_items += here if side is Role.AD else []
        if party is not base:
            profile = party.schema.with_role(Role.USER)
            added.extend(Column(f"{party.name}_{c.name}", Role.USER, c.kind) for c in profile)
    names = tuple(column.name for column in theirs)
    return JoinedShape(base.schema.extend(*own, *theirs), names, tuple(over_items))


def mask_rare(joined: JoinedTable, k: int, before_ms: int) -> tuple[JoinedTable, dict[str, NumberSteps]]:
    """The joined table with partners' values such that at least `k` distinct users share each; a model repeats values.

    Category values that fewer share become null. Numbers are put into steps of at least `k` users among the rows before
    `before_ms`, which models learn from, and each becomes the mean of its step. Also gives the steps, by column.
    """
    table, steps = joined.table, {}
    learned = pa.array(table[joined.schema.time.name].cast(pa.int64()).to_numpy() < before_ms)
    for name in joined.partner_columns:
        if joined.schema.column(name).kind is Kind.NUMBER:
            steps[name] = steps_of(table[name].filter(learned), joined.user_key.filter(learned), k)
        else:
            table = _set(table, name, keep_common(table[name], joined.user_key, k))
    return in_steps(replace(joined, table=table), steps), steps


def in_steps(joined: JoinedTable, steps: Mapping[str, NumberSteps]) -> JoinedTable:
    """The joined table with numbers of some columns replaced by the means of their steps."""
    table = joined.table
    for name, some in steps.items():
        table = _set(table, name, some.applied(table[name]))
    return replace(joined, table=table)


def rows_to_keep(joined: JoinedTable) -> pa.Table:
    """Rows, features and user keys in one table, for the next incremental run."""
    return joined.table.append_column(_KEPT_KEY, joined.user_key)


def with_earlier_rows(joined: JoinedTable, earlier: pa.Table) -> JoinedTable:
    """The rows of earlier runs (`rows_to_keep`) before those of this one."""
    whole = pa.concat_tables([earlier, rows_to_keep(joined).cast(earlier.schema)])
    return replace(joined, table=whole.drop_columns([_KEPT_KEY]), user_key=whole[_KEPT_KEY])


def party_counters(
    party: HasSchema, prefix: str, counters: Mapping[str, Sequence[Counter]] | None
) -> tuple[Counter, ...]:
    """What is counted over a party's events: what the job declares, or the standard."""
    return tuple((counters or {}).get(party.name) or standard_counters(party, prefix))


def keep_common(values: pa.ChunkedArray, user_key: pa.ChunkedArray, k: int) -> pa.ChunkedArray:
    """`values` with null in place of every value that fewer than `k` distinct users share."""
    pairs = pa.table({"value": values, "user": user_key}).group_by(["value"]).aggregate([("user", "count_distinct")])
    common = pairs.filter(pc.greater_equal(pairs["user_count_distinct"], k))["value"]
    return pc.if_else(pc.is_in(values, common.combine_chunks()), values, pa.scalar(None, values.type))


def keyed_events(party: PartyTable, key: bytes) -> pa.Table:
    """row, user_key, time, item (int64 code or hash of the item's text), the label and outcomes, user columns."""
    schema, table = party.schema, party.table
    columns: dict[str, Any] = {
        ROW: pa.array(np.arange(table.num_rows, dtype=np.int64)),
        "user_key": join_keys(table[schema.user_id.name], key),
        "time": table[schema.time.name].cast(pa.int64()),
        "item": join_keys(table[schema.item_id.name], key),
    }
    kept = [schema.label, *schema.with_role(Role.OUTCOME), *schema.with_role(Role.USER)]
    for column in kept:
        if column.name in columns:
            raise BadInputError("this column name is taken", where=column.name)
        columns[column.name] = table[column.name]
    return pa.table(columns)


def standard_counters(party: HasSchema, prefix: str) -> tuple[Counter, ...]:
    """What is counted where a job declares nothing: impressions, and the mean of the label and of each outcome."""
    schema = party.schema
    outcomes = [c.name for c in schema.with_role(Role.OUTCOME) if c.kind in (Kind.BINARY, Kind.NUMBER)]
    user, item = schema.user_id.name, schema.item_id.name
    return (
        Counter(f"{prefix}_user_impressions", user, Role.USER, Statistic.IMPRESSIONS),
        Counter(f"{prefix}_user_gap_hours", user, Role.USER, Statistic.GAP_HOURS),
        *(
            Counter(f"{prefix}_user_{name}_mean", user, Role.USER, Statistic.MEAN, name)
            for name in (schema.label.name, *outcomes)
        ),
        Counter(f"{prefix}_item_impressions", item, Role.AD, Statistic.IMPRESSIONS),
        Counter(f"{prefix}_item_{schema.label.name}_mean", item, Role.AD, Statistic.MEAN, schema.label.name),
    )


def _in_row_order(features: pa.Table, rows: int) -> pa.Table:
    """The features in the base's row order, without the row column."""
    assert features.num_rows == rows, "one row of features per impression"
    order = np.argsort(features[ROW].to_numpy())
    return features.drop_columns([ROW]).take(pa.array(order))


def _numbered(events: pa.Table) -> pa.Table:
    """The events with `row` counted anew, in their order."""
    return _set(events, ROW, pa.chunked_array([pa.array(np.arange(events.num_rows, dtype=np.int64))]))


def _set(table: pa.Table, name: str, values: pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)
