"""Codes of synthetic rows from released tables: many rows at once, each table hit up to rounding.

Rows that share a condition form a group. Systematic sampling places a group of n rows on n evenly spaced points of its
distribution, so that each code gets n times its share, rounded up or down at random; which row gets which point is a
random order. The number of points below a bound has a closed form, so no row is looked up: codes are repeated as often
as they are due and dealt out.   Source: Madow & Madow 1944, "On the theory of systematic sampling, I".

`B` rows, `R` conditions, `V` codes.
"""

from __future__ import annotations

import numpy as np

from adyton.learning.synth.coded_table import Codes, narrow
from adyton.learning.synth.estimate import Floats
from adyton.learning.synth.noise import Ints

_FLOOR = 1e-12
"""Keeps a condition that was never released apart from division by zero: it draws uniformly."""


def drawn(weights: Floats, given: Codes, rng: np.random.Generator) -> Codes:
    """For each row one column of `weights[given]`, in proportion: [B], narrow.

    weights: float64[R, V] >= 0.   given: [B] in [0, R).
    """
    conditions, size = weights.shape
    every_code = np.tile(narrow(np.arange(size), size), conditions)
    return _dealt(every_code, weights.ravel(), np.repeat(np.arange(conditions), size), given, conditions, rng)


def refined(star: Floats, groups: Ints, given: Codes, rng: np.random.Generator) -> Codes:
    """For each row a code of its group, in proportion to the star of its label: [B], narrow.

    star: float64[L, V] >= 0.   groups: int64[V] in [0, G), each used.   given: [B], label * G + group of each row.
    """
    classes, size = star.shape
    n_groups = int(groups.max()) + 1
    by_group = np.argsort(groups, kind="stable")
    conditions = (np.arange(classes)[:, None] * n_groups + groups[by_group]).ravel()
    every_code = np.tile(narrow(by_group, size), classes)
    return _dealt(every_code, star[:, by_group].ravel(), conditions, given, classes * n_groups, rng)


def _dealt(
    codes: Codes, weights: Floats, condition_of: Ints, given: Codes, conditions: int, rng: np.random.Generator
) -> Codes:
    """For each row one entry of `codes` whose condition is the row's.

    codes, weights, condition_of: [C], conditions ascending, each of 0..conditions-1 at least once.
    """
    safe = weights + _FLOOR
    share = safe / np.bincount(condition_of, weights=safe)[condition_of]
    rows = np.bincount(given, minlength=conditions)
    # Points lie at (k + start) / rows for k = 0, 1, ...; ceil(bound * rows - start) of them are below a bound.
    bound = np.cumsum(share) - condition_of
    start = rng.random(conditions)
    below = np.ceil(bound * rows[condition_of] - start[condition_of]).astype(np.int64)
    is_last = np.r_[condition_of[1:] != condition_of[:-1], True]
    below = np.where(is_last, rows[condition_of], np.clip(below, 0, rows[condition_of]))
    before = np.r_[0, below[:-1]]
    before[np.r_[True, is_last[:-1]]] = 0
    dealt = np.empty(given.size, codes.dtype)
    dealt[_shuffled_by_group(given, conditions, rng)] = np.repeat(codes, np.maximum(below - before, 0))
    return dealt


def _shuffled_by_group(given: Codes, groups: int, rng: np.random.Generator) -> Ints:
    """Row numbers, those of group 0 first, in random order within each group: int64[B].

    One sort of (group, random bits, row number) packed into 64 bits; it is many times faster than a permutation and a
    stable sort. Rows whose random bits are equal, of which there are 64 less what the other two need, keep their order.
    """
    row_bits, group_bits = int(given.size).bit_length(), int(groups).bit_length()
    assert row_bits + group_bits <= 44, "batches and tables are small enough for 20 random bits"
    keys = rng.integers(0, 2**64, given.size, dtype=np.uint64)
    keys >>= np.uint64(group_bits + row_bits)
    keys <<= np.uint64(row_bits)
    keys |= np.arange(given.size, dtype=np.uint64)
    keys |= given.astype(np.uint64) << np.uint64(64 - group_bits)
    keys.sort()
    keys &= np.uint64((1 << row_bits) - 1)
    return keys.astype(np.int64)
