"""Reference models for `bench/ctr.py` on the same rows and fields: what factorising costs, and what peers reach.

twin                 the same embeddings and FM, and one tower over all fields instead of one per side
logistic regression  one-hot, scikit-learn
lightgbm             native categories
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from adyton.kernel.errors import UnavailableError
from adyton.learning.ctr.config import TrainConfig
from adyton.learning.ctr.data import RowSplit
from adyton.learning.ctr.features import with_counters
from adyton.learning.ctr.fields import FieldEncoder, FieldSpec, Side, fit_fields
from adyton.learning.ctr.training import TrainedModel, train
from adyton.learning.datasets.kuairand import tables as kuairand
from adyton.learning.metrics import auc
from adyton.learning.schema import Role, TableSchema

Fit = Callable[[pa.Table, TableSchema, RowSplit, TrainConfig, int], TrainedModel]


def twin(table: pa.Table, schema: TableSchema, split: RowSplit, config: TrainConfig, seed: int) -> TrainedModel:
    """The unfactorised model: every field on one side, so that one tower sees them all. It cannot be exported."""
    features = {column.name for column in schema.features(config.features)}
    ids = {Role.USER_ID: Role.USER, Role.ITEM_ID: Role.USER, Role.AD: Role.USER, Role.CONTEXT: Role.USER}
    one_side = TableSchema(
        tuple(
            type(column)(column.name, ids.get(column.role, column.role), column.kind, column.meaning)
            if column.name in features and column.role is not Role.USER_ID
            else column
            for column in schema.columns
        )
    )
    return train(table, one_side, split=split, config=config, seed=seed)


def codes_of(
    table: pa.Table, schema: TableSchema, split: RowSplit, config: TrainConfig
) -> tuple[np.ndarray, list[int]]:
    """Indices int64[B, F] of the factorised model's own fields, and each field's number of values."""
    encoder: FieldEncoder = fit_fields(
        table.take(pa.array(split.train)),
        schema.features(config.features),
        min_count=config.min_count or 5,
        number_buckets=config.number_buckets,
        list_slots=config.list_slots,
    )
    fields: list[FieldSpec] = [field for side in Side for field in encoder.of(side)]
    return np.concatenate([encoder.encode(table, side) for side in Side], axis=1), [field.size for field in fields]


def logistic_regression(codes: np.ndarray, sizes: list[int], labels: np.ndarray, train_rows: np.ndarray) -> Any:
    """A function from codes to click probabilities.   Raises UnavailableError without scikit-learn."""
    try:
        from scipy.sparse import csr_matrix
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise UnavailableError("scikit-learn is not installed", hint="pip install scikit-learn") from None
    first = np.cumsum([0, *sizes[:-1]])

    def one_hot(rows: np.ndarray) -> Any:
        columns = (rows + first).ravel()
        starts = np.arange(0, columns.size + 1, rows.shape[1])
        return csr_matrix((np.ones(columns.size, np.float32), columns, starts), (len(rows), sum(sizes)))

    model = LogisticRegression(C=0.1, max_iter=100).fit(one_hot(codes[train_rows]), labels[train_rows])
    return lambda rows: model.predict_proba(one_hot(rows))[:, 1]


def lightgbm(
    codes: np.ndarray, labels: np.ndarray, split: RowSplit, *, seed: int = 0, numbers: Sequence[int] = ()
) -> Any:
    """A function from codes to click probabilities, stopped on the validation rows.   numbers: ordered columns.

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
    return booster.predict


def duplicates() -> list[dict[str, object]]:
    """Own history on the advertiser's table: counters over earlier rows or times, with and without copied rows."""
    from adyton.learning.ctr import recipe

    table = kuairand.advertiser_table()
    frame = table.select(["user_id", "item_id", "time_ms"]).to_pandas()
    is_first = ~frame.duplicated().to_numpy()
    found: list[dict[str, object]] = []
    for name, part in (("all rows", table), ("without copies", table.filter(pa.array(is_first)))):
        by_time = with_counters(part, part, recipe.OWN_COUNTERS)
        # Every row gets a time of its own, so that the second of two copies comes after the first.
        place = pa.array(np.asarray(part["time_ms"]) * 1_000 + np.arange(part.num_rows) % 1_000)
        ordered = part.set_column(part.column_names.index("time_ms"), "time_ms", place)
        by_row = with_counters(ordered, ordered, recipe.OWN_COUNTERS)
        for kind, counted in (("earlier times", by_time), ("earlier rows", by_row)):
            dates = np.asarray(counted["date"])
            split = RowSplit.of_dates(
                dates, last_train=kuairand.LAST_TRAIN_DATE, last_validation=kuairand.VALIDATION_DATE
            )
            config = recipe.cross_domain_config(recipe.STATIC_FEATURES)
            labels = counted["is_click"].to_numpy()
            schema = recipe.JOINED_SCHEMA.select(counted.column_names)
            codes, _ = codes_of(counted, schema.select(recipe.STATIC_FEATURES), split, config)
            counts = np.stack([counted[counter.name].to_numpy() for counter in recipe.OWN_COUNTERS], axis=1)
            numbers = range(codes.shape[1], codes.shape[1] + counts.shape[1])
            codes = np.concatenate([codes, counts], axis=1)
            test = np.flatnonzero(dates > kuairand.VALIDATION_DATE)
            values = [
                auc(labels[test], lightgbm(codes, labels, split, seed=s, numbers=numbers)(codes[test]))
                for s in range(3)
            ]
            found.append({"rows": counted.num_rows, "table": name, "counters": kind, "auc": float(np.mean(values))})
    return found


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What `work` gives, and the seconds it took."""
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started
