"""From noisy tables to consistent positive ones. Pure post-processing: no function here sees data.

`L` label classes, `V` codes of one part, `Q` codes of its parent.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_TINY = 1e-9


def onto_simplex(noisy: Floats, total: float) -> Floats:
    """The nearest (L2) non-negative array with sum `total` > 0, same shape.

    Source: Duchi et al. 2008, "Efficient projections onto the l1-ball", Figure 1.
    """
    descending = np.sort(noisy.ravel())[::-1]
    shift = (np.cumsum(descending) - total) / np.arange(1, descending.size + 1)
    last = int(np.flatnonzero(descending > shift)[-1])
    return np.asarray(np.maximum(noisy - shift[last], 0.0))


def shrunk(noisy: Floats, prior: Floats, variance: float) -> Floats:
    """`noisy` pulled towards `prior` as far as the noise demands, never below 2 % of `prior`; same shape.

    Empirical Bayes: the true table is prior + N(0, tau prior) cell by cell, the noise has the given `variance`, and tau
    >= 0 is fitted by precision-weighted moments. Without it a table whose cells are smaller than the noise would turn
    into nearly independent columns, because negative cells are cut off and positive noise stays.
    """
    residual = noisy - prior
    tau = max(float((residual**2 - variance).sum() / max(prior.sum(), _TINY)), 0.0)
    for _ in range(5):
        weight = prior / (tau * prior + variance) ** 2
        tau = max(float(((residual**2 - variance) * weight).sum() / max((prior * weight).sum(), 1e-300)), 0.0)
    keep = tau * prior / (tau * prior + variance)
    return np.maximum(prior + keep * residual, 0.02 * prior + _TINY)


def fitted_to(table: Floats, margins: tuple[tuple[tuple[int, ...], Floats], ...], *, rounds: int = 20) -> Floats:
    """Iterative proportional fitting: `table` scaled until its sums over each `axes` approach `margin`.

    margins: pairs of (axes summed out, the sum wanted with those axes kept as length 1).
    Source: Deming & Stephan 1940.
    """
    for _ in range(rounds):
        for axes, wanted in margins:
            table = table * (wanted / np.maximum(table.sum(axis=axes, keepdims=True), _TINY))
    return table


def label_totals(stars: list[Floats], variances: list[float]) -> Floats:
    """The total of each label class from all stars, by inverse variance: float64[L], at least 1.

    stars: noisy float64[L, V_p] for each part.   variances: of one cell.
    """
    precision = np.array([1 / (star.shape[1] * variance) for star, variance in zip(stars, variances, strict=True)])
    sums = np.stack([star.sum(axis=1) for star in stars])
    return np.asarray(np.maximum(precision @ sums / precision.sum(), 1.0))


def label_aware_joint(noisy: Floats, parent: Floats, child: Floats, variance: float) -> Floats:
    """The joint of (label, parent, child) that the noisy table and the two stars suggest: float64[L, Q, V] > 0.

    noisy: float64[L, Q, V].   parent: float64[L, Q].   child: float64[L, V], same label totals.
    Two steps, so that the better-measured sums guide the worse-measured cells: the table summed over labels is shrunk
    towards independence; the full table is then shrunk towards "no interaction beyond pairs".
    """
    totals = parent.sum(axis=1)
    n = totals.sum()
    parent_sum, child_sum = parent.sum(axis=0), child.sum(axis=0)
    pairs = shrunk(noisy.sum(axis=0), np.outer(parent_sum, child_sum) / n, noisy.shape[0] * variance)
    pairs = fitted_to(pairs, (((1,), parent_sum[:, None]), ((0,), child_sum[None, :])), rounds=30)
    by_parent = parent / np.maximum(parent_sum, _TINY)
    by_child = child / np.maximum(child_sum, _TINY)
    start = pairs[None] * by_parent[:, :, None] * by_child[:, None, :] / (totals / n)[:, None, None] + 1e-12
    stars = ((2,), parent[:, :, None]), ((1,), child[:, None, :])
    prior = fitted_to(start, (*stars, ((0,), pairs[None])))
    return fitted_to(shrunk(noisy, prior, variance), stars) + 1e-12
