"""What a synthetic table is worth: train on it, test on later real rows, compare with training on real (TSTR/TRTR).

Two models that nobody has to tune: logistic regression on one-hot fields and gradient-boosted trees, both scikit-learn.
Numbers are cut into quantile bins of the training table; values that the training table lacks count as unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from adyton.learning.errors import MetricError
from adyton.learning.metrics import auc, gauc, logloss
from adyton.learning.schema import Role, TableSchema
from adyton.learning.synth.compared import Floats, Ints, compared

LOGISTIC, TREES = "logistic", "trees"
_TREE_CATEGORIES = 254
"""More categories than this are cut to the most frequent ones; scikit-learn's trees take 255."""
INPUT_ROLES = frozenset({Role.ITEM_ID, Role.USER, Role.AD, Role.CONTEXT, Role.SEQUENCE})


@dataclass(frozen=True)
class TestScores:
    """Scores on real test rows.   gauc: None when no user id is known or no user has both classes."""

    __test__ = False  # not a test class, whatever its name says

    auc: float
    logloss: float
    gauc: float | None


@dataclass(frozen=True)
class Utility:
    """Scores by model name (`logistic`, `trees`), trained on real and on synthetic rows."""

    real: dict[str, TestScores]
    synthetic: dict[str, TestScores]

    @property
    def auc_ratio(self) -> float:
        """Best AUC from synthetic rows over best AUC from real rows."""
        return max(s.auc for s in self.synthetic.values()) / max(s.auc for s in self.real.values())

    def as_json(self) -> dict[str, object]:
        return {
            "auc_ratio": self.auc_ratio,
            "real": {name: vars(scores) for name, scores in self.real.items()},
            "synthetic": {name: vars(scores) for name, scores in self.synthetic.items()},
        }


def utility(
    real_train: pa.Table, synthetic: pa.Table, real_test: pa.Table, schema: TableSchema, *, seed: int = 0
) -> Utility:
    """TSTR beside TRTR.   real_test: later real rows that neither table was made from.

    Raises TableError if a table lacks a column, MetricError if the test rows hold one class only.
    """
    return Utility(
        real=train_and_test(real_train, real_test, schema, seed=seed),
        synthetic=train_and_test(synthetic, real_test, schema, seed=seed),
    )


def train_and_test(train: pa.Table, test: pa.Table, schema: TableSchema, *, seed: int = 0) -> dict[str, TestScores]:
    """Scores on `test` of the two models trained on `train`. A train table with one class scores as a coin does."""
    predicted = predictions(train, test, schema, seed=seed)
    labels = np.asarray(test.column(schema.label.name).to_numpy(), np.int64)
    users = None
    if schema.with_role(Role.USER_ID) and schema.user_id.name in test.column_names:
        users = test.column(schema.user_id.name).to_numpy()
    return {name: _scores(labels, probabilities, users) for name, probabilities in predicted.items()}


def predictions(train: pa.Table, test: pa.Table, schema: TableSchema, *, seed: int = 0) -> dict[str, Floats]:
    """Chance of a click for each row of `test` by model name, float64[B]; one half where `train` has one class."""
    columns = compared([train, test], schema)
    label = next((c for c in columns if c.role is Role.LABEL), None)
    if label is None or label.categories is None:
        raise MetricError("utility needs a label in the schema")
    y_train = np.asarray(train.column(label.name).to_numpy(), np.int64)
    if np.unique(y_train).size < 2:
        return dict.fromkeys((LOGISTIC, TREES), np.full(test.num_rows, 0.5))
    inputs = [column.binned() for column in columns if column.role in INPUT_ROLES]
    x_train, x_test = (np.column_stack([codes[side] for codes, _ in inputs]) for side in (0, 1))
    with threadpool_limits(1):  # spinning OpenMP threads cost far more than they bring on a shared machine
        return _fitted_predictions(x_train, y_train, x_test, seed)


def _fitted_predictions(x_train: Ints, y_train: Ints, x_test: Ints, seed: int) -> dict[str, Floats]:
    encoder = OneHotEncoder(handle_unknown="ignore")
    one_hot = encoder.fit_transform(x_train)
    linear = LogisticRegression(C=0.3, max_iter=100).fit(one_hot, y_train)
    frequent = [_frequent(column) for column in x_train.T]
    trees = HistGradientBoostingClassifier(
        max_iter=60,
        learning_rate=0.08,
        max_leaf_nodes=15,
        min_samples_leaf=100,
        l2_regularization=20.0,
        categorical_features=list(range(x_train.shape[1])),
        early_stopping=False,
        random_state=seed,
    ).fit(_ranked(x_train, frequent), y_train)
    return {
        LOGISTIC: linear.predict_proba(encoder.transform(x_test))[:, 1],
        TREES: trees.predict_proba(_ranked(x_test, frequent))[:, 1],
    }


def _frequent(column: Ints) -> Ints:
    values, counts = np.unique(column, return_counts=True)
    return np.asarray(values[np.argsort(-counts, kind="stable")][:_TREE_CATEGORIES], np.int64)


def _ranked(codes: Ints, frequent: list[Ints]) -> npt.NDArray[np.float64]:
    """Codes by frequency in the training table, NaN for rare and unknown ones: float64[B, F]."""
    ranked = np.full(codes.shape, np.nan)
    for field, values in enumerate(frequent):
        lookup = np.full(max(int(codes[:, field].max()), int(values.max())) + 1, np.nan)
        lookup[values] = np.arange(values.size)
        ranked[:, field] = lookup[codes[:, field]]
    return ranked


def _scores(labels: Ints, predicted: npt.NDArray[np.float64], users: npt.NDArray[np.object_] | None) -> TestScores:
    by_user = None
    if users is not None:
        try:
            by_user = gauc(labels, predicted, users)
        except MetricError:
            by_user = None  # no user with both classes: the metric does not exist here
    return TestScores(auc(labels, predicted), logloss(labels, predicted), by_user)
