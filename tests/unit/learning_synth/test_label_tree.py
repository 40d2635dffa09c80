"""Sampling gives the released tables back; structure follows dependence."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from adyton.learning.synth.label_tree import Edge, LabelTree, _draw, _refined


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
    drawn = _draw(table, condition, rng)
    for row, shares in enumerate(table / table.sum(axis=1, keepdims=True)):
        n = int((condition == row).sum())
        counts = np.bincount(drawn[condition == row], minlength=4)
        assert np.abs(counts - n * shares).max() < 1 + 1e-6


def test_the_rounding_favours_no_column() -> None:
    """One row a draw: 6,000 draws of shares 1/4 and 3/4, six standard errors (chance below 1e-8)."""
    rng = np.random.default_rng(1)
    first = [int(_draw(np.array([[1.0, 3.0]]), np.zeros(1, np.int64), rng)[0]) for _ in range(6000)]

    assert abs(np.mean(first) - 0.75) < 6 * np.sqrt(0.75 * 0.25 / 6000)


def test_draws_of_one_condition_come_in_random_order() -> None:
    drawn = _draw(np.array([[1.0, 1.0]]), np.zeros(2000, np.int64), np.random.default_rng(2))

    assert abs(np.corrcoef(drawn, np.arange(2000))[0, 1]) < 6 / np.sqrt(2000)


def test_refinement_stays_in_the_group_and_keeps_its_shares() -> None:
    star = np.array([[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]])
    groups = np.array([0, 1, 1, 0])
    label = np.repeat([0, 1], 500)
    group = np.tile([0, 1], 500)
    fine = _refined(star, groups, label * 2 + group, np.random.default_rng(3))

    assert (groups[fine] == group).all()
    counts = np.bincount(fine[(label == 0) & (group == 0)], minlength=4)
    assert counts.tolist() == [50, 0, 0, 200]


def test_a_sampled_table_has_the_joint_it_was_given() -> None:
    joint = np.array([[[30.0, 10.0], [5.0, 15.0]], [[2.0, 8.0], [20.0, 10.0]]])
    tree = LabelTree((joint.sum(axis=2), joint.sum(axis=1)), (np.arange(2), np.arange(2)), 0, (Edge(0, 1, joint),))
    label, codes = tree.sample(1000, np.random.default_rng(0))
    counts = np.bincount(label * 4 + codes[0] * 2 + codes[1], minlength=8)

    assert np.abs(counts / 10 - joint.ravel()).max() < 0.25
