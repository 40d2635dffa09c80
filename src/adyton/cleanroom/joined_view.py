"""The view `joined` that queries read: one row per row of the base table, with what partners know of its user.

    COLUMN           the base's own allowed columns
    P_COLUMN         partner P's allowed columns: the newest value that is not null of the same user
    P_rows           how many rows the partner has of this user; 0 for a user it does not know
    P_matched        whether the partner knows the user

Every value depends on rows of one user only, which is what makes bounding a user's rows bound a user's influence. That
is why there are no counters over items here, as there are in the table that models train on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adyton.cleanroom.aggregate_sql import ValueType
from adyton.cleanroom.contract import Contract, DatasetTerms
from adyton.cleanroom.errors import TemplateRefusedError
from adyton.kernel.ids import DatasetId
from adyton.learning.schema import Role

USER_KEY, WEIGHT = "user_key", "weight"
_TYPES: Mapping[str, ValueType] = {
    **dict.fromkeys(("int8", "int16", "int32", "int64", "float32", "float64"), ValueType.NUMBER),
    "bool": ValueType.FLAG,
    "string": ValueType.TEXT,
}


@dataclass(frozen=True)
class ViewColumn:
    """Where a column of the view comes from. `source` is None for the counts of a partner's rows."""

    dataset_id: DatasetId
    source: str | None
    type: ValueType


@dataclass(frozen=True)
class JoinedView:
    """The view's columns by name; `user_id` may only be counted. `names`: short names by dataset, the base first."""

    columns: Mapping[str, ViewColumn]
    user_id: str
    names: Mapping[DatasetId, str]

    @property
    def types(self) -> dict[str, ValueType]:
        return {name: column.type for name, column in self.columns.items()}

    def sources(self, used: frozenset[str]) -> dict[DatasetId, tuple[str, ...]]:
        """The stored columns that each table must give for the view's columns `used`."""
        return {
            dataset_id: tuple(
                sorted(
                    {
                        column.source
                        for name, column in self.columns.items()
                        if name in used and column.dataset_id == dataset_id and column.source is not None
                    }
                )
            )
            for dataset_id in self.names
        }


def short_name(terms: DatasetTerms, all_terms: Sequence[DatasetTerms]) -> str:
    """The owner's name where it owns one table of the job, the dataset's id otherwise; part of feature names."""
    owned = sum(other.owner == terms.owner for other in all_terms)
    return str(terms.owner if owned == 1 else terms.dataset_id).replace("-", "_").replace(".", "_")


def joined_view(contract: Contract, base: DatasetId, partners: Sequence[DatasetId]) -> JoinedView:
    """The view that the contract allows over these tables.

    Raises ContractError for a strange dataset, TemplateRefusedError if two columns have the same name.
    """
    terms = [contract.dataset(d) for d in (base, *partners)]
    columns: dict[str, ViewColumn] = {}
    for one in terms:
        prefix = "" if one is terms[0] else f"{short_name(one, terms)}_"
        allowed = next(rule.query_columns for rule in contract.rules if rule.account == one.account())
        found = {
            f"{prefix}{column.name}": ViewColumn(one.dataset_id, column.name, _TYPES[column.storage])
            for column in one.columns
            if column.name in allowed and column.column.role is not Role.USER_ID and column.storage in _TYPES
        }
        if one is not terms[0]:
            found[f"{prefix}rows"] = ViewColumn(one.dataset_id, None, ValueType.NUMBER)
            found[f"{prefix}matched"] = ViewColumn(one.dataset_id, None, ValueType.FLAG)
        if taken := sorted(set(found) & {*columns, terms[0].join_column, USER_KEY}):
            raise TemplateRefusedError(f"two columns of the joined view are called {', '.join(taken)}", where="queries")
        columns |= found
    return JoinedView(columns, terms[0].join_column, {one.dataset_id: short_name(one, terms) for one in terms})


def view_expression(
    view: JoinedView, tables: Mapping[DatasetId, Any], times: Mapping[DatasetId, str], used: frozenset[str]
) -> Any:
    """The view as an Ibis expression with `user_key` and the columns `used`.

    tables: registered tables, each with user_key int64 and the stored columns, and `weight` where a row stands for
    several (`newest_known`).   times: the time column of those that
    have one; without it the largest value stands for the newest.
    """
    base_id, *partner_ids = view.names
    base = tables[base_id]
    own = {n: base[c.source] for n, c in view.columns.items() if c.dataset_id == base_id and n in used}
    joined = base.select(user_key=base[USER_KEY], **own)
    for partner_id in partner_ids:
        name = view.names[partner_id]
        mine = {n: c for n, c in view.columns.items() if c.dataset_id == partner_id and n in used}
        if not mine:
            continue
        partner = tables[partner_id]
        time = times.get(partner_id)
        known = partner.group_by(partner[USER_KEY]).agg(
            **{f"{name}_rows": partner[WEIGHT].sum() if WEIGHT in partner.columns else partner.count()},
            **{
                n: partner[c.source].argmax(partner[time], where=partner[c.source].notnull())
                if time is not None
                else partner[c.source].max()
                for n, c in mine.items()
                if c.source is not None
            },
        )
        joined = joined.left_join(known, USER_KEY).drop(f"{USER_KEY}_right")
        rows = joined[f"{name}_rows"]
        joined = joined.mutate(
            **{f"{name}_matched": rows.notnull(), f"{name}_rows": ibis.coalesce(rows, ibis.literal(0, type="int64"))}
        )
    return joined.select(USER_KEY, *sorted(used))


def newest_known(before: pa.Table | None, rows: pa.Table, time: str | None) -> pa.Table:
    """What the view will need of a partner's rows so far: as few rows as can stand for all of them.

    before: the same of earlier rows.   rows: user_key and stored columns.   time: the column that says what is newest;
    without it the largest value is. For each user one row has `weight` = its number of rows and no values, and for each
    column one row of weight 0 has its newest value that is not null, at that value's time.
    """
    rows = rows.append_column(WEIGHT, pa.array(np.ones(rows.num_rows, np.int64)))
    every = rows if before is None else pa.concat_tables([before, rows.cast(before.schema)])
    totals = every.group_by([USER_KEY]).aggregate([(WEIGHT, "sum")])
    parts = [_padded({USER_KEY: totals[USER_KEY], WEIGHT: totals[f"{WEIGHT}_sum"]}, every.schema)]
    for name in (n for n in every.column_names if n not in (USER_KEY, WEIGHT, time)):
        present = every.filter(pc.is_valid(every[name]))
        order = pc.sort_indices(present, [(USER_KEY, "ascending"), (time or name, "ascending")])
        ordered = present.take(order)
        users = ordered[USER_KEY].to_numpy()
        newest = ordered.filter(pa.array(np.append(users[1:] != users[:-1], True)[: len(users)]))
        weightless = pa.array(np.zeros(newest.num_rows, np.int64))
        known = {USER_KEY: newest[USER_KEY], WEIGHT: weightless, name: newest[name]}
        parts.append(_padded({**known, **({time: newest[time]} if time is not None else {})}, every.schema))
    return pa.concat_tables(parts).combine_chunks()


def _padded(columns: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    """The columns in the schema's order, nulls where one is missing."""
    rows = len(columns[USER_KEY])
    filled = {f.name: columns.get(f.name, pa.nulls(rows, f.type)) for f in schema}
    plain = pa.schema([pa.field(f.name, f.type) for f in schema])
    return pa.table(filled, schema=plain)
