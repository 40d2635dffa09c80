"""Noised aggregates of the joined view: user-level (epsilon, delta) differential privacy for every query.

    1 bound     of each user only its `max_groups_per_user` largest groups count, and in each at most
                `max_rows_per_group` rows; what a row adds to a sum is clipped to the bounds and made a whole number
    2 drop      groups with fewer than k distinct users, whatever the noise
    3 noise     discrete Laplace or Gaussian (OpenDP) on every count and sum, each at an equal share of the cost
    4 threshold a group is shown only if its noised user count reaches k + t, with t such that a group which one user
                carries over k is shown with probability at most delta / max_groups_per_user
    5 shape     HAVING, ORDER BY and LIMIT look at what 3 and 4 left, and so cost nothing

One user adds at most one to the user count of each of its groups, so the sensitivities are max_groups_per_user for
users and for the number of groups, max_groups_per_user * max_rows_per_group for rows, and that times 2^20 units for
sums. Steps 2 and 4 together are a pre-thresholded partition selection.

Source: Wilson et al., "Differentially private SQL with bounded user contribution" (2020), sections 3 and 4;
Swanberg et al., "DP-SIPS" (2023), on pre-thresholding; cleanroom §4.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import ibis
import pyarrow as pa
import pyarrow.compute as pc

from adyton.cleanroom.aggregate_request import AggregateRequest
from adyton.cleanroom.aggregate_sql import CheckedQuery, Measure, MeasuredColumn
from adyton.cleanroom.joined_view import USER_KEY
from adyton.cleanroom.noise import NoiseKind, noised
from adyton.cleanroom.result_shape import shaped
from adyton.kernel.canonical import Json
from adyton.kernel.chance import RandomSource

UNITS = 1 << 20
"""A row adds a whole number of units to a sum, at most this many; one unit is the larger bound divided by it."""


@dataclass(frozen=True)
class AggregateResult:
    """One query's answer. `rows` follow `columns`.   smallest_group: true users behind the smallest group shown."""

    request: AggregateRequest
    columns: tuple[str, ...]
    rows: tuple[tuple[Json | float, ...], ...]
    suppressed_groups: int
    threshold: int
    k: int
    scales: Mapping[str, float]
    smallest_group: int | None

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.request.name,
            "sql": self.request.sql,
            "columns": list(self.columns),
            "rows": [list(row) for row in self.rows],
            "suppressed_groups": self.suppressed_groups,
            "k": self.k,
            "threshold_noised_users": self.threshold,
            "guarantee": {**self.request.loss.as_json(), "unit": "user"},
            "max_groups_per_user": self.request.max_groups_per_user,
            "max_rows_per_group": self.request.max_rows_per_group,
            "noise_scale": dict(self.scales),
        }


def aggregates_bytes(results: Sequence[AggregateResult]) -> bytes:
    """All answers of a job as JSON."""
    return json.dumps({"queries": [result.as_json() for result in results]}, indent=1).encode()


def bounded_groups(view: Any, query: CheckedQuery, request: AggregateRequest) -> Any:
    """An Ibis table with one row per group: g0, g1, ... , users, rows, and sum_NAME and count_NAME of each SUM and AVG.

    All but the group columns are whole numbers in which every user's part is bounded.
    """
    rows = view if query.condition is None else view.filter(query.condition.build(view))
    groups = [f"g{i}" for i in range(len(query.groups))]
    summed = [m for m in query.measures if m.of is not None]
    picked = rows.select(
        user_key=rows[USER_KEY],
        **{name: column.value.build(rows) for name, column in zip(groups, query.groups, strict=True)},
        **{f"v_{m.name}": _units(m, rows, request) for m in summed},
    )
    most = ibis.literal(request.max_rows_per_group, type="int64")
    per_user = picked.group_by([picked[USER_KEY], *(picked[g] for g in groups)]).agg(
        n=picked.count(),
        **{f"s_{m.name}": picked[f"v_{m.name}"].sum() for m in summed},
        **{f"c_{m.name}": picked[f"v_{m.name}"].count() for m in summed},
    )
    if groups:
        order = [ibis.desc(per_user["n"]), *(per_user[g].asc(nulls_first=True) for g in groups)]
        place = ibis.row_number().over(ibis.window(group_by=[per_user[USER_KEY]], order_by=order))
        ranked = per_user.mutate(place=place)
        per_user = ranked.filter(ranked["place"] < request.max_groups_per_user)
    parts: dict[str, Any] = {"users": per_user.count(), "rows": ibis.least(per_user["n"], most).sum()}
    for m in summed:
        count, total = per_user[f"c_{m.name}"], per_user[f"s_{m.name}"]
        kept = ibis.least(count, most)
        # More rows than allowed count with their mean; rounding moves that by less than one unit.
        scaled = ibis.ifelse(
            count <= most, total, (total.cast("float64") / count.nullif(0) * kept).round().cast("int64")
        )
        parts[f"sum_{m.name}"] = ibis.coalesce(scaled.sum().cast("int64"), ibis.literal(0, type="int64"))
        parts[f"count_{m.name}"] = kept.sum()
    return per_user.group_by([per_user[g] for g in groups]).agg(**parts) if groups else per_user.agg(**parts)


