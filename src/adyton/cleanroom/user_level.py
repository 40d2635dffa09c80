"""Join statistics and aggregates: what needs join keys and named columns only, in as many parts as memory asks for.

Everything here looks at one user at a time, so the users are cut into parts (`opened_inputs`), each part is joined and
grouped by itself, and groups of several parts are added up: counts and sums are whole numbers and each user is in one
part, so the result is the same for any number of parts. A test holds one part against many.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from adyton.cleanroom.aggregate import bounded_groups
from adyton.cleanroom.aggregate_request import AggregateRequest
from adyton.cleanroom.aggregate_sql import CheckedQuery
from adyton.cleanroom.engine import Engine, EngineKind, open_engine_of
from adyton.cleanroom.join import JoinCounts
from adyton.cleanroom.join_keys import UserKeys
from adyton.cleanroom.joined_view import USER_KEY, WEIGHT, JoinedView, newest_known, view_expression
from adyton.cleanroom.opened_inputs import OpenedTable
from adyton.kernel.ids import DatasetId
from adyton.learning.schema import Role

FIRST_MB, FIRST_SHARE, LATER_SHARE = 1024, 0.2, 0.5
"""The parts of a job's first GiB and of more that the engine may use: the process itself, which takes the same from any
memory, needs the rest, as do keys and registered rows."""
EXPANSION = 3.0
"""How much room the engine takes at most for each byte that it reads: measured with `bench/out_of_core.py`."""
_TEXT_BYTES, _NUMBER_BYTES = 32, 8


@dataclass(frozen=True)
class UserLevelWork:
    """The tables of one job with their join keys.

    tables: the base first.   keys: of each.   known: what earlier runs knew of partners, by short name.
    past_users, past_rows: of earlier runs, by short name.   parts: how many; as memory asks if None.
    """

    tables: Sequence[OpenedTable]
    keys: Sequence[UserKeys]
    memory_mb: int
    threads: int
    engine: EngineKind = EngineKind.DUCKDB
    known: Mapping[str, pa.Table] = field(default_factory=dict)
    past_users: Mapping[str, pa.Array] = field(default_factory=dict)
    past_rows: Mapping[str, int] = field(default_factory=dict)
    parts: int | None = None

    def counts(self) -> JoinCounts:
        """The size of the join, earlier runs included."""
        each = [
            np.union1d(users, self.past_users[one.name].to_numpy()) if one.name in self.past_users else users
            for one, users in zip(self.tables, (keys.distinct() for keys in self.keys), strict=True)
        ]
        rows = [len(k) + self.past_rows.get(one.name, 0) for one, k in zip(self.tables, self.keys, strict=True)]
        mine, theirs = each[0], np.unique(np.concatenate([np.zeros(0, np.int64), *each[1:]]))
        return JoinCounts(
            rows_base=rows[0],
            rows_partners=sum(rows[1:]),
            users_base=len(mine),
            users_partners=len(theirs),
            users_joined=len(np.intersect1d(mine, theirs, assume_unique=True)),
        )

    def groups(self, view: JoinedView, query: CheckedQuery, request: AggregateRequest) -> pa.Table:
        """`bounded_groups` of the query over all users. Raises EnclaveUnavailableError if one part is too large."""
        read = read_columns(self.tables, view, query)
        parts = self.parts or parts_needed(self.tables, read, self.memory_mb, self.known)
        share = max(32, int(engine_mb(self.memory_mb) if parts > 1 else self.memory_mb))
        with open_engine_of(self.engine, share, self.threads) as engine:
            asked = self._asked_for()
            found = [engine.run(self._part(engine, view, query, request, read, asked, i, parts)) for i in range(parts)]
        return found[0] if parts == 1 else added_up(pa.concat_tables(found), len(query.groups))

    def newly_known(self, columns: Mapping[DatasetId, Sequence[str]]) -> dict[str, pa.Table]:
        """By short name of each partner, what is known of its users with these tables, for the next run."""
        result = {}
        for one, keys in zip(self.tables[1:], self.keys[1:], strict=True):
            names = [*dict.fromkeys([*_time_of(one), *columns[one.dataset_id]])]
            rows = one.part(keys, names)
            result[one.name] = newest_known(self.known.get(one.name), rows, next(iter(_time_of(one)), None))
        return result

    def _part(
        self,
        engine: Engine,
        view: JoinedView,
        query: CheckedQuery,
        request: AggregateRequest,
        read: Mapping[str, Sequence[str]],
        asked: Sequence[NDArray[np.bool_]],
        index: int,
        parts: int,
    ) -> Any:
        """One part's groups as an expression over its rows, which replace those of the part before."""
        times = {one.dataset_id: time for one in self.tables for time in _time_of(one)}
        registered: dict[DatasetId, Any] = {}
        with ThreadPoolExecutor(self.threads) as pool:
            wanted = [
                codes if parts == 1 else codes & (keys.of_code % parts == index)
                for keys, codes in zip(self.keys, asked, strict=True)
            ]
            each = zip(self.tables, self.keys, wanted, strict=True)
            found = list(pool.map(lambda one: one[0].part(one[1], read[one[0].name], one[2]), each))
        for place, (one, rows) in enumerate(zip(self.tables, found, strict=True)):
            if one.name in self.known:
                rows = _with_known(rows, self.known[one.name], index, parts)
            # Several parts keep the declared types, which their results must share.
            registered[one.dataset_id] = engine.register(f"table_{place}", narrowed(rows) if parts == 1 else rows)
        return bounded_groups(view_expression(view, registered, times, query.columns), query, request)

    def _asked_for(self) -> list[NDArray[np.bool_]]:
        """By table, the codes whose rows the view reads: of a partner, users of the base only."""
        base, *partners = self.keys
        everyone = np.ones(len(base.of_code), np.bool_)
        return [everyone, *(keys.known_to(base) for keys in partners)]


