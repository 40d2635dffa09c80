"""User ids for synthetic rows: rows that agree in their user columns are dealt to one made-up user."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from adyton.learning.synth.estimate import Floats
from adyton.learning.synth.noise import Ints


def dealt_users(
    alike: Sequence[npt.NDArray[np.integer]], n_rows: int, rows_per_user: Floats, rng: np.random.Generator
) -> Ints:
    """A user number for each row: int64[n_rows].

    alike: integers [n_rows] for each user column.   rows_per_user: float64[M] >= 0, users with 1..M rows; rows are
    dealt in runs as long as it says, neighbours in the order of `alike`.
    """
    order = np.lexsort((rng.random(n_rows), *alike))
    lengths = rng.choice(np.arange(1, rows_per_user.size + 1), size=n_rows, p=rows_per_user / rows_per_user.sum())
    run = np.repeat(np.arange(n_rows), lengths)[:n_rows]
    users = np.empty(n_rows, np.int64)
    users[order] = rng.permutation(int(run[-1]) + 1)[run]
    return users
