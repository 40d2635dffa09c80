"""How alike a synthetic and a real table are: column shapes and pair trends, with the ceiling that real data reaches.

The scores are those of SDMetrics (KSComplement, TVComplement, CorrelationSimilarity, ContingencySimilarity), computed
here so that no such package is needed. One difference: where a number meets a category, both tables are cut at the
*real* table's ten equal-width bins.

Quality is the mean of shapes and pairs, once over all pairs of columns and once, as the quality report of SDMetrics
0.32 has it, over those pairs alone that hang together in the real table. Most pairs do not, and are easy to keep, so
that the second reads lower. A score means little without the score of a fresh real sample beside it: `with_ceiling`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from adyton.learning.schema import TableSchema
from adyton.learning.synth.compared import ComparedColumn, Floats, Ints, compared, quantile_edges

_PAIR_BINS = 10
_LEAST_CORRELATION, _LEAST_ASSOCIATION = 0.5, 0.3
"""Of a pair that hangs together: of two numbers Pearson's, of others Cramer's V. The limits of SDMetrics 0.32."""


@dataclass(frozen=True)
class Fidelity:
    """All scores lie in [0, 1], 1 is alike.   by_column: shape scores.   by_pair: trend scores.

    linked: names of the pairs that hang together in the real table.
    """

    quality: float
    shapes: float
    pairs: float
    by_column: tuple[tuple[str, float], ...]
    by_pair: tuple[tuple[str, str, float], ...]
    linked: tuple[tuple[str, str], ...]

    @property
    def linked_pairs(self) -> float | None:
        """Mean trend score of the pairs that hang together; None where none does."""
        scores = [score for a, b, score in self.by_pair if (a, b) in self.linked]
        return float(np.mean(scores)) if scores else None

    @property
    def linked_quality(self) -> float:
        """Mean of shapes and of the pairs that hang together; shapes alone where none does."""
        return self.shapes if self.linked_pairs is None else (self.shapes + self.linked_pairs) / 2

    def as_json(self) -> dict[str, object]:
        return {
            "quality": self.quality,
            "shapes": self.shapes,
            "pairs": self.pairs,
            "linked_quality": self.linked_quality,
            "linked_pairs": self.linked_pairs,
            "by_column": dict(self.by_column),
            "by_pair": [list(pair) for pair in self.by_pair],
            "linked": [list(pair) for pair in self.linked],
        }


@dataclass(frozen=True)
class FidelityWithCeiling:
    """`ceiling`: the same scores of fresh real rows against the same real table; no honest synthesizer passes it."""

    synthetic: Fidelity
    ceiling: Fidelity

    @property
    def share_of_ceiling(self) -> float:
        return self.synthetic.quality / self.ceiling.quality


def fidelity(real: pa.Table, synthetic: pa.Table, schema: TableSchema) -> Fidelity:
    """How alike the two tables are.   Raises TableError if either lacks a column or is empty."""
    return _fidelity(compared([real, synthetic], schema))


def with_ceiling(real: pa.Table, synthetic: pa.Table, fresh_real: pa.Table, schema: TableSchema) -> FidelityWithCeiling:
    """Fidelity of `synthetic` and of `fresh_real`, both against `real`; `fresh_real` shares no row with `real`."""
    return FidelityWithCeiling(fidelity(real, synthetic, schema), fidelity(real, fresh_real, schema))


def tv_complement(real: Ints, synthetic: Ints, size: int) -> float:
    """1 - total variation distance of two coded columns with codes below `size`."""
    return 1 - 0.5 * float(np.abs(_shares(real, size) - _shares(synthetic, size)).sum())


def ks_complement(real: Floats, synthetic: Floats) -> float:
    """1 - the Kolmogorov-Smirnov statistic; nulls (NaN) are left out. 0 when only one side has numbers."""
    a, b = np.sort(real[~np.isnan(real)]), np.sort(synthetic[~np.isnan(synthetic)])
    if not a.size or not b.size:
        return float(a.size == b.size)
    points = np.concatenate([a, b])
    return 1 - float(
        np.abs(
            np.searchsorted(a, points, side="right") / a.size - np.searchsorted(b, points, side="right") / b.size
        ).max()
    )


def correlation_similarity(real: tuple[Floats, Floats], synthetic: tuple[Floats, Floats]) -> float:
    """1 - |difference of the Pearson correlations| / 2; a constant column has correlation 0."""
    return 1 - abs(_pearson(*real) - _pearson(*synthetic)) / 2


def _fidelity(columns: tuple[ComparedColumn, ...]) -> Fidelity:
    by_column = tuple((column.name, _shape(column)) for column in columns)
    binned = {column.name: column.binned(_equal_width(column)) for column in columns}
    by_pair = tuple((a.name, b.name, _trend(a, b, binned)) for a, b in combinations(columns, 2))
    shapes = float(np.mean([score for _, score in by_column]))
    pairs = float(np.mean([score for *_, score in by_pair])) if by_pair else shapes
    linked = tuple((a.name, b.name) for a, b in combinations(columns, 2) if _is_linked(a, b, binned))
    return Fidelity((shapes + pairs) / 2, shapes, pairs, by_column, by_pair, linked)


def _shape(column: ComparedColumn) -> float:
    if column.categories is not None:
        return tv_complement(column.categories[0], column.categories[1], column.size)
    assert column.numbers is not None, "a column is one or the other"
    return ks_complement(column.numbers[0], column.numbers[1])


def _trend(a: ComparedColumn, b: ComparedColumn, binned: dict[str, tuple[tuple[Ints, ...], int]]) -> float:
    if a.numbers is not None and b.numbers is not None:
        return correlation_similarity((a.numbers[0], b.numbers[0]), (a.numbers[1], b.numbers[1]))
    (codes_a, _), (codes_b, size_b) = binned[a.name], binned[b.name]
    cells = [x * size_b + y for x, y in zip(codes_a, codes_b, strict=True)]
    _, joint = np.unique(np.concatenate(cells), return_inverse=True)
    return tv_complement(joint[: cells[0].size], joint[cells[0].size :], int(joint.max()) + 1)


def _is_linked(a: ComparedColumn, b: ComparedColumn, binned: dict[str, tuple[tuple[Ints, ...], int]]) -> bool:
    if a.numbers is not None and b.numbers is not None:
        return abs(_pearson(a.numbers[0], b.numbers[0])) > _LEAST_CORRELATION
    return cramers_v(binned[a.name][0][0], binned[b.name][0][0]) > _LEAST_ASSOCIATION


def cramers_v(a: Ints, b: Ints) -> float:
    """Cramer's V of two coded columns, 0 (independent) to 1; 0 where either has one value only."""
    of_row, of_column = np.bincount(a), np.bincount(b)
    least = min(np.count_nonzero(of_row), np.count_nonzero(of_column)) - 1
    if least < 1:
        return 0.0
    cells, counts = np.unique(a * of_column.size + b, return_counts=True)
    # Chi squared over n, from the cells that occur: the sum of n_ij^2 / (n_i n_j), less 1.
    expected = of_row[cells // of_column.size].astype(np.float64) * of_column[cells % of_column.size]
    return float(np.sqrt(max(0.0, float((counts.astype(np.float64) ** 2 / expected).sum()) - 1) / least))


def _equal_width(column: ComparedColumn) -> Floats | None:
    if column.numbers is None:
        return None
    known = column.numbers[0][~np.isnan(column.numbers[0])]
    try:
        with np.errstate(over="ignore"):
            return np.asarray(np.histogram_bin_edges(known, _PAIR_BINS), np.float64)
    except ValueError:  # a range that floats cannot cut into ten, such as ids beyond 2^53
        return quantile_edges(known, _PAIR_BINS)


def _shares(codes: Ints, size: int) -> npt.NDArray[np.float64]:
    return np.bincount(codes, minlength=size) / codes.size


def _pearson(x: Floats, y: Floats) -> float:
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = x[known], y[known]
    if x.size < 2 or x.std() == 0 or y.std() == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])
