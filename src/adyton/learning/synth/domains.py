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

_GRID = 1 << 12
"""Steps of 1 in a weighted count."""

Value = str | int | float | bool | None
_SCALARS = (str, int, float, bool)


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
        ascend = all(a < b for a, b in zip(self.edges, self.edges[1:], strict=False))
        if len(self.edges) < 2 or not ascend or not all(map(math.isfinite, self.edges)):
            raise SynthesisInputError("public edges must be at least two ascending numbers")


@dataclass(frozen=True)
class Span:
    """Public bounds of a number: 64 equal cells between low and high, thinned under DP to about 24 bins."""

    low: float
    high: float
    nullable: bool = False

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise SynthesisInputError("a public span needs low below high, both finite")


PublicDomain = Values | Edges | Span


@dataclass(frozen=True)
class Finder:
    """Spends a fixed share of the budget on each column whose domain is not public.

    sensitivity: most rows one unit may change.   rho, delta: per column.   unit_of_row: int64[B], whose row each
    row of the bounded table is; None when each row is a unit of its own.   least_units: nothing is let be known that
    fewer units share, whatever the noise.
    """

    noise: Noise
    spending: Spending
    sensitivity: int
    rho: Fraction
    delta: Fraction
    unit_of_row: Ints | None = None
    least_units: int = 1

    def released(self, row: Ints, value: Ints, n_values: int, purpose: str, *, elements_per_row: int = 1) -> Ints:
        """Which of `n_values` observed values may be known: positions int64[R], R <= n_values.

        row, value: int64[E], each occurrence of a value 0..n_values-1 in a row of the bounded table, at most
        `elements_per_row` of them in one row.
        A unit with k different values gives each of them a weight of 1 / sqrt(k), so that it moves all counts together
        by 1 at most (L2).   Source: the weighted Gaussian of Gopi et al. 2020, "Differentially Private Set Union".
        """
        scale = scale_for(_GRID, self.rho)
        self.spending.charge(purpose, _GRID, scale, self.delta)
        if n_values == 0:
            return np.zeros(0, np.int64)
        if self.unit_of_row is None and elements_per_row == 1:
            units = np.bincount(value, minlength=n_values)
            weights = _GRID * units
        else:
            pairs = row if self.unit_of_row is None else self.unit_of_row[row]
            pairs = pairs * n_values
            pairs += value
            pairs = _distinct(pairs)
            # Rounded down on an integer grid, which only lowers what a unit moves.
            values_of_unit = np.bincount(pairs // n_values)
            weight = np.floor(_GRID / np.sqrt(np.maximum(values_of_unit, 1)))
            weights = np.bincount(pairs % n_values, weights=weight[pairs // n_values], minlength=n_values)
            units = np.bincount(pairs % n_values, minlength=n_values)
        noisy = self.noise.gaussian(weights.astype(np.int64), scale)
        limit = _set_threshold(self.sensitivity * elements_per_row, scale, self.delta, self.least_units)
        return np.flatnonzero((units >= self.least_units) & (noisy > limit))

    def released_groups(self, row: Ints, group: Ints, counts: Ints, purpose: str) -> tuple[Ints, Ints]:
        """Which groups of cells may be known, and noisy counts of their cells; a group is judged by its sum.

        row, group: int64[E], the group 0..G-1 that each row of the bounded table is in.   counts: int64[G, C], every
        group with at least one count > 0.   Returns (int64[R], int64[R, C]).
        The noise of a sum of C cells is that of one cell at scale sqrt(C). As in `released`, the unit that makes a
        group's units enough is the one to hide; the others have `sensitivity` rows each at most.
        """
        scale = scale_for(self.sensitivity, self.rho)
        self.spending.charge(purpose, self.sensitivity, scale, self.delta)
        if counts.size == 0:
            return np.zeros(0, np.int64), counts
        noisy = self.noise.gaussian(counts, scale)
        limit = release_threshold(self.sensitivity, scale * math.sqrt(counts.shape[1]), self.delta)
        limit += (self.least_units - 1) * self.sensitivity
        may_be_known = noisy.sum(axis=1) > limit
        if self.least_units > 1:
            unit = row if self.unit_of_row is None else self.unit_of_row[row]
            pairs = _distinct(unit * counts.shape[0] + group)
            may_be_known &= np.bincount(pairs % counts.shape[0], minlength=counts.shape[0]) >= self.least_units
        kept = np.flatnonzero(may_be_known)
        return kept, noisy[kept]

    def noisy_cells(self, counts: Ints, purpose: str) -> Ints:
        """Noisy counts of public cells, int64[V], no threshold."""
        scale = scale_for(self.sensitivity, self.rho)
        self.spending.charge(purpose, self.sensitivity, scale)
        return self.noise.gaussian(counts, scale)


def _distinct(numbers: Ints) -> Ints:
    """Each number once, ascending. Sorts `numbers` in place: numpy's `unique` hashes, 25 times slower for many."""
    numbers.sort()
    is_first = np.ones(numbers.size, bool)
    np.not_equal(numbers[1:], numbers[:-1], out=is_first[1:])
    return numbers[is_first]


def _set_threshold(most_values: int, scale: float, delta: Fraction, least_units: int) -> float:
    """The weighted count above which a value is released, in units of 1 / `_GRID`.

    A unit that brings k values that nobody else has passes with one of them with probability at most
    k exp(-(t - grid / sqrt(k))^2 / 2 scale^2); t is taken for the worst k. Where a value is not looked at below
    `least_units` units, the unit that makes it so many is the one to hide, and the others weigh 1 each at most
    (pre-thresholding: Swanberg et al. 2023, "DP-SIPS").
    """
    return (least_units - 1) * _GRID + max(
        _GRID / math.sqrt(k) + scale * math.sqrt(2 * math.log(k / float(delta))) for k in range(1, most_values + 1)
    )


def release_threshold(sensitivity: int, scale: float, delta: Fraction) -> float:
    """The count above which a value is released.

    One unit brings at most `sensitivity` values of its own, each at most `sensitivity` times. The discrete Gaussian
    passes t with probability at most exp(-t^2 / 2 scale^2) (Canonne, Kamath, Steinke 2020, Lemma 22 and Chernoff), so
    a union bound gives t = scale sqrt(2 ln(sensitivity / delta)).
    """
    return sensitivity + scale * math.sqrt(2 * math.log(sensitivity / float(delta)))


def from_json(value: object) -> dict[str, PublicDomain]:
    """Public domains by column: `{"tab": {"values": [0, 1]}, "price": {"edges": [0, 1, 5]}, "age": {"span": [0, 99]}}`.

    Edges and spans take `"nullable": true`.   Raises SynthesisInputError saying which column is wrong.
    """
    if not isinstance(value, dict):
        raise SynthesisInputError("public domains are a JSON object by column")
    return {str(name): _domain_from_json(str(name), entry) for name, entry in value.items()}


def _domain_from_json(name: str, entry: object) -> PublicDomain:
    match entry:
        case {"values": list(values), **rest} if not rest and all(v is None or isinstance(v, _SCALARS) for v in values):
            return Values(tuple(values))
        case {"edges": list(edges), **rest} if not set(rest) - {"nullable"} and all(map(_is_number, edges)):
            return Edges(tuple(edges), bool(rest.get("nullable")))
        case {"span": [low, high], **rest} if not set(rest) - {"nullable"} and _is_number(low) and _is_number(high):
            return Span(low, high, bool(rest.get("nullable")))
    raise SynthesisInputError(
        "a public domain is one of values, edges or span", where=name, hint='for example {"values": ["a", "b", null]}'
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
