"""Two tables with shared users, synthesized so that the relation between them survives.

Each user gets a *profile* of each table, how many of the (bounded) rows and how many of the clicks there are theirs,
and carries both profiles into both tables as columns. A profile is a function of one user's own bounded rows and has
a public list of values, so it costs nothing beyond the two fits. Each table is fitted with half of the loss (basic
composition). Afterwards synthetic users of the two tables that have the same pair of profiles become one user, and the
profile columns are dropped.

What survives: whatever of one table shows in how often its user appears and clicks in the other. What does not: finer
relations, such as one item of the first table with one item of the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from adyton.kernel.chance import RandomSource
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.schema import Column, Kind, Role, TableSchema
from adyton.learning.synth.bounding import bounded_rows, rank_within
from adyton.learning.synth.domains import PublicDomain, Values
from adyton.learning.synth.errors import SynthesisInputError
from adyton.learning.synth.noise import Ints, noise_from
from adyton.learning.synth.synthesizer import SynthesizerModel, check_binary, fit

_PROFILES = ("profile of the first table", "profile of the second table")
MOST_ROWS_PER_USER = 8


@dataclass(frozen=True)
class LinkedModel:
    """Two fitted synthesizers whose users can be matched. `spent` covers both tables of one user together."""

    first: SynthesizerModel
    second: SynthesizerModel
    spent: PrivacyLoss

    def sample(self, n_first: int, n_second: int, rng: np.random.Generator) -> tuple[pa.Table, pa.Table]:
        """Synthetic tables of `n_first` and `n_second` rows; equal user ids in both mean the same synthetic user."""
        made = [
            _with_users(model, model.sample(n_rows, rng), which, rng)
            for which, (model, n_rows) in enumerate(((self.first, n_first), (self.second, n_second)))
        ]
        return made[0], made[1]


def fit_linked(
    first: pa.Table,
    first_schema: TableSchema,
    second: pa.Table,
    second_schema: TableSchema,
    *,
    loss: PrivacyLoss,
    max_rows_per_user: int = 4,
    domains: Mapping[str, PublicDomain] | None = None,
    source: RandomSource,
) -> LinkedModel:
    """Fit both tables so that they are `loss`-DP together for each user.

    Both schemas need a label and a user id column; ids are compared as text.   max_rows_per_user: in each table, 1..8.
    domains: public domains by column name, for both tables.   Raises SynthesisInputError, SchemaError, TableError.
    """
    if not 1 <= max_rows_per_user <= MOST_ROWS_PER_USER:
        raise SynthesisInputError(f"linked tables take 1 to {MOST_ROWS_PER_USER} rows per user")
    if unknown := set(domains or {}) - {*first_schema.names, *second_schema.names}:
        raise SynthesisInputError(f"public domains for columns that do not exist: {', '.join(sorted(unknown))}")
    noise = noise_from(source)
    tables, users, clicks = [], [], []
    for table, schema in ((first, first_schema), (second, second_schema)):
        schema.check(table)
        check_binary(table, schema)
        if table[schema.user_id.name].null_count:
            raise SynthesisInputError("the user id must not be null", where=schema.user_id.name)
        ids = table[schema.user_id.name].cast(pa.string()).to_numpy(zero_copy_only=False)
        number = np.unique(ids, return_inverse=True)[1].astype(np.int64)
        kept = bounded_rows(number, max_rows_per_user, noise.keys(number.size))
        tables.append(table.take(pa.array(kept)))
        users.append(ids[kept])
        clicks.append(table[schema.label.name].cast(pa.int64()).to_numpy()[kept])
    everybody, number = np.unique(np.concatenate(users), return_inverse=True)
    of_rows = np.split(number, [users[0].size])
    profiles = [_profiles(rows, own, everybody.size) for rows, own in zip(of_rows, clicks, strict=True)]
    listed = {name: Values(tuple(_profile_values(max_rows_per_user))) for name in _PROFILES}
    half = PrivacyLoss(loss.epsilon / 2, loss.delta / 2)
    models = []
    for table, schema, rows in zip(tables, (first_schema, second_schema), of_rows, strict=True):
        for name, of_user in zip(_PROFILES, profiles, strict=True):
            table = table.append_column(name, pa.array(of_user[rows]))
        known = {name: domain for name, domain in (domains or {}).items() if name in schema}
        models.append(
            fit(
                table,
                schema.extend(*(Column(name, Role.USER, Kind.CATEGORY) for name in _PROFILES)),
                loss=half,
                max_rows_per_user=max_rows_per_user,
                domains={**known, **listed},
                source=source,
            )
        )
    return LinkedModel(models[0], models[1], loss)


def _profiles(rows: Ints, clicks: Ints, n_users: int) -> Ints:
    """int64[n_users]: 10 x rows + clicks of each user in one bounded table; 0 for absent."""
    n_rows = np.bincount(rows, minlength=n_users)
    n_clicks = np.bincount(rows, weights=clicks, minlength=n_users).astype(np.int64)
    return np.asarray(10 * n_rows + n_clicks, np.int64)


def _profile_values(max_rows: int) -> list[int]:
    return [10 * n_rows + n_clicks for n_rows in range(max_rows + 1) for n_clicks in range(n_rows + 1)]


def _with_users(model: SynthesizerModel, made: pa.Table, which: int, rng: np.random.Generator) -> pa.Table:
    """`made` with users that depend on the pair of profiles: the k-th user of a pair is the same in both tables."""
    profiles = [made[name].to_numpy() for name in _PROFILES]
    pair = profiles[0] * 100 + profiles[1]
    rows_of_user = np.maximum(profiles[which] // 10, 1)
    keys = rng.integers(0, 2**63, pair.size).astype(np.uint64)
    # Rows of one pair are dealt out in runs as long as the profile says.
    number = rank_within(pair, keys) // rows_of_user
    ids = pa.array([f"s{p}-{k}" for p, k in zip(pair.tolist(), number.tolist(), strict=True)])
    name = model.schema.user_id.name
    made = made.set_column(made.column_names.index(name), name, ids)
    return made.drop_columns(list(_PROFILES))
