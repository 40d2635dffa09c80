"""The page about clean-room files: its examples parse, and its tables name every role, kind, reader and field."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from adyton.cleanroom.aggregate_request import AggregateRequest
from adyton.cleanroom.contract import Template
from adyton.cleanroom.job import JobSpec
from adyton.cleanroom.table_mapping import TableMapping
from adyton.learning.ctr.features import Statistic
from adyton.learning.schema import Kind, Role, TableSchema

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "cleanroom-files.md").read_text()


def example(name: str) -> Any:
    found = re.findall(rf"^```json {name}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return json.loads(found[0])


def first_cells(heading: str) -> set[str]:
    """The words in backquotes in the first column of the table whose head begins with `heading`."""
    table = re.search(rf"^\| {re.escape(heading)} .*?\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert table is not None
    return {word for row in table[1].splitlines() for word in re.findall(r"`([^`]+)`", row.split("|")[1])}


def test_the_schema_example_is_one_and_every_role_and_kind_is_explained() -> None:
    schema = TableSchema.from_json(example("schema"))

    assert {column.role for column in schema.columns} == set(Role) - {Role.IGNORED}
    assert first_cells("role") == {role.value for role in Role}
    assert first_cells("kind") == {kind.value for kind in Kind}


def test_the_mapping_example_is_one_and_every_reader_is_explained() -> None:
    mapping = TableMapping.from_json(example("mapping"))

    assert set(mapping.columns) <= set(TableSchema.from_json(example("schema")).names)
    readers = first_cells("`as`")
    for reader in readers:
        more = {"phone": {"country_code": "49"}, "time": {"format": "%Y"}}.get(reader, {})
        TableMapping.from_json({"columns": {"a": {"from": "b", "as": reader, **more}}})
    assert readers >= {one["as"] for one in example("mapping")["columns"].values()}


def test_the_job_example_is_one_and_every_field_is_explained() -> None:
    job = JobSpec.from_json(example("job"))

    assert job.templates == set(Template)
    assert first_cells("field") == {one.name for one in fields(JobSpec)}
    assert set(example("job")["queries"][0]) == {one.name for one in fields(AggregateRequest)}
    for statistic in Statistic:
        assert f"`{statistic.value}`" in PAGE


def test_the_example_of_private_training_is_one_and_names_every_field() -> None:
    job = JobSpec.from_json({**example("job"), "private_training": example("private_training")})

    assert job.private_training is not None
    assert set(example("private_training")) == {one.name for one in fields(type(job.private_training))}


@pytest.mark.parametrize("name", ["schema", "mapping"])
def test_a_misspelt_field_is_refused_as_the_page_says(name: str) -> None:
    value = example(name)
    value["colums"] = []
    reader = {"schema": TableSchema, "mapping": TableMapping}[name]

    with pytest.raises(Exception, match="unknown"):
        reader.from_json(value)
