"""Private training: bounds hold for every user, noise is what was paid for, and leaving it out is noticed."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from adyton.kernel.chance import InsecureFixedRandom, OsRandom
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.ctr import private_trainer, store
from adyton.learning.ctr.artifact import ArtifactScorer, export
from adyton.learning.ctr.fields import Side
from adyton.learning.ctr.private_kernel import GRID, add_clipped_gradients
from adyton.learning.ctr.private_trainer import (
    PUBLIC_EDGES,
    PrivateTraining,
    train_private,
    train_private_with_listing,
)
from adyton.learning.errors import ModelError, TableError
from adyton.learning.metrics import auc
from adyton.learning.schema import Column, Kind, Role, TableSchema
from adyton.learning.synth.accounting import Spending, delta_of
from adyton.learning.synth.errors import SynthesisInputError
from adyton.learning.synth.noise import OpenDpNoise

Ints = NDArray[np.int64]
SCHEMA = TableSchema(
    (
        Column("user", Role.USER_ID, Kind.CATEGORY),
        Column("clicked", Role.LABEL, Kind.BINARY),
        Column("taste", Role.USER, Kind.CATEGORY),
        Column("age", Role.USER, Kind.NUMBER),
        Column("slot", Role.CONTEXT, Kind.CATEGORY),
        Column("ad", Role.ITEM_ID, Kind.CATEGORY),
    )
)
LOSS = PrivacyLoss.of(3, "1e-6")
QUICK = PrivateTraining(steps=10, rate=0.1)


def _table(users: int = 2000, rows: int = 3) -> pa.Table:
    rng = np.random.default_rng(0)
    taste, user = rng.integers(0, 4, users), np.repeat(np.arange(users), rows)
    slot = rng.integers(0, 3, user.size)
    score = 1.2 * (taste[user] - 1.5) + 0.5 * (slot - 1)
    clicked = rng.random(user.size) < 1 / (1 + np.exp(-score))
    return pa.table(
        {
            "user": user,
            "clicked": clicked.astype(np.int8),
            "taste": [f"t{t}" for t in taste[user]],
            "age": rng.normal(40, 9, user.size),
            "slot": slot,
            "ad": rng.integers(0, 2, user.size),
        }
    )


def _sum(codes: Ints, labels: Ints, user: Ints, v: NDArray[np.float64], clip: float) -> Ints:
    order = np.argsort(user, kind="stable")
    user = user[order]
    starts = np.append(np.flatnonzero(np.r_[True, user[1:] != user[:-1]]), user.size).astype(np.int64)
    total = np.zeros(1 + v.shape[0] * (1 + v.shape[1]), np.int64)
    add_clipped_gradients(
        codes[order], labels[order].astype(float), starts, 0.1, np.full(len(v), 0.2), v, clip, total
    )  # fmt: skip
    return total


@given(seed=st.integers(0, 2**32 - 1), clip=st.floats(0.01, 100.0), leaves=st.integers(0, 9))
@examples(max_examples=60, deadline=None)
def test_one_user_moves_the_sum_by_at_most_the_bound(seed: int, clip: float, leaves: int) -> None:
    rng = np.random.default_rng(seed)
    codes = np.column_stack([rng.integers(0, 5, 200), 5 + rng.integers(0, 3, 200)])
    labels, v = rng.integers(0, 2, 200), rng.normal(0, 3, (8, 2))
    user = rng.integers(0, 10, 200)
    stays = user != leaves
    moved = _sum(codes, labels, user, v, clip) - _sum(codes[stays], labels[stays], user[stays], v, clip)

    assert sum(int(m) ** 2 for m in moved) <= GRID**2


def test_the_kernel_is_the_gradient_of_the_log_loss() -> None:
    """Slow twin: numerical differences of the loss, user by user, nothing clipped."""
    rng = np.random.default_rng(1)
    codes = np.column_stack([rng.integers(0, 3, 20), 3 + rng.integers(0, 2, 20)])
    labels, v, user = rng.integers(0, 2, 20), rng.normal(0, 0.5, (5, 2)), np.arange(20) % 4
    clip = 100.0

    def loss(weights: NDArray[np.float64]) -> float:
        w, u = weights[1:6], weights[6:].reshape(5, 2)
        score = weights[0] + w[codes].sum(axis=1) + (u[codes[:, 0]] * u[codes[:, 1]]).sum(axis=1)
        return float(np.sum(np.logaddexp(0, score) - labels * score))

    at = np.concatenate([[0.1], np.full(5, 0.2), v.ravel()])
    steps = 1e-5 * np.eye(at.size)
    expected = [(loss(at + step) - loss(at - step)) / 2e-5 for step in steps]

    assert np.allclose(_sum(codes, labels, user, v, clip) * clip / GRID, expected, atol=4 * clip / GRID)


def test_what_is_spent_fits_and_the_noise_has_the_scale_that_was_paid_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variance of the noise drawn in training: 20 steps of many draws, within 5 standard errors (p < 1e-6)."""
    charged: list[Spending] = []
    drawn: list[NDArray[np.float64]] = []
    scales: list[float] = []

    class Watched(OpenDpNoise):
        def gaussian(self, counts: Ints, scale: float) -> Ints:
            noisy = super().gaussian(counts, scale)
            if counts.size > 20:  # gradients, not counts of values
                drawn.append(((noisy - counts) / scale).astype(float))
                scales.append(scale)
            return noisy

    def spending(limit: Fraction, delta_limit: Fraction) -> Spending:
        charged.append(Spending(limit, delta_limit))
        return charged[-1]

    monkeypatch.setattr(private_trainer, "noise_from", Watched)
    monkeypatch.setattr(private_trainer, "Spending", spending)
    settings = replace(QUICK, steps=20)
    train_private(_table(300), SCHEMA, rows=np.arange(900), loss=LOSS, source=OsRandom(), settings=settings)
    (spent,) = charged
    noise = np.concatenate(drawn)

    assert len(drawn) == 20
    assert spent.rho <= spent.limit
    assert delta_of(float(spent.rho), 3.0) + float(spent.delta) <= 1e-6
    gradients = sum((Fraction(GRID) ** 2 / (2 * Fraction(scale) ** 2) for scale in scales), Fraction(0))
    assert gradients == sum((cost for purpose, cost in spent.entries if purpose.startswith("step")), Fraction(0))
    assert abs(noise.var() - 1) < 5 * np.sqrt(2 / noise.size)
    assert abs(noise.mean()) < 5 / np.sqrt(noise.size)


