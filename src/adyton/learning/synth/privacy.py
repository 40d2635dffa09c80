"""Attacks on a synthetic table: what someone who sees it learns about the people it was made from.

Every attack compares rows that the synthesizer saw (members) with real rows of the same population that it did not see
(holdout), so that what follows from the population alone is not counted as a leak. Attacks are evidence, not proof: a
table that passes them may still leak, and only (epsilon, delta) bounds what any attack can do. Distances cannot rank
synthesizers and serve as a smoke test.
Sources: membership by local density, van Breugel et al. 2023 (DOMIAS); singling out, linkability and attribute
inference against a control group, Giomi et al. 2023 (Anonymeter).

Distances count the columns in which two rows differ. `B` rows, `F` columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from adyton.learning.metrics import auc
from adyton.learning.schema import Kind, TableSchema
from adyton.learning.synth.codes import combined
from adyton.learning.synth.compared import Ints

_Z95 = 1.96
_ATTACKED_ROWS = 1500
REFERENCE_ROWS = 6000
_HALVINGS = 5


@dataclass(frozen=True)
class Estimate:
    """A measured value with its 95 % interval."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Advantage:
    """How much better an attack does on members than on the holdout: difference of success rates, with interval."""

    members: float
    holdout: float
    difference: Estimate

    @classmethod
    def of(cls, member_successes: int, holdout_successes: int, members: int, holdout: int) -> Advantage:
        """From counts; the interval is Agresti and Caffo's (2000), one success and one failure added to each side."""
        a, b = (member_successes + 1) / (members + 2), (holdout_successes + 1) / (holdout + 2)
        half = _Z95 * float(np.sqrt(a * (1 - a) / (members + 2) + b * (1 - b) / (holdout + 2)))
        on_members, on_holdout = member_successes / members, holdout_successes / holdout
        return cls(on_members, on_holdout, Estimate(on_members - on_holdout, a - b - half, a - b + half))

    @property
    def is_visible(self) -> bool:
        """True when the members are attacked with more success than chance explains."""
        return self.difference.low > 0

    def as_json(self) -> dict[str, object]:
        return {"members": self.members, "holdout": self.holdout, "difference": self.difference.as_json()}


def exact_matches(train: Ints, holdout: Ints, synthetic: Ints) -> Advantage:
    """Real rows that occur in the synthetic table as they are, members against holdout. Codes int64[B, F]."""
    made = _row_keys(synthetic)
    of_train, of_holdout = (int(np.isin(_row_keys(rows), made).sum()) for rows in (train, holdout))
    return Advantage.of(of_train, of_holdout, len(train), len(holdout))


def closer_to_train(train: Ints, holdout: Ints, synthetic: Ints, rng: np.random.Generator) -> Estimate:
    """Share of synthetic rows nearer to a member than to a holdout row, ties one half; about .5 without copying.

    A smoke test: it finds copied rows and nothing subtler. The interval is the normal one over the rows asked.
    """
    n = min(len(train), len(holdout), REFERENCE_ROWS)
    probes = _some(synthetic, _ATTACKED_ROWS, rng)
    to_train = nearest(probes, _some(train, n, rng))[0]
    to_holdout = nearest(probes, _some(holdout, n, rng))[0]
    nearer = (to_train < to_holdout) + 0.5 * (to_train == to_holdout)
    value, half = float(nearer.mean()), _Z95 * float(nearer.std()) / float(np.sqrt(len(nearer)))
    return Estimate(value, value - half, value + half)


