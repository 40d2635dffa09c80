"""Users whose rows never reach the clean room: they are the people behind the simulated devices.

A device's user has at least one impression of an advertiser's placement in the test days; that impression is the
moment of one of its auctions, and whether it was clicked is the only outcome that is known for real.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from adyton.learning.datasets.kuairand import tables as kuairand
from adyton.learning.schema import Role, TableSchema

EVENT_BITS = (
    "is_click",
    "is_like",
    "is_follow",
    "is_comment",
    "is_forward",
    "is_hate",
    "long_view",
    "is_profile_enter",
)
"""What can have happened at an impression, in the order of the bits of an event signal."""


@dataclass(frozen=True)
class Moment:
    """One real impression of an advertiser's placement: when, in which context, of which creative, and its outcome."""

    time_ms: int
    hour: int
    tab: int
    creative_id: str
    clicked: bool


@dataclass(frozen=True)
class HeldOutUser:
    """One person: the advertiser's profile texts by column, and events before the moment as bit sets, oldest first."""

    number: int
    advertiser_profile: Mapping[str, str]
    advertiser_events: tuple[int, ...]
    publisher_events: tuple[int, ...]
    moment: Moment

    def __repr__(self) -> str:
        return f"HeldOutUser({self.number})"


@dataclass(frozen=True)
class Population:
    """The two parties' tables without the held-out users, and those users."""

    publisher: pa.Table
    advertiser: pa.Table
    held_out: tuple[HeldOutUser, ...]


def hold_out(publisher: pa.Table, advertiser: pa.Table, *, users: int, seed: int) -> Population:
    """Take `users` people out of both tables (fewer if there are not so many).

    The choice is by a keyed hash of the id, so it depends on the seed and on nothing in a person's rows but that they
    saw an advertiser's placement in the test days.
    """
    is_test = pc.greater(advertiser["date"], kuairand.VALIDATION_DATE)
    candidates = sorted(
        pc.unique(advertiser.filter(is_test)["user_id"]).to_pylist(),
        key=lambda user: hashlib.sha256(f"{seed}\x1f{user}".encode()).digest(),
    )
    chosen = pa.array(candidates[:users])
    theirs = advertiser.filter(pc.is_in(advertiser["user_id"], chosen))
    feed = publisher.filter(pc.is_in(publisher["user_id"], chosen))
    people = _people(candidates[:users], theirs, feed)
    return Population(
        publisher.filter(pc.invert(pc.is_in(publisher["user_id"], chosen))),
        advertiser.filter(pc.invert(pc.is_in(advertiser["user_id"], chosen))),
        people,
    )


def _people(users: list[str], placements: pa.Table, feed: pa.Table) -> tuple[HeldOutUser, ...]:
    own_rows, feed_rows = _by_user(placements), _by_user(feed)
    people = []
    for number, user in enumerate(users):
        rows = own_rows[user]
        last = [row for row in rows if row["date"] > kuairand.VALIDATION_DATE][-1]
        before = last["time_ms"]
        feed_before = [row for row in feed_rows[user] if row["time_ms"] < before]
        people.append(
            HeldOutUser(
                number=number,
                advertiser_profile=_profile(last, kuairand.ADVERTISER_SCHEMA),
                advertiser_events=tuple(_bits(row) for row in rows if row["time_ms"] < before),
                publisher_events=tuple(_bits(row) for row in feed_before),
                moment=Moment(before, last["hour"], last["tab"], str(last["item_id"]), bool(last["is_click"])),
            )
        )
    return tuple(people)


def _by_user(table: pa.Table) -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in table.sort_by("time_ms").to_pylist():
        rows[row["user_id"]].append(row)
    return rows


def _profile(row: Mapping[str, Any], schema: TableSchema) -> dict[str, str]:
    columns = schema.with_role(Role.USER)
    return {column.name: str(row[column.name]) for column in columns if row[column.name] is not None}


def _bits(row: Mapping[str, Any]) -> int:
    return sum(1 << bit for bit, name in enumerate(EVENT_BITS) if row[name])
