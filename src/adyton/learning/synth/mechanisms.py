"""The two mechanisms that a fit is made of: noisy tables and private choices, each charged before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from adyton.learning.synth.accounting import Spending, scale_for
from adyton.learning.synth.coded_table import CodedTable
from adyton.learning.synth.estimate import Floats
from adyton.learning.synth.noise import Noise

_ROUNDING = 1 - Fraction(1, 10**7)
"""A little of each budget is left over, so that rounding scales up never passes the limit."""


@dataclass(frozen=True)
class NoisyTable:
    """Counts of (label, *parts), float64[L, ...], with noise of `variance` on each cell."""

    parts: tuple[int, ...]
    counts: Floats
    variance: float


@dataclass(frozen=True)
class Mechanisms:
    """Draws noise and books it.   sensitivity: how many rows one unit of privacy may bring.

    Every method raises PrivacySpendError if `spending` has less left than it needs.
    """

    noise: Noise
    spending: Spending
    sensitivity: int

    def tables(
        self, table: CodedTable, parts_of: Sequence[tuple[int, ...]], rho: Fraction, purpose: str
    ) -> list[NoisyTable]:
        """The (label, *parts) counts of each entry of `parts_of`, all within `rho`."""
        cells = [table.label_classes * int(np.prod([table.sizes[part] for part in parts])) for parts in parts_of]
        measured = []
        for parts, share in zip(parts_of, _shares(cells), strict=True):
            scale = scale_for(self.sensitivity, rho * share)
            self.spending.charge(f"{purpose} {'-'.join(map(str, parts))}", self.sensitivity, scale)
            counts = self.noise.gaussian(table.with_label(*parts), scale).astype(float)
            measured.append(NoisyTable(parts, counts, scale**2))
        return measured

    def best(self, scores: Sequence[int], rho: Fraction, purpose: str) -> int:
        """The position of the largest score after noise.   scores: one unit moves each by at most `sensitivity`."""
        scale = scale_for(self.sensitivity, rho * _ROUNDING)
        self.spending.charge(purpose, self.sensitivity, scale)
        return self.noise.noisy_max(np.array(scores, np.int64), scale)


def _shares(cells: Sequence[int]) -> list[Fraction]:
    """How a budget is split over tables so that the summed L1 error is least: shares ~ cells^(2/3), sum below 1.

    For L1 error cells * scale and cost 1/scale^2 the Lagrange condition gives cost ~ cells^(2/3).
    """
    weights = [int(1000 * size ** (2 / 3)) for size in cells]
    return [Fraction(weight, sum(weights)) * _ROUNDING for weight in weights]
