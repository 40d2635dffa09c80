"""A schema says what a column is for, and nothing that happened later becomes a feature."""

from __future__ import annotations

import pyarrow as pa
import pytest

from adyton.kernel.errors import BadInputError
from adyton.learning.errors import FeatureError, SchemaError, TableError
from adyton.learning.schema import Column, Kind, Role, TableSchema

SCHEMA = TableSchema(
    (
        Column("user", Role.USER_ID, Kind.CATEGORY),
        Column("item", Role.ITEM_ID, Kind.CATEGORY),
        Column("at_ms", Role.TIME, Kind.TIMESTAMP),
        Column("age", Role.USER, Kind.NUMBER),
        Column("history", Role.SEQUENCE, Kind.LIST),
        Column("hour", Role.CONTEXT, Kind.CATEGORY),
        Column("play_time_ms", Role.OUTCOME, Kind.NUMBER),
        Column("note", Role.IGNORED, Kind.CATEGORY),
        Column("label", Role.LABEL, Kind.BINARY),
    )
)


def test_features_are_what_is_known_before_the_impression() -> None:
    assert [c.name for c in SCHEMA.features()] == ["user", "item", "age", "history", "hour"]


@pytest.mark.parametrize("name", ["play_time_ms", "label", "at_ms", "note"])
def test_an_outcome_label_time_or_ignored_column_asked_for_as_a_feature_is_refused(name: str) -> None:
    with pytest.raises(FeatureError) as caught:
        SCHEMA.features(["age", name])

    assert caught.value.where == name
    assert isinstance(caught.value, BadInputError)


def test_an_unknown_feature_name_lists_the_known_ones() -> None:
    with pytest.raises(SchemaError) as caught:
        SCHEMA.features(["agee"])

    assert "age" in str(caught.value.hint)


def test_every_role_survives_json_and_has_a_say_on_features() -> None:
    assert TableSchema.from_json(SCHEMA.as_json()) == SCHEMA
    assert {role for role in Role if role.is_feature} == {
        Role.USER_ID, Role.ITEM_ID, Role.USER, Role.AD, Role.CONTEXT, Role.SEQUENCE,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("role", "kind"),
    [
        (Role.LABEL, Kind.NUMBER),
        (Role.SEQUENCE, Kind.CATEGORY),
        (Role.USER_ID, Kind.NUMBER),
        (Role.TIME, Kind.CATEGORY),
    ],
)
def test_a_role_with_the_wrong_kind_is_refused(role: Role, kind: Kind) -> None:
    with pytest.raises(SchemaError):
        Column("x", role, kind)


def test_two_labels_or_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(SchemaError):
        SCHEMA.extend(Column("label2", Role.LABEL, Kind.BINARY))
    with pytest.raises(SchemaError):
        SCHEMA.extend(Column("age", Role.USER, Kind.NUMBER))


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"columns": {}},
        {"columns": [1]},
        {"columns": [{"name": "a", "role": "user"}]},
        {"columns": [{"name": "a", "role": "usr", "kind": "category"}]},
        {"columns": [{"name": "", "role": "user", "kind": "category"}]},
        {"columns": [{"name": "a", "role": "user", "kind": "category", "colour": "red"}]},
    ],
)
def test_any_broken_declaration_gives_a_schema_error(value: object) -> None:
    with pytest.raises(SchemaError):
        TableSchema.from_json(value)


def test_a_table_is_checked_by_column_and_type() -> None:
    schema = SCHEMA.select(["age", "label"])

    schema.check(pa.table({"age": [1.5], "label": pa.array([1], pa.int8()), "more": ["x"]}))
    with pytest.raises(TableError) as missing:
        schema.check(pa.table({"age": [1.5]}), where="a.parquet")
    with pytest.raises(TableError) as wrong:
        schema.check(pa.table({"age": ["young"], "label": [1]}), where="a.parquet")

    assert "label" in str(missing.value)
    assert wrong.value.where == "a.parquet, age"
    assert "young" not in str(wrong.value)


def test_changing_roles_keeps_the_order_and_needs_known_names() -> None:
    changed = SCHEMA.with_roles({"age": Role.IGNORED})

    assert changed.column("age").role is Role.IGNORED
    assert changed.names == SCHEMA.names
    with pytest.raises(SchemaError):
        SCHEMA.with_roles({"nobody": Role.USER})
