"""Queries on the joined view: what is refused before any key is asked for, and what noise and thresholds do."""

from __future__ import annotations

import hmac
import math
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest

from adyton.cleanroom.aggregate import AggregateResult, bounded_groups, noised_result
from adyton.cleanroom.aggregate_request import AggregateRequest
from adyton.cleanroom.aggregate_sql import ValueType, check_sql
from adyton.cleanroom.engine import open_engine
from adyton.cleanroom.errors import TemplateRefusedError
from adyton.cleanroom.join_keys import contract_join_key, join_keys
from adyton.kernel.chance import InsecureFixedRandom, OsRandom, stream
from adyton.kernel.errors import BadInputError
from adyton.kernel.ids import ContractHash
from adyton.kernel.ledger import PrivacyLoss

COLUMNS: Mapping[str, ValueType] = {
    "segment": ValueType.NUMBER,
    "city": ValueType.TEXT,
    "spent": ValueType.NUMBER,
    "clicked": ValueType.FLAG,
}
PLAIN = PrivacyLoss.of(10**9, "1e-9")
"""So much budget that noise is zero: what is left is the bounded computation."""


def rows(users: int = 600, seed: int = 1) -> pa.Table:
    rng = stream(seed, "aggregate rows")
    user = np.repeat(np.arange(users), 3)
    return pa.table(
        {
            "user_key": pa.array(user, pa.int64()),
            "segment": pa.array(user % 4, pa.int64()),
            "city": pa.array([("Ulm", "Bern", None)[u % 3] for u in user]),
            "spent": pa.array(rng.uniform(-5, 50, len(user)), mask=rng.random(len(user)) < 0.1),
            "clicked": pa.array(rng.random(len(user)) < 0.3),
        }
    )


def request(sql: str, loss: PrivacyLoss = PLAIN, **changes: object) -> AggregateRequest:
    return AggregateRequest("query", sql, loss, **changes)  # type: ignore[arg-type]


