"""A learned b-bit code of the user: a few small numbers that say what a model wants to know about the user.

The first number is the user's *propensity*: how much more or less likely than item and context alone say this user
clicks. Boosted trees learn it from the user's features, with the score of a model of item and context as offset: one
Newton step of the log loss, boosted (Friedman 2001), on rows summed by user, since nothing else of a row enters it.
Further numbers say how the user differs by item and context: the user's vector of a factorization machine, turned into
the directions along which it moves scores most. Each is quantised and becomes one unsigned integer of the payload
(cells after Panter & Dite 1951; between directions, each next bit goes where the error of the score is largest: reverse
water-filling, Cover & Thomas 2006, §10.3.3).

A propensity is learned from clicks. On the rows it was learned from it looks better than it is, and a model trained on
those rows would trust it too much. So every training row gets its propensity from trees that have not seen that row
(`FOLDS`-fold cross-fitting); test rows get it from trees of all training rows, as a device would.

A code is computed from the user's own feature codes alone, so a generateBid script can do it; `as_json` holds all.

`B` rows, `F` user features, `D` dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from adyton.kernel.chance import stream
from adyton.learning.egress.errors import EgressInputError
from adyton.learning.egress.features import EgressData, Ints, UserFeature
from adyton.learning.egress.machine import FactorizationTrainer
from adyton.learning.egress.trees import Forest, Trees, grow
from adyton.learning.metrics import logloss

Floats = npt.NDArray[np.float64]

FOLDS = 4
_HISTOGRAM_BINS = 1024
MOST_BITS_OF_ONE_NUMBER = 8


@dataclass(frozen=True)
class UserNumbers:
    """How a user's features become numbers: number 0 the propensity, d + 1 the effect along direction d.

    names: the features read, in order.   v: float64[sum K_f, D] with `first` the place of each feature's code 0.
    directions: float64[D, D].
    """

    names: tuple[str, ...]
    propensity: Trees
    first: Ints
    v: Floats
    directions: Floats

    def of(self, features: tuple[UserFeature, ...]) -> Floats:
        """float64[B, 1 + D].   Raises EgressInputError unless `features` are those the numbers were learned from."""
        if tuple(feature.name for feature in features) != self.names:
            raise EgressInputError("a code reads the features it was learned from, in their order")
        codes = _matrix(features)
        vectors = sum((self.v[codes[:, f] + place] for f, place in enumerate(self.first)), np.zeros(self.v.shape[1]))
        users, row_of = np.unique(codes, axis=0, return_inverse=True)
        return np.column_stack([self.propensity.values(users)[row_of.reshape(-1)], vectors @ self.directions])


@dataclass(frozen=True)
class UserCode:
    """Numbers and how they are quantised.   edges: for each number sent, which one, inner edges float64[2^bits - 1]."""

    numbers: UserNumbers
    edges: tuple[tuple[int, Floats], ...]

    @property
    def bits(self) -> int:
        """Size of the code."""
        return sum(_bits(edges) for _, edges in self.edges)

    def encode(self, features: tuple[UserFeature, ...]) -> tuple[UserFeature, ...]:
        """The payload's features for each row, `code0`, `code1`, ...

        Raises EgressInputError unless `features` are those the code was learned from.
        """
        return self.quantised(self.numbers.of(features))

    def quantised(self, numbers: Floats) -> tuple[UserFeature, ...]:
        """The same for numbers that were computed before, float64[B, 1 + D]."""
        return tuple(
            UserFeature(f"code{i}", _bits(edges), np.searchsorted(edges, numbers[:, which]))
            for i, (which, edges) in enumerate(self.edges)
        )

    def as_json(self) -> dict[str, object]:
        """Everything that a script needs to compute the code."""
        numbers = self.numbers
        return {
            "features": list(numbers.names),
            "propensity": numbers.propensity.as_json(),
            "first": numbers.first.tolist(),
            "v": numbers.v.tolist(),
            "directions": numbers.directions.tolist(),
            "edges": [{"number": which, "edges": edges.tolist()} for which, edges in self.edges],
        }


@dataclass(frozen=True)
class LearnedNumbers:
    """What was learned, and the numbers of the very rows it was learned from, honest about that.

    rows: float64[B, 1 + D], of training rows cross-fitted.   is_training: bool[B].
    """

    numbers: UserNumbers
    rows: Floats
    is_training: npt.NDArray[np.bool_]

    def code(self, bits: int, *, propensity_bits: int | None = None, further: bool = True) -> UserCode:
        """The code of `bits` bits (1..64).

        propensity_bits: of the propensity, by water-filling like the rest if None.   further: whether the bits that
        the propensity leaves go to directions, or are not used at all.   Raises EgressInputError for bits out of range.
        """
        if not 1 <= bits <= 64:
            raise EgressInputError("a user code takes 1 to 64 bits")
        numbers = self.rows[self.is_training]
        given = np.zeros(numbers.shape[1], np.int64)
        given[0] = min(bits, propensity_bits or 0)
        if further or propensity_bits is None:
            _share_bits(given, numbers.var(axis=0), bits, is_open=slice(0 if propensity_bits is None else 1, None))
        edges = tuple((which, _edges(numbers[:, which], int(share))) for which, share in enumerate(given) if share)
        return UserCode(self.numbers, edges)


def learn_numbers(
    data: EgressData,
    trainer: FactorizationTrainer,
    forest: Forest,
    *,
    true_features: tuple[UserFeature, ...] | None = None,
    seed: int = 0,
) -> LearnedNumbers:
    """The numbers of a code, learned from the training rows of `data`.

    true_features: what the devices hold where `data` has what the collector received; those of `data` if None.
    """
    features = data.user_features
    held = true_features or features
    training = np.flatnonzero(~data.is_test)
    fold_of = _folds(data, seed)
    first, v, directions = _vectors(data, training, trainer)
    base = _base_scores(data, fold_of, trainer)
    codes = _matrix(features)
    users, user_of = np.unique(codes[training], axis=0, return_inverse=True)
    user_of = user_of.reshape(-1)

    def trees(rows: npt.NDArray[np.bool_]) -> Trees:
        return _propensity(users, user_of[rows], data.labels[training][rows], base[training][rows], forest)

    names = tuple(feature.name for feature in features)
    numbers = UserNumbers(names, trees(np.ones(training.size, bool)), first, v, directions)
    rows = numbers.of(held)
    held_codes = _matrix(held)
    for fold in range(FOLDS):
        inside = np.flatnonzero(fold_of == fold)
        unseen, row_of = np.unique(held_codes[inside], axis=0, return_inverse=True)
        rows[inside, 0] = trees(fold_of[training] != fold).values(unseen)[row_of.reshape(-1)]
    return LearnedNumbers(numbers, rows, ~data.is_test)


def propensity_loss(data: EgressData, trainer: FactorizationTrainer, forest: Forest, *, seed: int = 0) -> float:
    """Log loss on the test rows of item, context and unquantised propensity: a quick judge of `forest`."""
    training = ~data.is_test
    fold_of = _folds(data, seed)
    base = _base_scores(data, fold_of, trainer)
    users, user_of = np.unique(_matrix(data.user_features), axis=0, return_inverse=True)
    user_of = user_of.reshape(-1)
    trees = _propensity(users, user_of[training], data.labels[training], base[training], forest)
    scores = base[data.is_test] + trees.values(users)[user_of[data.is_test]]
    return logloss(data.labels[data.is_test], 1 / (1 + np.exp(-scores)))


def _folds(data: EgressData, seed: int) -> Ints:
    """int64[B]: the fold of each training row, -1 for test rows."""
    folds = stream(seed, "folds").integers(0, FOLDS, data.labels.size)
    return np.where(data.is_test, -1, folds)


def _vectors(data: EgressData, training: Ints, trainer: FactorizationTrainer) -> tuple[Ints, Floats, Floats]:
    """Places and vectors of the user features' codes, and directions; see `UserNumbers`."""
    sizes = (*(feature.size for feature in data.user_features), *data.free_sizes)
    user, free = _matrix(data.user_features)[training], data.free[training]
    machine = trainer.fit(np.hstack([user, free]), data.labels[training], sizes)
    v, n = machine.v.astype(float), len(data.user_features)
    items = np.zeros((training.size, v.shape[1]))
    for column, place in zip(free.T, machine.first[n:], strict=True):
        items += v[column + place]
    vectors = sum((v[user[:, f] + machine.first[f]] for f in range(n)), np.zeros(v.shape[1]))
    total = sum(feature.size for feature in data.user_features)
    return machine.first[:n], v[:total], _directions(vectors, np.cov(items.T))


