"""A locked-down DuckDB inside the enclave: no files, no network, no extensions, no spill, a memory cap.

Arrow tables are registered and queried through Ibis. The settings are locked last, so that no query can undo them
(cleanroom §5, security facts). Spilling is refused, since DuckDB would spill in the clear: a job that does not fit
into the cap fails instead of writing plaintext to a disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import ibis
import pyarrow as pa

from adyton.cleanroom.errors import EnclaveUnavailableError
from adyton.kernel.errors import BadInputError

DEFAULT_MEMORY_MB = 1024


class Engine:
    """One DuckDB in memory. `backend` is its Ibis backend; `register` puts an Arrow table in."""

    def __init__(self, memory_mb: int = DEFAULT_MEMORY_MB, threads: int = 2) -> None:
        if memory_mb < 32 or threads < 1:
            raise BadInputError("an engine needs at least 32 MB and one thread")
        self._connection = duckdb.connect(":memory:")
        self.backend = ibis.duckdb.from_connection(self._connection)
        for setting in (
            f"SET memory_limit = '{memory_mb}MB'",
            f"SET threads = {threads}",
            "SET preserve_insertion_order = false",
            "SET max_temp_directory_size = '0KB'",
            "SET autoinstall_known_extensions = false",
            "SET autoload_known_extensions = false",
            "SET allow_community_extensions = false",
            "SET enable_external_access = false",
            "SET lock_configuration = true",
        ):
            self._connection.execute(setting)

    def register(self, name: str, table: pa.Table) -> Any:
        """The Arrow table as an Ibis table; the data stays where it is."""
        self._connection.register(name, table)
        return self.backend.table(name)

    def run(self, expression: Any) -> pa.Table:
        """The result of an Ibis expression.

        Raises EnclaveUnavailableError if it does not fit into the memory cap.
        """
        try:
            result: pa.Table = expression.to_pyarrow()
        except duckdb.OutOfMemoryException:
            raise EnclaveUnavailableError(
                "a query does not fit into the enclave's memory, and spilling to disk is refused",
                hint="give the enclave more memory",
            ) from None
        return result

    def sql_unchecked(self, query: str) -> pa.Table:
        """The result of SQL text: for tests of the lock, never for a party's text."""
        result: pa.Table = self._connection.execute(query).to_arrow_table()
        return result

    def close(self) -> None:
        self._connection.close()


@contextmanager
def open_engine(memory_mb: int = DEFAULT_MEMORY_MB, threads: int = 2) -> Iterator[Engine]:
    """An engine for the length of a `with` block."""
    engine = Engine(memory_mb, threads)
    try:
        yield engine
    finally:
        engine.close()