def answer(table: pa.Table, asked: AggregateRequest, k: int = 2) -> AggregateResult:
    query = check_sql(asked.sql, COLUMNS, "user_id", where=asked.name)
    with open_engine(threads=1) as engine:
        view = engine.register("rows", table)
        return noised_result(engine.run(bounded_groups(view, query, asked)), query, asked, k)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT user_id AS segment, COUNT(*) FROM joined GROUP BY user_id",
        "SELECT user_key, COUNT(*) FROM joined GROUP BY user_key",
        "SELECT LOWER(user_id) AS city, COUNT(*) FROM joined GROUP BY 1",
        "SELECT COUNT(*) FROM joined WHERE user_id = 'person-000201'",
        "SELECT segment, * FROM joined",
        "SELECT COUNT(DISTINCT city) FROM joined",
        "SELECT MAX(spent) FROM joined",
        "SELECT STRING_AGG(city) FROM joined",
        "SELECT COUNT(*) FILTER (WHERE clicked) FROM joined",
        "SELECT COUNT(*) OVER () FROM joined",
        "SELECT segment FROM joined GROUP BY segment",
        "SELECT segment, COUNT(*) FROM joined",
        "SELECT COUNT(*) FROM joined GROUP BY segment",
        "SELECT segment, COUNT(*) FROM joined GROUP BY segment HAVING SUM(spent) > 1",
        "SELECT segment, COUNT(*) FROM joined GROUP BY segment HAVING spent > 1",
        "SELECT segment, COUNT(*) AS n FROM joined GROUP BY segment HAVING n",
        "SELECT segment, COUNT(*) FROM joined GROUP BY segment HAVING MAX(user_id) = 'person-000201'",
        "SELECT segment, COUNT(*) FROM joined GROUP BY segment ORDER BY spent",
        "SELECT segment, COUNT(*) FROM joined GROUP BY segment ORDER BY random()",
        "SELECT segment, COUNT(*) FROM joined GROUP BY segment LIMIT 1 OFFSET 1",
        "SELECT segment, COUNT(*) FROM joined GROUP BY segment LIMIT (SELECT 1)",
        "SELECT segment, COUNT(*) FROM joined GROUP BY CUBE (segment)",
        "SELECT COUNT(*) FROM joined, joined AS twice",
        "SELECT COUNT(*) FROM joined TABLESAMPLE 1 ROWS",
        "SELECT COUNT(*) FROM joined AS j",
        "SELECT COUNT(*) FROM main.joined",
        "SELECT COUNT(*) FROM table_0",
        "SELECT COUNT(*) FROM read_csv('/etc/passwd')",
        "SELECT COUNT(*) FROM '/etc/passwd'",
        "SELECT COUNT(*) FROM (SELECT * FROM joined)",
        "WITH x AS (SELECT 1) SELECT COUNT(*) FROM joined",
        "SELECT COUNT(*) FROM joined UNION SELECT COUNT(*) FROM joined",
        "SELECT COUNT(*) FROM joined WHERE segment IN (SELECT segment FROM joined)",
        "SELECT COUNT(*) FROM joined WHERE EXISTS (SELECT 1)",
        "SELECT getenv('HOME') AS city, COUNT(*) FROM joined GROUP BY 1",
        "SELECT read_text('/etc/passwd') AS city, COUNT(*) FROM joined GROUP BY 1",
        "SELECT CAST(city AS INTEGER) AS n, COUNT(*) FROM joined GROUP BY 1",
        "SELECT error(city) AS n, COUNT(*) FROM joined GROUP BY 1",
        "SELECT COUNT(*) FROM joined WHERE city > 5",
        "SELECT COUNT(*) FROM joined WHERE random() < 0.5",
        "SELECT COUNT(*) FROM joined WHERE segment",
        "SELECT SUM(city) AS s FROM joined",
        "SELECT SUM(DISTINCT spent) AS s FROM joined",
        "SELECT DISTINCT COUNT(*) FROM joined",
        'SELECT COUNT(*) AS "x; DROP TABLE" FROM joined',
        "COPY joined TO '/tmp/out.csv'",
        "ATTACH '/tmp/x.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "PRAGMA database_list",
        "CREATE TABLE t AS SELECT * FROM joined",
        "SELECT COUNT(*) FROM joined; SELECT COUNT(*) FROM joined",
        "SELECT COUNT(*) FROM joined WHERE " + "(" * 900 + "clicked" + ")" * 900,
        "not sql at all",
    ],
)
def test_a_query_that_does_more_than_count_listed_columns_is_refused(sql: str) -> None:
    with pytest.raises(TemplateRefusedError) as refusal:
        check_sql(sql, COLUMNS, "user_id", where="query")
    assert "person-000201" not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_with_noise_of_zero_the_answer_is_the_engines_own() -> None:
    table = rows()
    asked = request(
        "SELECT segment, COUNT(*) AS n, COUNT(DISTINCT user_id) AS users, SUM(spent) AS total, AVG(spent) AS mean "
        "FROM joined WHERE city IS NOT NULL AND (clicked OR segment IN (1, 2)) GROUP BY segment",
        bounds={"total": (Fraction(-5), Fraction(50)), "mean": (Fraction(-5), Fraction(50))},
        max_groups_per_user=4,
        max_rows_per_group=3,
    )
    result = answer(table, asked)
    with open_engine(threads=1) as engine:
        engine.register("rows", table)
        plain = engine.sql_unchecked(
            "SELECT segment, COUNT(*), COUNT(DISTINCT user_key), SUM(spent), AVG(spent) FROM rows "
            "WHERE city IS NOT NULL AND (clicked OR segment IN (1, 2)) GROUP BY segment ORDER BY segment"
        )

    assert result.columns == ("segment", "n", "users", "total", "mean")
    assert len(result.rows) == plain.num_rows == 4
    for found, wanted in zip(result.rows, plain.to_pylist(), strict=True):
        for a, b in zip(found, wanted.values(), strict=True):
            assert a == pytest.approx(b, rel=1e-4)


