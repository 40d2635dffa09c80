"""Apache Spark as an engine, with the extra `spark` and Java 17: the same Ibis expressions, run by a Java process.

What holds inside an enclave, and what does not (the receipt says so, and every owner must allow development runs):

    holds       no network but the enclave's own loopback; shuffle and spill files only in the enclave's private memory
                file system (`private_memory`), and encrypted by Spark on top
    does not    Java's code is outside the measurement; the system-call filter cannot be loaded, since Spark starts a
                process and listens on loopback; rows pass between Python and Java over loopback and are not wiped

Source: Spark's configuration reference ("Security", "Spark SQL"); cleanroom §5.
"""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa

from adyton.cleanroom.engine import check_size
from adyton.cleanroom.errors import EnclaveUnavailableError

MIN_MEMORY_MB = 512
"""Spark does not start with less."""


class SparkEngine:
    """One local Spark session. `backend` is its Ibis backend.

    memory_mb: Java's heap.   threads: local tasks at once.   scratch: parent of the folder for shuffle and spill files,
    which is removed by `close`; Python's temporary folder if None.
    Raises EnclaveUnavailableError if Java or PySpark is missing, or the process does not start.
    """

    def __init__(self, memory_mb: int, threads: int, scratch: Path | None = None) -> None:
        check_size(memory_mb, threads)
        if shutil.which("java") is None:
            raise EnclaveUnavailableError(
                "Spark needs Java, and there is none", hint="apt-get install openjdk-17-jre-headless"
            )
        try:
            # PySpark warns about the pandas version, which nothing here uses.
            with warnings.catch_warnings(action="ignore"):
                sql: Any = importlib.import_module("pyspark.sql")
        except ImportError as error:
            raise EnclaveUnavailableError("Spark is not installed", hint="pip install 'adyton[spark]'") from error
        self._folder = Path(tempfile.mkdtemp(prefix="adyton-spark-", dir=scratch))
        # The Java process is told nothing by the environment but this.
        os.environ.update(SPARK_LOCAL_IP="127.0.0.1", SPARK_LOCAL_HOSTNAME="localhost", HOME=str(self._folder))
        builder = sql.SparkSession.builder.master(f"local[{threads}]")
        for name, value in self._settings(max(memory_mb, MIN_MEMORY_MB), threads).items():
            builder = builder.config(name, value)
        logging.getLogger("py4j").setLevel(logging.ERROR)
        try:
            with warnings.catch_warnings(action="ignore"):
                self._session: Any = builder.getOrCreate()
                self._session.sparkContext.setLogLevel("OFF")
                self.backend = ibis.pyspark.connect(self._session)
        except Exception as error:  # noqa: BLE001  Py4J, Spark and Python have no class in common
            shutil.rmtree(self._folder, ignore_errors=True)
            # Not chained: Java's text may quote paths and settings, never rows, but it is long.
            raise EnclaveUnavailableError(f"Spark did not start ({type(error).__name__})") from None

    def register(self, name: str, table: pa.Table) -> Any:
        """The Arrow table as an Ibis table; the rows are copied to the Java process."""
        plain = pa.table({n: _plain(table[n]) for n in table.column_names})
        with warnings.catch_warnings(action="ignore"):
            self._session.createDataFrame(plain).createOrReplaceTempView(name)
        return self.backend.table(name)

    def run(self, expression: Any) -> pa.Table:
        """The result of an Ibis expression. Raises EnclaveUnavailableError if Java fails, most often for its memory."""
        try:
            with warnings.catch_warnings(action="ignore"):
                result: pa.Table = self.backend.to_pyarrow(expression)
        except Exception as error:
            if type(error).__module__.split(".")[0] not in ("py4j", "pyspark"):
                raise
            # Not chained: Spark's text may quote a value.
            raise EnclaveUnavailableError(
                f"a query failed in Spark ({type(error).__name__})", hint="give the enclave more memory"
            ) from None
        return result

    def close(self) -> None:
        self._session.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _settings(self, memory_mb: int, threads: int) -> dict[str, str]:
        folder = str(self._folder)
        return {
            "spark.app.name": "adyton",
            "spark.driver.memory": f"{memory_mb}m",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            # No files of its own outside the folder: no performance data, no crash dumps, no warehouse.
            "spark.driver.extraJavaOptions": f"-XX:-UsePerfData -XX:-CreateCoredumpOnCrash -Djava.io.tmpdir={folder}",
            "spark.local.dir": folder,
            "spark.sql.warehouse.dir": f"{folder}/warehouse",
            "spark.sql.catalogImplementation": "in-memory",
            "spark.io.encryption.enabled": "true",
            "spark.authenticate": "true",
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.shuffle.partitions": str(threads),
        }


def versions() -> str:
    """What runs, in words, for a receipt: `pyspark 4.3.0`."""
    try:
        return f"pyspark {importlib.import_module('pyspark').__version__}"
    except ImportError:
        return "pyspark is not installed"


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Dictionary-coded columns as their values, which is all that PySpark reads."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
