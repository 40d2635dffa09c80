"""What a party asks of the joined rows: one SQL text, its share of the privacy budget, and bounds of what users add."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction

from adyton.cleanroom.noise import NoiseKind
from adyton.kernel.canonical import Json
from adyton.kernel.errors import BadInputError
from adyton.kernel.ledger import PrivacyLoss, exact_number

MAX_SQL_CHARACTERS = 4_096
MAX_GROUPS_PER_USER = 1_000
MAX_ROWS_PER_GROUP = 10_000
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")

_SHAPE = (
    '{"name": "by_segment", "sql": "SELECT ...", "loss": {"epsilon": "1/2", "delta": "1e-6"}, '
    '"bounds": {"COLUMN": [0, 100]}, "max_groups_per_user": 1, "max_rows_per_group": 1}'
)


@dataclass(frozen=True)
class AggregateRequest:
    """One query on the view `joined`.

    loss: user-level epsilon and delta of everything the query shows.   bounds: by output column, smallest and largest
    value that a row adds to its SUM or AVG; values outside are clipped.   max_groups_per_user, max_rows_per_group: how
    much of one user counts: its largest groups, and in each at most so many rows.   noise: Gaussian noise is smaller
    than Laplace noise where a user is in many groups or a query shows many figures, and costs a part of delta.
    """

    name: str
    sql: str
    loss: PrivacyLoss
    bounds: Mapping[str, tuple[Fraction, Fraction]] = field(default_factory=dict)
    max_groups_per_user: int = 1
    max_rows_per_group: int = 1
    noise: NoiseKind = NoiseKind.LAPLACE

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise BadInputError("a query's name has 1 to 63 of a-z, 0-9 and underscore", where="queries")
        if self.loss.epsilon <= 0 or not 0 < self.loss.delta < 1:
            raise BadInputError("a query needs epsilon > 0 and 0 < delta < 1", where=self.name)
        if not 1 <= self.max_groups_per_user <= MAX_GROUPS_PER_USER:
            raise BadInputError(f"max_groups_per_user lies in 1 to {MAX_GROUPS_PER_USER}", where=self.name)
        if not 1 <= self.max_rows_per_group <= MAX_ROWS_PER_GROUP:
            raise BadInputError(f"max_rows_per_group lies in 1 to {MAX_ROWS_PER_GROUP}", where=self.name)
        if not 0 < len(self.sql) <= MAX_SQL_CHARACTERS:
            raise BadInputError(f"a query has 1 to {MAX_SQL_CHARACTERS} characters", where=self.name)
        for column, (low, high) in self.bounds.items():
            if not low < high or max(abs(low), abs(high)) > 2**52:
                raise BadInputError("bounds are two numbers, low < high, at most 2^52", where=f"{self.name}.{column}")

    def as_json(self) -> dict[str, Json]:
        return {
            "name": self.name,
            "sql": self.sql,
            "loss": self.loss.as_json(),
            "bounds": {column: [str(low), str(high)] for column, (low, high) in self.bounds.items()},
            "max_groups_per_user": self.max_groups_per_user,
            "max_rows_per_group": self.max_rows_per_group,
            "noise": self.noise.value,
        }

    @classmethod
    def from_json(cls, value: object) -> AggregateRequest:
        """Parse `as_json()`. Raises BadInputError."""
        if not isinstance(value, Mapping):
            raise BadInputError("a query must be a JSON object", where="queries")
        known = {one.name for one in fields(cls)}
        if (unknown := sorted(set(map(str, value)) - known)) or not {"name", "sql", "loss"} <= set(value):
            what = f"unknown fields: {', '.join(unknown)}" if unknown else "a query needs name, sql and loss"
            raise BadInputError(what, where="queries", hint=_SHAPE)
        try:
            return cls(
                name=str(value["name"]),
                sql=str(value["sql"]),
                loss=PrivacyLoss.of(str(value["loss"]["epsilon"]), str(value["loss"]["delta"])),
                bounds={
                    str(column): (exact_number(str(low), "a bound"), exact_number(str(high), "a bound"))
                    for column, (low, high) in value.get("bounds", {}).items()
                },
                max_groups_per_user=int(value.get("max_groups_per_user", 1)),
                max_rows_per_group=int(value.get("max_rows_per_group", 1)),
                noise=NoiseKind(value.get("noise", NoiseKind.LAPLACE.value)),
            )
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise BadInputError(
                f"a query is malformed ({type(error).__name__})", where=f"queries, {value['name']}", hint=_SHAPE
            ) from error
