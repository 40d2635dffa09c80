"""Systematic sampling: shares up to rounding, no favourites, random order; many rows as one by one."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from adyton.learning.synth.coded_table import tally
from adyton.learning.synth.draws import drawn, refined


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 9), min_size=4, max_size=4), min_size=1, max_size=3).filter(
        lambda rows: all(sum(row) for row in rows)
    ),
    st.integers(1, 400),
    st.integers(0, 2**32),
)
def test_each_column_gets_its_share_of_the_rows_up_to_rounding(
    weights: list[list[int]], n_rows: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    table, condition = np.array(weights, float), rng.integers(0, len(weights), n_rows)
    found = drawn(table, condition, rng)
    for row, shares in enumerate(table / table.sum(axis=1, keepdims=True)):
        n = int((condition == row).sum())
        counts = np.bincount(found[condition == row], minlength=4)
        assert np.abs(counts - n * shares).max() < 1 + 1e-6


def test_the_rounding_favours_no_column() -> None:
    """One row a draw: 6,000 draws of shares 1/4 and 3/4, six standard errors (chance below 1e-8)."""
    rng = np.random.default_rng(1)
    first = [int(drawn(np.array([[1.0, 3.0]]), np.zeros(1, np.int64), rng)[0]) for _ in range(6000)]

    assert abs(np.mean(first) - 0.75) < 6 * np.sqrt(0.75 * 0.25 / 6000)


def test_draws_of_one_condition_come_in_random_order() -> None:
    found = drawn(np.array([[1.0, 1.0]]), np.zeros(2000, np.int64), np.random.default_rng(2))

    assert abs(np.corrcoef(found, np.arange(2000))[0, 1]) < 6 / np.sqrt(2000)


def test_refinement_stays_in_the_group_and_keeps_its_shares() -> None:
    star = np.array([[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]])
    groups = np.array([0, 1, 1, 0])
    label = np.repeat([0, 1], 500)
    group = np.tile([0, 1], 500)
    fine = refined(star, groups, label * 2 + group, np.random.default_rng(3))

    assert (groups[fine] == group).all()
    counts = np.bincount(fine[(label == 0) & (group == 0)], minlength=4)
    assert counts.tolist() == [50, 0, 0, 200]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(0, 300), st.integers(0, 2**32))
def test_refined_rows_agree_with_drawing_one_group_at_a_time(classes: int, size: int, n_rows: int, seed: int) -> None:
    """Slow twin: each group's codes by `drawn` from the group's own slice of the star; counts agree up to rounding."""
    rng = np.random.default_rng(seed)
    groups = np.sort(rng.integers(0, size, size))
    groups = rng.permutation(np.unique(groups, return_inverse=True)[1])
    n_groups = int(groups.max()) + 1
    star = rng.random((classes, size)) * rng.integers(0, 2, (classes, size))
    given = rng.integers(0, classes * n_groups, n_rows)
    fine = refined(star, groups, given, rng)
    for condition in range(classes * n_groups):
        label, group = divmod(condition, n_groups)
        codes = np.flatnonzero(groups == group)
        n = int((given == condition).sum())
        slow = codes[drawn(star[label, codes][None, :], np.zeros(n, np.int64), rng)]
        counts = [np.bincount(found, minlength=size) for found in (fine[given == condition], slow)]
        assert np.abs(counts[0] - counts[1]).max(initial=0) <= 1


def test_two_parts_drawn_from_one_condition_are_independent() -> None:
    """A shared order would make them equal; six standard errors."""
    rng = np.random.default_rng(4)
    halves = [drawn(np.array([[1.0, 1.0]]), np.zeros(10_000, np.int64), rng) for _ in range(2)]

    assert abs(np.mean(halves[0] == halves[1]) - 0.5) < 6 * 0.5 / np.sqrt(10_000)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, 50), st.integers(0, 2**32))
def test_a_tally_counts_each_combination_whatever_the_block(sizes: list[int], n_rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = [rng.integers(0, size, n_rows).astype(np.uint8) for size in sizes]
    slow = np.zeros(sizes, np.int64)
    for row in zip(*columns, strict=True):
        slow[row] += 1
    with patch("adyton.learning.synth.coded_table._BLOCK_ROWS", 7):
        fast = tally(columns, sizes)

    assert (fast == slow).all()
