"""Brings a database to the newest version of the tables, and tells which version it has."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from adyton.review.queue import migrations
from adyton.review.queue.desk import Desk
from adyton.review.queue.errors import StoreUnavailableError


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__path__[0])).replace("%", "%%"))
    return config


def newest_version() -> str:
    """The version that this release works with."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def migrate(desk: Desk) -> tuple[str | None, str]:
    """Runs the missing versions, all or none; gives the version before and after. Safe to run again."""
    config = _config()
    with desk.writing() as tx:
        if tx.is_postgres:
            # Two servers that start at once must not both make the tables.
            tx.conn.exec_driver_sql("SELECT pg_advisory_xact_lock(20230910)")
        before = MigrationContext.configure(tx.conn).get_current_revision()
        config.attributes["connection"] = tx.conn
        command.upgrade(config, "head")
    return before, newest_version()


def require_newest(desk: Desk) -> None:
    """Nothing, if the database has the tables of this release. Raises StoreUnavailableError."""
    with desk.reading() as tx:
        version = MigrationContext.configure(tx.conn).get_current_revision()
    if version != newest_version():
        raise StoreUnavailableError(
            f"the database has version {version or 'none'}, this release needs {newest_version()}",
            hint="run: adyton queue migrate",
        )
