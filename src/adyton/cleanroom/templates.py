"""What runs inside on the joined table: two models or a private one, their predictions, a synthetic table.

Each function takes the joined table and gives plain results with what the gate needs to judge them. Training rows end
before `validation_from_ms`, test rows begin at `test_from_ms` and are used for predictions and evaluation only.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from adyton.cleanroom.contract import Output
from adyton.cleanroom.job import JobSpec, PrivateTraining, SynthesizeRequest
from adyton.cleanroom.join import JoinedTable
from adyton.cleanroom.join_keys import KEY_BYTES, join_keys
from adyton.cleanroom.model_attacks import ModelAttacks, attack_model
from adyton.cleanroom.single_users import refuse_item_columns, synthetic_schema
from adyton.kernel.chance import RandomSource, stream
from adyton.kernel.errors import BadInputError
from adyton.kernel.records import ModelArtifact, SyntheticTable
from adyton.learning.ctr.artifact import distinct_contexts, export, latest_rows
from adyton.learning.ctr.config import TrainConfig
from adyton.learning.ctr.private_trainer import PrivateTraining as TrainerSettings
from adyton.learning.ctr.private_trainer import private_columns, train_private_with_listing
from adyton.learning.ctr.training import Check, RowSplit, TrainedModel, train
from adyton.learning.metrics import evaluate
from adyton.learning.schema import TableSchema
from adyton.learning.synth.gate_measures import PrivacyMeasures, measure
from adyton.learning.synth.synthesizer import fit, to_record

HOLDOUT_ONE_IN = 5
"""About one user in five is kept out of the synthesizer's fit, so that attacks have somebody to compare with."""

Ints = NDArray[np.int64]
Tell = Callable[[float, str], None]
"""Told the fraction of training that is done, and what is being done."""


@dataclass(frozen=True)
class TimeSplit:
    """Row numbers of the base table by time. All int64."""

    train: Ints
    validation: Ints
    test: Ints


@dataclass(frozen=True)
class TrainedPair:
    """The two models, what they say of the test rows, and how they did there.

    attacks: by output, what attacks on the model found, training rows against validation rows.   model: with partner.
    """

    artifacts: dict[Output, ModelArtifact]
    predictions_parquet: bytes
    evaluation_json: bytes
    attacks: dict[Output, ModelAttacks]
    training_users: int
    model: TrainedModel


@dataclass(frozen=True)
class TrainedAlone:
    """A model under differential privacy with the partner's columns; the rest as in `TrainedPair`."""

    artifact: ModelArtifact
    predictions_parquet: bytes
    attacks: ModelAttacks
    training_users: int
    model: TrainedModel


@dataclass(frozen=True)
class SynthesisRows:
    """What the synthesizer may read, and whom attacks compare with: rows of users that are never in both.

    fitted, holdout: with join keys for user ids.   fitted_ids: the ids themselves, of each fitted row.
    """

    schema: TableSchema
    fitted: pa.Table
    holdout: pa.Table
    fitted_ids: pa.ChunkedArray


@dataclass(frozen=True)
class SynthesizedTable:
    """A synthetic table and what attacks found in it."""

    record: SyntheticTable
    measures: PrivacyMeasures
    users: int


def split_by_time(joined: JoinedTable, job: JobSpec) -> TimeSplit:
    """Raises BadInputError if a part is empty."""
    time = joined.table[joined.schema.time.name].cast(pa.int64()).to_numpy()
    is_test, is_train = time >= job.test_from_ms, time < job.validation_from_ms
    parts = [np.flatnonzero(mask).astype(np.int64) for mask in (is_train, ~is_train & ~is_test, is_test)]
    for name, part in zip(("training", "validation", "test"), parts, strict=True):
        if len(part) == 0:
            raise BadInputError(f"there are no {name} rows", hint="look at validation_from_ms and test_from_ms")
    return TimeSplit(*parts)


def train_pair(joined: JoinedTable, job: JobSpec, split: TimeSplit, tell: Tell) -> TrainedPair:
    """Train without and with the partner's columns, on the same rows, seed and settings."""
    labels = joined.table[joined.schema.label.name].cast(pa.int64()).to_numpy()
    users = joined.user_key.to_numpy()
    artifacts: dict[Output, ModelArtifact] = {}
    attacks, scores, evaluation = {}, {}, {}
    data_hash = _data_hash(job)
    test = joined.table.take(pa.array(split.test))
    for output, schema in (
        (Output.MODEL_WITHOUT_PARTNER, joined.without_partner),
        (Output.MODEL, joined.schema),
    ):
        config = _train_config(job, schema)
        name = "with partner" if output is Output.MODEL else "without partner"

        before = 0.5 * len(artifacts)

        def on_check(check: Check, name: str = name, before: float = before) -> None:
            done = check.rows_seen / (len(split.train) * job.max_epochs)
            tell(before + 0.5 * min(done, 1.0), f"training {name}")

        tell(before, f"training {name}")
        model = train(
            joined.table,
            schema,
            split=RowSplit(split.train, split.validation),
            config=config,
            seed=job.seed,
            progress=on_check,
        )
        predicted = model.predict(test)
        measured = evaluate(labels[split.test], predicted, users[split.test])
        scores[output] = predicted
        attacks[output] = attack_model(model, joined.table, labels, split.train, split.validation, job.seed)
        evaluation[output.value] = measured.as_json()
        artifacts[output] = _exported(model, joined, split, output.value, data_hash)
    columns = {"without_partner": scores[Output.MODEL_WITHOUT_PARTNER], "with_partner": scores[Output.MODEL]}
    return TrainedPair(
        artifacts=artifacts,
        predictions_parquet=_predictions(labels, split, columns),
        evaluation_json=json.dumps(evaluation, indent=1).encode(),
        attacks=attacks,
        training_users=len(np.unique(users[split.train])),
        model=model,
    )


