"""Made-up impressions in which two of four user features matter, one of them twice over."""

from __future__ import annotations

import numpy as np
import pytest

from adyton.learning.egress.features import EgressData, UserFeature


@pytest.fixture(scope="session")
def data() -> EgressData:
    rng = np.random.default_rng(0)
    n = 16_000
    strong, weak, noise = rng.integers(0, 8, n), rng.integers(0, 4, n), rng.integers(0, 16, n)
    slot = rng.integers(0, 5, n)
    score = 0.5 * (strong - 3.5) + 0.25 * (weak - 1.5) * (slot - 2) + 0.3 * (slot - 2) - 0.3
    labels = (rng.random(n) < 1 / (1 + np.exp(-score))).astype(np.int64)
    return EgressData(
        (
            UserFeature("strong", 3, strong),
            UserFeature("copy", 3, 7 - strong),
            UserFeature("weak", 2, weak),
            UserFeature("noise", 4, noise),
        ),
        slot[:, None],
        (5,),
        labels,
        np.arange(n) >= 11_000,
    )
