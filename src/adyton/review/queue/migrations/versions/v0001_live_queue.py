"""The first tables, the head of the event chain, and the triggers that keep events append-only.

Frozen: column types are written out, so that later changes of `tables` do not change what this version makes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

GENESIS_HASH = "0" * 64

_SQLITE_TRIGGER = """
CREATE TRIGGER events_no_{verb} BEFORE {verb} ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END
"""
_POSTGRES_FUNCTION = """
CREATE FUNCTION refuse_event_change() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'events are append-only'; END $$
"""
_POSTGRES_TRIGGER = """
CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events
FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_change()
"""


def upgrade() -> None:
    op.create_table(
        "ads",
        sa.Column("ad_id", sa.String(length=128), nullable=False),
        sa.Column("submission_key", sa.String(length=400), nullable=False),
        sa.Column("buyer", sa.String(length=128), nullable=False),
        sa.Column("creative_id", sa.String(length=200), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("render_url", sa.Text(), nullable=False),
        sa.Column("market", sa.String(length=128), nullable=False),
        sa.Column("countries", sa.Text(), nullable=False),
        sa.Column("product_line", sa.Text(), nullable=False),
        sa.Column("value_per_click_micros", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("revenue_micros", sa.BigInteger(), nullable=False),
        sa.Column("punish_num", sa.BigInteger(), nullable=False),
        sa.Column("work_milli", sa.BigInteger(), nullable=False),
        sa.Column("severity", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("submitted_by", sa.String(length=128), nullable=False),
        sa.Column("submitted_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("queued_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("due_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("verdict", sa.String(20), nullable=False),
        sa.Column("may_serve", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(20), nullable=False),
        sa.Column("reason_text", sa.Text(), nullable=False),
        sa.Column("round", sa.BigInteger(), nullable=False),
        sa.Column("content_version", sa.BigInteger(), nullable=False),
        sa.Column("n_appeals", sa.BigInteger(), nullable=False),
        sa.Column("findings", sa.Text(), nullable=False),
        sa.Column("claim_holder", sa.String(length=128), nullable=True),
        sa.Column("claim_token", sa.String(length=128), nullable=True),
        sa.Column("claimed_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("claim_expires_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("assigned_person", sa.String(length=128), nullable=True),
        sa.Column("assigned_queue", sa.String(length=128), nullable=True),
        sa.Column("golden_id", sa.String(length=128), nullable=True),
        sa.Column("decided_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("decision_hash", sa.String(length=128), nullable=True),
        sa.PrimaryKeyConstraint("ad_id", name=op.f("pk_ads")),
        sa.UniqueConstraint("submission_key", name=op.f("uq_ads_submission_key")),
    )
    op.create_index(op.f("ix_ads_buyer"), "ads", ["buyer"], unique=False)
    op.create_index(op.f("ix_ads_claim_expires_at_ms"), "ads", ["claim_expires_at_ms"], unique=False)
    op.create_index(op.f("ix_ads_claim_holder"), "ads", ["claim_holder"], unique=False)
    op.create_index("ix_ads_state_market", "ads", ["state", "market"], unique=False)
    op.create_table(
        "chain_head",
        sa.Column("slot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("entry_hash", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("slot", name=op.f("pk_chain_head")),
    )
    op.create_table(
        "events",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=128), nullable=False),
        sa.Column("ad_id", sa.String(length=128), nullable=True),
        sa.Column("person_id", sa.String(length=128), nullable=True),
        sa.Column("round", sa.BigInteger(), nullable=True),
        sa.Column("request_hash", sa.String(length=128), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("previous_hash", sa.String(length=128), nullable=False),
        sa.Column("entry_hash", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_events")),
    )
    op.create_index(op.f("ix_events_ad_id"), "events", ["ad_id"], unique=False)
    op.create_table(
        "exposures",
        sa.Column("person_id", sa.String(length=128), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ad_id", sa.String(length=128), nullable=False),
        sa.Column("severity", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("person_id", "at_ms", "ad_id", name=op.f("pk_exposures")),
    )
    op.create_table(
        "golden_items",
        sa.Column("golden_id", sa.String(length=128), nullable=False),
        sa.Column("submission", sa.Text(), nullable=False),
        sa.Column("market", sa.String(length=128), nullable=False),
        sa.Column("expected", sa.String(20), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("golden_id", name=op.f("pk_golden_items")),
    )
    op.create_index(op.f("ix_golden_items_market"), "golden_items", ["market"], unique=False)
    op.create_table(
        "marks",
        sa.Column("ad_id", sa.String(length=128), nullable=False),
        sa.Column("round", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("person_id", sa.String(length=128), nullable=False),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("market", sa.String(length=128), nullable=False),
        sa.Column("is_right", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("ad_id", "round", "person_id", "source", name=op.f("pk_marks")),
    )
    op.create_index(op.f("ix_marks_person_id"), "marks", ["person_id"], unique=False)
    op.create_table(
        "opinions",
        sa.Column("ad_id", sa.String(length=128), nullable=False),
        sa.Column("round", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("person_id", sa.String(length=128), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("verdict", sa.String(20), nullable=False),
        sa.Column("findings", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("ad_id", "round", "person_id", name=op.f("pk_opinions")),
    )
    op.create_index(op.f("ix_opinions_person_id"), "opinions", ["person_id"], unique=False)
    op.create_table(
        "people",
        sa.Column("person_id", sa.String(length=128), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("buyer", sa.String(length=128), nullable=True),
        sa.Column("markets", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("queues", sa.Text(), nullable=False),
        sa.Column("accuracy_ppm", sa.BigInteger(), nullable=False),
        sa.Column("pace_milli", sa.BigInteger(), nullable=False),
        sa.Column("price_micros", sa.BigInteger(), nullable=False),
        sa.Column("exposure_budget", sa.BigInteger(), nullable=False),
        sa.Column("utc_offset_minutes", sa.BigInteger(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("person_id", name=op.f("pk_people")),
    )
    op.create_table(
        "policies",
        sa.Column("label", sa.String(length=128), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("worst", sa.String(20), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("label", "version", name=op.f("pk_policies")),
    )
    op.create_table(
        "skips",
        sa.Column("person_id", sa.String(length=128), nullable=False),
        sa.Column("ad_id", sa.String(length=128), nullable=False),
        sa.Column("round", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("person_id", "ad_id", "round", name=op.f("pk_skips")),
    )
    op.create_table(
        "tokens",
        sa.Column("token_hash", sa.String(length=128), nullable=False),
        sa.Column("person_id", sa.String(length=128), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_tokens")),
    )
    op.create_index(op.f("ix_tokens_person_id"), "tokens", ["person_id"], unique=False)

    head = sa.table("chain_head", sa.column("slot"), sa.column("sequence"), sa.column("entry_hash"))
    op.bulk_insert(head, [{"slot": 1, "sequence": -1, "entry_hash": GENESIS_HASH}])
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_POSTGRES_FUNCTION)
        op.execute(_POSTGRES_TRIGGER)
    else:
        op.execute(_SQLITE_TRIGGER.format(verb="UPDATE"))
        op.execute(_SQLITE_TRIGGER.format(verb="DELETE"))


def downgrade() -> None:
    raise NotImplementedError("the log of a review desk is not thrown away by a command; restore a copy instead")
