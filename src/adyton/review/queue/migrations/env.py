"""Alembic calls this file with the connection that `schema` opened."""

from __future__ import annotations

from alembic import context

from adyton.review.queue.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
