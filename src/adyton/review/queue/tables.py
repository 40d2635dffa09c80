"""The tables of the live queue, the same on SQLite and PostgreSQL. Rows of `ads` and `people` are their dataclasses.

Times are epoch milliseconds; lists and findings are JSON text, so that both databases keep the same bytes. `events` is
append-only: triggers refuse changes (migration 0001), and its hash chain shows those that get past a trigger.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from adyton.review.queue.permissions import Role
from adyton.review.queue.records import Finding
from adyton.review.queue.states import QueueReason, ReviewState, Verdict

E = TypeVar("E", bound=Enum)

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
    }
)


class EnumText(TypeDecorator[E]):
    """An enum by its stored value."""

    impl = sa.String
    cache_ok = True

    def __init__(self, members: type[E]) -> None:
        super().__init__(20)
        self.members = members

    def process_bind_param(self, value: E | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else str(value.value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> E | None:  # noqa: ARG002
        return None if value is None else self.members(value)


class Names(TypeDecorator[tuple[str, ...]]):
    """A tuple of strings as a JSON list."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: tuple[str, ...] | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else json.dumps(list(value), ensure_ascii=False)

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[str, ...] | None:  # noqa: ARG002
        return None if value is None else tuple(json.loads(value))


class Findings(TypeDecorator[tuple[Finding, ...]]):
    """Findings as a JSON list."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: tuple[Finding, ...] | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else json.dumps([finding.as_json() for finding in value], ensure_ascii=False)

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[Finding, ...] | None:  # noqa: ARG002
        return None if value is None else tuple(_finding(one) for one in json.loads(value))


def _finding(stored: dict[str, Any]) -> Finding:
    return Finding(
        label=stored["label"],
        version=stored["version"],
        verdict=Verdict(stored["verdict"]),
        evidence=stored["evidence"],
        not_in_countries=tuple(stored["not_in_countries"]),
        not_in_placements=tuple(stored["not_in_placements"]),
        min_age=stored["min_age"],
    )


def _name(column: str, **options: Any) -> sa.Column[Any]:
    return sa.Column(column, sa.String(128), **options)


def _number(column: str, **options: Any) -> sa.Column[Any]:
    return sa.Column(column, sa.BigInteger, **options)


people = sa.Table(
    "people",
    metadata,
    _name("person_id", primary_key=True),
    sa.Column("role", EnumText(Role), nullable=False),
    _name("buyer"),
    sa.Column("markets", Names, nullable=False),
    sa.Column("labels", Names, nullable=False),
    sa.Column("queues", Names, nullable=False),
    _number("accuracy_ppm", nullable=False),
    _number("pace_milli", nullable=False),
    _number("price_micros", nullable=False),
    _number("exposure_budget", nullable=False),
    _number("utc_offset_minutes", nullable=False),
    sa.Column("is_active", sa.Boolean, nullable=False),
    _number("minutes_per_day", nullable=False, server_default="480"),
)

tokens = sa.Table(
    "tokens",
    metadata,
    _name("token_hash", primary_key=True),
    _name("person_id", nullable=False, index=True),
    _number("created_at_ms", nullable=False),
    _number("expires_at_ms", nullable=False),
    _number("revoked_at_ms"),
)

ads = sa.Table(
    "ads",
    metadata,
    _name("ad_id", primary_key=True),
    sa.Column("submission_key", sa.String(400), nullable=False, unique=True),
    _name("buyer", nullable=False, index=True),
    sa.Column("creative_id", sa.String(200), nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("render_url", sa.Text, nullable=False),
    _name("market", nullable=False),
    sa.Column("countries", Names, nullable=False),
    sa.Column("product_line", sa.Text, nullable=False),
    _number("value_per_click_micros", nullable=False),
    sa.Column("currency", sa.String(3), nullable=False),
    _number("revenue_micros", nullable=False),
    _number("punish_num", nullable=False),
    _number("work_milli", nullable=False),
    _number("severity", nullable=False),
    _number("expires_at_ms", index=True),
    _name("submitted_by", nullable=False),
    _number("submitted_at_ms", nullable=False),
    _number("queued_at_ms", nullable=False),
    _number("due_at_ms", nullable=False),
    sa.Column("state", EnumText(ReviewState), nullable=False),
    sa.Column("verdict", EnumText(Verdict), nullable=False),
    sa.Column("may_serve", sa.Boolean, nullable=False),
    sa.Column("reason", EnumText(QueueReason), nullable=False),
    sa.Column("reason_text", sa.Text, nullable=False),
    _number("round", nullable=False),
    _number("content_version", nullable=False),
    _number("n_appeals", nullable=False),
    sa.Column("findings", Findings, nullable=False),
    _name("claim_holder", index=True),
    _name("claim_token"),
    _number("claimed_at_ms"),
    _number("claim_expires_at_ms", index=True),
    _name("assigned_person"),
    _name("assigned_queue"),
    _name("golden_id"),
    _number("decided_at_ms"),
    _name("decision_hash"),
    sa.Index("ix_ads_state_market", "state", "market"),
    sa.Index("ix_ads_buyer_verdict", "buyer", "verdict"),
)

opinions = sa.Table(
    "opinions",
    metadata,
    _name("ad_id", primary_key=True),
    _number("round", primary_key=True, autoincrement=False),
    _name("person_id", primary_key=True, index=True),
    _number("at_ms", nullable=False),
    sa.Column("verdict", EnumText(Verdict), nullable=False),
    sa.Column("findings", Findings, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
)

skips = sa.Table(
    "skips",
    metadata,
    _name("person_id", primary_key=True),
    _name("ad_id", primary_key=True),
    _number("round", primary_key=True, autoincrement=False),
    _number("at_ms", nullable=False),
)

exposures = sa.Table(
    "exposures",
    metadata,
    _name("person_id", primary_key=True),
    _number("at_ms", primary_key=True, autoincrement=False),
    _name("ad_id", primary_key=True),
    _number("severity", nullable=False),
)

policies = sa.Table(
    "policies",
    metadata,
    _name("label", primary_key=True),
    _number("version", primary_key=True, autoincrement=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("worst", EnumText(Verdict), nullable=False),
    _number("since_ms", nullable=False),
)

golden_items = sa.Table(
    "golden_items",
    metadata,
    _name("golden_id", primary_key=True),
    sa.Column("submission", sa.Text, nullable=False),
    _name("market", nullable=False, index=True),
    sa.Column("expected", EnumText(Verdict), nullable=False),
    sa.Column("is_active", sa.Boolean, nullable=False),
)

marks = sa.Table(
    "marks",
    metadata,
    _name("ad_id", primary_key=True),
    _number("round", primary_key=True, autoincrement=False),
    _name("person_id", primary_key=True, index=True),
    _name("source", primary_key=True),
    _number("at_ms", nullable=False),
    _name("market", nullable=False),
    sa.Column("is_right", sa.Boolean, nullable=False),
)

events = sa.Table(
    "events",
    metadata,
    _number("sequence", primary_key=True, autoincrement=False),
    _number("at_ms", nullable=False),
    _name("kind", nullable=False),
    _name("ad_id", index=True),
    _name("person_id"),
    _number("round"),
    _name("request_hash"),
    sa.Column("body", sa.Text, nullable=False),
    _name("previous_hash", nullable=False),
    _name("entry_hash", nullable=False),
)

chain_head = sa.Table(
    "chain_head",
    metadata,
    _number("slot", primary_key=True, autoincrement=False),
    _number("sequence", nullable=False),
    _name("entry_hash", nullable=False),
)
