"""Alembic environment and versions of the live queue's tables; `schema` runs them."""