def test_expressions_mean_what_sql_says() -> None:
    table = rows()
    asked = request(
        "SELECT CASE WHEN spent / 0 IS NULL THEN FLOOR(ABS(-segment) / 2) ELSE 9 END AS half, "
        "COALESCE(UPPER(city), 'NONE') AS place, COUNT(*) AS n FROM joined WHERE city LIKE 'B%' OR NOT city = 'Bern' "
        "GROUP BY half, 2",
        max_groups_per_user=4,
        max_rows_per_group=9,
    )
    found = {(row[0], row[1]): row[2] for row in answer(table, asked).rows}

    wanted: dict[tuple[int, str], int] = {}
    for segment, city in zip(table["segment"].to_pylist(), table["city"].to_pylist(), strict=True):
        if city is not None:
            wanted[(segment // 2, city.upper())] = wanted.get((segment // 2, city.upper()), 0) + 1
    assert found == wanted


def test_one_user_moves_no_figure_by_more_than_its_bound() -> None:
    """The one user has 5,000 rows of enormous value in every segment."""
    table = rows()
    flood = pa.table(
        {
            "user_key": pa.array([9_999] * 5_000, pa.int64()),
            "segment": pa.array(np.arange(5_000) % 4, pa.int64()),
            "city": ["Ulm"] * 5_000,
            "spent": pa.array([1e300, math.inf, math.nan, 1e9, 2.0] * 1_000),
            "clicked": [True] * 5_000,
        }
    )
    asked = request(
        "SELECT segment, COUNT(*) AS n, COUNT(DISTINCT user_id) AS users, SUM(spent) AS total FROM joined GROUP BY 1",
        bounds={"total": (Fraction(0), Fraction(50))},
        max_groups_per_user=2,
        max_rows_per_group=3,
    )
    before = {row[0]: row[1:] for row in answer(table, asked).rows}
    after = {row[0]: row[1:] for row in answer(pa.concat_tables([table, flood.cast(table.schema)]), asked).rows}
    moved = {s: tuple(a - b for a, b in zip(after[s], before[s], strict=True)) for s in before}  # type: ignore[operator]

    assert sum(n for n, _, _ in moved.values()) == 2 * 3
    assert sum(users for _, users, _ in moved.values()) == 2
    assert 0 < sum(total for _, _, total in moved.values()) <= 2 * 3 * 50 + 1e-3


def test_groups_of_fewer_than_k_users_never_appear_and_are_counted_with_noise() -> None:
    table = rows(users=40)
    lonely = table.slice(0, 3).set_column(1, "segment", pa.array([77, 77, 77], pa.int64()))
    asked = request("SELECT segment, COUNT(*) AS n FROM joined GROUP BY segment", max_groups_per_user=2)
    result = answer(pa.concat_tables([table, lonely]), asked, k=5)

    assert [row[0] for row in result.rows] == [0, 1, 2, 3]
    assert result.suppressed_groups == 1
    assert result.smallest_group is not None
    assert result.smallest_group >= 5
    tight = request(asked.sql, PrivacyLoss.of("0.1", "1e-6"))
    assert answer(table, tight, k=5).rows == ()
    assert answer(table, tight, k=5).threshold > 5 + math.log(1e6) / 0.1


def test_a_group_just_under_k_is_not_shown_even_when_the_noise_would_lift_it() -> None:
    """With a delta this large the noised threshold alone lets such a group through most of the time."""
    groups = pa.table({"g0": [1, 2], "users": [9, 200], "rows": [9, 200]})
    asked = request("SELECT segment, COUNT(*) AS n FROM joined GROUP BY segment", PrivacyLoss.of("0.1", "0.99"))
    query = check_sql(asked.sql, COLUMNS, "user_id", where="query")
    shown = [row[0] for _ in range(60) for row in noised_result(groups, query, asked, 10).rows]

    assert 2 in shown
    assert 1 not in shown
    assert 1 in [row[0] for _ in range(60) for row in noised_result(groups, query, asked, 9).rows]


def test_a_person_cannot_be_found_by_asking_with_and_without_them() -> None:
    """Differencing: the same query with and without one user, over and over; the guess is no better than epsilon says.

    With epsilon 1 an attacker who sees one answer is right at most 73.1 % of the time, whatever it does.
    """
    table = rows(users=400)
    without = table.filter(pa.compute.not_equal(table["user_key"], 0))
    loss = PrivacyLoss.of(1, "1e-6")
    asked = request("SELECT COUNT(DISTINCT user_id) AS users FROM joined", loss)
    query = check_sql(asked.sql, COLUMNS, "user_id", where="query")
    with open_engine(threads=1) as engine:
        groups = [
            engine.run(bounded_groups(engine.register(name, t), query, asked))
            for name, t in (("with_them", table), ("without_them", without))
        ]
    rng = stream(5, "differencing")
    trials, right = 1_500, 0
    for is_there in rng.random(trials) < 0.5:
        seen = noised_result(groups[0 if is_there else 1], query, asked, 2).rows[0][0]
        right += (seen >= 400) == is_there  # type: ignore[operator]

    bound = math.e / (1 + math.e)
    assert 0.5 < right / trials < bound + 5 * math.sqrt(0.25 / trials)


def test_noise_has_the_scale_that_the_answer_states() -> None:
    asked = request(
        "SELECT COUNT(*) AS n, SUM(spent) AS total FROM joined",
        PrivacyLoss.of(2, "1e-6"),
        bounds={"total": (Fraction(0), Fraction(10))},
        max_rows_per_group=3,
    )
    query = check_sql(asked.sql, COLUMNS, "user_id", where="query")
    with open_engine(threads=1) as engine:
        groups = engine.run(bounded_groups(engine.register("rows", rows()), query, asked))
    results = [noised_result(groups, query, asked, 2) for _ in range(1_000)]

    # Four mechanisms share epsilon 2: users, groups, n and total.
    assert results[0].scales["n"] == pytest.approx(3 / 0.5)
    assert results[0].scales["total"] == pytest.approx(3 * 10 / 0.5, rel=1e-4)
    for column, scale in ((0, 6.0), (1, 60.0)):
        spread = np.std([float(result.rows[0][column]) for result in results])  # type: ignore[arg-type]
        assert spread == pytest.approx(scale * math.sqrt(2), rel=0.25)


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": PrivacyLoss.of(1)},
        {"loss": PrivacyLoss.of(0, "1e-6")},
        {"max_groups_per_user": 0},
        {"max_rows_per_group": 10**9},
        {"name": "../x"},
        {"bounds": {"n": (Fraction(1), Fraction(1))}},
        {"sql": "SELECT " + "1," * 4_000},
    ],
)
def test_a_request_without_a_usable_bound_is_refused(changes: Mapping[str, object]) -> None:
    fields: dict[str, object] = {"name": "q", "sql": "SELECT COUNT(*) FROM joined", "loss": PLAIN, **changes}
    with pytest.raises(BadInputError):
        AggregateRequest(**fields)  # type: ignore[arg-type]


