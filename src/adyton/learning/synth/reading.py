"""Columns of a Parquet file for a fit, one at a time: a table of many columns need not fit into memory."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from adyton.learning.errors import TableError
from adyton.learning.schema import Role, TableSchema


class Columns(Protocol):
    """What a fit needs of a table. An Arrow table has it too."""

    @property
    def num_rows(self) -> int: ...

    @property
    def schema(self) -> pa.Schema: ...

    @property
    def column_names(self) -> list[str]: ...

    def column(self, name: str) -> pa.ChunkedArray:
        """The whole column."""
        ...


class ParquetColumns:
    """Columns of the Parquet file at `path`, read whenever they are asked for.

    Raises what pyarrow raises for what is no Parquet file, TableError for a column that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path)

    @property
    def num_rows(self) -> int:
        return int(self._file.metadata.num_rows)

    @property
    def schema(self) -> pa.Schema:
        return self._file.schema_arrow

    @property
    def column_names(self) -> list[str]:
        return list(self.schema.names)

    def column(self, name: str) -> pa.ChunkedArray:
        try:
            return self._file.read(columns=[name]).column(0)
        except (pa.ArrowInvalid, OSError) as error:
            raise TableError("the column cannot be read; is the file damaged?", where=name) from error


def without_ignored(schema: TableSchema) -> TableSchema:
    """The columns that a synthesizer looks at."""
    return TableSchema(tuple(column for column in schema.columns if column.role is not Role.IGNORED))
