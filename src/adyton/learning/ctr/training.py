"""Training a factorised model with an early stop on the metric that will be reported, and predicting with it.

Two trainers of the same network: row by row with Adagrad (`row_trainer`, the default), and in batches with AdamW
(`batch_trainer`, on a GPU where torch finds one).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from adyton.kernel.chance import stream
from adyton.learning.ctr import levels
from adyton.learning.ctr.batch_trainer import train_in_batches
from adyton.learning.ctr.calibration import platt, probabilities
from adyton.learning.ctr.config import TrainConfig, Trainer
from adyton.learning.ctr.data import Check, RowSplit, TrainData
from adyton.learning.ctr.distil import distil
from adyton.learning.ctr.fields import FieldEncoder, Side, fit_fields
from adyton.learning.ctr.left_out import blank, tie
from adyton.learning.ctr.network import FactorisedNetwork, SideVectors
from adyton.learning.ctr.prediction import mean_logits, side_vectors
from adyton.learning.ctr.row_trainer import train_in_rows
from adyton.learning.ctr.side_kernels import group_rows
from adyton.learning.errors import ModelError, TableError
from adyton.learning.metrics import Metric
from adyton.learning.schema import Column, Role, TableSchema

__all__ = ["Check", "RowSplit", "TrainedModel", "feature_columns", "train"]

ROWS_PER_COUNT = 1_000
SMALLEST_COUNT, LARGEST_COUNT = 5, 20
_SHAPE = ("features", "fm_dim", "head_dim", "hidden", "members", "leave_out", "taste_epochs", "distil_passes")
"""What a model that training goes on from decides."""


_Distinct = tuple[NDArray[np.int64], torch.Tensor]
"""The distinct rows of a side and their share of the training rows."""


@dataclass(frozen=True)
class TrainedModel:
    """Networks, how to encode their input, and how they were made.

    shift: added to every logit so that predictions average to the click rate on validation rows (calibration of level).
    scale: multiplies every logit (calibration of spread, Platt); both 0 and 1 when not calibrated.
    data_sha256: of the files that training rows came from, as far as the caller knows; those of `start` come first.
    privacy: the differential privacy of its training in words, None when it has none (`private_trainer`).
    live_precision: how surely a user's level stays while the model is live, None when it stands still (`live_level`).
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
    data_sha256: tuple[str, ...] = ()
    privacy: str | None = None
    live_precision: float | None = None

    def logits(self, table: pa.Table) -> NDArray[np.float64]:
        """Calibrated logits float64[B].   Raises TableError for a missing or unfit column."""
        return self.scale * mean_logits(self.encoder, self.members, table) + self.shift

    def predict(self, table: pa.Table) -> NDArray[np.float64]:
        """Click probabilities float64[B].   Raises TableError for a missing or unfit column."""
        return probabilities(self.logits(table))


def _mean_vectors(member: FactorisedNetwork, distinct: Mapping[Side, _Distinct]) -> dict[Side, SideVectors]:
    """Mean bias and vectors of each side over the training rows."""
    means = {}
    for side, (indices, share) in distinct.items():
        means[side] = SideVectors(*(share.to(v.dtype) @ v for v in side_vectors(member.sides[side], indices)))
    return means


def _distinct_training_rows(data: TrainData) -> dict[Side, _Distinct]:
    found = {}
    for side, indices in zip(Side, data.inputs, strict=True):
        rows = indices[data.split.train]
        first, place = group_rows(np.ascontiguousarray(rows.T, np.int32))
        found[side] = rows[first], torch.from_numpy(np.bincount(place) / len(place))
    return found


