"""The fast machine agrees with a plain one and learns what only crossings show."""

from __future__ import annotations

import numpy as np

from adyton.learning.egress.machine import FactorizationTrainer
from adyton.learning.metrics import auc


def test_scores_equal_the_sum_over_pairs() -> None:
    """Slow twin: the definition, pair by pair."""
    rng = np.random.default_rng(0)
    codes, labels = rng.integers(0, 6, (300, 4)), rng.integers(0, 2, 300)
    machine = FactorizationTrainer(epochs=3, learning_rate=0.1).fit(codes, labels, (6, 6, 6, 6))

    expected = []
    for row in codes + machine.first:
        score = machine.bias + machine.w[row].sum()
        for f in range(4):
            for g in range(f):
                score += float(machine.v[row[f]] @ machine.v[row[g]])
        expected.append(1 / (1 + np.exp(-score)))
    assert np.allclose(machine.probabilities(codes), expected, atol=1e-5)


def test_crossings_are_learned_where_no_single_field_helps() -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 2, (6000, 2))
    labels = (rng.random(6000) < np.where(codes[:, 0] == codes[:, 1], 0.8, 0.2)).astype(np.int64)
    trained = FactorizationTrainer(epochs=10, learning_rate=0.1, l2=1e-4)
    predicted = trained.fit_predict(codes[:4000], labels[:4000], codes[4000:], (2, 2))

    assert auc(labels[4000:], predicted) > 0.75


def test_training_repeats_itself_and_other_seeds_differ() -> None:
    rng = np.random.default_rng(0)
    codes, labels = rng.integers(0, 6, (300, 3)), rng.integers(0, 2, 300)

    def trained(seed: int) -> bytes:
        return FactorizationTrainer(seed=seed).fit(codes, labels, (6, 6, 6)).v.tobytes()

    assert trained(1) == trained(1)
    assert trained(1) != trained(2)
