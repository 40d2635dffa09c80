"""How long each moderator works on a day, for prices; indexes for the ends of ads and for a buyer's rejections."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("people", sa.Column("minutes_per_day", sa.BigInteger(), nullable=False, server_default="480"))
    op.create_index(op.f("ix_ads_expires_at_ms"), "ads", ["expires_at_ms"], unique=False)
    op.create_index("ix_ads_buyer_verdict", "ads", ["buyer", "verdict"], unique=False)


def downgrade() -> None:
    raise NotImplementedError("the log of a review desk is not thrown away by a command; restore a copy instead")