def train(
    table: pa.Table,
    schema: TableSchema,
    *,
    split: RowSplit,
    config: TrainConfig,
    seed: int,
    row_weights: NDArray[np.float64] | None = None,
    start: TrainedModel | None = None,
    data_sha256: tuple[str, ...] = (),
    progress: Callable[[Check], None] | None = None,
) -> TrainedModel:
    """A factorised model of `schema.label` on `split.train`, stopped on `split.validation`.

    row_weights: [rows of table], weight of each training row in the loss, 1 if None.
    start: a model to go on from, such as yesterday's on a new day's rows: its fields, vocabularies and weights are
        kept, and of `config` only what says how to train is used.
    data_sha256: noted in the model.   progress: called after each check, from as many threads as `config.threads` says.
    Raises FeatureError for features that may not be used, TableError for a table that does not fit, ModelError for
    labels of one class.
    """
    if start is not None:
        config = replace(config, **{name: getattr(start.config.as_trained_on(), name) for name in _SHAPE})
    columns = feature_columns(schema, config)
    schema.select([*(column.name for column in columns), schema.label.name]).check(table)
    labels = table[schema.label.name].cast(pa.int64()).to_numpy()
    if not np.isin(labels, (0, 1)).all():
        raise TableError("labels must be 0 or 1", where=schema.label.name)
    _check_two_classes(labels[split.train], "training")
    _check_two_classes(labels[split.validation], "validation")
    encoder = start.encoder if start is not None else _fitted_encoder(table, columns, split, config)
    data = TrainData(
        inputs=[encoder.encode(table, side) for side in Side],
        labels=labels,
        users=_user_codes(table, schema) if config.stop_on in (Metric.GAUC, Metric.XAUC) else np.zeros(len(labels)),
        weights=np.ones(len(labels)) if row_weights is None else np.asarray(row_weights, np.float64),
        split=split,
    )

    distinct = _distinct_training_rows(data) if config.taste_epochs else {}

    def trained_member(index: int) -> tuple[list[FactorisedNetwork], list[Check]]:
        rng = stream(seed, "ctr", index)
        network = _new_member(encoder, config, data.click_rate, rng)
        if start is not None:
            network.load_state_dict(start.members[index * (1 + bool(config.taste_epochs))].state_dict())
            levels.unshare(network)
        left_out = config.leave_out[index % len(config.leave_out)] if config.leave_out else ()
        own = replace(data, inputs=blank(encoder, data.inputs, left_out))
        if config.trainer is Trainer.BATCHES:
            checks = train_in_batches(network, own, config, rng, index, progress)
            trained = [network]
        else:
            trained = [network, copy.deepcopy(network)][: 1 + bool(config.taste_epochs)]
            checks = train_in_rows(network, own, config, rng, index, progress, *trained[1:])
        for one in trained:
            tie(one, encoder, left_out)
        if len(trained) > 1:
            levels.share(network, trained[1], *(_mean_vectors(one, distinct) for one in trained))
        return trained, checks

    # The kernels of ROWS let go of the interpreter; torch shares its threads and its random state between members.
    at_once = config.threads if config.trainer is Trainer.ROWS else 1
    with ThreadPoolExecutor(at_once) as pool:
        found = list(pool.map(trained_member, range(config.members)))
    members = tuple(one for trained, _ in found for one in trained)
    checks = tuple(check for _, checks in found for check in checks)
    if config.distil_passes:
        rng = stream(seed, "ctr", "distilled")
        students = tuple(_new_member(encoder, config, data.click_rate, rng) for _ in range(config.students))
        distil(students, members, data, config, rng)
        members = students
    seen = dict.fromkeys((*(start.data_sha256 if start is not None else ()), *data_sha256))
    model = TrainedModel(encoder, members, schema, config, seed, checks, len(split.train), data_sha256=tuple(seen))
    if not config.calibrate:
        return model
    logits = model.logits(table.take(pa.array(split.validation)))
    scale, shift = platt(labels[split.validation], logits)
    return replace(model, scale=scale, shift=shift)


def _fitted_encoder(table: pa.Table, columns: tuple[Column, ...], split: RowSplit, config: TrainConfig) -> FieldEncoder:
    by_size = min(LARGEST_COUNT, max(SMALLEST_COUNT, len(split.train) // ROWS_PER_COUNT))
    return fit_fields(
        table.take(pa.array(split.train)),
        columns,
        min_count=by_size if config.min_count is None else config.min_count,
        number_buckets=config.number_buckets,
        list_slots=config.list_slots,
    )


def _new_member(
    encoder: FieldEncoder, config: TrainConfig, click_rate: float, rng: np.random.Generator
) -> FactorisedNetwork:
    network = FactorisedNetwork(encoder, config, rng)
    with torch.no_grad():
        network.context.out_bias[0] = float(np.log(click_rate / (1 - click_rate)))
    return network


def feature_columns(schema: TableSchema, config: TrainConfig) -> tuple[Column, ...]:
    """The columns that a model of `config` reads.   Raises FeatureError."""
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
