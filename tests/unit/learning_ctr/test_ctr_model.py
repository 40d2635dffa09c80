"""The factorised model learns, splits exactly, and scores the same from its exported parts."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adyton.kernel.records import ModelArtifact
from adyton.learning.ctr import store
from adyton.learning.ctr.artifact import (
    UNKNOWN_ID,
    ArtifactScorer,
    context_id,
    distinct_contexts,
    export,
    latest_rows,
    score_artifact,
)
from adyton.learning.ctr.config import TrainConfig, Trainer
from adyton.learning.ctr.fields import FieldEncoder, Side
from adyton.learning.ctr.live_level import with_live_level
from adyton.learning.ctr.network import FactorisedNetwork, SideVectors, combine
from adyton.learning.ctr.prediction import side_vectors
from adyton.learning.ctr.training import RowSplit, TrainedModel, train
from adyton.learning.errors import FeatureError, ModelError, TableError
from adyton.learning.metrics import Metric, auc
from adyton.learning.schema import Column, Kind, Role, TableSchema

SCHEMA = TableSchema(
    (
        Column("user", Role.USER_ID, Kind.CATEGORY),
        Column("item", Role.ITEM_ID, Kind.CATEGORY),
        Column("at_ms", Role.TIME, Kind.TIMESTAMP),
        Column("age", Role.USER, Kind.NUMBER),
        Column("city", Role.USER, Kind.CATEGORY),
        Column("read", Role.SEQUENCE, Kind.LIST),
        Column("theme", Role.AD, Kind.CATEGORY),
        Column("hour", Role.CONTEXT, Kind.CATEGORY),
        Column("slot", Role.CONTEXT, Kind.CATEGORY),
        Column("seconds", Role.OUTCOME, Kind.NUMBER),
        Column("label", Role.LABEL, Kind.BINARY),
    )
)
N_ROWS = 6_000
SPLIT = RowSplit(np.arange(4_000), np.arange(4_000, 5_000))
CONFIG = TrainConfig(batch_size=256, learning_rate=0.02, row_rate=0.03, max_epochs=4, min_count=2, list_slots=3)


def impressions(n: int = N_ROWS, seed: int = 5) -> pa.Table:
    """Clicks follow from city x theme, age, the list and the hour; `item` fixes `theme`."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 300, n), rng.integers(0, 40, n)
    city, theme = user % 7, item % 5
    age = (user * 13 % 60 + 18).astype(float)
    hour = rng.integers(0, 6, n)
    read = [[f"t{v}" for v in rng.integers(0, 5, rng.integers(0, 6))] for _ in range(n)]
    likes = np.array([sum(v == f"t{t}" for v in r[-3:]) for r, t in zip(read, theme, strict=True)])
    logit = -1 + 1.5 * ((city + theme) % 3 - 1) + (age - 48) / 20 + 0.8 * likes + 0.5 * (hour == 3)
    label = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.int8)
    return pa.table(
        {
            "user": [f"u{v}" for v in user],
            "item": item,
            "at_ms": np.arange(n),
            "age": pa.array([None if rng.random() < 0.05 else v for v in age], pa.float64()),
            "city": pa.array([f"c{v}" for v in city]).dictionary_encode(),
            "read": read,
            "theme": theme,
            "hour": hour,
            "slot": rng.integers(0, 2, n),
            "seconds": label * 10.0,
            "label": label,
        }
    )


@cache
def data() -> pa.Table:
    return impressions()


@cache
def trained(members: int = 2) -> TrainedModel:
    config = TrainConfig(**{**CONFIG.__dict__, "members": members})
    return train(data(), SCHEMA, split=SPLIT, config=config, seed=1)


@cache
def exported() -> ModelArtifact:
    model = trained()
    return export(
        model,
        items=latest_rows(data(), "item", "at_ms"),
        contexts=distinct_contexts(model, data()),
        training_data_sha256=("ab" * 32,),
        metrics={"auc": 0.7},
    )


