"""One set of Ibis expressions on two engines: DuckDB and Spark give the same rows, whole numbers bit for bit.

Needs Java and the extra `spark`. Skipped where they are absent, but not in CI, where they have to be there.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from adyton.cleanroom.aggregate import bounded_groups
from adyton.cleanroom.aggregate_request import AggregateRequest
from adyton.cleanroom.aggregate_sql import ValueType, check_sql
from adyton.cleanroom.contract import Output, Template
from adyton.cleanroom.engine import Engine, EngineKind, open_engine, open_engine_of
from adyton.cleanroom.errors import TemplateRefusedError
from adyton.cleanroom.join import PartyTable, join_tables
from adyton.cleanroom.joined_view import JoinedView, ViewColumn, view_expression
from adyton.cleanroom.receipt import verify_receipt
from adyton.cleanroom.run import open_output
from adyton.kernel.chance import stream
from adyton.kernel.ids import DatasetId
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.schema import Column, Kind, Role, TableSchema

_MISSING = [
    name
    for name, is_there in (
        ("Java", shutil.which("java") is not None),
        ("the extra spark", importlib.util.find_spec("pyspark") is not None),
    )
    if not is_there
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(_MISSING) and os.environ.get("CI") != "true", reason=f"Spark cannot run without {' and '.join(_MISSING)}"
    ),
]

SCHEMA = TableSchema(
    (
        Column("user_id", Role.USER_ID, Kind.CATEGORY),
        Column("item_id", Role.ITEM_ID, Kind.CATEGORY),
        Column("time_ms", Role.TIME, Kind.TIMESTAMP),
        Column("city", Role.USER, Kind.CATEGORY),
        Column("age", Role.USER, Kind.NUMBER),
        Column("watched", Role.OUTCOME, Kind.BINARY),
        Column("play_s", Role.OUTCOME, Kind.NUMBER),
        Column("label", Role.LABEL, Kind.BINARY),
    )
)


def events(name: str, rows: int, seed: int) -> pa.Table:
    """Few users and moments, so that ties are common; nulls in the user's columns and outcomes."""
    rng = stream(seed, "spark parity", name)
    user = rng.integers(0, 40, rows)
    return pa.table(
        {
            "user_id": [f"u{u}" for u in user],
            "item_id": pa.array(rng.integers(0, 9, rows)),
            "time_ms": pa.array(rng.integers(0, 60, rows) * 1_000),
            "city": pa.array([("Ulm", "Bern", None)[c] for c in rng.integers(0, 3, rows)]),
            "age": pa.array(rng.integers(18, 80, rows), mask=rng.random(rows) < 0.2),
            "watched": pa.array(rng.random(rows) < 0.4, mask=rng.random(rows) < 0.1),
            "play_s": pa.array(rng.uniform(0, 100, rows), mask=rng.random(rows) < 0.1),
            "label": pa.array((rng.random(rows) < 0.2).astype(np.int8)),
        }
    )


@pytest.fixture(scope="module")
def spark() -> Iterator[Engine]:
    with open_engine_of(EngineKind.SPARK, 1024, 1) as engine:
        yield engine


def assert_same(duck: pa.Table, spark: pa.Table, key: str) -> None:
    """Whole numbers, texts, flags and nulls exactly; floats, whose sums follow each engine's order, to 1e-12."""
    assert duck.column_names == spark.column_names
    left, right = duck.sort_by(key).to_pylist(), spark.sort_by(key).to_pylist()
    assert len(left) == len(right) > 0
    for a, b in zip(left, right, strict=True):
        for name in duck.column_names:
            same = a[name] == b[name] or (
                isinstance(a[name], float)
                and isinstance(b[name], float)
                and (math.isclose(a[name], b[name], rel_tol=1e-12) or (math.isnan(a[name]) and math.isnan(b[name])))
            )
            assert same, (name, a, b)


@pytest.mark.parametrize("seed", range(3))
def test_the_feature_job_is_the_same_on_both(spark: Engine, seed: int) -> None:
    base = PartyTable(DatasetId("ads"), "ads", events("ads", 300, seed), SCHEMA)
    partner = PartyTable(DatasetId("feeds"), "feeds", events("feeds", 400, seed), SCHEMA)
    with open_engine(threads=1) as duck:
        made = [join_tables(engine, base, [partner], key=b"k" * 32) for engine in (duck, spark)]

    assert made[0].schema == made[1].schema
    tables = [one.table.append_column("row", pa.array(range(300))) for one in made]
    assert_same(tables[0], tables[1], "row")
    exact = [n for n in made[0].table.column_names if "impressions" in n or "_label_" in n or "_watched_" in n]
    assert len(exact) >= 8
    for name in exact:
        assert made[0].table[name].equals(made[1].table[name]), name


