"""What each column of a table is for.

A `TableSchema` says for every column which *role* it plays (label, time, user, ad, context, outcome ...) and which
*kind* of values it holds. Readers, models, synthesizers and the clean room all ask the schema, so that the rule
"what happens after an impression is never a feature of that impression" lives in one place: `TableSchema.features`.

JSON form (`from_json` / `as_json`):

    {"columns": [{"name": "age", "role": "user", "kind": "category"},
                 {"name": "label", "role": "label", "kind": "binary"}, ...]}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

import pyarrow as pa

from adyton.learning.errors import FeatureError, SchemaError, TableError


class Role(Enum):
    """What a column is for. The stored values never change."""

    LABEL = "label"
    """What a model predicts: 1 for a click."""
    TIME = "time"
    """When the impression happened; orders rows and splits train from test."""
    USER_ID = "user_id"
    """The key that joins two parties' tables."""
    ITEM_ID = "item_id"
    """The ad, video or article that was shown."""
    USER = "user"
    """Known about the user before the impression."""
    AD = "ad"
    """Known about the item before the impression."""
    CONTEXT = "context"
    """Known about the place and moment of the impression: slot, hour, network."""
    SEQUENCE = "sequence"
    """The user's past as a list of ids, none later than the impression."""
    OUTCOME = "outcome"
    """Known only after the impression: play time, like, close. Never a feature of the same row."""
    IGNORED = "ignored"
    """Kept in the table, used by nothing."""

    @property
    def is_feature(self) -> bool:
        """True when a column of this role may be given to a model."""
        return self in FEATURE_ROLES


FEATURE_ROLES = frozenset({Role.USER_ID, Role.ITEM_ID, Role.USER, Role.AD, Role.CONTEXT, Role.SEQUENCE})
_AT_MOST_ONCE = (Role.LABEL, Role.TIME, Role.USER_ID, Role.ITEM_ID)


class Kind(Enum):
    """What values a column holds. The stored values never change."""

    CATEGORY = "category"
    """Unordered values: strings or integers."""
    NUMBER = "number"
    """Ordered values: integers or floats."""
    LIST = "list"
    """A list of categories, of any length."""
    TIMESTAMP = "timestamp"
    """Milliseconds since the Unix epoch, or an Arrow timestamp."""
    BINARY = "binary"
    """0 or 1."""


@dataclass(frozen=True)
class Column:
    """One column: its name, what it is for and what it holds.   meaning: a few words for people, may be empty."""

    name: str
    role: Role
    kind: Kind
    meaning: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            raise SchemaError("a column needs a name")
        if self.role is Role.LABEL and self.kind is not Kind.BINARY:
            raise SchemaError(f"a label must be binary, not {self.kind.value}", where=self.name)
        if self.role is Role.SEQUENCE and self.kind is not Kind.LIST:
            raise SchemaError(f"a sequence must be a list, not {self.kind.value}", where=self.name)
        if self.role in (Role.USER_ID, Role.ITEM_ID) and self.kind is not Kind.CATEGORY:
            raise SchemaError(f"an id must be a category, not {self.kind.value}", where=self.name)
        if self.role is Role.TIME and self.kind is not Kind.TIMESTAMP:
            raise SchemaError(f"the time column must be a timestamp, not {self.kind.value}", where=self.name)

    def as_json(self) -> dict[str, str]:
        return {"name": self.name, "role": self.role.value, "kind": self.kind.value, "meaning": self.meaning}


