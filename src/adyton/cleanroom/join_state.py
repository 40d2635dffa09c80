"""What an incremental run keeps of the tables that it has joined, so that it never opens them again.

For each party: events older than the watermark as one weighted row for each user and each item (`features`), the newest
known values of each user, and the events after the watermark as they are, since rows that come next may lie between
them. The watermark is the base's newest time less the job's lateness: a base row that is older than it would need
history that was summed up, and is refused. Partners' events that come late count from then on.

    features of new rows from (state, new tables)  ==  features of the same rows from all tables at once

as long as a partner's events arrive before the base's rows that follow them. A test holds one against the other.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from adyton.cleanroom.errors import StateRefusedError
from adyton.cleanroom.features import TIME, WEIGHT
from adyton.kernel.errors import BadInputError

USER_KEY, ITEM = "user_key", "item"
NEVER_MS = -(1 << 62)
_MAGIC = b"ADYTSTA1"


@dataclass(frozen=True)
class PartyPast:
    """What is known of one party's events so far.

    by_user, by_item: weighted events up to the watermark: the key, time, weight, sums float64.   profile: each user's
    newest event up to the watermark, whole.   tail: later events, whole.
    """

    by_user: pa.Table
    by_item: pa.Table
    profile: pa.Table
    tail: pa.Table

    def weighted(self, key: str, columns: Sequence[str], new: pa.Table) -> pa.Table:
        """All events so far and the new ones, by `key`: key, time, weight and `columns` as float64."""
        past = (self.by_user if key == USER_KEY else self.by_item).select([key, TIME, WEIGHT, *columns])
        return pa.concat_tables([past, as_weighted(self.tail, key, columns), as_weighted(new, key, columns)])

    def of_keys(self, users: pa.ChunkedArray, items: pa.ChunkedArray) -> PartyPast:
        """What can matter to rows of these users and items."""
        is_tail = pc.or_(pc.is_in(self.tail[USER_KEY], users), pc.is_in(self.tail[ITEM], items))
        return PartyPast(
            by_user=self.by_user.filter(pc.is_in(self.by_user[USER_KEY], users)),
            by_item=self.by_item.filter(pc.is_in(self.by_item[ITEM], items)),
            profile=self.profile.filter(pc.is_in(self.profile[USER_KEY], users)),
            tail=self.tail.filter(is_tail),
        )

    def profiled(self, new: pa.Table) -> pa.Table:
        """Events whose newest is the newest of all, per user and before any time after the watermark."""
        return pa.concat_tables([self.profile, self.tail, new])


@dataclass(frozen=True)
class JoinState:
    """Everything that is carried from one incremental run to the next; each by the party's short name.

    join_key: HMAC key of user ids.   versions: newest joined version by dataset.   users: every user key so far,
    ascending, int64.   party_rows: how many rows were joined.   watermark_ms: see the module's head.   parties: what
    features need.   known: what queries need of partners (`joined_view.newest_known`).   rows: the base's rows so far
    with features and user keys, for models.
    """

    join_key: bytes
    versions: Mapping[str, int]
    users: Mapping[str, pa.Array]
    party_rows: Mapping[str, int]
    watermark_ms: int = NEVER_MS
    parties: Mapping[str, PartyPast] = field(default_factory=dict)
    known: Mapping[str, pa.Table] = field(default_factory=dict)
    rows: pa.Table | None = None
    newest_base_ms: int = NEVER_MS

    def to_bytes(self) -> bytes:
        """One header and the tables as Arrow streams."""
        tables: dict[str, pa.Table] = {}
        for name, past in self.parties.items():
            parts = {"by_user": past.by_user, "by_item": past.by_item, "profile": past.profile, "tail": past.tail}
            tables |= {f"{name}/{part}": table for part, table in parts.items()}
        tables |= {f"{name}/users": pa.table({"users": keys}) for name, keys in self.users.items()}
        tables |= {f"{name}/known": table for name, table in self.known.items()}
        if self.rows is not None:
            tables["rows"] = self.rows
        bodies = {name: _table_bytes(table) for name, table in tables.items()}
        header = json.dumps(
            {
                "join_key": self.join_key.hex(),
                "versions": dict(self.versions),
                "watermark_ms": self.watermark_ms,
                "newest_base_ms": self.newest_base_ms,
                "party_rows": dict(self.party_rows),
                "parties": sorted(self.parties),
                "tables": [[name, len(body)] for name, body in bodies.items()],
            }
        ).encode()
        return b"".join([_MAGIC, len(header).to_bytes(4, "big"), header, *bodies.values()])

    @classmethod
    def from_bytes(cls, data: bytes) -> JoinState:
        """Parse `to_bytes()`. Raises StateRefusedError."""
        try:
            size = int.from_bytes(data[8:12], "big")
            if data[:8] != _MAGIC:
                raise StateRefusedError("these are not the bytes of a state")
            header = json.loads(data[12 : 12 + size])
            tables, place, whole = {}, 12 + size, pa.py_buffer(data)
            for name, length in header["tables"]:
                tables[name] = pa.ipc.open_stream(whole.slice(place, length)).read_all()
                place += length
            parties = {
                name: PartyPast(
                    by_user=tables[f"{name}/by_user"],
                    by_item=tables[f"{name}/by_item"],
                    profile=tables[f"{name}/profile"],
                    tail=tables[f"{name}/tail"],
                )
                for name in header["parties"]
            }
            return cls(
                join_key=bytes.fromhex(header["join_key"]),
                versions=header["versions"],
                users={name: tables[f"{name}/users"]["users"].combine_chunks() for name in header["party_rows"]},
                party_rows=header["party_rows"],
                watermark_ms=header["watermark_ms"],
                newest_base_ms=header["newest_base_ms"],
                parties=parties,
                known={name[: -len("/known")]: t for name, t in tables.items() if name.endswith("/known")},
                rows=tables.get("rows"),
            )
        except (ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise StateRefusedError("the state is damaged") from error


def as_weighted(events: pa.Table, key: str, columns: Sequence[str]) -> pa.Table:
    """Plain events as weighted ones, each of weight 1; a missing value adds nothing."""
    summed = {name: pc.fill_null(events[name].cast(pa.float64()), 0.0) for name in columns}
    weight = pa.array(np.ones(events.num_rows, np.int64))
    return pa.table({key: events[key], TIME: events[TIME], WEIGHT: weight, **summed})


def past_of(
    before: PartyPast | None,
    new: pa.Table,
    watermark_ms: int,
    user_columns: Sequence[str],
    item_columns: Sequence[str],
) -> PartyPast:
    """The party's past with `new` events in it, summed up to the watermark.

    new: the events as `join` makes them.   user_columns, item_columns: what counters over users and items sum.
    """
    waiting = new if before is None else pa.concat_tables([before.tail, new])
    if before is not None and (pc.min(waiting[TIME]).as_py() or 0) > watermark_ms:
        return replace(before, tail=waiting)
    is_past = pc.less_equal(waiting[TIME], watermark_ms)
    settled, tail = waiting.filter(is_past), waiting.filter(pc.invert(is_past))
    return PartyPast(
        by_user=_summed(before.by_user if before else None, settled, USER_KEY, user_columns),
        by_item=_summed(before.by_item if before else None, settled, ITEM, item_columns),
        profile=_newest(settled if before is None else pa.concat_tables([before.profile, settled])),
        tail=tail.combine_chunks(),
    )


def users_with(before: pa.Array | None, keys: NDArray[np.int64]) -> pa.Array:
    """Every user key so far, ascending."""
    return pa.array(np.unique(keys) if before is None else np.union1d(before.to_numpy(), keys))


def check_order(times: pa.ChunkedArray, watermark_ms: int) -> None:
    """Raises BadInputError if one of the base's new rows is older than the watermark."""
    late = pc.sum(pc.less_equal(times, watermark_ms)).as_py() or 0
    if late:
        raise BadInputError(
            "rows of the new base table are older than what was summed up before",
            where="incremental",
            hint="give the job a larger lateness_ms from its first run on, or seal rows in the order of their time",
        )