def test_the_model_learns_what_the_sides_say_together() -> None:
    test = data().slice(5_000)

    assert auc(test["label"].to_numpy(), trained().predict(test)) > 0.72


def test_scores_from_the_artifact_equal_torchs_to_1e_5() -> None:
    test, model = data().slice(5_000), trained()
    user_fields = model.encoder.encode(test, Side.USER)
    ads = [str(v) for v in test["item"].to_pylist()]
    contexts = [context_id(model, row) for row in test.select(["hour", "slot"]).to_pylist()]

    logits = ArtifactScorer(exported()).logits(user_fields, ads, contexts)

    assert np.abs(logits - model.logits(test)).max() < 1e-5
    assert np.abs(score_artifact(exported(), user_fields, ads, contexts) - model.predict(test)).max() < 1e-5


def test_the_vector_files_have_the_columns_of_the_record_and_an_unknown_row() -> None:
    ads = pq.read_table(io.BytesIO(exported().ad_vectors_parquet))
    contexts = pq.read_table(io.BytesIO(exported().context_vectors_parquet))
    dim = exported().manifest["vector_dim"]

    assert ads.column_names == ["id", "to_user", "to_context", "bias"]
    assert contexts.column_names == ["id", "to_user", "to_ad", "bias"]
    assert ads.schema.field("to_user").type == pa.list_(pa.float32())
    assert {len(v) for v in ads["to_user"].to_pylist()} == {dim}
    assert set(ads["id"].to_pylist()) == {*map(str, range(40)), UNKNOWN_ID}
    assert len(contexts) == 12 + 1


def test_an_ad_that_training_did_not_see_scores_like_the_unknown_row() -> None:
    user_fields = trained().encoder.encode(data().slice(5_000, 2), Side.USER)
    scorer = ArtifactScorer(exported())

    unseen = scorer.logits(user_fields, ["no such ad"] * 2, ["nowhere"] * 2)

    assert np.array_equal(unseen, scorer.logits(user_fields, [UNKNOWN_ID] * 2, [UNKNOWN_ID] * 2))


def test_the_manifest_alone_encodes_a_raw_record_like_the_model() -> None:
    manifest = json.loads(json.dumps(dict(exported().manifest)))
    encoder = FieldEncoder.from_json(manifest["fields"])
    test = data().slice(5_000, 200)
    expected = trained().encoder.encode(test, Side.USER)

    records = test.select(["age", "city", "read"]).to_pylist()

    assert [encoder.encode_record(record, Side.USER) for record in records] == expected.tolist()
    assert manifest["user_input_width"] == expected.shape[1] == 1 + 1 + 3
    assert encoder.encode_record({}, Side.USER) == [0] * 5


def test_the_user_id_is_a_field_only_when_it_is_asked_for() -> None:
    names = {field.name for field in trained().encoder.fields}
    config = TrainConfig(**{**CONFIG.__dict__, "features": ("user", "item"), "max_epochs": 1})
    asked = train(data(), SCHEMA, split=SPLIT, config=config, seed=1)

    assert names == {"item", "age", "city", "read", "theme", "hour", "slot"}
    assert {field.name for field in asked.encoder.fields} == {"user", "item"}


def test_a_model_without_context_fields_still_exports() -> None:
    config = TrainConfig(**{**CONFIG.__dict__, "features": ("city", "theme"), "max_epochs": 1})
    model = train(data(), SCHEMA, split=SPLIT, config=config, seed=1)
    test = data().slice(5_000, 50)
    artifact = export(model, items=latest_rows(data(), "item", "at_ms"), contexts=distinct_contexts(model, test))

    ads = [str(v) for v in test["item"].to_pylist()]
    logits = ArtifactScorer(artifact).logits(model.encoder.encode(test, Side.USER), ads, [UNKNOWN_ID] * 50)

    assert np.abs(logits - model.logits(test)).max() < 1e-5


