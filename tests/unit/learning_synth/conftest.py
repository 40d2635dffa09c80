"""A small made-up impressions table in which the label depends on the columns and users have several rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from adyton.learning.schema import Column, Kind, Role, TableSchema

SCHEMA = TableSchema(
    (
        Column("user", Role.USER_ID, Kind.CATEGORY),
        Column("clicked", Role.LABEL, Kind.BINARY),
        Column("age", Role.USER, Kind.CATEGORY),
        Column("city", Role.USER, Kind.CATEGORY),
        Column("slot", Role.CONTEXT, Kind.CATEGORY),
        Column("price", Role.AD, Kind.NUMBER),
        Column("at", Role.TIME, Kind.TIMESTAMP),
        Column("tags", Role.SEQUENCE, Kind.LIST),
        Column("note", Role.IGNORED, Kind.CATEGORY),
    )
)


def impressions(n_users: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    age_of, city_of = rng.integers(0, 5, n_users), rng.integers(0, 3, n_users)
    user = np.repeat(np.arange(n_users), rng.integers(1, 9, n_users))
    n = user.size
    age = age_of[user]
    city = np.where(rng.random(n_users) < 0.7, age_of % 3, city_of)[user]
    slot = rng.choice(4, n, p=[0.5, 0.3, 0.15, 0.05])
    price = np.exp(rng.normal(1 + 0.5 * slot, 0.6, n))
    clicked = rng.random(n) < 1 / (1 + np.exp(1.5 - 0.6 * slot - 0.5 * (age == 2) - 0.6 * (city == 1)))
    tags = [["news", "sport", "cars"][: int(k)] for k in rng.integers(0, 4, n)]
    return pa.table(
        {
            "user": [f"person-{seed}-{u}" for u in user.tolist()],
            "clicked": pa.array(clicked.astype(np.int8)),
            "age": pa.array([f"age{a}" for a in age.tolist()]).dictionary_encode(),
            "city": pa.array(city, mask=rng.random(n) < 0.1),
            "slot": pa.array([f"slot{s}" for s in slot.tolist()]),
            "price": price,
            "at": pa.array(1_650_000_000_000 + rng.integers(0, 3 * 86_400_000, n)),
            "tags": pa.array(tags),
            "note": pa.array(["private note"] * n),
        }
    )


@pytest.fixture(scope="session")
def schema() -> TableSchema:
    return SCHEMA


@pytest.fixture(scope="session")
def table() -> pa.Table:
    return impressions(2500, 1)


@pytest.fixture(scope="session")
def other_users() -> pa.Table:
    """Fresh rows of other users, drawn the same way."""
    return impressions(2500, 2)


@pytest.fixture(scope="session")
def fresh() -> pa.Table:
    """A third table of other users: what a perfect synthesizer would give."""
    return impressions(2500, 3)
