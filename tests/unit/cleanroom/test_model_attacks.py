"""Attacks find a model that learned rows by heart, and nothing in one that knows the population only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pyarrow as pa

from adyton.cleanroom.model_attacks import attack_model
from adyton.learning.ctr.training import TrainedModel
from adyton.learning.schema import Column, Kind, Role, TableSchema

ROWS = 4_000
SCHEMA = TableSchema(
    (
        Column("item", Role.ITEM_ID, Kind.CATEGORY),
        Column("age", Role.USER, Kind.CATEGORY),
        Column("sex", Role.USER, Kind.BINARY),
        Column("label", Role.LABEL, Kind.BINARY),
    )
)


def population() -> tuple[pa.Table, np.ndarray[Any, np.dtype[np.int64]]]:
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 2, ROWS).astype(np.int64)
    columns = {"item": np.arange(ROWS), "age": rng.integers(0, 8, ROWS), "sex": rng.integers(0, 2, ROWS)}
    return pa.table({**columns, "label": labels}), labels


@dataclass
class Scorer:
    """A model that knows its rows by heart, as (item, age) and label; of others it knows `otherwise`."""

    by_heart: dict[tuple[int, int], int]
    schema: TableSchema = SCHEMA
    otherwise: float = field(default=0.0)

    def logits(self, table: pa.Table) -> np.ndarray[Any, np.dtype[np.float64]]:
        pairs = zip(table["item"].to_pylist(), table["age"].to_pylist(), strict=True)
        known = [self.by_heart.get(pair) for pair in pairs]
        return np.array([self.otherwise if label is None else 6.0 * (2 * label - 1) for label in known])


def test_a_model_that_learned_by_heart_is_found_by_both_attacks() -> None:
    table, labels = population()
    members, outsiders = np.arange(ROWS // 2), np.arange(ROWS // 2, ROWS)
    pairs = zip(table["item"].to_pylist(), table["age"].to_pylist(), labels.tolist(), strict=True)
    model = Scorer({(item, age): label for item, age, label in pairs if item < ROWS // 2})
    found = attack_model(cast("TrainedModel", model), table, labels, members, outsiders, seed=1)

    assert found.membership_auc > 0.99
    assert found.attribute == "age"
    assert found.attribute_inference is not None
    assert found.attribute_inference.difference.low > 0.5


def test_a_model_that_knows_nothing_of_its_rows_passes() -> None:
    table, labels = population()
    members, outsiders = np.arange(ROWS // 2), np.arange(ROWS // 2, ROWS)
    found = attack_model(cast("TrainedModel", Scorer({})), table, labels, members, outsiders, seed=1)

    assert found.membership_auc == 0.5
    assert found.attribute_inference is not None
    assert not found.attribute_inference.is_visible


def test_a_model_without_a_user_attribute_has_none_to_guess() -> None:
    table, labels = population()
    model = Scorer({}, schema=SCHEMA.select(["item", "label"]))
    found = attack_model(cast("TrainedModel", model), table, labels, np.arange(100), np.arange(100, 200), seed=1)

    assert (found.attribute, found.attribute_inference) == (None, None)