def test_the_same_seed_gives_the_same_model_and_another_seed_another() -> None:
    config = TrainConfig(**{**CONFIG.__dict__, "max_epochs": 1, "dropout": 0.2, "trainer": Trainer.BATCHES})
    test = data().slice(5_000)
    a, b = (train(data(), SCHEMA, split=SPLIT, config=config, seed=3).logits(test) for _ in range(2))
    other = train(data(), SCHEMA, split=SPLIT, config=config, seed=4).logits(test)

    assert np.array_equal(a, b)
    assert not np.allclose(a, other)


def test_the_best_check_is_kept_for_the_metric_asked_for() -> None:
    checks: list[float] = []
    config = TrainConfig(**{**CONFIG.__dict__, "stop_on": Metric.LOGLOSS, "max_epochs": 6, "calibrate": False})
    model = train(
        data(), SCHEMA, split=SPLIT, config=config, seed=1, progress=lambda check: checks.append(check.value)
    )  # fmt: skip
    validation = data().slice(4_000, 1_000)
    p = model.predict(validation)
    y = validation["label"].to_numpy()

    assert -np.mean(np.log(np.where(y == 1, p, 1 - p))) == pytest.approx(min(checks), abs=1e-5)
    assert [check.value for check in model.checks] == checks


def test_an_outcome_as_a_feature_and_bad_labels_are_refused() -> None:
    with pytest.raises(FeatureError):
        train(data(), SCHEMA, split=SPLIT, config=TrainConfig(features=("age", "seconds")), seed=1)
    ones = data().set_column(10, "label", pa.array(np.ones(N_ROWS, np.int8)))
    with pytest.raises(ModelError):
        train(ones, SCHEMA, split=SPLIT, config=CONFIG, seed=1)
    twos = data().set_column(10, "label", pa.array(np.full(N_ROWS, 2, np.int8)))
    with pytest.raises(TableError):
        train(twos, SCHEMA, split=SPLIT, config=CONFIG, seed=1)
    with pytest.raises(TableError):
        trained().predict(data().drop_columns(["age"]))
    with pytest.raises(ModelError):
        RowSplit(np.arange(5), np.arange(4, 8))


def test_a_member_gives_the_same_whatever_a_left_out_field_holds() -> None:
    """Lists, numbers and categories; the other member, which reads them, does change."""
    without = ("city", "age", "read")
    config = TrainConfig(**{**CONFIG.__dict__, "max_epochs": 1, "members": 2, "leave_out": ((), without)})
    model = train(data(), SCHEMA, split=SPLIT, config=config, seed=1)
    test = data().slice(5_000)
    shuffled = test
    for name in without:
        order = pa.array(np.random.default_rng(3).permutation(1_000))
        shuffled = shuffled.set_column(test.column_names.index(name), name, test[name].take(order))

    def logits(member: int, table: pa.Table) -> np.ndarray:
        return replace(model, members=(model.members[member],)).logits(table)

    assert np.allclose(logits(1, test), logits(1, shuffled), atol=1e-5)
    assert np.abs(logits(0, test) - logits(0, shuffled)).max() > 0.1
    assert np.std(logits(1, test)) > 0.05
    with pytest.raises(ModelError):
        train(data(), SCHEMA, split=SPLIT, config=replace(config, leave_out=(("town",),)), seed=1)


