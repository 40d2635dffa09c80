"""Measures on known answers: what is copied must be seen, what is fresh must not."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats.contingency import association

from adyton.learning.errors import TableError
from adyton.learning.schema import Column, Kind, Role, TableSchema
from adyton.learning.synth.fidelity import (
    correlation_similarity,
    cramers_v,
    fidelity,
    ks_complement,
    tv_complement,
    with_ceiling,
)
from adyton.learning.synth.gate_measures import measure
from adyton.learning.synth.privacy import Advantage, linkability, nearest, shared_literals
from adyton.learning.synth.report import lines, report
from adyton.learning.synth.utility import train_and_test, utility


def test_tv_complement_of_a_hand_computed_pair() -> None:
    assert tv_complement(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), 2) == pytest.approx(0.75)
    assert tv_complement(np.array([0, 0]), np.array([1, 1]), 2) == 0


def test_ks_complement_of_a_hand_computed_pair_leaves_nulls_out() -> None:
    assert ks_complement(np.array([1.0, 2, 3, 4, np.nan]), np.array([3.0, 4, 5, 6])) == pytest.approx(0.5)
    assert ks_complement(np.array([1.0]), np.array([np.nan])) == 0


def test_correlation_similarity_of_opposite_lines_is_zero() -> None:
    x = np.arange(10.0)

    assert correlation_similarity((x, x), (x, -x)) == pytest.approx(0)
    assert correlation_similarity((x, x), (x, 2 * x + 1)) == pytest.approx(1)


def test_contingency_similarity_of_a_hand_computed_table() -> None:
    two = TableSchema((Column("a", Role.AD, Kind.CATEGORY), Column("b", Role.AD, Kind.CATEGORY)))
    real = pa.table({"a": ["x", "x", "y", "y"], "b": ["p", "q", "p", "q"]})
    made = pa.table({"a": ["x", "x", "y", "y"], "b": ["p", "p", "q", "q"]})
    scores = fidelity(real, made, two)

    assert scores.shapes == pytest.approx(1)
    assert scores.pairs == pytest.approx(0.5)
    assert scores.quality == pytest.approx(0.75)


def test_pairs_that_hang_together_are_scored_apart() -> None:
    names = ("a", "b", "c")
    three = TableSchema(tuple(Column(name, Role.AD, Kind.CATEGORY) for name in names))
    real = pa.table({"a": ["x", "x", "y", "y"], "b": ["p", "p", "q", "q"], "c": ["r", "s", "r", "s"]})
    made = pa.table({"a": ["x", "x", "y", "y"], "b": ["p", "q", "p", "q"], "c": ["r", "s", "r", "s"]})
    scores = fidelity(real, made, three)

    assert scores.linked == (("a", "b"),)
    assert scores.linked_pairs == pytest.approx(0.5)
    assert scores.linked_quality == pytest.approx(0.75)
    assert scores.pairs == pytest.approx((0.5 + 1 + 0.5) / 3)
    unlinked = fidelity(real.select(["a", "c"]), made.select(["a", "c"]), three.select(["a", "c"]))
    assert (unlinked.linked_pairs, unlinked.linked_quality) == (None, 1)


@pytest.mark.parametrize("numbers", [[2**62 + n for n in range(40)], [1e308, -1e308] * 20])
def test_numbers_too_large_for_equal_bins_are_compared(numbers: list[float]) -> None:
    schema = TableSchema((Column("n", Role.AD, Kind.NUMBER), Column("c", Role.AD, Kind.CATEGORY)))
    table = pa.table({"n": numbers, "c": ["a", "b"] * 20})

    assert fidelity(table, table, schema).quality == pytest.approx(1)


def test_cramers_v_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 7, 500)
    for b in (a, a % 3, rng.integers(0, 4, 500), np.where(rng.random(500) < 0.5, a, 2)):
        table = np.histogram2d(a, b, bins=(np.arange(8), np.arange(8)))[0]
        table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
        assert cramers_v(a, b) == pytest.approx(association(table.astype(int), method="cramer"))
    assert cramers_v(a, np.zeros(500, np.int64)) == 0


def test_a_table_is_like_itself_and_the_ceiling_lies_below_one(
    table: pa.Table, other_users: pa.Table, schema: TableSchema
) -> None:
    scores = with_ceiling(table, table, other_users, schema)

    assert scores.synthetic.quality == pytest.approx(1)
    assert 0.9 < scores.ceiling.quality < 1
    assert scores.share_of_ceiling > 1


def test_shuffled_columns_keep_shapes_and_lose_pairs(table: pa.Table, schema: TableSchema) -> None:
    rng = np.random.default_rng(0)
    shuffled = pa.table({n: table[n].take(pa.array(rng.permutation(table.num_rows))) for n in table.column_names})
    scores = fidelity(table, shuffled, schema)

    assert scores.shapes == pytest.approx(1)
    assert scores.pairs < 0.98


def test_utility_of_real_rows_is_their_own_and_of_noise_labels_is_a_coin(
    table: pa.Table, other_users: pa.Table, schema: TableSchema
) -> None:
    rng = np.random.default_rng(0)
    column = table.column_names.index("clicked")
    noise = table.set_column(column, "clicked", pa.array(rng.integers(0, 2, table.num_rows).astype(np.int8)))

    assert utility(table, table, other_users, schema).auc_ratio == pytest.approx(1)
    worst = train_and_test(noise, other_users, schema)
    assert all(abs(scores.auc - 0.5) < 0.06 for scores in worst.values())


def test_a_training_table_with_one_class_scores_as_a_coin(
    table: pa.Table, other_users: pa.Table, schema: TableSchema
) -> None:
    column = table.column_names.index("clicked")
    clicks = table.set_column(column, "clicked", pa.array(np.ones(table.num_rows, np.int8)))

    assert train_and_test(clicks, other_users, schema)["trees"].auc == 0.5


def test_a_copy_of_the_training_rows_fails_every_attack(
    table: pa.Table, other_users: pa.Table, schema: TableSchema
) -> None:
    found = measure(table, other_users, table, schema, seed=1)

    assert found.exact_matches.is_visible
    assert found.membership.low > 0.6
    assert found.attribute_inference.is_visible
    assert found.linkability.is_visible
    assert found.linkability.members == 1
    assert found.closer_to_train.low > 0.6
    assert found.user_ids_shared == 2500
    assert found.shared_literals["price"] > 100


def test_fresh_rows_of_other_users_pass_every_attack(
    table: pa.Table, other_users: pa.Table, fresh: pa.Table, schema: TableSchema
) -> None:
    """The bad sibling above must fail and this one pass, or the gate would be a coin."""
    found = measure(table, other_users, fresh, schema, seed=1)

    assert not found.exact_matches.is_visible
    assert found.membership.low < 0.5 < found.membership.high
    assert not found.attribute_inference.is_visible
    assert not found.linkability.is_visible
    assert found.user_ids_shared == 0


def _profiles(n: int, seed: int) -> np.ndarray:
    """Eight columns of 12 values; the second half repeats the first for one row in three, as a population may."""
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 12, (n, 4)), rng.integers(0, 12, (n, 4))
    return np.column_stack([first, np.where(rng.random((n, 1)) < 1 / 3, first, second)])


def test_linkability_finds_a_synthesizer_that_copies_some_rows_and_clears_a_fresh_sample() -> None:
    train, holdout, fresh = (_profiles(800, seed) for seed in (1, 2, 3))
    some_copied = np.concatenate([train[::4], fresh[:600]])
    caught = linkability(train, holdout, some_copied, np.random.default_rng(0))

    assert caught.is_visible
    assert caught.members - caught.holdout == pytest.approx(0.25, abs=0.08)
    seen = [linkability(train, holdout, _profiles(800, 10 + s), np.random.default_rng(s)) for s in range(20)]
    assert sum(found.is_visible for found in seen) <= 2
    assert all(found.difference.low <= 0.03 for found in seen)


def test_linkability_agrees_with_the_naive_search_and_takes_each_user_once() -> None:
    rng = np.random.default_rng(5)
    train, holdout, made = (rng.integers(0, 3, (40, 2)) for _ in range(3))
    users = np.arange(40) // 4

    def linked(rows: np.ndarray) -> float:
        hits = 0
        for row in rows:
            first, second = (row[c] != made[:, c] for c in (0, 1))
            hits += bool(((first == first.min()) & (second == second.min())).any())
        return hits / len(rows)

    found = linkability(train, holdout, made, np.random.default_rng(0))
    by_user = linkability(train, train, made, np.random.default_rng(0), train_users=users, holdout_users=users)

    assert (found.members, found.holdout) == (pytest.approx(linked(train)), pytest.approx(linked(holdout)))
    assert (by_user.members * 10) % 1 == pytest.approx(0)
    assert not linkability(train[:, :1], holdout[:, :1], train[:, :1], np.random.default_rng(0)).is_visible


def test_shared_literals_count_only_rare_values_and_never_show_them() -> None:
    schema = TableSchema((Column("email", Role.USER, Kind.CATEGORY), Column("kind", Role.AD, Kind.CATEGORY)))
    real = pa.table({"email": ["a@x", "b@x", "c@x"] + ["many@x"] * 5, "kind": ["k"] * 8})
    made = pa.table({"email": ["a@x", "many@x", "z@x"], "kind": ["k"] * 3})

    assert shared_literals(real, made, schema) == {"email": 1}
    assert shared_literals(real, made, schema, allowed=["email"]) == {}


def test_nearest_agrees_with_the_naive_search() -> None:
    rng = np.random.default_rng(0)
    rows, base = rng.integers(0, 4, (700, 5)), rng.integers(0, 4, (90, 5))
    distance, index = nearest(rows, base)
    naive = (rows[:, None, :] != base[None]).sum(2)

    assert distance.tolist() == naive.min(1).tolist()
    assert (naive[np.arange(700), index] == distance).all()


def test_an_advantage_is_visible_only_beyond_chance() -> None:
    assert Advantage.of(80, 40, 100, 100).is_visible
    assert not Advantage.of(50, 45, 100, 100).is_visible
    assert not Advantage.of(0, 0, 100, 100).is_visible


def test_empty_tables_and_missing_columns_are_refused(table: pa.Table, schema: TableSchema) -> None:
    with pytest.raises(TableError):
        fidelity(table, table.slice(0, 0), schema)
    with pytest.raises(TableError):
        fidelity(table, table.drop_columns(["slot"]), schema)
    with pytest.raises(TableError):
        measure(table, table.slice(0, 2), table, schema, seed=0)


def test_the_report_names_every_leak_of_a_copy_and_none_of_fresh_rows(
    table: pa.Table, other_users: pa.Table, fresh: pa.Table, schema: TableSchema
) -> None:
    def leaks(synthetic: pa.Table) -> set[str]:
        made = report(synthetic=synthetic, train=table, holdout=other_users, test=None, schema=schema, seed=1)
        return {name for name, value, _ in lines(made) if value.endswith(" LEAK")}

    assert {"membership AUC", "exact matches", "real user ids"} <= leaks(table)
    assert leaks(fresh) == set()
