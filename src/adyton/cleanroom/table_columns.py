"""The columns of a sealed table: what the contract says of each, and the Arrow type that holds it.

A column is a column of `learning.schema` (name, role, kind) with the type it is stored in and whether it may be empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from adyton.cleanroom.errors import ContractError
from adyton.kernel.canonical import Json
from adyton.kernel.errors import BadInputError
from adyton.learning.schema import Column, Kind, Role, TableSchema

MAX_COLUMNS = 512

STORAGE: Final[Mapping[str, pa.DataType]] = {
    "bool": pa.bool_(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "date32": pa.date32(),
    "list<int64>": pa.list_(pa.int64()),
    "list<string>": pa.list_(pa.string()),
}
_STORAGE_OF: Final[Mapping[pa.DataType, str]] = {arrow_type: name for name, arrow_type in STORAGE.items()} | {
    pa.uint8(): "int16",
    pa.uint16(): "int32",
    pa.uint32(): "int64",
    pa.uint64(): "int64",
    pa.float16(): "float32",
    pa.large_string(): "string",
    pa.string_view(): "string",
    pa.date64(): "date32",
}
_STORAGE_OF_TEXT: Final[Mapping[Kind, str]] = {
    Kind.NUMBER: "float64",
    Kind.BINARY: "int8",
    Kind.TIMESTAMP: "int64",
    Kind.LIST: "list<string>",
}


@dataclass(frozen=True)
class TableColumn:
    """One declared column. `storage` is a key of `STORAGE`."""

    column: Column
    storage: str
    nullable: bool = True

    def __post_init__(self) -> None:
        if self.storage not in STORAGE:
            raise ContractError(f"unknown storage {self.storage!r}", where=self.name, hint=", ".join(STORAGE))
        if self.column.role is Role.USER_ID and self.nullable:
            raise ContractError("a user id may not be empty", where=self.name)

    @property
    def name(self) -> str:
        return self.column.name

    @property
    def arrow_type(self) -> pa.DataType:
        return STORAGE[self.storage]

    def as_json(self) -> dict[str, Json]:
        return {
            "name": self.name,
            "role": self.column.role.value,
            "kind": self.column.kind.value,
            "storage": self.storage,
            "nullable": self.nullable,
        }


def columns_to_json(columns: Sequence[TableColumn]) -> list[Json]:
    return [column.as_json() for column in columns]


def columns_from_json(value: object) -> tuple[TableColumn, ...]:
    """Parse `columns_to_json`. Raises ContractError naming the column."""
    if not isinstance(value, list):
        raise ContractError("the columns must be a list")
    if not 1 <= len(value) <= MAX_COLUMNS:
        raise ContractError(f"a table has 1 to {MAX_COLUMNS} columns, got {len(value)}")
    columns = []
    for index, item in enumerate(value):
        if not isinstance(item, Mapping) or set(item) != {"name", "role", "kind", "storage", "nullable"}:
            raise ContractError("a column has name, role, kind, storage and nullable", where=f"columns[{index}]")
        try:
            column = Column(str(item["name"]), Role(item["role"]), Kind(item["kind"]))
            columns.append(TableColumn(column, str(item["storage"]), item["nullable"] is True))
        except (BadInputError, ValueError) as error:
            raise ContractError(str(error), where=f"columns[{index}]") from error
    declared = tuple(columns)
    table_schema(declared)
    return declared


def declare_columns(schema: TableSchema, arrow: pa.Schema) -> tuple[TableColumn, ...]:
    """The columns of `schema` with the types that `arrow` holds them in; user ids and labels may not be empty.

    Raises ContractError for a column that is missing or held in an unknown type.
    """
    declared = []
    for column in schema.columns:
        if column.name not in arrow.names:
            raise ContractError("the declared column is not in the file", where=column.name)
        if arrow.names.count(column.name) > 1:
            raise ContractError(
                "the file has two columns of this name", where=column.name, hint="rename one of them in the file"
            )
        storage = _storage_of(arrow.field(column.name).type, column)
        required = column.role in (Role.USER_ID, Role.ITEM_ID, Role.LABEL, Role.TIME)
        declared.append(TableColumn(column, storage, nullable=not required))
    return tuple(declared)


def _storage_of(arrow_type: pa.DataType, column: Column) -> str:
    types = pa.types
    if types.is_dictionary(arrow_type):
        arrow_type = arrow_type.value_type
    if types.is_timestamp(arrow_type) and column.kind is Kind.TIMESTAMP:
        return "int64"  # milliseconds since the epoch
    storage = _STORAGE_OF.get(arrow_type)
    if types.is_decimal(arrow_type):
        storage = "float64"
    if types.is_list(arrow_type) or types.is_large_list(arrow_type):
        inner = arrow_type.value_type
        if types.is_integer(inner):
            storage = "list<int64>"
        elif types.is_string(inner) or types.is_large_string(inner):
            storage = "list<string>"
    # A list is no name and a name no list; users that are 1.0 here and 1 there would never meet; NaN is no moment.
    is_floating = types.is_floating(arrow_type) or types.is_decimal(arrow_type)
    is_misfit = (types.is_nested(arrow_type) and column.kind is not Kind.LIST) or (
        is_floating and (column.role is Role.USER_ID or column.kind is Kind.TIMESTAMP)
    )
    if storage is None or is_misfit:
        raise ContractError(
            f"type {arrow_type} cannot be sealed as a {column.kind.value}",
            where=column.name,
            hint=f"types that can: {', '.join(STORAGE)}; a timestamp as kind timestamp",
        )
    if storage == "string":
        # Text that should be numbers: sealing converts it, and names the row that is none.
        return _STORAGE_OF_TEXT.get(column.kind, "string")
    # A day is a name here, not a number.
    return "string" if storage == "date32" and column.kind is Kind.CATEGORY else storage


def table_schema(columns: Sequence[TableColumn]) -> TableSchema:
    """The learning schema of the declared columns. Raises ContractError if roles clash."""
    try:
        return TableSchema(tuple(column.column for column in columns))
    except BadInputError as error:
        raise ContractError(str(error)) from error


def arrow_schema(columns: Sequence[TableColumn]) -> pa.Schema:
    """The Arrow schema that a sealed table is written with."""
    return pa.schema([pa.field(c.name, c.arrow_type, nullable=c.nullable) for c in columns])