def membership_inference(
    train: Ints,
    holdout: Ints,
    synthetic: Ints,
    rng: np.random.Generator,
    *,
    train_users: Ints | None = None,
    holdout_users: Ints | None = None,
) -> Estimate:
    """AUC of guessing who was a member from the synthetic table; .5 is a coin.

    A candidate scores high where synthetic rows are near compared with other real rows, the reference: half of the
    holdout, which is not attacked. users: int64[B], whose row it is; no user is on both sides of that split and each is
    attacked in one row only, since rows of one user resemble each other and would make outsiders look expected. Without
    users every row stands for itself.   Interval: Hanley, McNeil 1982.
    """
    of_train = np.arange(len(train)) if train_users is None else train_users
    of_holdout = np.arange(len(holdout)) if holdout_users is None else holdout_users
    users = rng.permutation(np.unique(of_holdout))
    in_reference = np.isin(of_holdout, users[: len(users) // 2])
    reference, rest = holdout[in_reference], np.flatnonzero(~in_reference)
    members, outsiders = train[_one_each(of_train, rng)], holdout[rest[_one_each(of_holdout[rest], rng)]]
    n = min(len(members), len(outsiders), _ATTACKED_ROWS)
    candidates = np.concatenate([_some(members, n, rng), _some(outsiders, n, rng)])
    size = min(len(synthetic), len(reference), REFERENCE_ROWS)
    near_synthetic = closeness(candidates, _some(synthetic, size, rng))
    near_real = closeness(candidates, _some(reference, size, rng))
    # Exact copies are sought in the whole table; the densities need only a sample of it.
    copies = np.isin(_row_keys(candidates), _row_keys(synthetic))
    score = near_synthetic - near_real + 2.0 * copies
    member = np.r_[np.ones(n, np.int64), np.zeros(n, np.int64)]
    return _auc_interval(auc(member, score), n, n)


def attribute_inference(
    train: Ints, holdout: Ints, synthetic: Ints, secret: int, rng: np.random.Generator
) -> Advantage:
    """Guessing column `secret` from all others by the nearest synthetic row: members against holdout."""
    known = [column for column in range(train.shape[1]) if column != secret]
    base = _some(synthetic, 2 * REFERENCE_ROWS, rng)
    n = min(len(train), len(holdout), _ATTACKED_ROWS)
    hits = []
    for rows in (_some(train, n, rng), _some(holdout, n, rng)):
        _, index = nearest(rows[:, known], base[:, known])
        hits.append(int((base[index, secret] == rows[:, secret]).sum()))
    return Advantage.of(hits[0], hits[1], n, n)


def singling_out(
    train: Ints,
    holdout: Ints,
    synthetic: Ints,
    rng: np.random.Generator,
    *,
    train_users: Ints | None = None,
    holdout_users: Ints | None = None,
    columns: int = 4,
    guesses: int = 1000,
) -> Advantage:
    """Guesses "exactly one person has these values", taken from unique synthetic rows, right for members or holdout.

    A guess is the values of `columns` random columns of a synthetic row that no other synthetic row shares. Each user
    is there in one row, and both sides are cut to the same number: a guess is more often unique among fewer rows, and
    less often where rows of one user resemble each other.   users: whose row it is.
    """
    sides = [
        rows if users is None else rows[_one_each(users, rng)]
        for rows, users in ((train, train_users), (holdout, holdout_users))
    ]
    n = min(map(len, sides))
    members, outsiders = (_some(rows, n, rng) for rows in sides)
    columns = min(columns, train.shape[1])
    made = {0: 0, 1: 0}
    tried = 0
    sets = 25
    for _ in range(sets):
        chosen = rng.choice(train.shape[1], size=columns, replace=False)
        keys, counts = np.unique(_row_keys(synthetic[:, chosen]), return_counts=True)
        unique = keys[counts == 1]
        if not unique.size:
            continue
        guessed = unique[rng.permutation(unique.size)[: guesses // sets]]
        tried += guessed.size
        for side, rows in enumerate((members, outsiders)):
            real_keys, real_counts = np.unique(_row_keys(rows[:, chosen]), return_counts=True)
            made[side] += int(np.isin(guessed, real_keys[real_counts == 1]).sum())
    if not tried:
        return Advantage(0.0, 0.0, Estimate(0.0, 0.0, 0.0))
    return Advantage.of(made[0], made[1], tried, tried)


def linkability(
    train: Ints,
    holdout: Ints,
    synthetic: Ints,
    rng: np.random.Generator,
    *,
    train_users: Ints | None = None,
    holdout_users: Ints | None = None,
) -> Advantage:
    """Linking two halves of a person's attributes through the synthetic table: members against holdout.

    The attacker holds each target's row as two records with half of the columns each, and links them when one synthetic
    row is among the nearest to both. Rows outside of training are linked as well wherever the population says which
    halves go together, so that only the difference is a leak. The halves are drawn anew for each of several parts of
    the targets.   users: whose row it is; each user is a target once. Without users every row stands for itself. A
    single column has no halves, and nothing is linked.
    """
    if train.shape[1] < 2:
        return Advantage(0.0, 0.0, Estimate(0.0, 0.0, 0.0))
    base = _some(synthetic, 2 * REFERENCE_ROWS, rng)
    sides = []
    for rows, users in ((train, train_users), (holdout, holdout_users)):
        sides.append(rows if users is None else rows[_one_each(users, rng)])
    n = min(len(sides[0]), len(sides[1]), _ATTACKED_ROWS)
    parts = [np.array_split(_some(rows, n, rng)[rng.permutation(n)], _HALVINGS) for rows in sides]
    linked = [0, 0]
    for members, outsiders in zip(*parts, strict=True):
        columns = rng.permutation(train.shape[1])
        halves = np.array_split(columns, 2)
        for side, rows in enumerate((members, outsiders)):
            linked[side] += _linked(rows, base, halves)
    return Advantage.of(linked[0], linked[1], n, n)


def _linked(rows: Ints, base: Ints, halves: Sequence[Ints]) -> int:
    """How many rows have a row of `base` that is nearest in both halves."""
    blocks = [_distance_blocks(rows[:, half], base[:, half]) for half in halves]
    found = 0
    for (_, of_first), (_, of_second) in zip(*blocks, strict=True):
        nearest_to_both = (of_first == of_first.min(axis=1, keepdims=True)) & (
            of_second == of_second.min(axis=1, keepdims=True)
        )
        found += int(nearest_to_both.any(axis=1).sum())
    return found


def shared_literals(
    real: pa.Table, synthetic: pa.Table, schema: TableSchema, *, allowed: Sequence[str] = ()
) -> dict[str, int]:
    """How many *rare* real values stand in the synthetic table as they are, by column; columns with none are left out.

    Rare: in at most two rows of the real table, so that the value points at somebody. Categories and user ids are
    scanned, numbers too when they are not whole.   allowed: columns whose values are public. Never gives the values.
    """
    found: dict[str, int] = {}
    for column in schema.columns:
        if column.name in allowed or column.name not in synthetic.column_names or column.kind is Kind.LIST:
            continue
        if column.name not in real.column_names:
            continue
        values = combined(real.column(column.name)).cast(pa.string()).drop_null().dictionary_encode()
        counts = np.bincount(values.indices.to_numpy(zero_copy_only=False), minlength=len(values.dictionary))
        rare = {v for v, c in zip(values.dictionary.to_pylist(), counts.tolist(), strict=True) if c <= 2}
        if column.kind in (Kind.NUMBER, Kind.TIMESTAMP):
            # Small whole numbers meet by chance and say nothing.
            rare = {v for v in rare if len(v.strip("-")) > 6}
        made = combined(synthetic.column(column.name)).cast(pa.string()).drop_null().unique().to_pylist()
        n_shared = len(rare.intersection(made))
        if n_shared:
            found[column.name] = n_shared
    return found


def nearest(rows: Ints, base: Ints) -> tuple[Ints, Ints]:
    """(distance, index) of the nearest row of `base` for each of `rows`: int64[B] each."""
    best, index = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    for start, distances in _distance_blocks(rows, base):
        stop = start + len(distances)
        index[start:stop] = distances.argmin(axis=1)
        best[start:stop] = distances.min(axis=1)
    return best, index


def closeness(rows: Ints, base: Ints) -> npt.NDArray[np.float64]:
    """Log density of `base` around each row: a kernel that quarters with each differing column, float64[B]."""
    density, weight = np.empty(len(rows)), 0.25 ** np.arange(128, dtype=np.float32)
    for start, distances in _distance_blocks(rows, base):
        density[start : start + len(distances)] = np.log(weight[distances].mean(axis=1))
    return density


def _distance_blocks(rows: Ints, base: Ints) -> Iterator[tuple[int, npt.NDArray[np.int8]]]:
    """(first row, distances int8[500, B]) block by block; at most 127 columns count."""
    narrow_rows, narrow_base = rows.astype(np.int32), np.ascontiguousarray(base.astype(np.int32).T)
    for start in range(0, len(rows), 500):
        part = narrow_rows[start : start + 500]
        distances = np.zeros((len(part), base.shape[0]), np.int8)
        for column in range(min(rows.shape[1], 127)):
            distances += part[:, column, None] != narrow_base[column][None, :]
        yield start, distances


def _row_keys(codes: Ints) -> npt.NDArray[np.void]:
    narrow = np.ascontiguousarray(codes.astype(np.int32))
    return narrow.view(np.dtype((np.void, narrow.dtype.itemsize * narrow.shape[1]))).ravel()


def _one_each(users: Ints, rng: np.random.Generator) -> Ints:
    """A random row number of each user, int64[users]."""
    order = rng.permutation(users.size)
    return np.asarray(order[np.unique(users[order], return_index=True)[1]], np.int64)


def _some(rows: Ints, n: int, rng: np.random.Generator) -> Ints:
    return rows if len(rows) <= n else rows[rng.choice(len(rows), size=n, replace=False)]


def _auc_interval(value: float, positives: int, negatives: int) -> Estimate:
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    variance = value * (1 - value) + (positives - 1) * (q1 - value**2) + (negatives - 1) * (q2 - value**2)
    half = _Z95 * float(np.sqrt(max(variance, 0.0) / (positives * negatives)))
    return Estimate(value, max(0.0, value - half), min(1.0, value + half))