def read_columns(tables: Sequence[OpenedTable], view: JoinedView, query: CheckedQuery) -> dict[str, list[str]]:
    """By short name, the stored columns that the query's view is made of, beside the user. tables: the base first."""
    found = {}
    for one in tables:
        stored = set(view.sources(query.columns)[one.dataset_id])
        # A partner's newest value needs its time; the base's rows stand for themselves.
        found[one.name] = sorted(stored | set(_time_of(one) if stored and one is not tables[0] else ()))
    return found


def parts_needed(
    tables: Sequence[OpenedTable], read: Mapping[str, Sequence[str]], memory_mb: int, known: Mapping[str, pa.Table]
) -> int:
    """Into how many parts the users are cut, so that each part's columns `read` fit into the memory."""
    size = sum(
        (one.rows + (known[one.name].num_rows if one.name in known else 0)) * _row_bytes(one, read[one.name])
        for one in tables
    )
    return max(1, math.ceil(size * EXPANSION / (engine_mb(memory_mb) * 2**20)))


def engine_mb(memory_mb: int) -> float:
    """How much of a job's memory the engine may use where users are cut into parts."""
    return FIRST_SHARE * min(memory_mb, FIRST_MB) + LATER_SHARE * max(0, memory_mb - FIRST_MB)


def added_up(groups: pa.Table, n_groups: int) -> pa.Table:
    """Groups of several parts as one: the group columns g0, g1, ... stay, everything else is summed."""
    keys = [f"g{i}" for i in range(n_groups)]
    values = [name for name in groups.column_names if name not in keys]
    if not keys:
        return pa.table({name: pa.array([pc.sum(groups[name]).as_py() or 0], pa.int64()) for name in values})
    made = groups.group_by(keys).aggregate([(name, "sum") for name in values])
    return made.rename_columns({f"{name}_sum": name for name in values}).select(groups.column_names)


def narrowed(rows: pa.Table) -> pa.Table:
    """The rows with whole numbers in the narrowest type that holds them: the engine groups and sorts fewer bytes."""
    for place, name in enumerate(rows.column_names):
        if name == USER_KEY or not pa.types.is_integer(rows[name].type):
            continue
        ends = pc.min_max(rows[name]).as_py()
        for narrow in (pa.int8(), pa.int16(), pa.int32()):
            half = 1 << (narrow.bit_width - 1)
            if ends["min"] is not None and -half <= ends["min"] and ends["max"] < half:
                rows = rows.set_column(place, name, rows[name].cast(narrow))
                break
    return rows


def _with_known(rows: pa.Table, known: pa.Table, index: int, parts: int) -> pa.Table:
    """A partner's new rows after what was known of the part's users."""
    is_mine = pa.array(known[USER_KEY].to_numpy() % parts == index)
    mine = known.filter(is_mine).select([*rows.column_names, WEIGHT])
    weighted = rows.append_column(WEIGHT, pa.array(np.ones(rows.num_rows, np.int64)))
    return pa.concat_tables([mine, weighted.cast(mine.schema)])


def _time_of(one: OpenedTable) -> list[str]:
    return [column.name for column in one.schema.with_role(Role.TIME)]


def _row_bytes(one: OpenedTable, names: Sequence[str]) -> int:
    storage = {column.name: column.storage for column in one.terms.columns}
    return _NUMBER_BYTES + sum(_TEXT_BYTES if "string" in storage[name] else _NUMBER_BYTES for name in names)
