"""A table as small integers, and exact counts of it.

`B` rows, `P` parts, `L` label classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from adyton.learning.synth.noise import Ints

Codes = npt.NDArray[np.integer]
_BLOCK_ROWS = 1 << 18
"""Rows counted at a time: their codes stay in the processor's cache, and no copy of a long column is made."""


@dataclass(frozen=True)
class CodedTable:
    """codes: for each part integers [B] of any width, in [0, sizes[p]).   label: [B] in [0, label_classes)."""

    codes: tuple[Codes, ...]
    sizes: tuple[int, ...]
    label: Codes
    label_classes: int

    def with_label(self, *parts: int) -> Ints:
        """Exact counts of (label, *parts): int64[L, K, ...]."""
        sizes = (self.label_classes, *(self.sizes[part] for part in parts))
        return tally((self.label, *(self.codes[part] for part in parts)), sizes)

    def without_label(self, *parts: int) -> Ints:
        """Exact counts of `parts`: int64[K, ...]."""
        return tally([self.codes[part] for part in parts], [self.sizes[part] for part in parts])


def narrow(codes: Codes, size: int) -> Codes:
    """`codes` below `size` in the narrowest unsigned type that holds them: a table of many columns is large."""
    return codes.astype(np.min_scalar_type(max(size - 1, 0)), copy=False)


def tally(columns: Sequence[Codes], sizes: Sequence[int]) -> Ints:
    """How often each combination of codes occurs: int64[sizes].   columns: [B] each, in [0, size) of its own."""
    cells = int(np.prod(sizes))
    total = np.zeros(cells, np.int64)
    for first in range(0, columns[0].size, _BLOCK_ROWS):
        cell = columns[0][first : first + _BLOCK_ROWS].astype(np.int64)
        for column, size in zip(columns[1:], sizes[1:], strict=True):
            cell *= size
            cell += column[first : first + _BLOCK_ROWS]
        total += np.bincount(cell, minlength=cells)
    return total.reshape(sizes)
