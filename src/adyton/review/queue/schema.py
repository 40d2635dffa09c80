"""Brings a database to the newest version of the tables, and tells which version it has."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from adyton.review.queue import migrations
from adyton.review.queue.desk import Desk, Tx
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
        _refuse_foreign(tx, before)
        config.attributes["connection"] = tx.conn
        command.upgrade(config, "head")
    return before, newest_version()


def _refuse_foreign(tx: Tx, version: str | None) -> None:
    """Nothing, if these are our tables or none. A mistyped address must not put ours among those of another program.

    Raises StoreUnavailableError, also for a database of a newer release.
    """
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if version is not None and version not in known:
        raise StoreUnavailableError(
            f"the database has version {version}, which this release does not know",
            hint="use the release that made it, or a newer one",
        )
    # A PostgreSQL schema may be shared; a file is one program's.
    if version is None and not tx.is_postgres and sa.inspect(tx.conn).get_table_names():
        raise StoreUnavailableError(
            "the file holds the tables of another program", hint="check the address, or name a file that is not there"
        )


def require_newest(desk: Desk) -> None:
    """Nothing, if the database has the tables of this release. Raises StoreUnavailableError."""
    with desk.reading() as tx:
        version = MigrationContext.configure(tx.conn).get_current_revision()
        if version is not None:
            _refuse_foreign(tx, version)
    if version != newest_version():
        raise StoreUnavailableError(
            f"the database has version {version or 'none'}, this release needs {newest_version()}",
            hint="run: adyton queue migrate",
        )