def _base_scores(data: EgressData, fold_of: Ints, trainer: FactorizationTrainer) -> Floats:
    """float64[B]: log-odds that item and context alone give each row, from a model that has not seen it."""
    rate = float(data.labels[~data.is_test].mean())
    base = np.full(data.labels.size, np.log(rate / (1 - rate)))
    if not data.free_sizes:
        return base
    for fold in (-1, *range(FOLDS)):
        others, inside = (fold_of >= 0) & (fold_of != fold), fold_of == fold
        predicted = trainer.fit_predict(data.free[others], data.labels[others], data.free[inside], data.free_sizes)
        base[inside] = np.log(predicted) - np.log1p(-predicted)
    return base


def _propensity(users: Ints, user_of: Ints, labels: Ints, base: Floats, forest: Forest) -> Trees:
    """Trees for the log-odds that a user adds to `base`.   users: int64[U, F].   user_of, labels, base: of each row."""
    rate = 1 / (1 + np.exp(-base))
    slope = np.bincount(user_of, labels - rate, len(users))
    curvature: Floats = np.bincount(user_of, rate * (1 - rate), len(users)).astype(np.float64)
    seen = curvature > 0
    return grow(users[seen], slope[seen] / curvature[seen], curvature[seen], forest)


def _matrix(features: tuple[UserFeature, ...]) -> Ints:
    return np.column_stack([feature.codes for feature in features]).astype(np.int64)


