"""A live level knows strictly earlier outcomes, follows them, and keeps the standing order of a user's rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adyton.learning.ctr.live_level import Shown, UserLevel, follow
from adyton.learning.metrics import auc, gauc, logloss


def rows(n_users: int, rows_each: int, *, spread: float = 1.0, seed: int = 1) -> tuple[np.ndarray, ...]:
    """Standing logits that know the ad but not the user's level, clicks, users, times (some shared)."""
    rng = np.random.default_rng(seed)
    user = rng.permutation(np.repeat(np.arange(n_users), rows_each))
    standing = rng.normal(0, 0.7, user.size)
    level = rng.normal(0, spread, n_users)[user]
    clicked = (rng.random(user.size) < 1 / (1 + np.exp(-standing - level))).astype(np.int64)
    return standing, clicked, user, rng.integers(0, 4 * rows_each, user.size)


def test_levels_are_learned_and_no_user_sees_another_order() -> None:
    """AUC and log loss gain what the standing model does not know; GAUC is what it was, to the last digit."""
    standing, clicked, user, at = rows(400, 12)
    live = follow(standing, clicked, user, at, prior_precision=1.0)

    assert auc(clicked, live) > auc(clicked, standing) + 0.03
    assert logloss(clicked, 1 / (1 + np.exp(-live))) < logloss(clicked, 1 / (1 + np.exp(-standing))) - 0.02
    assert gauc(clicked, live, user) == gauc(clicked, standing, user)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([-9.0, -1.0, -0.5, 0.0, 0.25, 0.2500001, 2.0, 30.0]), st.booleans(),
                       st.integers(0, 8)), min_size=2, max_size=40),
    st.sampled_from([0.05, 1.0, 64.0]),
)  # fmt: skip
def test_equal_standing_gives_equal_scores_and_higher_gives_higher(
    shown: list[tuple[float, bool, int]], prior_precision: float
) -> None:
    """Also for simultaneous rows, and where a level that runs away has left hardly any room."""
    standing, clicked, at = (np.array(column) for column in zip(*shown, strict=True))
    one_user = np.zeros(len(shown), np.int64)
    live = follow(standing, clicked.astype(np.int64), one_user, at, prior_precision=prior_precision)
    order = np.argsort(standing, kind="stable")
    gaps = np.diff(live[order])

    assert np.isfinite(live).all()
    assert (gaps[np.diff(standing[order]) > 0] > 0).all()
    # Rows of one moment may not know of each other's scores, but the same rule scores them.
    assert (gaps[np.diff(standing[order]) == 0] == 0).all()


def test_outcomes_of_the_row_of_its_moment_and_of_later_ones_change_no_score() -> None:
    standing, clicked, user, at = rows(5, 60)
    now = np.sort(at)[150]
    later = at >= now
    shuffled = clicked.copy()
    shuffled[later] = 1 - shuffled[later]
    a, b = (follow(standing, labels, user, at, prior_precision=1.0) for labels in (clicked, shuffled))

    assert np.array_equal(a[at <= now], b[at <= now])
    assert not np.array_equal(a[at > now], b[at > now])


def test_an_outcome_moves_the_users_own_later_rows_and_nobody_elses() -> None:
    standing, users, times = np.array([0.0, 1.0, 1.0]), np.array([0, 0, 1]), np.array([0, 1, 1])
    after_click, after_none = (
        follow(standing, [y, 0, 0], users, times, prior_precision=2.0) for y in (1, 0)
    )  # fmt: skip

    # One Laplace step from 0: p = 1/2, so (y - 1/2) / (2 + 1/4).
    assert after_click == pytest.approx([0.0, 1 + 0.5 / 2.25, 1.0])
    assert after_none == pytest.approx([0.0, 1 - 0.5 / 2.25, 1.0])


def test_a_bound_holds_a_row_back_and_a_free_row_moves() -> None:
    user = UserLevel(prior_precision=0.25)
    user.learn([Shown(1.0, 1.0, False), Shown(1.1, 1.1, False)])
    lower, higher = user.logit(0.9), user.logit(1.2)

    assert user.level < -1
    assert lower == pytest.approx(0.9 + user.level)
    assert higher == pytest.approx(1.1, abs=1e-3)
    assert higher > 1.1
