"""Found domains: what one unit moves is what is accounted for, and what one unit brings alone stays inside."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from adyton.kernel.chance import InsecureFixedRandom, OsRandom
from adyton.learning.synth.accounting import Spending, scale_for
from adyton.learning.synth.domains import Finder
from adyton.learning.synth.noise import FixedNoise, Ints, noise_from

RHO, DELTA = Fraction(1, 100), Fraction(1, 10**6)


class Seen(FixedNoise):
    """Adds nothing and remembers what it was given."""

    def __init__(self) -> None:
        super().__init__(InsecureFixedRandom(0))
        self.counts: list[Ints] = []
        self.scales: list[float] = []

    def gaussian(self, counts: Ints, scale: float) -> Ints:
        self.counts.append(counts.copy())
        self.scales.append(scale)
        return counts


def _finder(noise: FixedNoise, unit_of_row: Ints, most_rows: int) -> Finder:
    return Finder(noise, Spending(Fraction(10), Fraction(1)), most_rows, RHO, DELTA, unit_of_row)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), max_size=40), st.lists(st.integers(0, 7), max_size=6))
def test_a_new_user_moves_the_counts_no_further_than_the_noise_covers(
    others: list[tuple[int, int]], newcomer: list[int]
) -> None:
    noise = Seen()
    for rows in (others, [*others, *((9, value) for value in newcomer)]):
        unit, value = (np.array([row[side] for row in rows], np.int64) for side in (0, 1))
        _finder(noise, unit, 6).released(np.arange(unit.size), value, 8, "values")

    moved = np.linalg.norm(noise.counts[1] - noise.counts[0])
    # scale_for(s, rho) is the noise for a change of s; the change is at most the s behind the scale used.
    assert scale_for(1, RHO) * moved <= noise.scales[0] * (1 + 1e-9)


def test_many_users_release_a_value_and_one_user_never_does() -> None:
    """One user's value passes with probability at most 1e-6 in each of 200 trials."""
    unit = np.r_[np.arange(4000), np.repeat(4000, 4)]
    value = np.r_[np.arange(4000) % 3, [3, 4, 5, 6]]
    for seed in range(200):
        kept = _finder(FixedNoise(InsecureFixedRandom(seed)), unit, 4).released(np.arange(unit.size), value, 7, "v")
        assert kept.tolist() == [0, 1, 2]


def test_rows_that_are_their_own_unit_count_each() -> None:
    value = np.repeat([0, 1], [300, 2])
    finder = Finder(noise_from(OsRandom()), Spending(Fraction(1), Fraction(1)), 1, Fraction(1, 10), DELTA)

    assert finder.released(np.arange(302), value, 2, "values").tolist() == [0]


def test_a_column_of_nulls_releases_nothing_and_still_pays() -> None:
    spending = Spending(Fraction(1), Fraction(1))
    finder = Finder(noise_from(OsRandom()), spending, 1, RHO, DELTA)

    assert finder.released(np.zeros(0, np.int64), np.zeros(0, np.int64), 0, "empty").tolist() == []
    assert spending.rho > 0


def test_a_value_of_fewer_units_than_asked_is_unknown_whatever_the_noise() -> None:
    """Noise of a million on every count: 299 users stay hidden where 300 are asked, 300 are let through."""

    class Loud(Seen):
        def gaussian(self, counts: Ints, scale: float) -> Ints:
            return super().gaussian(counts, scale) + 10**9

    for users, expected in ((299, [0]), (300, [0, 1])):
        unit = np.arange(2000 + users)
        finder = replace(_finder(Loud(), unit, 4), least_units=300)
        assert finder.released(unit, np.where(unit < 2000, 0, 1), 2, "v").tolist() == expected


def test_the_user_that_makes_a_value_common_enough_is_hidden_by_the_threshold() -> None:
    """With that user 300 share the value, without it 299: it passes with probability at most 1e-6 in each trial."""
    unit = np.arange(2300)
    value = np.where(unit < 2000, 0, 1)
    for seed in range(200):
        finder = replace(_finder(FixedNoise(InsecureFixedRandom(seed)), unit, 4), least_units=300)
        assert finder.released(unit, value, 2, "v").tolist() == [0]


def _groups(users: int, noise: FixedNoise) -> list[int]:
    """Which of two ranges of numbers are released where 300 users must share one: of 2,000 users and of `users`."""
    unit = np.arange(2000 + users)
    group = np.where(unit < 2000, 0, 1)
    counts = np.stack([np.bincount(group), np.zeros(2, np.int64)], axis=1)
    finder = replace(_finder(noise, unit, 4), least_units=300)
    return finder.released_groups(unit, group, counts, "n")[0].tolist()


def test_a_range_of_numbers_of_fewer_units_than_asked_is_unknown_whatever_the_noise() -> None:
    class Loud(Seen):
        def gaussian(self, counts: Ints, scale: float) -> Ints:
            return super().gaussian(counts, scale) + 10**9

    assert [_groups(users, Loud()) for users in (299, 300)] == [[0], [0, 1]]


def test_the_user_that_makes_a_range_common_enough_is_hidden_by_the_threshold() -> None:
    """Others may have four rows each in the range: 300 users' 1,200 rows pass with probability at most 1e-6."""
    unit = np.repeat(np.arange(4300), np.where(np.arange(4300) < 4000, 1, 4))
    group = np.where(unit < 4000, 0, 1)
    counts = np.bincount(group)[:, None]
    for seed in range(200):
        finder = replace(_finder(FixedNoise(InsecureFixedRandom(seed)), unit, 4), least_units=300)
        assert finder.released_groups(np.arange(unit.size), group, counts, "n")[0].tolist() == [0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), max_size=40), st.sampled_from([None, 3]))
def test_weights_are_those_of_counting_unit_by_unit(pairs: list[tuple[int, int]], per_unit: int | None) -> None:
    """Slow twin: each unit's set of values, each weighing one over the root of how many there are."""
    row, value = (np.array([pair[side] for pair in pairs], np.int64) for side in (0, 1))
    unit_of_row = None if per_unit is None else np.arange(10) % per_unit
    sets: dict[int, set[int]] = {}
    for r, v in pairs:
        sets.setdefault(r if unit_of_row is None else int(unit_of_row[r]), set()).add(v)
    slow = np.zeros(5)
    for values in sets.values():
        slow[list(values)] += np.floor(4096 / np.sqrt(len(values)))
    noise = Seen()
    finder = Finder(noise, Spending(Fraction(10), Fraction(1)), 6, RHO, DELTA, unit_of_row)
    finder.released(row, value, 5, "values", elements_per_row=5)

    assert noise.counts[0].tolist() == slow.tolist()


def test_one_value_for_each_row_counts_in_full_without_sorting() -> None:
    """Row unit, one value a row: the quick way must give what the general way gives."""
    value = np.random.default_rng(0).integers(0, 5, 1000)
    seen = []
    for elements in (1, 2):
        noise = Seen()
        finder = Finder(noise, Spending(Fraction(10), Fraction(1)), 1, RHO, DELTA, None)
        finder.released(np.arange(1000), value, 5, "values", elements_per_row=elements)
        seen.append(noise.counts[0].tolist())

    assert seen[0] == seen[1]
