"""A small factorization machine: the fast model of the egress experiment.

score = b + sum_f w[x_f] + sum_{f<g} <v[x_f], v[x_g]>   (Rendle 2010). One pass of a few hundred thousand rows takes
under a second, so that dozens of feature sets can be compared. Trained by Adagrad, row by row, in a fixed random order:
the same seed gives the same numbers, and feature sets are compared under common random numbers.

`B` rows, `F` fields, `D` dimensions, `K` codes of all fields together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numba
import numpy as np
import numpy.typing as npt

from adyton.kernel.chance import stream

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class Trainer(Protocol):
    """Any model of the experiment: trained on coded rows, gives click probabilities of test rows."""

    def fit_predict(self, train: Ints, labels: Ints, test: Ints, sizes: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """float64[B_test] in (0, 1).   train, test: int64[B, F]; sizes: codes of each field; labels: 0/1."""
        ...


@dataclass(frozen=True)
class FactorizationMachine:
    """Trained weights. first: int64[F], the place of each field's code 0.   w: float32[K], v: float32[K, D]."""

    first: Ints
    bias: float
    w: Floats
    v: Floats

    def probabilities(self, codes: Ints) -> npt.NDArray[np.float64]:
        """float64[B] in (0, 1)."""
        scores = _scores(codes + self.first, np.float32(self.bias), self.w, self.v)
        return np.asarray(1 / (1 + np.exp(-scores.astype(np.float64))))


@dataclass(frozen=True)
class FactorizationTrainer:
    """How a machine is trained.   l2: weight decay of one step, relative to the learning rate."""

    dimensions: int = 4
    epochs: int = 2
    learning_rate: float = 0.01
    l2: float = 1e-2
    seed: int = 0

    def fit(self, codes: Ints, labels: Ints, sizes: tuple[int, ...]) -> FactorizationMachine:
        """codes: int64[B, F], codes[:, f] in [0, sizes[f]).   labels: int64[B] of 0 and 1."""
        first = np.cumsum([0, *sizes[:-1]]).astype(np.int64)
        total = int(sum(sizes))
        w = np.zeros(total, np.float32)
        # Each field draws its own start, so that leaving a field out does not change the start of the others.
        v = np.concatenate(
            [_start(size, self.dimensions, self.seed, field) for field, size in enumerate(sizes)]
            or [np.zeros((0, 1), np.float32)]
        ).astype(np.float32)
        rate = float(np.clip(labels.mean(), 1e-4, 1 - 1e-4))
        squares_w, squares_v = np.full(total, 1e-2, np.float32), np.full(v.shape, 1e-2, np.float32)
        bias = np.float32(np.log(rate / (1 - rate)))
        placed, target = codes + first, labels.astype(np.float32)
        for epoch in range(self.epochs):
            order = stream(self.seed, "order", epoch).permutation(labels.size)
            _epoch(placed, target, order, bias, w, v, squares_w, squares_v, self.learning_rate, self.l2)
        return FactorizationMachine(first, float(bias), w, v)

    def fit_predict(self, train: Ints, labels: Ints, test: Ints, sizes: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """Click probabilities of `test`, float64[B_test]."""
        return self.fit(train, labels, sizes).probabilities(test)


def _start(size: int, dimensions: int, seed: int, field: int) -> Floats:
    return stream(seed, "start", field).normal(0, 0.02, (size, dimensions)).astype(np.float32)


@numba.njit(cache=True, fastmath=True)
def _epoch(
    codes: Ints,
    labels: Floats,
    order: Ints,
    bias: np.float32,
    w: Floats,
    v: Floats,
    squares_w: Floats,
    squares_v: Floats,
    learning_rate: float,
    l2: float,
) -> None:
    n_fields, n_dimensions = codes.shape[1], v.shape[1]
    total = np.zeros(n_dimensions, np.float32)
    rate, decay = np.float32(learning_rate), np.float32(l2)
    for step in range(order.size):
        row = codes[order[step]]
        score = bias
        total[:] = 0
        own = np.float32(0)
        for field in range(n_fields):
            code = row[field]
            score += w[code]
            for d in range(n_dimensions):
                value = v[code, d]
                total[d] += value
                own += value * value
        crossed = np.float32(0)
        for d in range(n_dimensions):
            crossed += total[d] * total[d]
        score += np.float32(0.5) * (crossed - own)
        slope = np.float32(1) / (np.float32(1) + np.exp(-score)) - labels[order[step]]
        for field in range(n_fields):
            code = row[field]
            gradient = slope + decay * w[code]
            squares_w[code] += gradient * gradient
            w[code] -= rate * gradient / np.sqrt(squares_w[code])
            for d in range(n_dimensions):
                value = v[code, d]
                gradient = slope * (total[d] - value) + decay * value
                squares_v[code, d] += gradient * gradient
                v[code, d] = value - rate * gradient / np.sqrt(squares_v[code, d])


@numba.njit(cache=True, fastmath=True)
def _scores(codes: Ints, bias: np.float32, w: Floats, v: Floats) -> Floats:
    n_rows, n_fields, n_dimensions = codes.shape[0], codes.shape[1], v.shape[1]
    scores = np.empty(n_rows, np.float32)
    for row in range(n_rows):
        score = bias
        crossed = np.float32(0)
        for field in range(n_fields):
            score += w[codes[row, field]]
        for d in range(n_dimensions):
            total, own = np.float32(0), np.float32(0)
            for field in range(n_fields):
                value = v[codes[row, field], d]
                total += value
                own += value * value
            crossed += total * total - own
        scores[row] = score + np.float32(0.5) * crossed
    return scores
