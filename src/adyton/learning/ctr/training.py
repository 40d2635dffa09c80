"""Training a factorised model with an early stop on the metric that will be reported.

Order of events for every member: draw a new order of the training rows each epoch, step AdamW through it in batches,
measure the validation rows `checks_per_epoch` times an epoch, keep the best weights, stop after `patience` checks
without a better value. CTR models with id embeddings overfit after about one epoch in AUC while GAUC still rises
(learning §3, lesson a), which is why the stop follows the metric asked for and looks more often than once an epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adyton.kernel.chance import stream
from adyton.learning.ctr.calibration import platt
from adyton.learning.ctr.config import Schedule, TrainConfig
from adyton.learning.ctr.fields import FieldEncoder, Side, fit_fields
from adyton.learning.ctr.network import FactorisedNetwork, SideVectors, combine
from adyton.learning.errors import ModelError, TableError
from adyton.learning.metrics import Metric, auc, gauc, logloss, xauc
from adyton.learning.schema import Column, Role, TableSchema

PREDICT_BATCH = 16_384


@dataclass(frozen=True)
class RowSplit:
    """Row numbers of a table's training and validation part; the test part is whatever the caller kept away."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]

    def __post_init__(self) -> None:
        if len(self.train) == 0 or len(self.validation) == 0:
            raise ModelError("training needs training rows and validation rows")
        if len(np.intersect1d(self.train, self.validation)):
            raise ModelError("a row cannot be in training and in validation")

    @classmethod
    def of_dates(cls, dates: Sequence[int], *, last_train: int, last_validation: int) -> RowSplit:
        """Rows up to `last_train`, then rows up to `last_validation`; later rows are the test's.   dates: yyyymmdd."""
        days = np.asarray(dates, np.int64)
        return cls(np.flatnonzero(days <= last_train), np.flatnonzero((days > last_train) & (days <= last_validation)))

    @classmethod
    def of_times(cls, times_ms: NDArray[np.int64], *, validation_from_ms: int, test_from_ms: int) -> RowSplit:
        """Rows before `validation_from_ms`, then rows before `test_from_ms`; later rows are the test's."""
        return cls(
            np.flatnonzero(times_ms < validation_from_ms),
            np.flatnonzero((times_ms >= validation_from_ms) & (times_ms < test_from_ms)),
        )

    def only(self, is_kept: NDArray[np.bool_]) -> RowSplit:
        """The split without rows where `is_kept` (one value per table row) is false, such as held-out users' rows."""
        return RowSplit(self.train[is_kept[self.train]], self.validation[is_kept[self.validation]])


@dataclass(frozen=True)
class Check:
    """One look at the validation rows after `rows_seen` training rows."""

    member: int
    rows_seen: int
    value: float


@dataclass(frozen=True)
class TrainedModel:
    """Networks, how to encode their input, and how they were made.

    shift: added to every logit so that predictions average to the click rate on validation rows (calibration of level).
    scale: multiplies every logit (calibration of spread, Platt); both 0 and 1 when not calibrated.
    """

    encoder: FieldEncoder
    members: tuple[FactorisedNetwork, ...]
    schema: TableSchema
    config: TrainConfig
    seed: int
    checks: tuple[Check, ...]
    training_rows: int
    scale: float = 1.0
    shift: float = 0.0

    def logits(self, table: pa.Table) -> NDArray[np.float64]:
        """Calibrated logits float64[B].   Raises TableError for a missing or unfit column.

        Each side is computed once per distinct combination of its fields, so B impressions of U users, A ads and C
        contexts cost U + A + C towers and B dot products.
        """
        sides, rows = [], []
        for side in Side:
            distinct, row_of = _distinct_rows(self.encoder.encode(table, side))
            sides.append(distinct)
            rows.append(torch.from_numpy(row_of))
        total = torch.zeros(table.num_rows, dtype=torch.float64)
        for member in self.members:
            vectors = [side_vectors(member, s, x) for s, x in zip(Side, sides, strict=True)]
            for start in range(0, table.num_rows, PREDICT_BATCH):
                part = slice(start, start + PREDICT_BATCH)
                picked = [SideVectors(*(v[r[part]] for v in vs)) for vs, r in zip(vectors, rows, strict=True)]
                total[part] += combine(*picked)
        mean: NDArray[np.float64] = total.numpy() / len(self.members)
        return self.scale * mean + self.shift

    def predict(self, table: pa.Table) -> NDArray[np.float64]:
        """Click probabilities float64[B].   Raises TableError for a missing or unfit column."""
        probabilities: NDArray[np.float64] = 1 / (1 + np.exp(-self.logits(table)))
        return probabilities


