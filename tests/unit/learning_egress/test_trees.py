"""Trees kept as arrays say what scikit-learn's own model says."""

from __future__ import annotations

import json

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from adyton.learning.egress.trees import Forest, grow


def test_the_arrays_give_scikit_learns_predictions() -> None:
    """Twin: the same settings, predicted by the library. Codes reach past its 255 bins, so that edges matter."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2000, (3000, 3))
    target = np.sin(codes[:, 0] / 300) + (codes[:, 1] > 700) * (codes[:, 2] % 2) + rng.normal(0, 0.1, 3000)
    weight = rng.random(3000) + 0.1
    twin = HistGradientBoostingRegressor(
        max_iter=20, max_leaf_nodes=12, learning_rate=0.1, l2_regularization=20.0, min_samples_leaf=5,
        early_stopping=False, random_state=0,
    ).fit(codes.astype(float), target, sample_weight=weight)  # fmt: skip
    others = rng.integers(0, 4000, (500, 3))

    trees = grow(codes, target, weight, Forest(20, 12))

    assert np.allclose(trees.values(others), twin.predict(others.astype(float)), atol=1e-12)


def test_a_script_can_walk_what_is_stored() -> None:
    """The walk in plain Python, from JSON alone."""
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 9, (400, 2))
    trees = grow(codes, (codes[:, 0] * codes[:, 1]).astype(float), np.ones(400), Forest(5, 6))
    stored = json.loads(json.dumps(trees.as_json(), allow_nan=False))

    for row, value in zip(codes[:50].tolist(), trees.values(codes[:50]), strict=True):
        total = stored["base"]
        for node in stored["roots"]:
            while stored["feature"][node] >= 0:
                goes_left = row[stored["feature"][node]] <= stored["threshold"][node]
                node = stored["left" if goes_left else "right"][node]
            total += stored["value"][node]
        assert abs(total - value) < 1e-12
