"""Cliques that share separators: chosen so that they form a junction tree, consistent, and paid for exactly."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adyton.kernel.chance import InsecureFixedRandom, stream
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.schema import TableSchema
from adyton.learning.synth import junction_tree, store
from adyton.learning.synth.accounting import Spending, rho_for
from adyton.learning.synth.coded_table import CodedTable
from adyton.learning.synth.junction_tree import _Expected, _gain
from adyton.learning.synth.label_tree import Clique, LabelTree
from adyton.learning.synth.mechanisms import Mechanisms
from adyton.learning.synth.noise import FixedNoise
from adyton.learning.synth.structure import Structure, fit_tree
from adyton.learning.synth.synthesizer import fit

SIZES = (3, 2, 4, 2)


def table_of(n_rows: int, seed: int, sizes: tuple[int, ...] = SIZES) -> CodedTable:
    """The last part is the parity of the first two, the third leans on the first, the label on the last."""
    rng = np.random.default_rng(seed)
    codes = [rng.integers(0, size, n_rows) for size in sizes]
    codes[2] = np.where(rng.random(n_rows) < 0.5, codes[0], codes[2]) % sizes[2]
    codes[-1] = (codes[0] + codes[1]) % sizes[-1]
    label = (rng.random(n_rows) < 0.3 + 0.4 * (codes[-1] > 0)).astype(np.uint8)
    return CodedTable(tuple(part.astype(np.uint8) for part in codes), sizes, label, 2)


def fitted(
    table: CodedTable, rho: Fraction, seed: int, structure: Structure = Structure.JUNCTION_TREE
) -> tuple[LabelTree, Spending]:
    spending = Spending(rho, Fraction(0))
    mechanisms = Mechanisms(FixedNoise(InsecureFixedRandom(seed)), spending, 2)
    return fit_tree(table, mechanisms, rho, structure), spending


def brute_force(tree: LabelTree, sizes: tuple[int, ...]) -> Any:
    """The joint of (label, *parts), one cell after the other by the chain of conditionals that sampling follows."""
    joint = np.zeros((tree.label_totals.size, *sizes))
    for cell in np.ndindex(joint.shape):
        label, codes = cell[0], cell[1:]
        chance = tree.stars[tree.root][label, codes[tree.root]]
        for clique in tree.cliques:
            given_parents = clique.joint[(label, *(codes[parent] for parent in clique.parents))]
            chance *= given_parents[codes[clique.child]] / given_parents.sum()
        joint[cell] = chance
    return joint


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=3, max_size=6), st.integers(1, 400), st.integers(-3, 3), st.integers(0, 2**32)
)
def test_cliques_have_the_running_intersection_property(sizes: list[int], n_rows: int, log_rho: int, seed: int) -> None:
    tree, _ = fitted(table_of(n_rows, seed, tuple(sizes)), Fraction(10) ** log_rho, seed)
    known = [{tree.root}]
    for clique in tree.cliques:
        assert 1 <= len(clique.parents) <= 2
        assert any(set(clique.parents) <= older for older in known)
        assert all(clique.child not in older for older in known)
        known.append({*clique.parents, clique.child})

    assert set.union(*known) == set(range(len(sizes)))


@pytest.mark.parametrize("log_rho", [-3, -1, 1, 6])
def test_every_clique_is_the_margin_of_the_whole_by_brute_force(log_rho: int) -> None:
    """Slow twin: the joint over all parts, cell by cell. Holds whatever the noise: separators agree exactly."""
    tree, _ = fitted(table_of(3000, 1), Fraction(10) ** log_rho, 1)
    whole = brute_force(tree, SIZES)
    scale = whole.sum()
    first = tree.cliques[0]
    # The first clique hangs on the root's star, to which it is fitted step by step; the others on a clique, exactly.
    start = tree.stars[tree.root] / np.maximum(first.joint.sum(axis=2), 1e-300)
    assert np.abs(start - 1).max() < 0.01
    for clique in tree.cliques:
        parts = (*clique.parents, clique.child)
        others = tuple(1 + part for part in range(4) if part not in parts)
        slow = np.transpose(whole.sum(axis=others), (0, *(1 + sorted(parts).index(part) for part in parts)))
        assert np.abs(slow - clique.joint).max() < 0.01 * scale
    for older, clique in zip(tree.cliques, tree.cliques[1:], strict=False):
        if set(clique.parents) == set(older.parents):
            axes = [older.parents.index(parent) for parent in clique.parents]
            same = np.transpose(older.joint.sum(axis=-1), (0, *(1 + axis for axis in axes)))
            assert clique.joint.sum(axis=-1) == pytest.approx(same, rel=1e-9)


def test_separators_agree_to_the_last_digits() -> None:
    for seed in range(5):
        tree, _ = fitted(table_of(3000, seed), Fraction(1, 10), seed)
        for position, clique in enumerate(tree.cliques[1:], 1):
            older = junction_tree._margin(tree.cliques[:position], clique.parents)
            assert clique.joint.sum(axis=-1) == pytest.approx(older, rel=1e-9)


def test_a_relation_of_three_parts_survives_in_the_junction_tree_and_not_in_the_tree() -> None:
    """The last part is the parity of the sum of two others, which no pair of parts tells."""
    table = table_of(20_000, 2, (3, 2, 2))

    def kept(structure: Structure) -> float:
        tree, _ = fitted(table, Fraction(1), 2, structure)
        _, codes = tree.sample(20_000, np.random.default_rng(0))
        return float(np.mean((codes[0].astype(int) + codes[1]) % 2 == codes[2]))

    assert kept(Structure.JUNCTION_TREE) > 0.95
    assert kept(Structure.TREE) < 0.75
    assert kept(Structure.STAR) < 0.65


def test_no_second_parent_where_none_is_needed() -> None:
    rng = np.random.default_rng(0)
    codes = tuple(rng.integers(0, 4, 20_000).astype(np.uint8) for _ in range(5))
    tree, _ = fitted(CodedTable(codes, (4,) * 5, rng.integers(0, 2, 20_000), 2), Fraction(1), 0)

    assert all(len(clique.parents) == 1 for clique in tree.cliques)


def test_no_clique_is_larger_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    def largest() -> int:
        tree, _ = fitted(table_of(20_000, 2, (3, 2, 2)), Fraction(1), 2)
        return max(clique.joint.size for clique in tree.cliques)

    assert largest() == 2 * 3 * 2 * 2
    monkeypatch.setattr(junction_tree, "MOST_CELLS", 2 * 3 * 2 * 2 - 1)
    assert largest() == 2 * 3 * 2


@pytest.mark.parametrize("structure", list(Structure))
def test_all_of_the_budget_is_spent_and_none_twice(structure: Structure) -> None:
    """Exact rationals. What is left over: rounding, and choices with one candidate only, which are not made."""
    rho = Fraction(3, 10)
    _, spending = fitted(table_of(5000, 3), rho, 3, structure)

    assert spending.rho == sum(cost for _, cost in spending.entries)
    assert spending.rho <= rho
    assert spending.rho > rho * Fraction(999, 1000)
    assert len({purpose for purpose, _ in spending.entries}) == len(spending.entries)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 60), st.lists(st.integers(0, 47), min_size=1, max_size=2), st.integers(0, 2**32))
def test_one_unit_moves_a_score_by_its_rows_at_most(n_rows: int, newcomer: list[int], seed: int) -> None:
    """What the exponential mechanism rests on."""
    rng = np.random.default_rng(seed)
    tree = [Clique((0,), 1, rng.random((2, 3, 2)) * 20 + 0.01), Clique((1,), 2, rng.random((2, 2, 4)) * 20 + 0.01)]
    cells = rng.integers(0, 48, n_rows)
    scores = []
    for rows in (cells, np.r_[cells, newcomer]):
        label, *codes = np.unravel_index(rows, (2, 3, 2, 4))
        table = CodedTable(tuple(codes), (3, 2, 4), label, 2)
        scores.append(_gain(table, _Expected(tree), tree[1], 0, 2, 5.0))

    assert abs(scores[1] - scores[0]) <= len(newcomer)


def test_what_a_tree_expects_of_three_parts_is_its_brute_force_margin() -> None:
    rng = np.random.default_rng(5)
    joints = [rng.random((2, 3, 2)), rng.random((2, 2, 4)), rng.random((2, 3, 2))]
    joints[1] *= (joints[0].sum(axis=1) / joints[1].sum(axis=2))[..., None]
    joints[2] *= (joints[0].sum(axis=2) / joints[2].sum(axis=2))[..., None]
    cliques = (Clique((0,), 1, joints[0]), Clique((1,), 2, joints[1]), Clique((0,), 3, joints[2]))
    star = joints[0].sum(axis=2)
    groups = tuple(np.arange(size) for size in SIZES)
    whole = brute_force(LabelTree((star,) * 4, groups, 0, cliques), SIZES)
    expected = _Expected(cliques)

    assert expected.of(cliques[1], 3) == pytest.approx(np.einsum("labcd->lbdc", whole))
    assert expected.of(cliques[2], 2) == pytest.approx(np.einsum("labcd->lacd", whole))
    assert expected.of(cliques[2], 1) == pytest.approx(np.einsum("labcd->labd", whole))


@pytest.mark.parametrize("structure", list(Structure))
def test_a_stored_model_samples_what_the_fitted_one_does(
    table: pa.Table, schema: TableSchema, structure: Structure
) -> None:
    loss = PrivacyLoss.of(8, "1e-6")
    model = fit(table, schema, loss=loss, structure=structure, source=InsecureFixedRandom(1))
    again = store.from_bytes(store.to_bytes(model))

    assert sum(rho for _, rho in model.mechanisms) <= rho_for(loss)
    assert again.tree.root == model.tree.root
    assert again.sample(2000, stream(0)).equals(model.sample(2000, stream(0)))
