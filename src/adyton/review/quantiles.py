"""Distributions by their quantiles: draw from a table of (probability, value) knots with a chosen shape in between."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adyton.review.errors import DayConfigError
from adyton.review.tables import FloatArray


@dataclass(frozen=True)
class QuantileTable:
    """Knots of a quantile function.

    probability: ascending from 0 to 1.   value: ascending; > 0 when `is_heavy`.   is_heavy: between knots log(value)
    is linear in log(1 − probability), a Pareto piece, so that the table keeps a heavy tail; otherwise value is linear.
    """

    probability: tuple[float, ...]
    value: tuple[float, ...]
    is_heavy: bool = False

    def __post_init__(self) -> None:
        ascending = all(np.diff(self.probability) > 0) and all(np.diff(self.value) >= 0)
        if len(self.probability) != len(self.value) or not ascending:
            raise DayConfigError("a quantile table needs as many values as probabilities, both ascending")

    @classmethod
    def fitted(cls, sample: FloatArray, n_knots: int = 200, *, is_heavy: bool = False) -> QuantileTable:
        """The table of a sample without NaN: evenly spaced knots, and dense ones towards the upper end."""
        tail = 1 - np.geomspace(0.01, 1 / max(len(sample), 101), 20)
        probability = np.unique(np.concatenate([np.linspace(0, 1, n_knots), tail]))
        return cls(tuple(probability), tuple(np.quantile(sample, probability)), is_heavy)

    def at(self, probability: FloatArray) -> FloatArray:
        """The values at these probabilities in [0, 1]."""
        if not self.is_heavy:
            return np.interp(probability, self.probability, self.value)
        smallest = (1 - self.probability[-2]) / 4
        knots = -np.log(np.maximum(1 - np.array(self.probability), smallest))
        return np.exp(np.interp(-np.log(np.maximum(1 - probability, smallest)), knots, np.log(self.value)))

    def draw(self, rng: np.random.Generator, n: int) -> FloatArray:
        """`n` values, stratified: one from each of n equal slices, in random order.

        Strata keep the sample's tail at the table's tail; independent draws of a tail this heavy would not.
        """
        probability = (np.arange(n) + rng.random(n)) / n
        return self.at(rng.permutation(probability))
