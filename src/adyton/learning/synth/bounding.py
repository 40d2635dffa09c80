"""Contribution bounding: no user brings more than `max_rows` rows into anything that is measured.

The rows kept are a uniformly random subset of each user's rows, chosen independently for each user. Adding or removing
one user therefore changes the bounded table by at most `max_rows` rows and leaves all other users' rows as they were.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from adyton.learning.synth.noise import Ints


def rank_within(group: Ints, keys: npt.NDArray[np.uint64]) -> Ints:
    """For each row, how many rows of its group have a smaller key: int64[B], 0 for the first of each group."""
    order = np.lexsort((keys, group))
    sorted_group = group[order]
    first = np.flatnonzero(np.r_[True, sorted_group[1:] != sorted_group[:-1]])
    lengths = np.diff(np.r_[first, group.size])
    ranks = np.empty(group.size, np.int64)
    ranks[order] = np.arange(group.size) - np.repeat(first, lengths)
    return ranks


def bounded_rows(user: Ints, max_rows: int, keys: npt.NDArray[np.uint64]) -> Ints:
    """Row numbers, ascending, of at most `max_rows` rows for each value of `user`.

    user: int64[B].   keys: uint64[B], uniformly random.
    """
    return np.flatnonzero(rank_within(user, keys) < max_rows)
