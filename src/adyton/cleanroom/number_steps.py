"""Steps of numbers that k users share, so that a model's bucket edges are figures of a crowd and nobody's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True)
class NumberSteps:
    """Ascending steps. `starts`: smallest number of each but the first, which is open below.   means: of each step.

    Both are float64[steps]; none where fewer than k users have a number at all, and then every number is null.
    """

    starts: NDArray[np.float64]
    means: NDArray[np.float64]

    def applied(self, values: pa.ChunkedArray) -> pa.ChunkedArray:
        """Each number as the mean of its step; what is no finite number is null."""
        numbers = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
        is_known = np.isfinite(numbers)
        if len(self.means) == 0:
            return pa.chunked_array([pa.nulls(len(numbers), pa.float64())])
        place = np.maximum(np.searchsorted(self.starts, np.where(is_known, numbers, 0.0), side="right") - 1, 0)
        return pa.chunked_array([pa.array(self.means[place], mask=~is_known)])


def steps_of(values: pa.ChunkedArray, user_key: pa.ChunkedArray, k: int) -> NumberSteps:
    """Runs of the sorted numbers with at least `k` distinct users each; equal numbers are in one step."""
    numbers = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    is_known = np.isfinite(numbers)
    pairs = pa.table({"value": numbers[is_known], "user": user_key.filter(pa.array(is_known))})
    per_user = pairs.group_by(["value", "user"]).aggregate([("value", "count")]).sort_by("value")
    sorted_values, users = per_user["value"].to_numpy(), per_user["user"].to_numpy()
    distinct, first = np.unique(sorted_values, return_index=True)
    if len(distinct) == 0:
        return NumberSteps(np.zeros(0), np.zeros(0))
    starts: list[int] = []
    inside: set[int] = set()
    is_open = True
    for place, (begin, end) in enumerate(zip(first, [*first[1:], len(users)], strict=True)):
        if is_open:
            starts.append(place)
            is_open = False
        # Beyond k nothing changes any more, and zero alone may have every user.
        inside.update(users[begin : min(end, begin + k)].tolist())
        if len(inside) >= k:
            inside, is_open = set(), True
    if not is_open:
        # What is left over at the top is too small to stand alone.
        starts.pop()
    if not starts:
        return NumberSteps(np.zeros(0), np.zeros(0))
    rows = per_user["value_count"].to_numpy().astype(np.float64)
    step = np.maximum(np.searchsorted(distinct[starts], sorted_values, side="right") - 1, 0)
    weight = np.bincount(step, weights=rows)
    return NumberSteps(distinct[starts], np.bincount(step, weights=rows * sorted_values) / weight)