def test_a_private_model_learns_and_says_what_it_is(tmp_path: Path) -> None:
    table = _table()
    labels = table["clicked"].to_numpy()
    model = train_private(table, SCHEMA, rows=np.arange(6000), loss=LOSS, source=InsecureFixedRandom(1), settings=QUICK)

    assert auc(labels, model.predict(table)) > 0.7
    assert model.privacy is not None
    assert model.privacy.startswith("INSECURE FIXED NOISE, protects nobody; epsilon 3, delta 1e-06, unit user")
    assert model.training_rows == 0
    (age,) = [field for field in model.encoder.fields if field.name == "age"]
    assert age.edges == PUBLIC_EDGES
    path = tmp_path / "model.npz"
    store.save(model, path)
    assert store.load(path).privacy == model.privacy
    items = table.slice(0, 60).group_by("ad").aggregate([]).sort_by("ad")
    manifest: Any = export(model, items=items, contexts=table.slice(0, 1)).manifest
    assert manifest["training"]["differential_privacy"] == model.privacy


def test_a_value_of_one_user_does_not_become_known() -> None:
    table = _table()
    taste = table["taste"].to_pylist()
    marked = table.set_column(2, "taste", pa.array(["only me", *taste[1:]]))
    model = train_private(marked, SCHEMA, rows=np.arange(6000), loss=LOSS, source=OsRandom(), settings=QUICK)

    (field,) = [field for field in model.encoder.fields if field.name == "taste"]
    assert set(field.values) == {"t0", "t1", "t2", "t3"}


def test_only_ads_and_contexts_that_enough_users_share_are_listed_and_scored_alike() -> None:
    """An ad and a slot that one user saw are in no list; what is listed scores as it does in the model."""
    table = _table()
    ads, slots = table["ad"].to_pylist(), table["slot"].to_pylist()
    table = table.set_column(5, "ad", pa.array([777, *ads[1:]])).set_column(4, "slot", pa.array([88, *slots[1:]]))
    model, listing = train_private_with_listing(
        table, SCHEMA, rows=np.arange(6000), loss=LOSS, source=OsRandom(), settings=QUICK
    )
    artifact = export(model, items=listing.items, contexts=listing.contexts)
    rows = table.slice(1, 500)
    users = model.encoder.encode(rows, Side.USER)
    scored = ArtifactScorer(artifact).logits(
        users, [str(ad) for ad in rows["ad"].to_pylist()], [f"slot={slot}" for slot in rows["slot"].to_pylist()]
    )

    assert listing.items["ad"].to_pylist() == ["0", "1"]
    assert sorted(listing.contexts["slot"].to_pylist()) == ["0", "1", "2"]
    assert np.allclose(scored, model.logits(rows), atol=1e-5)


