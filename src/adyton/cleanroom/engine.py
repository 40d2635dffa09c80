"""Engines inside the enclave: what runs Ibis expressions over registered Arrow tables.

Features, the joined view and bounded groups are Ibis expressions, written once; an `Engine` runs them.

    duckdb   in this process: no files, no network, no extensions, no spill, a memory cap (below)
    spark    a Java process beside it (`spark_engine`), for clusters and for comparison

DuckDB's settings are locked last, so that no query can undo them (cleanroom §5, security facts). Spilling is refused,
since DuckDB would spill in the clear: a query that does not fit into the cap fails instead of writing plaintext to a
disk. Jobs that are larger than the cap are cut into parts by user (`user_parts`), each of which fits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, Protocol

import duckdb
import ibis
import pyarrow as pa

from adyton.cleanroom.errors import EnclaveUnavailableError
from adyton.kernel.errors import BadInputError

DEFAULT_MEMORY_MB = 1024
MIN_MEMORY_MB, MAX_MEMORY_MB = 32, 1 << 24


class EngineKind(Enum):
    """Which engine a job asks for."""

    DUCKDB = "duckdb"
    SPARK = "spark"


class Engine(Protocol):
    """Runs Ibis expressions over the tables that were registered with it."""

    def register(self, name: str, table: pa.Table) -> Any:
        """The Arrow table as an Ibis table; a name that is registered again means the new table."""
        ...

    def run(self, expression: Any) -> pa.Table:
        """The result of an Ibis expression. Raises EnclaveUnavailableError if it does not fit into the memory cap."""
        ...

    def close(self) -> None: ...


class DuckEngine:
    """One DuckDB in memory. `backend` is its Ibis backend."""

    def __init__(self, memory_mb: int = DEFAULT_MEMORY_MB, threads: int = 2) -> None:
        check_size(memory_mb, threads)
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
        """The result of an Ibis expression. Raises EnclaveUnavailableError if it does not fit into the memory cap."""
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


def load_libraries(kind: EngineKind) -> None:
    """Load what the engine will need, where something else has to be waited for."""
    if kind is EngineKind.DUCKDB:
        _ = ibis.duckdb


def check_size(memory_mb: int, threads: int) -> None:
    """Raises BadInputError for less than 32 MB or one thread, and for more than 16 TB."""
    if not MIN_MEMORY_MB <= memory_mb <= MAX_MEMORY_MB or threads < 1:
        raise BadInputError(f"an engine needs {MIN_MEMORY_MB} to {MAX_MEMORY_MB} MB and at least one thread")


@contextmanager
def open_engine(memory_mb: int = DEFAULT_MEMORY_MB, threads: int = 2) -> Iterator[DuckEngine]:
    """DuckDB for the length of a `with` block."""
    engine = DuckEngine(memory_mb, threads)
    try:
        yield engine
    finally:
        engine.close()


@contextmanager
def open_engine_of(kind: EngineKind, memory_mb: int, threads: int) -> Iterator[Engine]:
    """The engine that a job asks for, for the length of a `with` block.

    Raises EnclaveUnavailableError where Spark or Java is missing.
    """
    if kind is EngineKind.DUCKDB:
        with open_engine(memory_mb, threads) as duck:
            yield duck
        return
    # Imported here: Spark is an extra, and its Python part takes a second to load.
    from adyton.cleanroom.spark_engine import SparkEngine

    spark = SparkEngine(memory_mb, threads)
    try:
        yield spark
    finally:
        spark.close()
