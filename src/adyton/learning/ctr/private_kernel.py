"""Clipped gradients of users, added up: the one place where private training reads labels and features.

`B` rows in user order, `F` fields, `K` values of all fields, `D` width of the factorisation machine. A user's gradient
is the sum of the log loss's gradients over the user's rows, by `bias`, `w` float32[K] and `v` float32[K, D] together.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

GRID = 1 << 12
"""Clipped gradients are whole numbers; the clipping bound is `GRID` of them."""


@numba.njit(cache=True)
def add_clipped_gradients(
    codes: Ints, labels: Floats, starts: Ints, bias: float, w: Floats, v: Floats, clip: float, total: Ints
) -> None:
    """Add each user's clipped gradient to `total`.

    codes: int64[B, F], places among the K values.   starts: int64[U + 1], user u has rows starts[u] .. starts[u + 1].
    clip: > 0, the largest L2 norm of a user's gradient; longer ones are scaled down (Abadi et al. 2016, Algorithm 1,
        with a user where they have an example; McMahan et al. 2018).
    total: int64[1 + K + K * D], in units of clip / GRID. Each number is rounded towards zero *after* clipping, so that
        what one user adds has an L2 norm of at most GRID, in whole numbers: no rounding error widens the bound.
    """
    n_values, n_dimensions = v.shape
    gradient = np.zeros(1 + n_values * (1 + n_dimensions))
    summed = np.zeros(n_dimensions)
    touched = np.empty(codes.shape[1] * 64, np.int64)
    is_touched = np.zeros(n_values, np.bool_)
    for user in range(starts.size - 1):
        n_touched = 0
        for row in range(starts[user], starts[user + 1]):
            score, own = bias, 0.0
            summed[:] = 0.0
            for field in range(codes.shape[1]):
                code = codes[row, field]
                score += w[code]
                for d in range(n_dimensions):
                    summed[d] += v[code, d]
                    own += v[code, d] ** 2
            score += 0.5 * ((summed**2).sum() - own)
            slope = 1 / (1 + np.exp(-score)) - labels[row]
            gradient[0] += slope
            for field in range(codes.shape[1]):
                code = codes[row, field]
                if not is_touched[code]:
                    is_touched[code] = True
                    if n_touched == touched.size:
                        wider = np.empty(2 * touched.size, np.int64)
                        wider[:n_touched] = touched
                        touched = wider
                    touched[n_touched] = code
                    n_touched += 1
                gradient[1 + code] += slope
                for d in range(n_dimensions):
                    gradient[1 + n_values + code * n_dimensions + d] += slope * (summed[d] - v[code, d])
        norm = gradient[0] ** 2
        for code in touched[:n_touched]:
            norm += gradient[1 + code] ** 2
            for d in range(n_dimensions):
                norm += gradient[1 + n_values + code * n_dimensions + d] ** 2
        # A hair below 1, so that no rounding of the norm can leave a vector longer than the grid.
        factor = min(1.0, clip / max(np.sqrt(norm), 1e-300)) * (1 - 1e-9) * GRID / clip
        total[0] += np.int64(gradient[0] * factor)
        gradient[0] = 0.0
        for code in touched[:n_touched]:
            is_touched[code] = False
            total[1 + code] += np.int64(gradient[1 + code] * factor)
            gradient[1 + code] = 0.0
            for d in range(n_dimensions):
                place = 1 + n_values + code * n_dimensions + d
                total[place] += np.int64(gradient[place] * factor)
                gradient[place] = 0.0