def test_a_request_survives_json() -> None:
    asked = request("SELECT AVG(spent) AS m FROM joined", bounds={"m": (Fraction("-0.5"), Fraction(9))})
    assert AggregateRequest.from_json(asked.as_json()) == asked
    with pytest.raises(BadInputError):
        AggregateRequest.from_json({**asked.as_json(), "bounds": {"m": [1]}})


def test_join_keys_of_two_runs_cannot_be_compared() -> None:
    contract, other = ContractHash("a" * 64), ContractHash("b" * 64)
    keys = {contract_join_key(one, OsRandom()) for one in (contract, contract, other)}
    fixed = {contract_join_key(one, InsecureFixedRandom(1)) for one in (contract, other)}

    assert (len(keys), len(fixed)) == (3, 2)


def test_join_keys_are_hmacs_however_the_ids_are_held() -> None:
    key, ids = b"k" * 32, ["person-1", " person-2 ", "", "person-1", "ü" * 100]
    wanted = [int.from_bytes(hmac.digest(key, i.strip().encode(), "sha256")[:8], "little", signed=True) for i in ids]
    text = pa.chunked_array([ids[:2], ids[2:]])

    assert join_keys(text, key).to_pylist() == wanted
    assert join_keys(text.dictionary_encode(), key).to_pylist() == wanted
    separate = pa.chunked_array([pa.array(ids[:2]).dictionary_encode(), pa.array(ids[2:]).dictionary_encode()])
    assert join_keys(separate, key).to_pylist() == wanted
    assert join_keys(pa.chunked_array([[7, None]]), key).to_pylist() == [
        int.from_bytes(hmac.digest(key, b"7", "sha256")[:8], "little", signed=True),
        None,
    ]
