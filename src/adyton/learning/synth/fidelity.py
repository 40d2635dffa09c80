"""How alike a synthetic and a real table are: column shapes and pair trends, with the ceiling that real data reaches.

The scores are those of the SDMetrics quality report (KSComplement, TVComplement, CorrelationSimilarity,
ContingencySimilarity; quality = mean of shapes and pairs), computed here so that no such package is needed. One
difference: where a number meets a category, both tables are cut at the *real* table's ten equal-width bins. A score
means little without the score of a fresh real sample beside it: `with_ceiling`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from adyton.learning.schema import TableSchema
from adyton.learning.synth.compared import ComparedColumn, Floats, Ints, compared

_PAIR_BINS = 10


@dataclass(frozen=True)
class Fidelity:
    """All scores lie in [0, 1], 1 is alike.   by_column: shape scores.   by_pair: trend scores."""

    quality: float
    shapes: float
    pairs: float
    by_column: tuple[tuple[str, float], ...]
    by_pair: tuple[tuple[str, str, float], ...]

    def as_json(self) -> dict[str, object]:
        return {
            "quality": self.quality,
            "shapes": self.shapes,
            "pairs": self.pairs,
            "by_column": dict(self.by_column),
            "by_pair": [list(pair) for pair in self.by_pair],
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
    return Fidelity((shapes + pairs) / 2, shapes, pairs, by_column, by_pair)


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


def _equal_width(column: ComparedColumn) -> Floats | None:
    if column.numbers is None:
        return None
    known = column.numbers[0][~np.isnan(column.numbers[0])]
    return np.asarray(np.histogram_bin_edges(known, _PAIR_BINS), np.float64)


def _shares(codes: Ints, size: int) -> npt.NDArray[np.float64]:
    return np.bincount(codes, minlength=size) / codes.size


def _pearson(x: Floats, y: Floats) -> float:
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = x[known], y[known]
    if x.size < 2 or x.std() == 0 or y.std() == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])
