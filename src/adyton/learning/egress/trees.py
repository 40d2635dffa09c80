"""Boosted regression trees over coded features, kept as plain arrays so that a script on a device can walk them.

Grown by scikit-learn's histogram boosting; what is kept is the nodes alone, so a stored code neither needs scikit-learn
nor a pickle.

`B` rows, `F` features, `N` nodes of all trees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from adyton.learning.egress.features import Ints

Floats = npt.NDArray[np.float64]

_LEARNING_RATE = 0.1
_DECAY = 20.0
"""Pull of leaf values towards zero, in units of weight: a leaf with this weight moves half as far."""


@dataclass(frozen=True)
class Forest:
    """How many trees, and how many leaves each may have: more of both follow finer crossings of features."""

    trees: int
    leaves: int


@dataclass(frozen=True)
class Trees:
    """Grown trees; their sum plus `base` is the value of a row.

    roots: int64[T], the node each tree begins at.   feature: int64[N], -1 at a leaf.   threshold: float64[N]; a code at
    most that goes to the node `left`, others to `right`, int64[N].   value: float64[N], of leaves.
    """

    base: float
    roots: Ints
    feature: Ints
    threshold: Floats
    left: Ints
    right: Ints
    value: Floats

    def values(self, codes: Ints) -> Floats:
        """float64[B] for codes int64[B, F]."""
        return self.base + _walk(codes, self.roots, self.feature, self.threshold, self.left, self.right, self.value)

    def as_json(self) -> dict[str, object]:
        """Everything a script needs to walk the trees."""
        arrays = {name: getattr(self, name) for name in ("roots", "feature", "threshold", "left", "right", "value")}
        return {"base": self.base, **{name: array.tolist() for name, array in arrays.items()}}


def grow(codes: Ints, target: Floats, weight: Floats, forest: Forest) -> Trees:
    """Trees that fit `target` float64[B] in weighted squares.   codes: int64[B, F].   weight: float64[B], above 0."""
    model = HistGradientBoostingRegressor(
        max_iter=forest.trees,
        max_leaf_nodes=forest.leaves,
        learning_rate=_LEARNING_RATE,
        l2_regularization=_DECAY,
        min_samples_leaf=5,
        early_stopping=False,
        random_state=0,
    )
    # One thread: sums then have one order, so that the same rows give the same trees on every machine.
    with threadpool_limits(1):
        model.fit(codes.astype(np.float64), target, sample_weight=weight)
    # No public interface gives the nodes; a test compares these arrays with scikit-learn's own predictions.
    nodes = [stage[0].nodes for stage in model._predictors]
    first = np.cumsum([0, *(len(tree) for tree in nodes[:-1])]).astype(np.int64)
    joined, shift = np.concatenate(nodes), np.repeat(first, [len(tree) for tree in nodes])
    is_leaf = joined["is_leaf"].astype(bool)
    return Trees(
        base=float(model._baseline_prediction.item()),
        roots=first,
        feature=np.where(is_leaf, -1, joined["feature_idx"]).astype(np.int64),
        # A last bin has no upper edge; JSON has no infinity, and no code is as large as 2^32.
        threshold=np.where(is_leaf, 0.0, np.minimum(joined["num_threshold"], 2.0**32)),
        left=np.where(is_leaf, 0, joined["left"] + shift),
        right=np.where(is_leaf, 0, joined["right"] + shift),
        value=np.where(is_leaf, joined["value"], 0.0),
    )


@numba.njit(cache=True)
def _walk(codes: Ints, roots: Ints, feature: Ints, threshold: Floats, left: Ints, right: Ints, value: Floats) -> Floats:
    total = np.zeros(codes.shape[0])
    for row in range(codes.shape[0]):
        for tree in range(roots.size):
            node = roots[tree]
            while feature[node] >= 0:
                node = left[node] if codes[row, feature[node]] <= threshold[node] else right[node]
            total[row] += value[node]
    return total