def test_an_ads_numbers_are_listed_as_their_buckets() -> None:
    table = _table().append_column("price", pa.array(np.tile([3.0, 5.0, -7.0], 2000)))
    schema = SCHEMA.extend(Column("price", Role.AD, Kind.NUMBER))
    table = table.set_column(5, "ad", pa.array(np.tile([1, 2, 3], 2000)))
    model, listing = train_private_with_listing(
        table, schema, rows=np.arange(6000), loss=LOSS, source=OsRandom(), settings=QUICK
    )
    (price,) = [field for field in model.encoder.fields if field.name == "price"]

    assert listing.items["price"].to_pylist() == [1.0, 4.0, -16.0]
    assert (price.encode(listing.items["price"]) == price.encode(pa.array([3.0, 5.0, -7.0]))).all()


def test_a_listing_is_paid_from_the_same_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    charged: list[Spending] = []

    def spending(limit: Fraction, delta_limit: Fraction) -> Spending:
        charged.append(Spending(limit, delta_limit))
        return charged[-1]

    monkeypatch.setattr(private_trainer, "Spending", spending)
    arguments: Any = {"rows": np.arange(6000), "loss": LOSS, "source": InsecureFixedRandom(1), "settings": QUICK}
    train_private(_table(), SCHEMA, **arguments)
    train_private_with_listing(_table(), SCHEMA, **arguments)
    alone, listed = ({purpose for purpose, _ in one.entries} for one in charged)

    assert listed - alone == {"ads that are listed", "contexts that are listed"}
    assert all(one.rho <= one.limit and one.delta <= one.delta_limit for one in charged)


def test_with_more_users_asked_for_than_share_a_value_nothing_is_known() -> None:
    _, listing = train_private_with_listing(
        _table(), SCHEMA, rows=np.arange(6000), loss=LOSS, source=OsRandom(), settings=QUICK, least_users=2001
    )

    assert listing.items.num_rows == listing.contexts.num_rows == 0


def test_what_private_training_cannot_take_is_refused() -> None:
    table = _table(50)

    def train(**change: object) -> None:
        arguments = {"rows": np.arange(150), "loss": LOSS, "source": OsRandom(), **change}
        train_private(change.pop("table", table), SCHEMA, **{k: v for k, v in arguments.items() if k != "table"})  # type: ignore[arg-type]

    with pytest.raises(ModelError, match="single users"):
        train(features=("user", "slot"))
    with pytest.raises(SynthesisInputError):
        train(loss=PrivacyLoss.of(0, "1e-6"))
    with pytest.raises(TableError, match="user id"):
        train(table=table.set_column(0, "user", pa.array([None, *table["user"].to_pylist()[1:]])))
    for wrong in ({"steps": 0}, {"clip": -1.0}, {"domain_share": Fraction(1)}):
        with pytest.raises(ModelError):
            PrivateTraining(**wrong)  # type: ignore[arg-type]


def _refuted(is_noised: bool, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether an audit refutes epsilon 1, wrongly with probability below 1e-6.

    Canaries of `slot`s of their own, each in or out by coin, clicking always; the auditor guesses from each slot's
    weight. One training run (Steinke, Nasr, Jagielski 2023, Theorem 5.2; its delta term is below 1e-9 here): no 1-DP
    mechanism is right in more guesses than a coin of probability e / (1 + e).
    """
    canaries, claimed = 200, PrivacyLoss.of(1, "1e-12")
    is_in = np.random.default_rng(5).integers(0, 2, canaries).astype(bool)
    user = np.repeat(np.flatnonzero(is_in), 8)
    schema = TableSchema((SCHEMA.columns[0], SCHEMA.columns[1], Column("slot", Role.CONTEXT, Kind.NUMBER)))
    edges = tuple(float(k) for k in range(canaries))
    table = pa.table({"user": user, "clicked": np.ones(user.size, np.int8), "slot": user + 0.5})
    monkeypatch.setattr(private_trainer, "PUBLIC_EDGES", edges)
    if not is_noised:
        monkeypatch.setattr(OpenDpNoise, "gaussian", lambda _self, counts, _scale: counts)
    model = train_private(table, schema, rows=np.arange(user.size), loss=claimed, source=OsRandom(), settings=QUICK)
    weights = model.members[0].context.weights.detach().numpy()[2 : canaries + 2, 0]
    order = np.argsort(weights)
    guesses = {int(i): False for i in order[:50]} | {int(i): True for i in order[-50:]}
    right = sum(is_in[i] == guess for i, guess in guesses.items())
    return bool(binom.sf(right - 1, len(guesses), np.e / (1 + np.e)) < 1e-6)


def test_an_audit_catches_training_whose_noise_was_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _refuted(is_noised=False, monkeypatch=monkeypatch)


def test_an_audit_does_not_refute_training_with_its_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not _refuted(is_noised=True, monkeypatch=monkeypatch)