def private_features(joined: JoinedTable, job: JobSpec) -> tuple[str, ...] | None:
    """The job's columns for private training; None for all that it can take.

    Raises FeatureError, ModelError for a column that may not be a feature, or that other users' rows move.
    """
    refuse_item_columns(job.features, joined.item_columns, where="private_training")
    schema = joined.of_single_users.schema
    names = tuple(name for name in job.features if name in schema) or None
    private_columns(schema, names)
    return names


def train_private_model(
    joined: JoinedTable, job: JobSpec, request: PrivateTraining, split: TimeSplit, k: int, source: RandomSource
) -> TrainedAlone:
    """Train under differential privacy on the training rows of `joined.of_single_users`.

    k: fewest users that share any value, ad or context in the model.   source: of noise.
    """
    alone = joined.of_single_users
    labels = alone.table[alone.schema.label.name].cast(pa.int64()).to_numpy()
    model, listing = train_private_with_listing(
        alone.table,
        alone.schema,
        rows=split.train,
        loss=request.loss,
        source=source,
        features=private_features(joined, job),
        settings=TrainerSettings(rows_per_user=request.max_rows_per_user),
        seed=job.seed,
        least_users=k,
    )
    predicted = model.predict(alone.table.take(pa.array(split.test)))
    return TrainedAlone(
        artifact=export(
            model,
            items=listing.items,
            contexts=listing.contexts,
            name=Output.MODEL.value,
            training_data_sha256=[_data_hash(job)],
        ),
        predictions_parquet=_predictions(labels, split, {"with_partner": predicted}),
        attacks=attack_model(model, alone.table, labels, split.train, split.validation, job.seed),
        training_users=len(np.unique(alone.user_key.to_numpy()[split.train])),
        model=model,
    )


def _predictions(labels: Ints, split: TimeSplit, columns: Mapping[str, NDArray[np.float64]]) -> bytes:
    """Parquet of the test rows: their numbers, labels, and what models say of them."""
    table = pa.table({"row": split.test, "label": pa.array(labels[split.test].astype(np.int8)), **columns})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _data_hash(job: JobSpec) -> str:
    return hashlib.sha256(str(job.as_json()).encode()).hexdigest()


def _train_config(job: JobSpec, schema: TableSchema) -> TrainConfig:
    """The job's columns and ensemble, with the defaults of the row-by-row trainer for the rest.

    Raises FeatureError if the job names a column that may not be a feature.
    """
    names = tuple(name for name in job.features if name in schema) or None
    return TrainConfig(
        features=names,
        members=job.members,
        max_epochs=job.max_epochs,
    )


def synthesize(
    joined: JoinedTable, request: SynthesizeRequest, before_ms: int, k: int, seed: int, source: RandomSource
) -> SynthesizedTable:
    """A user-level differentially private synthetic table of the rows before `before_ms`, and attacks on it.

    k: fewest users that share any value in it.   source: of noise, and of which users are held out.
    Raises BadInputError if a column may not be synthesized, FeatureError if other users' rows move it.
    """
    rows = synthesis_rows(joined, request, before_ms, source.token(KEY_BYTES))
    model = fit(
        rows.fitted,
        rows.schema,
        loss=request.loss,
        unit="user",
        max_rows_per_user=request.max_rows_per_user,
        least_users=k,
        source=source,
    )
    made = model.sample(request.rows, stream(seed, "synthetic table"))
    # Attacks look for the ids that people know, not for this run's keys.
    place = rows.fitted.column_names.index(rows.schema.user_id.name)
    real = rows.fitted.set_column(place, rows.schema.user_id.name, rows.fitted_ids)
    return SynthesizedTable(
        record=to_record(model, made, "synthetic_table"),
        measures=measure(real, rows.holdout, made, rows.schema, seed=seed),
        users=len(pc.unique(rows.fitted[rows.schema.user_id.name])),
    )


def synthesis_rows(joined: JoinedTable, request: SynthesizeRequest, before_ms: int, secret: bytes) -> SynthesisRows:
    """The rows before `before_ms` of `joined.of_single_users`, split by users.

    secret: of one job; whether a user is held out depends on it and on that user's id alone, so that nobody else moves
    when a user comes or goes.   Raises what `synthetic_schema` raises.
    """
    schema = synthetic_schema(joined.schema, joined.item_columns, request.columns)
    alone, user_id = joined.of_single_users, joined.schema.user_id.name
    is_before = pc.less(joined.table[joined.schema.time.name].cast(pa.int64()), before_ms)
    table = alone.table.select(list(schema.names)).filter(is_before)
    ids = joined.table[user_id].filter(is_before)
    is_holdout = pa.array(join_keys(ids, secret).to_numpy() % HOLDOUT_ONE_IN == 0)
    is_fitted = pc.invert(is_holdout)
    return SynthesisRows(schema, table.filter(is_fitted), table.filter(is_holdout), ids.filter(is_fitted))


def _exported(model: TrainedModel, joined: JoinedTable, split: TimeSplit, name: str, data_hash: str) -> ModelArtifact:
    known = joined.table.take(pa.array(np.sort(np.concatenate([split.train, split.validation]))))
    items = latest_rows(known, joined.schema.item_id.name, joined.schema.time.name)
    return export(
        model,
        items=items,
        contexts=distinct_contexts(model, known),
        name=name,
        training_data_sha256=[data_hash],
    )
