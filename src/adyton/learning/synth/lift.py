"""How much of the gain from a partner's columns is left when the partner's columns are synthetic.

Three sets of training rows, one kind of model, the same later real rows as test:

    own        the party's own columns
    real       own + the partner's columns as they are
    synthetic  own + columns drawn from the synthetic table

lift = AUC - AUC(own); share kept = lift(synthetic) / lift(real). The party keeps its own real rows. A row gets the
partner's columns of a random synthetic row with the same label and a like chance of a click by the party's own columns
(hot-deck matching on a predicted mean, Little 1988, "Missing-Data Adjustments in Large Surveys"). This looks at the
synthetic table and at rows that the party has anyway, and at nothing else of the partner's. Several networks are
averaged, each with its own draw (multiple imputation, Rubin 1987).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.metrics import roc_auc_score

from adyton.kernel.chance import stream
from adyton.learning.ctr.data import RowSplit
from adyton.learning.ctr.recipe import cross_domain_config
from adyton.learning.ctr.training import train as train_model
from adyton.learning.schema import Role, TableSchema
from adyton.learning.synth.codes import combined
from adyton.learning.synth.compared import Ints
from adyton.learning.synth.errors import SynthesisInputError
from adyton.learning.synth.privacy import Estimate
from adyton.learning.synth.utility import INPUT_ROLES

Floats = npt.NDArray[np.float64]
SCORE_BINS = 6
FOLDS, NETWORKS = 5, 3
_DRAWS = 300


@dataclass(frozen=True)
class LiftKept:
    """AUC on later real rows of the three models, and the lifts with 95 % intervals over users.

    share: of the real lift that is left; its interval says little unless `real` lies clear of zero.
    """

    own_auc: float
    real: Estimate
    synthetic: Estimate
    share: Estimate

    def as_json(self) -> dict[str, object]:
        return {
            "own_auc": self.own_auc,
            "lift_real": self.real.as_json(),
            "lift_synthetic": self.synthetic.as_json(),
            "share_kept": self.share.as_json(),
        }


def lift_kept(
    real_train: pa.Table,
    synthetic: pa.Table,
    real_test: pa.Table,
    schema: TableSchema,
    partner: Sequence[str],
    *,
    score: str | None = None,
    seed: int = 0,
) -> LiftKept:
    """Measure the lift of the `partner` columns, real and synthetic.

    schema: of the real tables.   synthetic: the label, the partner's columns and any of the party's own columns.
    score: a column of `real_train` and `synthetic` with a bin of the party's own score (`own_scores`), to match on and
    no feature; None predicts a score from the own columns that both tables have.
    Models are those of `adyton ctr cross-domain`; the user id is not a feature.
    Raises SynthesisInputError for columns that are not there, MetricError for test rows of one class.
    """
    features = [c.name for c in schema.with_role(*INPUT_ROLES)]
    own = [name for name in features if name not in partner and name != score]
    for name in partner:
        if name not in features or name not in synthetic.column_names:
            raise SynthesisInputError("a partner's column must be a feature of both tables", where=name)
    if not partner or not own:
        raise SynthesisInputError("the lift needs columns of the partner and columns of the party's own")
    label = schema.label.name
    matched = _score_bins(real_train, synthetic, schema, own, score, seed)
    mixed = [
        _with_partner_columns(real_train, synthetic, label, partner, matched, stream(seed, "matching", number))
        for number in range(NETWORKS)
    ]
    own_schema, joined_schema = (schema.select([*_ids(schema), label, *names]) for names in (own, [*own, *partner]))
    made = [
        _predicted(trains, real_test, part, seed)
        for trains, part in (
            ([real_train] * NETWORKS, own_schema),
            ([real_train] * NETWORKS, joined_schema),
            (mixed, joined_schema),
        )
    ]
    labels = np.asarray(real_test[label].cast(pa.int64()).to_numpy(), np.int64)
    return _estimated(labels, made, _users(real_test, schema), seed)


def own_scores(train: pa.Table, schema: TableSchema, own: Sequence[str], *, seed: int = 0) -> Floats:
    """Chance of a click by the `own` columns, float64[B], each from a model that has not seen the row's user."""
    part = schema.select([*_ids(schema), schema.label.name, *own])
    users = _users(train, schema)
    fold = stream(seed, "folds").permutation(int(users.max()) + 1)[users] % FOLDS
    scores = np.zeros(train.num_rows)
    for number in range(FOLDS):
        held_out = fold == number
        if held_out.any():
            rest = train.filter(pa.array(~held_out))
            scores[held_out] = _predicted([rest], train.filter(pa.array(held_out)), part, seed)
    return scores