def _summed(past: pa.Table | None, settled: pa.Table, key: str, columns: Sequence[str]) -> pa.Table:
    weighted = as_weighted(settled, key, columns)
    both = weighted if past is None else pa.concat_tables([past, weighted])
    grouped = both.group_by([key]).aggregate([(TIME, "max"), (WEIGHT, "sum"), *((name, "sum") for name in columns)])
    names = {f"{TIME}_max": TIME, f"{WEIGHT}_sum": WEIGHT, **{f"{name}_sum": name for name in columns}}
    return grouped.rename_columns({**names, key: key}).select([key, TIME, WEIGHT, *columns])


def _newest(events: pa.Table) -> pa.Table:
    """Each user's newest event; of two at the same time, the later row."""
    if events.num_rows == 0:
        return events
    order = np.lexsort(
        (np.arange(events.num_rows), events[TIME].to_numpy(), np.asarray(events[USER_KEY].to_numpy(), np.int64))
    )
    keys = np.asarray(events[USER_KEY].to_numpy(), np.int64)[order]
    is_last = np.append(keys[1:] != keys[:-1], True)
    return events.take(pa.array(order[is_last])).combine_chunks()


def _table_bytes(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(buffer, table.schema, options=options) as writer:
        writer.write_table(table)
    return buffer.getvalue()