def _directions(vectors: Floats, item_covariance: Floats) -> Floats:
    """float64[D, D]: columns along which users differ, in units of score, by falling variance."""
    values, axes = np.linalg.eigh(item_covariance)
    root = axes @ np.diag(np.sqrt(np.maximum(values, 0.0))) @ axes.T
    _, turned = np.linalg.eigh(np.cov((vectors @ root).T))
    return np.asarray(root @ turned[:, ::-1])


def _share_bits(given: Ints, variances: Floats, bits: int, *, is_open: slice) -> None:
    """Raise `given` to `bits` in all, each bit to the open number whose error, variance / 4^bits, is largest.

    Less when every open number has all the bits it may take.
    """
    candidates = range(variances.size)[is_open]
    while given.sum() < bits:
        room = [i for i in candidates if given[i] < MOST_BITS_OF_ONE_NUMBER]
        if not room:
            return
        given[max(room, key=lambda i: variances[i] / 4.0 ** given[i])] += 1


def _bits(edges: Floats) -> int:
    return (edges.size + 1).bit_length() - 1


def _edges(numbers: Floats, bits: int) -> Floats:
    """float64[2^bits - 1], ascending: cells whose width falls with the cube root of the density."""
    low, high = np.quantile(numbers, [0.001, 0.999])
    counts, borders = np.histogram(numbers, _HISTOGRAM_BINS, range=(low, max(high, low + 1e-9)))
    mass = np.cumsum(np.cbrt(counts + 1e-3))
    wanted = np.arange(1, 1 << bits) / (1 << bits) * mass[-1]
    return np.asarray(np.interp(wanted, np.r_[0.0, mass], borders))
