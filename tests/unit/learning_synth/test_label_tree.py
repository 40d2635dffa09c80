"""Sampling gives the released tables back."""

from __future__ import annotations

import numpy as np

from adyton.learning.synth.label_tree import Clique, LabelTree


def test_a_sampled_table_has_the_joint_it_was_given() -> None:
    joint = np.array([[[30.0, 10.0], [5.0, 15.0]], [[2.0, 8.0], [20.0, 10.0]]])
    tree = LabelTree((joint.sum(axis=2), joint.sum(axis=1)), (np.arange(2), np.arange(2)), 0, (Clique((0,), 1, joint),))
    label, codes = tree.sample(1000, np.random.default_rng(0))
    counts = np.bincount(label * 4 + codes[0] * 2 + codes[1], minlength=8)

    assert np.abs(counts / 10 - joint.ravel()).max() < 0.25
