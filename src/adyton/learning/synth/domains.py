"""What values a column can take, without looking at the data: public domains, or domains found under DP.

A public domain (`Values`, `Edges`, `Span`) is stated by the owner and costs nothing. For all other columns the set of
values is *found*: each observed value gets a noisy count and is released only above a threshold that a value brought by
one user alone passes with probability at most delta. Values that are not released become null in categories and lists,
and move to the nearest released value in numbers and dates.
Source: stability-based histograms, Korolova et al. 2009; Gaussian form, Wilkins et al. 2024 and Bun & Steinke 2016, §8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from adyton.learning.synth.accounting import Spending, scale_for
from adyton.learning.synth.errors import SynthesisInputError
from adyton.learning.synth.noise import Ints, Noise

Value = str | int | float | bool | None


@dataclass(frozen=True)
class Values:
    """A public list of categories. Put None last if nulls occur; a value outside the list counts as the last one."""

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) != len(self.values):
            raise SynthesisInputError("a public list of values must not be empty or repeat itself")


@dataclass(frozen=True)
class Edges:
    """Public bin edges of a number, ascending: bin i is [edges[i], edges[i+1]); values outside move to the ends."""

    edges: tuple[float, ...]
    nullable: bool = False

    def __post_init__(self) -> None:
        if len(self.edges) < 2 or any(a >= b for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise SynthesisInputError("public edges must be at least two ascending numbers")


@dataclass(frozen=True)
class Span:
    """Public bounds of a number: 64 equal cells between low and high, thinned under DP to about 24 bins."""

    low: float
    high: float
    nullable: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise SynthesisInputError("a public span needs low below high")


PublicDomain = Values | Edges | Span


@dataclass(frozen=True)
class Finder:
    """Spends a fixed share of the budget on each column whose domain is not public.

    sensitivity: most rows one unit may change.   rho, delta: per column.
    """

    noise: Noise
    spending: Spending
    sensitivity: int
    rho: Fraction
    delta: Fraction

    def released(self, counts: Ints, purpose: str, *, elements_per_row: int = 1) -> tuple[Ints, Ints]:
        """Which of the observed values may be known, and their noisy counts.

        counts: int64[V] > 0, how often each observed value occurs in the bounded table.
        Returns (positions into `counts`, noisy counts at those positions), both int64[R], R <= V.
        """
        sensitivity = self.sensitivity * elements_per_row
        scale = scale_for(sensitivity, self.rho)
        self.spending.charge(purpose, sensitivity, scale, self.delta)
        if counts.size == 0:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        noisy = self.noise.gaussian(counts, scale)
        kept = np.flatnonzero(noisy > release_threshold(sensitivity, scale, self.delta))
        return kept, noisy[kept]

    def noisy_cells(self, counts: Ints, purpose: str) -> Ints:
        """Noisy counts of public cells, int64[V], no threshold."""
        scale = scale_for(self.sensitivity, self.rho)
        self.spending.charge(purpose, self.sensitivity, scale)
        return self.noise.gaussian(counts, scale)


def release_threshold(sensitivity: int, scale: float, delta: Fraction) -> float:
    """The count above which a value is released.

    One unit brings at most `sensitivity` values of its own, each at most `sensitivity` times. The discrete Gaussian
    passes t with probability at most exp(-t^2 / 2 scale^2) (Canonne, Kamath, Steinke 2020, Lemma 22 and Chernoff), so
    a union bound gives t = scale sqrt(2 ln(sensitivity / delta)).
    """
    return sensitivity + scale * math.sqrt(2 * math.log(sensitivity / float(delta)))
