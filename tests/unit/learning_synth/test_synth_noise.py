"""Noise has the spread it claims, fixed noise repeats itself, and bounding keeps at most m rows."""

from __future__ import annotations

import numpy as np
import pytest

from adyton.kernel.chance import InsecureFixedRandom, OsRandom, RandomSource
from adyton.learning.synth.bounding import bounded_rows, rank_within
from adyton.learning.synth.noise import FixedNoise, OpenDpNoise, noise_from


@pytest.mark.parametrize("source", [OsRandom(), InsecureFixedRandom(1)])
@pytest.mark.parametrize("scale", [0.7, 5.0, 60.0])
def test_gaussian_noise_has_mean_zero_and_the_stated_scale(source: RandomSource, scale: float) -> None:
    drawn = noise_from(source).gaussian(np.zeros(4000, np.int64), scale).astype(float)

    # Six standard errors: the test fails by chance about once in 10^8 runs.
    assert abs(drawn.mean()) < 6 * scale / np.sqrt(drawn.size)
    assert abs(drawn.std() / scale - 1) < 6 / np.sqrt(2 * drawn.size) + 0.01


@pytest.mark.parametrize("source", [OsRandom(), InsecureFixedRandom(1)])
def test_small_scale_noise_follows_the_discrete_gaussian(source: RandomSource) -> None:
    drawn = noise_from(source).gaussian(np.zeros(4000, np.int64), 1.0)
    weights = np.exp(-(np.arange(-8, 9) ** 2) / 2)

    expected = weights / weights.sum()
    seen = np.array([(drawn == k).mean() for k in range(-8, 9)])
    assert np.abs(seen - expected).max() < 6 * 0.5 / np.sqrt(drawn.size)


def test_counts_keep_their_shape_and_move() -> None:
    counts = np.arange(12, dtype=np.int64).reshape(3, 4) * 100
    noisy = noise_from(OsRandom()).gaussian(counts, 3.0)

    assert noisy.shape == counts.shape
    assert np.abs(noisy - counts).max() < 60
    assert (noisy != counts).any()


@pytest.mark.parametrize("source", [OsRandom(), InsecureFixedRandom(1)])
def test_noisy_max_prefers_larger_scores_in_the_exponential_proportion(source: RandomSource) -> None:
    """Gumbel noise of scale s picks i with weight exp(score_i / s)."""
    noise = noise_from(source)
    picks = [noise.noisy_max(np.array([0, 10]), 10.0) for _ in range(1500)]

    assert abs(np.mean(picks) - np.e / (1 + np.e)) < 6 * 0.5 / np.sqrt(1500)


def test_only_a_secure_source_gets_exact_noise() -> None:
    assert isinstance(noise_from(OsRandom()), OpenDpNoise)
    assert isinstance(noise_from(InsecureFixedRandom(0)), FixedNoise)


def test_fixed_noise_repeats_and_other_seeds_differ() -> None:
    def drawn(seed: int) -> list[int]:
        return noise_from(InsecureFixedRandom(seed)).gaussian(np.zeros(50, np.int64), 9.0).tolist()

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_no_user_keeps_more_rows_than_allowed_and_small_users_keep_all() -> None:
    rng = np.random.default_rng(0)
    user = rng.integers(0, 40, 500)
    kept = bounded_rows(user, 6, rng.integers(0, 2**63, 500).astype(np.uint64))

    before, after = np.bincount(user, minlength=40), np.bincount(user[kept], minlength=40)
    assert after.tolist() == np.minimum(before, 6).tolist()


def test_a_new_user_leaves_the_rows_kept_of_others_alone() -> None:
    """Bounding must be stable, or one user would change the rows of another."""
    rng = np.random.default_rng(0)
    user, keys = rng.integers(0, 9, 100), rng.integers(0, 2**63, 100).astype(np.uint64)
    with_newcomer = bounded_rows(np.r_[user, [99] * 20], 3, np.r_[keys, keys[:20]])

    assert with_newcomer[with_newcomer < 100].tolist() == bounded_rows(user, 3, keys).tolist()


def test_ranks_count_smaller_keys_of_the_same_group() -> None:
    ranks = rank_within(np.array([5, 7, 5, 5, 7]), np.array([30, 1, 10, 20, 2], np.uint64))

    assert ranks.tolist() == [2, 0, 0, 1, 1]