def test_levels_of_users_come_from_the_first_pass_and_tastes_from_both() -> None:
    """Each part of the score, made by hand from the two networks: levels of the three sides, pairs, and the mean."""
    config = TrainConfig(**{**CONFIG.__dict__, "max_epochs": 1, "checks_per_epoch": 1, "calibrate": False})
    with_tastes = replace(config, taste_epochs=1)
    first = train(data(), SCHEMA, split=SPLIT, config=config, seed=1)
    second = train(
        data(), SCHEMA, split=SPLIT, config=replace(config, max_epochs=2, patience=9, stop_on=Metric.LOGLOSS), seed=1
    )
    shared = train(data(), SCHEMA, split=SPLIT, config=with_tastes, seed=1)
    rows = [first.encoder.encode(data(), side)[SPLIT.train] for side in Side]

    def parts(member: FactorisedNetwork) -> tuple[float, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        u, a, c = (side_vectors(member.sides[s], x) for s, x in zip(Side, rows, strict=True))
        levels = [
            (u.bias + u.first @ a.first.mean(0) + u.second @ c.first.mean(0)).numpy(),
            (a.bias + a.first @ u.first.mean(0) + a.second @ c.second.mean(0)).numpy(),
            (c.bias + c.first @ u.second.mean(0) + c.second @ a.second.mean(0)).numpy(),
        ]
        mean = float(combine(*(SideVectors(*(v.mean(0, keepdim=True) for v in side)) for side in (u, a, c))))
        user, ad, context = (level - level.mean() for level in levels)
        return mean, user, ad, context, combine(u, a, c).numpy() - mean - user - ad - context

    mean, user, ad, context, pairs = parts(first.members[0])
    later_mean, _, later_ad, later_context, later_pairs = parts(second.members[0])
    made = (mean + later_mean) / 2 + user + 0.6 * ad + 0.4 * later_ad + later_context + (pairs + later_pairs) / 2

    assert len(shared.members) == 2
    assert np.allclose(shared.logits(data().take(pa.array(SPLIT.train))), made, atol=1e-4)
    for one, other in ((ad, later_ad), (context, later_context), (pairs, later_pairs)):
        assert not np.allclose(one, other, atol=1e-2)


def test_a_model_of_levels_and_tastes_is_stored_exported_and_goes_on(tmp_path: Path) -> None:
    changes = {"max_epochs": 1, "members": 2, "taste_epochs": 1, "leave_out": ((), ("city",))}
    model = train(data(), SCHEMA, split=SPLIT, config=TrainConfig(**{**CONFIG.__dict__, **changes}), seed=1)
    store.save(model, tmp_path / "m.npz")
    loaded, test = store.load(tmp_path / "m.npz"), data().slice(5_000)
    artifact = export(loaded, items=latest_rows(data(), "item", "at_ms"), contexts=distinct_contexts(loaded, data()))
    contexts = [context_id(loaded, row) for row in test.select(["hour", "slot"]).to_pylist()]
    ads = [str(v) for v in test["item"].to_pylist()]
    logits = ArtifactScorer(artifact).logits(loaded.encoder.encode(test, Side.USER), ads, contexts)
    goes_on = train(data(), SCHEMA, split=SPLIT, config=replace(CONFIG, max_epochs=1), seed=2, start=loaded)

    assert np.array_equal(loaded.logits(test), model.logits(test))
    assert np.abs(logits - model.logits(test)).max() < 1e-5
    assert len(goes_on.members) == 4
    assert auc(test["label"].to_numpy(), goes_on.predict(test)) > 0.7


def test_members_trained_at_once_are_those_trained_one_after_the_other() -> None:
    changes = {"max_epochs": 2, "members": 3, "taste_epochs": 1, "leave_out": ((), ("city",))}
    config = TrainConfig(**{**CONFIG.__dict__, **changes})
    one, three = (train(data(), SCHEMA, split=SPLIT, config=replace(config, threads=n), seed=1) for n in (1, 3))

    assert one.checks == three.checks
    assert [check.member for check in one.checks] == sorted(check.member for check in one.checks)
    assert np.array_equal(one.logits(data()), three.logits(data()))


def test_networks_distilled_from_many_score_like_them(tmp_path: Path) -> None:
    """They are stored, exported and go on as any members; without their teachers they would not come as near."""
    changes = {"max_epochs": 2, "members": 4, "taste_epochs": 1, "leave_out": ((), ("city",)), "min_count": 5}
    config = TrainConfig(**{**CONFIG.__dict__, **changes})
    teacher = train(data(), SCHEMA, split=SPLIT, config=config, seed=1)
    model = train(data(), SCHEMA, split=SPLIT, config=replace(config, distil_passes=6, students=2), seed=1)
    alone = train(data(), SCHEMA, split=SPLIT, config=replace(CONFIG, max_epochs=2, members=2), seed=2)
    test, expected = data().slice(5_000), teacher.logits(data().slice(5_000))
    store.save(model, tmp_path / "m.npz")
    loaded = store.load(tmp_path / "m.npz")
    artifact = export(loaded, items=latest_rows(data(), "item", "at_ms"), contexts=distinct_contexts(loaded, data()))
    goes_on = train(data(), SCHEMA, split=SPLIT, config=replace(CONFIG, max_epochs=1), seed=2, start=loaded)

    def distance(one: TrainedModel) -> float:
        return float(np.std(one.logits(test) - expected))

    assert len(teacher.members) == 8
    assert len(model.members) == len(goes_on.members) == 2
    assert not np.array_equal(*(replace(model, members=(one,)).logits(test) for one in model.members))
    assert distance(model) < 0.5 * distance(alone)
    assert distance(model) < 0.25 * np.std(expected)
    assert np.array_equal(loaded.logits(test), model.logits(test))
    assert artifact.manifest["vector_dim"] == 2 * (CONFIG.fm_dim + CONFIG.head_dim)
    assert goes_on.config.distil_passes == 0


def test_repeated_ad_ids_are_refused_at_export() -> None:
    with pytest.raises(ModelError):
        export(trained(), items=data().slice(0, 200), contexts=distinct_contexts(trained(), data()))


def test_shuffling_the_future_changes_nothing_that_was_learned() -> None:
    """Rows outside training and validation, labels included, must not reach the model."""
    rng = np.random.default_rng(0)
    future = data().slice(5_000).take(pa.array(rng.permutation(1_000)))
    shuffled = pa.concat_tables([data().slice(0, 5_000), future]).combine_chunks()
    config = TrainConfig(**{**CONFIG.__dict__, "max_epochs": 1})
    probe = data().slice(5_000)

    a, b = (
        with_live_level(train(table, SCHEMA, split=SPLIT, config=config, seed=2), table, SPLIT.validation)
        for table in (data(), shuffled)
    )

    assert np.array_equal(a.logits(probe), b.logits(probe))
    assert a.live_precision == b.live_precision is not None


def test_training_goes_on_from_a_model_on_new_rows() -> None:
    """A day later: fields and vocabularies stay, a little training moves the weights and does not start over."""
    config = TrainConfig(**{**CONFIG.__dict__, "max_epochs": 1, "checks_per_epoch": 1})
    new_day = RowSplit(np.arange(4_000, 4_400), np.arange(4_400, 5_000))
    test = data().slice(5_000)

    updated = train(data(), SCHEMA, split=new_day, config=config, seed=2, start=trained())
    from_nothing = train(data(), SCHEMA, split=new_day, config=config, seed=2)

    assert updated.encoder is trained().encoder
    assert len(updated.members) == len(trained().members)
    assert not np.allclose(updated.logits(test), trained().logits(test))
    labels = test["label"].to_numpy()
    assert auc(labels, updated.predict(test)) > auc(labels, from_nothing.predict(test)) + 0.02


def test_both_trainers_learn_and_rows_refuse_what_they_cannot_do() -> None:
    config = TrainConfig(**{**CONFIG.__dict__, "trainer": Trainer.BATCHES, "hidden": (16, 8)})
    test = data().slice(5_000)

    assert auc(test["label"].to_numpy(), train(data(), SCHEMA, split=SPLIT, config=config, seed=1).predict(test)) > 0.72
    for wrong in (
        {"hidden": (16, 8)},
        {"dropout": 0.1},
        {"decay": 0.1},
        {"row_rate": 0.0},
        {"min_count": 0},
        {"taste_epochs": -1},
        {"taste_epochs": 1, "trainer": Trainer.BATCHES},
        {"distil_passes": -1},
        {"distil_passes": 1, "trainer": Trainer.BATCHES},
    ):
        with pytest.raises(ModelError):
            TrainConfig(**{**CONFIG.__dict__, **wrong})