def noised_result(
    groups: pa.Table, query: CheckedQuery, request: AggregateRequest, k: int, source: RandomSource | None = None
) -> AggregateResult:
    """The answer that may leave, from `bounded_groups`: noised, and without groups that are too small.

    k: smallest number of distinct users behind any group.   source: of noise; only a fixed one is read.
    """
    kind, most_rows = request.noise, request.max_rows_per_group
    scale_of = noise_scales(query, request)
    user_scale = scale_of(1)
    threshold = k + noise_margin(user_scale, request)
    # In one order, so that fixed noise meets the same groups on each run.
    groups = groups.sort_by([(f"g{i}", "ascending") for i in range(len(query.groups))]) if query.groups else groups
    total_groups = groups.num_rows
    large = groups.filter(pc.greater_equal(groups["users"], k))
    noisy_users = noised(large["users"].to_pylist(), user_scale, kind, source)
    shown = [i for i, value in enumerate(noisy_users) if value >= threshold]
    kept = large.take(pa.array(shown, pa.int64()))
    scales: dict[str, float] = {}
    columns: dict[str, list[Json | float]] = {}
    for m in query.measures:
        if m.measure is Measure.USERS:
            scales[m.name] = user_scale
            columns[m.name] = [noisy_users[i] for i in shown]
        elif m.measure is Measure.ROWS:
            scales[m.name] = scale_of(most_rows)
            columns[m.name] = [max(0, n) for n in noised(kept["rows"].to_pylist(), scales[m.name], kind, source)]
        else:
            unit = _unit(m, request)
            # Rounding of a user's scaled sum may add one unit in each group.
            scale = scale_of(most_rows * UNITS + 1)
            scales[m.name] = scale * float(unit)
            sums = [float(n * unit) for n in noised(kept[f"sum_{m.name}"].to_pylist(), scale, kind, source)]
            if m.measure is Measure.MEAN:
                counts = noised(kept[f"count_{m.name}"].to_pylist(), scale_of(most_rows), kind, source)
                low, high = (float(bound) for bound in request.bounds[m.name])
                columns[m.name] = [
                    min(max(s / n, low), high) if n > 0 else None for s, n in zip(sums, counts, strict=True)
                ]
            else:
                columns[m.name] = list(sums)
    for index, group in enumerate(query.groups):
        columns[group.name] = kept[f"g{index}"].to_pylist()
    [noised_groups] = noised([total_groups], scale_of(1, in_one_figure=True), kind, source)
    order = sorted(range(len(shown)), key=lambda i: tuple(str(columns[g.name][i]) for g in query.groups))
    return AggregateResult(
        request=request,
        columns=query.order,
        rows=shaped([{n: columns[n][i] for n in query.order} for i in order], query),
        suppressed_groups=max(0, noised_groups - len(shown)),
        threshold=threshold,
        k=k,
        scales=scales,
        smallest_group=min(kept["users"].to_pylist(), default=None),
    )


def _shares(query: CheckedQuery) -> int:
    """How many mechanisms share epsilon: users per group, number of groups, one per count and sum, two per mean."""
    cost = {Measure.USERS: 0, Measure.ROWS: 1, Measure.SUM: 1, Measure.MEAN: 2}
    return 2 + sum(cost[m.measure] for m in query.measures)


def _unit(column: MeasuredColumn, request: AggregateRequest) -> Fraction:
    low, high = request.bounds[column.name]
    return max(abs(low), abs(high)) / UNITS


def _units(column: MeasuredColumn, rows: Any, request: AggregateRequest) -> Any:
    """A row's value in whole units, clipped; null stays null. Not-a-number counts as the upper bound."""
    assert column.of is not None, "only sums and means have a value"
    low, high = (float(bound) for bound in request.bounds[column.name])
    value = column.of.build(rows).cast("float64")
    clipped = ibis.ifelse(value.isnan() | (value > high), high, ibis.ifelse(value < low, low, value))
    return (clipped / float(_unit(column, request))).round().cast("int64").clip(lower=-UNITS, upper=UNITS)


class NoiseScale(Protocol):
    """The scale of the noise on a figure to which a user adds at most `part` in each of its groups.

    in_one_figure: whether it adds all its parts to a single figure.
    """

    def __call__(self, part: int, *, in_one_figure: bool = False) -> float: ...


def noise_scales(query: CheckedQuery, request: AggregateRequest) -> NoiseScale:
    """How much noise each figure of a query gets, so that all of them together cost the request's loss.

    Laplace: L1 sensitivity / (epsilon / mechanisms). Gaussian: half of delta is for the threshold; with its rest d,
    rho = (sqrt(ln(1/d) + epsilon) - sqrt(ln(1/d)))^2 is shared equally, and sigma = L2 sensitivity / sqrt(2 rho).
    Source: Bun and Steinke (2016), Propositions 1.3 and 1.6 and Lemma 1.7 (zero-concentrated differential privacy).
    """
    groups, mechanisms, loss = request.max_groups_per_user, _shares(query), request.loss

    def laplace(part: int, *, in_one_figure: bool = False) -> float:
        del in_one_figure  # L1 sensitivity is the same either way
        return math.nextafter(float(groups * part * mechanisms / loss.epsilon), math.inf)

    def gaussian(part: int, *, in_one_figure: bool = False) -> float:
        log = math.log(2 / float(loss.delta))
        rho = (math.sqrt(log + float(loss.epsilon)) - math.sqrt(log)) ** 2 / mechanisms
        sensitivity = part * (groups if in_one_figure else math.sqrt(groups))
        # A little more than the formula, for what floating point loses.
        return sensitivity / math.sqrt(2 * rho) * (1 + 1e-9)

    return gaussian if request.noise is NoiseKind.GAUSSIAN else laplace


def noise_margin(user_scale: float, request: AggregateRequest) -> int:
    """t: noise on a group's users passes it with probability at most delta / max_groups_per_user (Gaussian: half)."""
    groups, delta = request.max_groups_per_user, float(request.loss.delta)
    if request.noise is NoiseKind.GAUSSIAN:
        return math.ceil(user_scale * math.sqrt(2 * math.log(2 * groups / delta)))
    return math.ceil(user_scale * math.log(groups / delta))