@pytest.mark.parametrize("seed", range(2))
def test_the_joined_view_and_its_bounded_groups_are_the_same_on_both(spark: Engine, seed: int) -> None:
    base, partner = DatasetId("ads"), DatasetId("feeds")
    view = JoinedView(
        {
            "play_s": ViewColumn(base, "play_s", ValueType.NUMBER),
            "watched": ViewColumn(base, "watched", ValueType.FLAG),
            "feeds_city": ViewColumn(partner, "city", ValueType.TEXT),
            "feeds_age": ViewColumn(partner, "age", ValueType.NUMBER),
            "feeds_rows": ViewColumn(partner, None, ValueType.NUMBER),
            "feeds_matched": ViewColumn(partner, None, ValueType.FLAG),
        },
        "user_id",
        {base: "ads", partner: "feeds"},
    )
    asked = AggregateRequest(
        "q",
        "SELECT COALESCE(LOWER(feeds_city), 'none') AS city, FLOOR(feeds_age / 10) AS decade, COUNT(*) AS n, "
        "COUNT(DISTINCT user_id) AS users, SUM(play_s) AS played, AVG(watched) AS watched FROM joined "
        "WHERE feeds_matched AND (feeds_rows > 1 OR feeds_city LIKE 'U%') GROUP BY 1, 2",
        PrivacyLoss.of(1, "1e-6"),
        {"played": (Fraction(0), Fraction(60)), "watched": (Fraction(0), Fraction(1))},
        max_groups_per_user=2,
        max_rows_per_group=3,
    )
    query = check_sql(asked.sql, view.types, view.user_id, where="q")
    # One row per moment and user: the newest row of a tie may be either on any engine.
    feeds = events("feeds", 400, seed).append_column("nth", pa.array(range(400)))
    feeds = feeds.set_column(2, "time_ms", pa.array(range(400)))
    found = []
    with open_engine(threads=1) as duck:
        for engine in (duck, spark):
            tables = {}
            for name, rows in ((base, events("ads", 300, seed)), (partner, feeds)):
                keyed = rows.append_column("user_key", pa.array([int(u[1:]) for u in rows["user_id"].to_pylist()]))
                tables[name] = engine.register(str(name), keyed)
            rows = view_expression(view, tables, {partner: "time_ms"}, query.columns)
            found.append(engine.run(bounded_groups(rows, query, asked)))
    keys = [
        pa.array([f"{g}|{h}" for g, h in zip(t["g0"].to_pylist(), t["g1"].to_pylist(), strict=True)]) for t in found
    ]
    found = [t.append_column("key", k) for t, k in zip(found, keys, strict=True)]

    assert_same(found[0], found[1], "key")


def test_a_whole_job_by_spark_in_the_enclave_says_what_did_not_hold(make_room: Callable[..., Any]) -> None:
    """The same job on both engines in shut-in processes; nothing is left on a disk, and the receipt is honest."""
    room = make_room(query_columns=frozenset({"segment", "hour"}), budget=PrivacyLoss.of(10**10, "1e-3"))
    query = AggregateRequest(
        "q",
        "SELECT publisher_segment AS segment, COUNT(*) AS n FROM joined WHERE publisher_matched GROUP BY 1",
        PrivacyLoss.of(10**9, "1e-9"),
        max_rows_per_group=50,
    )
    before = set(Path(tempfile.gettempdir()).glob("*spark*"))
    answers = {}
    for kind in EngineKind:
        job = room.job(f"by-{kind.value}", Template.AGGREGATE, queries=(query,), engine=kind)
        result = room.run(job)
        box = result.box(Output.AGGREGATE, "advertiser")
        answers[kind] = json.loads(open_output(box, room.parties["advertiser"]))["queries"][0]["rows"]
        measures = {m["name"]: m["held"] for m in result.receipt.body["hardening"]}
        assert verify_receipt(result.receipt, room.signed.contract).holds
    assert len(answers[EngineKind.DUCKDB]) == 4
    assert answers[EngineKind.SPARK] == answers[EngineKind.DUCKDB]
    assert {n: measures[n] for n in ("private-memory", "network-namespace", "landlock-files")} == dict.fromkeys(
        ("private-memory", "network-namespace", "landlock-files"), True
    )
    assert not measures["seccomp"]
    assert not measures["engine-measured"]
    assert set(Path(tempfile.gettempdir()).glob("*spark*")) == before


def test_spark_needs_every_owner_to_allow_development(make_room: Callable[..., Any]) -> None:
    room = make_room(allow_dev=False)
    with pytest.raises(TemplateRefusedError, match="no measurement covers"):
        room.run(room.job("strict", Template.JOIN_STATISTICS, engine=EngineKind.SPARK))