def _distinct_rows(indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct rows, and for each row its place among them.

    Sorting one 64-bit hash a row is faster than sorting rows; a collision is noticed and then rows are sorted.
    """
    factors = stream(0, "row hash").integers(1, 2**63, indices.shape[1], np.int64) * 2 + 1
    hashes = (indices * factors).sum(axis=1)
    _, first, row_of = np.unique(hashes, return_index=True, return_inverse=True)
    distinct = indices[first]
    if not np.array_equal(distinct[row_of], indices):
        distinct, row_of = np.unique(indices, axis=0, return_inverse=True)
    return distinct, row_of.reshape(-1)


def side_vectors(member: FactorisedNetwork, side: Side, indices: NDArray[np.int64]) -> SideVectors:
    """Bias and vectors of one side in evaluation mode, in batches."""
    network = member.sides[side].eval()
    with torch.inference_mode():
        parts = [
            network(torch.from_numpy(indices[start : start + PREDICT_BATCH]))
            for start in range(0, max(1, len(indices)), PREDICT_BATCH)
        ]
    return SideVectors(*(torch.cat(column) for column in zip(*parts, strict=True)))


def train(
    table: pa.Table,
    schema: TableSchema,
    *,
    split: RowSplit,
    config: TrainConfig,
    seed: int,
    row_weights: NDArray[np.float64] | None = None,
    progress: Callable[[Check], None] | None = None,
) -> TrainedModel:
    """A factorised model of `schema.label` on `split.train`, stopped on `split.validation`.

    row_weights: [rows of table], weight of each training row in the loss, 1 if None.
    Raises FeatureError for features that may not be used, TableError for a table that does not fit, ModelError for
    labels of one class.
    """
    columns = _feature_columns(schema, config)
    schema.select([*(column.name for column in columns), schema.label.name]).check(table)
    labels = table[schema.label.name].cast(pa.int64()).to_numpy()
    if not np.isin(labels, (0, 1)).all():
        raise TableError("labels must be 0 or 1", where=schema.label.name)
    _check_two_classes(labels[split.train], "training")
    _check_two_classes(labels[split.validation], "validation")
    encoder = fit_fields(
        table.take(pa.array(split.train)),
        columns,
        min_count=config.min_count,
        number_buckets=config.number_buckets,
        list_slots=config.list_slots,
    )
    users = _user_codes(table, schema) if config.stop_on in (Metric.GAUC, Metric.XAUC) else np.zeros(len(labels))
    inputs = [torch.from_numpy(encoder.encode(table, side)) for side in Side]
    weights = np.ones(len(labels)) if row_weights is None else np.asarray(row_weights, np.float64)
    data = _Data(inputs, labels, users, weights, split)
    members, checks = [], []
    with _torch_threads(config.threads):
        for index in range(config.members):
            member, member_checks = _train_member(data, encoder, config, seed, index, progress)
            members.append(member)
            checks.extend(member_checks)
    model = TrainedModel(encoder, tuple(members), schema, config, seed, tuple(checks), len(split.train))
    if not config.calibrate:
        return model
    logits = model.logits(table.take(pa.array(split.validation)))
    scale, shift = platt(labels[split.validation], logits)
    return replace(model, scale=scale, shift=shift)


@dataclass(frozen=True)
class _Data:
    inputs: Sequence[Tensor]
    labels: NDArray[np.int64]
    users: NDArray[np.float64]
    weights: NDArray[np.float64]
    split: RowSplit


def _train_member(
    data: _Data,
    encoder: FieldEncoder,
    config: TrainConfig,
    seed: int,
    index: int,
    progress: Callable[[Check], None] | None,
) -> tuple[FactorisedNetwork, list[Check]]:
    rng = stream(seed, "ctr", index)
    network = FactorisedNetwork(encoder, config, rng)
    _start_at_click_rate(network, data)
    embeddings = [p for side in network.sides.values() for p in side.embedding_parameters()]
    towers = [p for side in network.sides.values() for p in side.tower_parameters()]
    optimizer = torch.optim.AdamW(
        [
            {"params": embeddings, "weight_decay": config.decay},
            {"params": towers, "weight_decay": config.decay / 10},
        ],
        lr=config.learning_rate,
        fused=True,
    )
    labels = torch.from_numpy(data.labels.astype(np.float32))
    weights = torch.from_numpy(data.weights.astype(np.float32))
    sign = 1.0 if config.stop_on.higher_is_better else -1.0
    best, best_state, since_best, rows_seen = -np.inf, _copy_state(network), 0, 0
    checks: list[Check] = []
    n = len(data.split.train)
    steps = -(-n // config.batch_size)
    check_at = {round(steps * (i + 1) / config.checks_per_epoch) for i in range(config.checks_per_epoch)}
    # Dropout draws from torch's global generator: fork it, so that training neither reads nor changes the caller's.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        for epoch in range(config.max_epochs):
            order = torch.from_numpy(data.split.train[rng.permutation(n)])
            for step in range(steps):
                network.train()
                rows = order[step * config.batch_size : (step + 1) * config.batch_size]
                logits = network(*(x[rows] for x in data.inputs))
                loss = nn.functional.binary_cross_entropy_with_logits(logits, labels[rows], weight=weights[rows])
                optimizer.zero_grad(set_to_none=True)
                if config.schedule is Schedule.LINEAR:
                    left = 1 - (epoch * steps + step) / (config.max_epochs * steps)
                    for group in optimizer.param_groups:
                        group["lr"] = config.learning_rate * left
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                rows_seen += len(rows)
                if step + 1 not in check_at:
                    continue
                check = Check(index, rows_seen, _validation_value(network, data, config.stop_on))
                checks.append(check)
                if progress is not None:
                    progress(check)
                if sign * check.value > best:
                    best, best_state, since_best = sign * check.value, _copy_state(network), 0
                else:
                    since_best += 1
                    if since_best >= config.patience:
                        network.load_state_dict(best_state)
                        return network.eval(), checks
    network.load_state_dict(best_state)
    return network.eval(), checks


def _start_at_click_rate(network: FactorisedNetwork, data: _Data) -> None:
    rate = float(data.labels[data.split.train].mean())
    with torch.no_grad():
        network.context.out_bias[0] = float(np.log(rate / (1 - rate)))


def _validation_value(network: FactorisedNetwork, data: _Data, metric: Metric) -> float:
    network.eval()
    rows = data.split.validation
    with torch.inference_mode():
        parts = [
            network(*(x[torch.from_numpy(rows[start : start + PREDICT_BATCH])] for x in data.inputs))
            for start in range(0, len(rows), PREDICT_BATCH)
        ]
    scores = torch.sigmoid(torch.cat(parts).double()).numpy()
    labels, users = data.labels[rows], data.users[rows]
    match metric:
        case Metric.AUC:
            return auc(labels, scores)
        case Metric.GAUC:
            return gauc(labels, scores, users)
        case Metric.XAUC:
            return xauc(labels, scores, users)
        case Metric.LOGLOSS:
            return logloss(labels, scores)


@contextmanager
def _torch_threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _copy_state(network: FactorisedNetwork) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def _feature_columns(schema: TableSchema, config: TrainConfig) -> tuple[Column, ...]:
    if config.features is not None:
        return schema.features(config.features)
    return tuple(column for column in schema.features() if column.role is not Role.USER_ID)


def _user_codes(table: pa.Table, schema: TableSchema) -> NDArray[np.float64]:
    coded = table[schema.user_id.name].combine_chunks().dictionary_encode()
    codes: NDArray[np.float64] = coded.indices.to_numpy(zero_copy_only=False).astype(np.float64)
    return codes


def _check_two_classes(labels: NDArray[np.int64], part: str) -> None:
    if labels.min() == labels.max():
        raise ModelError(f"the {part} rows hold one class only", hint="a click model needs clicks and non-clicks")
