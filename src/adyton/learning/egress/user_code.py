"""A learned b-bit code of the user: a few small numbers that say what a model wants to know about the user.

A factorization machine is trained on all features. What it knows of a user is a bias (what the user does on average)
and a vector (how the user differs by item and context). The vector is turned into the directions along which it moves
scores most; bias and directions are then quantised, each next bit going where the error of the score is largest
(reverse water-filling, Cover & Thomas 2006, §10.3.3; levels after Panter & Dite 1951). Each quantised number is one
unsigned integer of the payload.

A code is computed from the user's own feature codes alone, so a generateBid script can do it; `as_json` holds all.

`B` rows, `F` user features, `D` dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from adyton.learning.egress.errors import EgressInputError
from adyton.learning.egress.features import EgressData, Ints, UserFeature
from adyton.learning.egress.machine import FactorizationTrainer

Floats = npt.NDArray[np.float64]

_HISTOGRAM_BINS = 1024
MOST_BITS_OF_ONE_NUMBER = 8


@dataclass(frozen=True)
class UserCode:
    """How a user's features become a code.

    names: the features read, in order.   w: float64[sum K_f], v: float64[sum K_f, D] with `first` the place of each
    feature's code 0.   mean: float64[D], what the vector adds to the bias on average.   directions: float64[D, D].
    edges: for each number sent, which one it is (0 the bias, d + 1 direction d), inner edges float64[2^bits - 1].
    """

    names: tuple[str, ...]
    first: Ints
    w: Floats
    v: Floats
    mean: Floats
    directions: Floats
    edges: tuple[tuple[int, Floats], ...]

    @property
    def bits(self) -> int:
        """Size of the code."""
        return sum((edges.size + 1).bit_length() - 1 for _, edges in self.edges)

    def encode(self, features: tuple[UserFeature, ...]) -> tuple[UserFeature, ...]:
        """The payload's features for each row, `code0`, `code1`, ...

        Raises EgressInputError unless `features` are those the code was learned from.
        """
        if tuple(feature.name for feature in features) != self.names:
            raise EgressInputError("a code reads the features it was learned from, in their order")
        numbers = _user_numbers(np.column_stack([f.codes for f in features]) + self.first, self.w, self.v)
        placed = _projected(numbers, self.mean, self.directions)
        return tuple(
            UserFeature(f"code{i}", (edges.size + 1).bit_length() - 1, np.searchsorted(edges, placed[:, which]))
            for i, (which, edges) in enumerate(self.edges)
        )

    def as_json(self) -> dict[str, object]:
        """Everything that a script needs to compute the code."""
        return {
            "features": list(self.names),
            "first": self.first.tolist(),
            "w": self.w.tolist(),
            "v": self.v.tolist(),
            "mean": self.mean.tolist(),
            "directions": self.directions.tolist(),
            "edges": [{"number": which, "edges": edges.tolist()} for which, edges in self.edges],
        }


def learn_code(data: EgressData, bits: int, trainer: FactorizationTrainer) -> UserCode:
    """The code of `bits` bits (1..64), learned from the training rows of `data`."""
    if not 1 <= bits <= 64:
        raise EgressInputError("a user code takes 1 to 64 bits")
    train = ~data.is_test
    features = data.user_features
    sizes = (*(feature.size for feature in features), *data.free_sizes)
    user = np.column_stack([feature.codes for feature in features])[train]
    free = data.free[train]
    machine = trainer.fit(np.hstack([user, free]), data.labels[train], sizes)
    w, v = machine.w.astype(float), machine.v.astype(float)
    first = machine.first[: len(features)]
    items = (
        v[free + machine.first[len(features) :]].sum(axis=1) if free.shape[1] else np.zeros((user.shape[0], v.shape[1]))
    )
    end = int(first[-1]) + features[-1].size
    w, v = w[:end], v[:end]
    numbers = _user_numbers(user + first, w, v)
    directions = _directions(numbers[:, 1:], np.cov(items.T))
    placed = _projected(numbers, items.mean(axis=0), directions)
    shares = _bits_of_each(placed.var(axis=0), bits)
    edges = tuple((which, _edges(placed[:, which], share)) for which, share in enumerate(shares) if share)
    return UserCode(tuple(f.name for f in features), first, w, v, items.mean(axis=0), directions, edges)


def _user_numbers(codes: Ints, w: Floats, v: Floats) -> Floats:
    """float64[B, 1 + D]: bias of the user's own fields and their crossings, and the sum of vectors."""
    bias, total, own = np.zeros(len(codes)), np.zeros((len(codes), v.shape[1])), np.zeros(len(codes))
    for column in codes.T:
        bias += w[column]
        total += v[column]
        own += (v[column] ** 2).sum(axis=1)
    return np.column_stack([bias + 0.5 * ((total**2).sum(axis=1) - own), total])


def _projected(numbers: Floats, mean: Floats, directions: Floats) -> Floats:
    """float64[B, 1 + D]: the average effect on the score, then the effect along each direction."""
    return np.column_stack([numbers[:, 0] + numbers[:, 1:] @ mean, numbers[:, 1:] @ directions])


def _directions(vectors: Floats, item_covariance: Floats) -> Floats:
    """float64[D, D]: columns along which users differ, in units of score, by falling variance."""
    values, axes = np.linalg.eigh(item_covariance)
    root = axes @ np.diag(np.sqrt(np.maximum(values, 0.0))) @ axes.T
    _, turned = np.linalg.eigh(np.cov((vectors @ root).T))
    return np.asarray(root @ turned[:, ::-1])


def _bits_of_each(variances: Floats, bits: int) -> list[int]:
    """Bits of each number: one at a time to the number whose quantisation error, variance / 4^bits, is largest."""
    given = [0] * variances.size
    for _ in range(bits):
        open_numbers = [i for i in range(variances.size) if given[i] < MOST_BITS_OF_ONE_NUMBER]
        if not open_numbers:
            raise EgressInputError("the code is larger than what the model knows of a user")
        given[max(open_numbers, key=lambda i: variances[i] / 4.0 ** given[i])] += 1
    return given


def _edges(numbers: Floats, bits: int) -> Floats:
    """float64[2^bits - 1], ascending: cells whose width falls with the cube root of the density."""
    low, high = np.quantile(numbers, [0.001, 0.999])
    counts, borders = np.histogram(numbers, _HISTOGRAM_BINS, range=(low, max(high, low + 1e-9)))
    mass = np.cumsum(np.cbrt(counts + 1e-3))
    wanted = np.arange(1, 1 << bits) / (1 << bits) * mass[-1]
    return np.asarray(np.interp(wanted, np.r_[0.0, mass], borders))