@dataclass(frozen=True)
class TableSchema:
    """The columns of one table, in order.

    Valid from birth: no name twice, and at most one label, time, user id and item id.
    """

    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for column in self.columns:
            if column.name in seen:
                raise SchemaError("a column is declared twice", where=column.name)
            seen.add(column.name)
        for role in _AT_MOST_ONCE:
            names = [column.name for column in self.columns if column.role is role]
            if len(names) > 1:
                raise SchemaError(f"only one column may be the {role.value}, got {', '.join(names)}")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def column(self, name: str) -> Column:
        """The column called `name`.   Raises SchemaError, with near names as a hint."""
        for column in self.columns:
            if column.name == name:
                return column
        raise SchemaError(f"no column is called {name!r}", hint=f"the columns are: {', '.join(self.names)}")

    def with_role(self, *roles: Role) -> tuple[Column, ...]:
        """The columns that play one of `roles`, in the order of the table."""
        return tuple(column for column in self.columns if column.role in roles)

    def single(self, role: Role) -> Column:
        """The one column with `role` (label, time, user id or item id).   Raises SchemaError if there is none."""
        found = self.with_role(role)
        if len(found) != 1:
            raise SchemaError(f"the schema needs exactly one column with role {role.value}, it has {len(found)}")
        return found[0]

    @property
    def label(self) -> Column:
        return self.single(Role.LABEL)

    @property
    def time(self) -> Column:
        return self.single(Role.TIME)

    @property
    def user_id(self) -> Column:
        return self.single(Role.USER_ID)

    @property
    def item_id(self) -> Column:
        return self.single(Role.ITEM_ID)

    def features(self, names: Iterable[str] | None = None) -> tuple[Column, ...]:
        """The columns a model may read: all that may be features, or exactly `names`.

        Raises FeatureError when a name is the label, the time, ignored, or known only after the impression.
        """
        if names is None:
            return tuple(column for column in self.columns if column.role.is_feature)
        chosen = tuple(self.column(name) for name in names)
        for column in chosen:
            if column.role is Role.OUTCOME:
                raise FeatureError(
                    "this column is known only after the impression and cannot be a feature of it",
                    where=column.name,
                    hint="use a point-in-time counter of earlier rows instead",
                )
            if not column.role.is_feature:
                raise FeatureError(f"a column with role {column.role.value} cannot be a feature", where=column.name)
        return chosen

    def select(self, names: Iterable[str]) -> TableSchema:
        """The schema of only `names`, in that order.   Raises SchemaError for an unknown name."""
        return TableSchema(tuple(self.column(name) for name in names))

    def extend(self, *columns: Column) -> TableSchema:
        """This schema with `columns` added at the end."""
        return TableSchema(self.columns + columns)

    def with_roles(self, roles: Mapping[str, Role]) -> TableSchema:
        """This schema with the roles of some columns changed.   Raises SchemaError for an unknown name."""
        for name in roles:
            self.column(name)
        return TableSchema(tuple(replace(c, role=roles.get(c.name, c.role)) for c in self.columns))

    def check(self, table: pa.Table, *, where: str = "table") -> None:
        """Check that `table` has every column of the schema with a type that fits its kind.

        Columns that the schema does not know are allowed.
        Raises TableError naming the first column that does not fit.
        """
        for column in self.columns:
            if column.name not in table.column_names:
                raise TableError(f"column {column.name!r} is missing", where=where)
            arrow_type = table.schema.field(column.name).type
            if not _fits(arrow_type, column.kind):
                raise TableError(f"{arrow_type} does not hold a {column.kind.value}", where=f"{where}, {column.name}")

    def as_json(self) -> dict[str, list[dict[str, str]]]:
        return {"columns": [column.as_json() for column in self.columns]}

    @classmethod
    def from_json(cls, value: object) -> TableSchema:
        """The schema that `value` declares.   Raises SchemaError saying which part is wrong."""
        if not isinstance(value, Mapping) or not isinstance(value.get("columns"), list):
            raise SchemaError("a schema is a JSON object with a list called 'columns'")
        if unknown := sorted(set(map(str, value)) - {"columns"}):
            raise SchemaError(f"unknown keys: {', '.join(unknown)}", where="schema", hint="its only key is 'columns'")
        return cls(tuple(_column_from_json(entry, i) for i, entry in enumerate(value["columns"])))


def _column_from_json(entry: object, index: int) -> Column:
    where = f"columns[{index}]"
    if not isinstance(entry, Mapping):
        raise SchemaError("a column is a JSON object", where=where)
    unknown = set(entry) - {"name", "role", "kind", "meaning"}
    if unknown:
        raise SchemaError(f"unknown keys: {', '.join(sorted(map(str, unknown)))}", where=where)
    texts: dict[str, str] = {}
    for key in ("name", "role", "kind"):
        text = entry.get(key)
        if not isinstance(text, str):
            raise SchemaError(f"{key!r} must be a string", where=where)
        texts[key] = text
    try:
        role, kind = Role(texts["role"]), Kind(texts["kind"])
    except ValueError as error:
        raise SchemaError(
            str(error),
            where=where,
            hint=f"roles: {', '.join(r.value for r in Role)}; kinds: {', '.join(k.value for k in Kind)}",
        ) from None
    return Column(texts["name"], role, kind, str(entry.get("meaning", "")))


def _fits(arrow_type: pa.DataType, kind: Kind) -> bool:
    types = pa.types
    if types.is_dictionary(arrow_type):
        arrow_type = arrow_type.value_type
    number = types.is_integer(arrow_type) or types.is_floating(arrow_type)
    text = types.is_string(arrow_type) or types.is_large_string(arrow_type)
    match kind:
        case Kind.CATEGORY:
            return bool(number or text or types.is_boolean(arrow_type))
        case Kind.NUMBER:
            return bool(number)
        case Kind.LIST:
            is_list = types.is_list(arrow_type) or types.is_large_list(arrow_type)
            return bool(is_list and _fits(arrow_type.value_type, Kind.CATEGORY))
        case Kind.TIMESTAMP:
            return bool(types.is_integer(arrow_type) or types.is_timestamp(arrow_type))
        case Kind.BINARY:
            return bool(types.is_integer(arrow_type) or types.is_boolean(arrow_type))
