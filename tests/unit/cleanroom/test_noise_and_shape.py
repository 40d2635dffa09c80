"""HAVING, ORDER BY and LIMIT on noised rows; Gaussian noise; and noise that repeats where a test fixes it."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import pyarrow as pa
import pytest

from adyton.cleanroom.aggregate import noise_margin, noise_scales, noised_result
from adyton.cleanroom.aggregate_request import AggregateRequest
from adyton.cleanroom.aggregate_sql import CheckedQuery, ValueType, check_sql
from adyton.cleanroom.job import JobSpec
from adyton.cleanroom.noise import NoiseKind, discrete_gaussian, noised
from adyton.kernel.chance import InsecureFixedRandom, OsRandom
from adyton.kernel.errors import BadInputError
from adyton.kernel.ledger import PrivacyLoss

COLUMNS = {"city": ValueType.TEXT, "spent": ValueType.NUMBER}
SQL = "SELECT city, COUNT(*) AS n, COUNT(DISTINCT user_id) AS users FROM joined GROUP BY city"
PLAIN = PrivacyLoss.of(10**9, "1e-9")
GROUPS = pa.table(
    {"g0": ["Ulm", "Bern", None, "Rom"], "users": [40, 30, 20, 3], "rows": [50, 90, 70, 3]},
)


def asked(sql: str = SQL, loss: PrivacyLoss = PLAIN, **more: object) -> tuple[CheckedQuery, AggregateRequest]:
    return check_sql(sql, COLUMNS, "user_id", where="q"), AggregateRequest("q", sql, loss, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tail", "cities"),
    [
        ("", ["Bern", None, "Ulm"]),
        (" ORDER BY n DESC", ["Bern", None, "Ulm"]),
        (" ORDER BY 3", [None, "Bern", "Ulm"]),
        (" ORDER BY COUNT(*) LIMIT 2", ["Ulm", None]),
        (" ORDER BY city DESC", ["Ulm", "Bern", None]),
        (" HAVING n > 60 AND NOT users = 30", [None]),
        (" HAVING COUNT(*) BETWEEN 50 AND 80 ORDER BY users DESC LIMIT 5", ["Ulm", None]),
        (" HAVING city LIKE 'U%' OR city IS NULL", [None, "Ulm"]),
        (" HAVING n > 1000", []),
        (" LIMIT 0", []),
    ],
)
def test_the_shape_of_a_result_is_what_sql_says(tail: str, cities: list[str | None]) -> None:
    query, request = asked(SQL + tail)
    result = noised_result(GROUPS, query, request, 5)

    assert [row[0] for row in result.rows] == cities
    assert result.suppressed_groups == 1


def test_having_sees_noised_figures_only() -> None:
    """A group whose true count passes is dropped when its noised one does not, and the other way round."""
    query, request = asked(SQL + " HAVING n >= 60", PrivacyLoss.of("1/2", "1e-1"), max_rows_per_group=50)
    seen = Counter(row[0] for _ in range(60) for row in noised_result(GROUPS, query, request, 2).rows)
    ever = [row[1] for _ in range(60) for row in noised_result(GROUPS, query, request, 2).rows]

    assert all(isinstance(n, int) and n >= 60 for n in ever)
    assert 0 < seen["Ulm"] < 60
    assert 0 < seen["Bern"] < 60


def test_fixed_noise_repeats_whatever_order_the_engine_gave_groups_in() -> None:
    query, request = asked(loss=PrivacyLoss.of(2, "1e-1"), max_rows_per_group=3)
    shuffled = GROUPS.take(pa.array([2, 0, 3, 1]))
    results = [noised_result(g, query, request, 2, InsecureFixedRandom(7, "n")).rows for g in (GROUPS, shuffled)]
    other = noised_result(GROUPS, query, request, 2, InsecureFixedRandom(8, "n")).rows

    assert results[0] == results[1] != other
    secure = [noised_result(GROUPS, query, request, 2, OsRandom()).rows for _ in range(4)]
    assert len(set(secure)) > 1


def test_gaussian_noise_has_the_deviation_that_the_answer_states() -> None:
    query, request = asked(loss=PrivacyLoss.of(1, "1e-5"), noise=NoiseKind.GAUSSIAN, max_groups_per_user=9)
    sigma = noise_scales(query, request)(1)
    many = pa.table({"g0": [str(i) for i in range(4000)], "users": [10**6] * 4000, "rows": [10**6] * 4000})
    result = noised_result(many, query, request, 2)
    errors = [row[2] - 10**6 for row in result.rows]  # type: ignore[operator]

    assert result.scales["users"] == sigma
    # Four thousand draws: the sample's deviation is within five standard errors.
    found = math.sqrt(sum(e * e for e in errors) / len(errors))
    assert abs(found / sigma - 1) < 5 / math.sqrt(2 * len(errors))
    laplace = noise_scales(*asked(loss=PrivacyLoss.of(1, "1e-5"), max_groups_per_user=900))(1)
    gauss = noise_scales(*asked(loss=PrivacyLoss.of(1, "1e-5"), max_groups_per_user=900, noise=NoiseKind.GAUSSIAN))(1)
    assert gauss < laplace


def test_gaussian_noise_costs_no_more_than_the_loss_and_the_margin_holds() -> None:
    """zCDP of all mechanisms, turned back into (epsilon, delta), and the exact Gaussian tail at the margin."""
    query, request = asked(loss=PrivacyLoss.of(1, "1e-5"), noise=NoiseKind.GAUSSIAN, max_groups_per_user=4)
    scale_of = noise_scales(query, request)
    rho = (2**2 / scale_of(1) ** 2 + 2**2 / scale_of(1) ** 2 + 4**2 / scale_of(1, in_one_figure=True) ** 2) / 2
    epsilon = rho + 2 * math.sqrt(rho * math.log(2 / 1e-5))

    assert 0.99 < epsilon <= 1
    tail = 0.5 * math.erfc(noise_margin(scale_of(1), request) / scale_of(1) / math.sqrt(2))
    assert tail <= 1e-5 / 2 / 4


@pytest.mark.parametrize("kind", list(NoiseKind))
def test_exact_samplers_follow_the_distribution_that_opendp_draws(kind: NoiseKind) -> None:
    """10,000 draws of each; means within five standard errors of zero, mean squares within six of each other."""
    fixed = noised([0] * 10_000, 3.0, kind, InsecureFixedRandom(1, kind.value))
    secure = noised([0] * 10_000, 3.0, kind)
    squares = [sum(n * n for n in drawn) / len(drawn) for drawn in (fixed, secure)]

    for drawn, square in zip((fixed, secure), squares, strict=True):
        assert abs(sum(drawn) / len(drawn)) < 5 * math.sqrt(square / len(drawn))
    assert squares[0] == pytest.approx(squares[1], rel=6 * (2.5 if kind is NoiseKind.LAPLACE else 1.5) / 100)
    assert discrete_gaussian(Fraction(1, 10**6), InsecureFixedRandom(1)) == 0


@pytest.mark.parametrize(
    "field", [{"statistics_loss": "1/2"}, {"statistics_loss": 0.5}, {"synthesize": "yes"}, {"counters": [1]}]
)
def test_a_loss_that_is_not_understood_is_refused_not_taken_for_none(field: dict[str, object]) -> None:
    job = {"job_id": "j", "base": "a", "partners": ["b"], "templates": ["join_statistics"]}
    assert JobSpec.from_json(job).statistics_loss is None

    with pytest.raises(BadInputError):
        JobSpec.from_json({**job, **field})