def _predicted(trains: Sequence[pa.Table], test: pa.Table, schema: TableSchema, seed: int) -> Floats:
    """Chance of a click for each row of `test`, the mean of one network for each table of `trains`.

    All tables hold the same rows; one user in ten of them says when to stop.
    """
    users = _users(trains[0], schema)
    stops = stream(seed, "stops").permutation(int(users.max()) + 1)[users] % 10 == 0
    split = RowSplit(np.flatnonzero(~stops), np.flatnonzero(stops))
    config = cross_domain_config(tuple(column.name for column in schema.with_role(*INPUT_ROLES)), members=1)
    made = [
        train_model(train, schema, split=split, config=config, seed=seed + number).predict(test)
        for number, train in enumerate(trains)
    ]
    return np.asarray(np.mean(made, axis=0))


def _score_bins(
    rows: pa.Table, synthetic: pa.Table, schema: TableSchema, own: Sequence[str], score: str | None, seed: int
) -> tuple[Ints, Ints]:
    """A bin of the party's own score for each row of both tables, all zero where nothing is known of it."""
    if score is not None:
        for table in (rows, synthetic):
            if score not in table.column_names:
                raise SynthesisInputError("the score to match on must be a column of both tables", where=score)
        texts = [combined(table[score]).cast(pa.string()) for table in (rows, synthetic)]
        indices = pa.concat_arrays(texts).dictionary_encode(null_encoding="encode").indices.to_numpy()
        return np.asarray(indices[: rows.num_rows], np.int64), np.asarray(indices[rows.num_rows :], np.int64)
    common = [name for name in own if name in synthetic.column_names]
    if not common:
        return np.zeros(rows.num_rows, np.int64), np.zeros(synthetic.num_rows, np.int64)
    part = schema.select([*_ids(schema), schema.label.name, *common])
    scores = own_scores(rows, schema, common, seed=seed), _predicted([rows], synthetic, part, seed)
    edges = np.unique(np.quantile(scores[0], np.linspace(0, 1, SCORE_BINS + 1)[1:-1]))
    return np.digitize(scores[0], edges), np.digitize(scores[1], edges)


def _with_partner_columns(
    rows: pa.Table,
    synthetic: pa.Table,
    label: str,
    partner: Sequence[str],
    matched: tuple[Ints, Ints],
    rng: np.random.Generator,
) -> pa.Table:
    """`rows` with the partner's columns replaced by those of synthetic rows of the same label and bin.

    Where no synthetic row has the bin, one of the same label will do; without that label, any.
    """
    labels = [np.asarray(t[label].cast(pa.int64()).to_numpy(), np.int64) for t in (rows, synthetic)]
    chosen = np.zeros(rows.num_rows, np.int64)
    for clicked, score_bin in sorted(set(zip(labels[0].tolist(), matched[0].tolist(), strict=True))):
        wanted = np.flatnonzero((labels[0] == clicked) & (matched[0] == score_bin))
        alike = labels[1] == clicked
        pool = np.flatnonzero(alike & (matched[1] == score_bin))
        pool = pool if pool.size else np.flatnonzero(alike)
        chosen[wanted] = rng.choice(pool if pool.size else synthetic.num_rows, wanted.size)
    for name in partner:
        column = synthetic[name].take(pa.array(chosen))
        rows = rows.set_column(rows.column_names.index(name), name, column)
    return rows


def _estimated(labels: Ints, made: Sequence[Floats], users: Ints, seed: int) -> LiftKept:
    n_users = int(users.max()) + 1
    rng = stream(seed, "lift")

    def lifts(weights: Floats | None) -> tuple[float, float, float]:
        own, real, synthetic = (float(roc_auc_score(labels, p, sample_weight=weights)) for p in made)
        return own, real - own, synthetic - own

    own, real, synthetic = lifts(None)
    drawn = np.array(
        [
            lifts(np.bincount(rng.integers(0, n_users, n_users), minlength=n_users)[users].astype(float))
            for _ in range(_DRAWS)
        ]
    )
    shares = drawn[:, 2] / drawn[:, 1]
    low, high = np.percentile(np.column_stack([drawn[:, 1:], shares]), (2.5, 97.5), axis=0)
    return LiftKept(
        own,
        Estimate(real, low[0], high[0]),
        Estimate(synthetic, low[1], high[1]),
        Estimate(synthetic / real if real else float("nan"), low[2], high[2]),
    )


def _ids(schema: TableSchema) -> list[str]:
    return [column.name for column in schema.with_role(Role.USER_ID)]


def _users(table: pa.Table, schema: TableSchema) -> Ints:
    if not schema.with_role(Role.USER_ID):
        return np.arange(table.num_rows)
    encoded = combined(table.column(schema.user_id.name)).dictionary_encode(null_encoding="encode")
    return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.int64)
