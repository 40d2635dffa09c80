"""Reference models on the same rows and fields: what factorising costs, and what other kinds of model reach.

twin                 the same embeddings and FM, and one tower over all fields instead of one per side
logistic regression  one-hot, scikit-learn
lightgbm             native categories; needs LightGBM

None of them factorises, so none of them can be exported; they say what the model that can be gives up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from adyton.kernel.chance import stream
from adyton.kernel.errors import UnavailableError
from adyton.learning.ctr.config import TrainConfig
from adyton.learning.ctr.data import RowSplit
from adyton.learning.ctr.fields import FieldEncoder, Side
from adyton.learning.ctr.training import TrainedModel, feature_columns, train
from adyton.learning.metrics import Evaluation, Interval, Metric, evaluate, paired_user_bootstrap
from adyton.learning.schema import Role, TableSchema

Predictor = Callable[[NDArray[np.int64]], NDArray[np.float64]]
"""From codes int64[B, F] to click probabilities float64[B]."""


@dataclass(frozen=True)
class Reference:
    """One reference model on the test rows.   difference: the factorised model minus it, by metric, over users."""

    name: str
    measured: Evaluation
    difference: dict[Metric, Interval]

    def as_json(self) -> dict[str, object]:
        return {
            "model": self.name,
            **self.measured.as_json(),
            "factorised_minus_this": {metric.value: interval.as_json() for metric, interval in self.difference.items()},
        }


def compare(
    model: TrainedModel, table: pa.Table, *, split: RowSplit, test: NDArray[np.int64], names: Sequence[str], draws: int
) -> list[Reference]:
    """Train `names` (of `REFERENCES`) on the rows and fields of `model` and measure them on the rows `test`.

    split: the training and validation rows that `model` was made from.   draws: of the bootstrap over users.
    Raises UnavailableError when a library is missing.
    """
    schema, rows = model.schema, table.take(pa.array(test))
    labels = table[schema.label.name].cast(pa.int64()).to_numpy()
    coded = rows[schema.user_id.name].combine_chunks().dictionary_encode()
    users = coded.indices.to_numpy(zero_copy_only=False)
    own = model.predict(rows)
    found = []
    for name in names:
        predicted = REFERENCES[name](model, table, labels, split, test)
        rng = stream(model.seed, "reference", name)
        found.append(
            Reference(
                name,
                evaluate(labels[test], predicted, users),
                {
                    metric: paired_user_bootstrap(
                        labels[test], users, predicted, own, rng=rng, metric=metric, draws=draws
                    )
                    for metric in Metric
                },
            )
        )
    return found


def unfactorised_twin(
    table: pa.Table, schema: TableSchema, split: RowSplit, config: TrainConfig, seed: int, test: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Click probabilities of the rows `test`: every field on one side, so that one tower sees them all.

    One side has no level apart from its taste and nothing to cross, so that the twin goes without `taste_epochs` and
    without `distil_passes`: it is the mean of its members.
    """
    ids = {column.name for column in schema.with_role(Role.USER_ID, Role.ITEM_ID)}
    features = [column.name for column in feature_columns(schema, config)]
    # Ids keep their columns, since metrics ask for the user; the twin reads copies.
    for name in ids.intersection(features):
        table = table.append_column(f"{name} as field", table[name])
    columns = [
        replace(schema.column(name), name=f"{name} as field" if name in ids else name, role=_one_side(schema, name))
        for name in features
    ]
    kept = [column for column in schema.columns if column.name not in features or column.name in ids]
    config = replace(
        config,
        features=tuple(column.name for column in columns),
        leave_out=tuple(tuple(f"{n} as field" if n in ids else n for n in names) for names in config.leave_out),
        taste_epochs=0,
        distil_passes=0,
    )
    twin = train(table, TableSchema((*kept, *columns)), split=split, config=config, seed=seed)
    return twin.predict(table.take(pa.array(test)))


def _one_side(schema: TableSchema, name: str) -> Role:
    role = schema.column(name).role
    return role if role is Role.SEQUENCE else Role.USER


def codes_of(encoder: FieldEncoder, table: pa.Table) -> tuple[NDArray[np.int64], list[int]]:
    """Indices int64[B, W] of all sides side by side, and each column's number of values."""
    sizes = [field.size for side in Side for field in encoder.of(side) for _ in range(field.slots)]
    return np.concatenate([encoder.encode(table, side) for side in Side], axis=1), sizes


def logistic_regression(
    codes: NDArray[np.int64], sizes: Sequence[int], labels: NDArray[np.int64], train_rows: NDArray[np.int64]
) -> Predictor:
    """One-hot and L2 (C = .1)."""
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression  # a second to load

    first = np.cumsum([0, *sizes[:-1]])

    def one_hot(rows: NDArray[np.int64]) -> Any:
        columns = (rows + first).ravel()
        starts = np.arange(0, columns.size + 1, rows.shape[1])
        return csr_matrix((np.ones(columns.size, np.float32), columns, starts), (len(rows), sum(sizes)))

    model = LogisticRegression(C=0.1, max_iter=100).fit(one_hot(codes[train_rows]), labels[train_rows])
    return lambda rows: model.predict_proba(one_hot(rows))[:, 1]


def lightgbm(
    codes: NDArray[np.int64], labels: NDArray[np.int64], split: RowSplit, *, seed: int = 0, numbers: Sequence[int] = ()
) -> Predictor:
    """Stopped on the validation rows.   numbers: ordered columns.

    Raises UnavailableError without LightGBM.
    """
    try:
        import lightgbm as lgb
    except ImportError:
        raise UnavailableError("LightGBM is not installed", hint="pip install lightgbm") from None
    parameters = {
        "objective": "binary", "metric": "auc", "learning_rate": 0.05, "num_leaves": 31, "min_data_in_leaf": 50,
        "feature_fraction": 0.6, "verbose": -1, "num_threads": 1, "seed": seed,
    }  # fmt: skip
    categories = [column for column in range(codes.shape[1]) if column not in numbers]
    parts = [
        lgb.Dataset(codes[rows], labels[rows], categorical_feature=categories)
        for rows in (split.train, split.validation)
    ]
    booster = lgb.train(
        parameters, parts[0], 400, valid_sets=[parts[1]], callbacks=[lgb.early_stopping(30, verbose=False)]
    )
    return lambda rows: np.asarray(booster.predict(rows))


def _twin(
    model: TrainedModel, table: pa.Table, _: NDArray[np.int64], split: RowSplit, test: NDArray[np.int64]
) -> NDArray[np.float64]:
    config = replace(model.config, features=tuple(field.name for field in model.encoder.fields))
    return unfactorised_twin(table, model.schema, split, config, model.seed, test)


def _logistic_regression(
    model: TrainedModel, table: pa.Table, labels: NDArray[np.int64], split: RowSplit, test: NDArray[np.int64]
) -> NDArray[np.float64]:
    codes, sizes = codes_of(model.encoder, table)
    return logistic_regression(codes, sizes, labels, split.train)(codes[test])


def _lightgbm(
    model: TrainedModel, table: pa.Table, labels: NDArray[np.int64], split: RowSplit, test: NDArray[np.int64]
) -> NDArray[np.float64]:
    codes, _ = codes_of(model.encoder, table)
    return lightgbm(codes, labels, split, seed=model.seed)(codes[test])


REFERENCES = {"twin": _twin, "logistic regression": _logistic_regression, "lightgbm": _lightgbm}
"""Name -> function from a factorised model and its rows to click probabilities of the test rows."""
