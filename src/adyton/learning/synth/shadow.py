"""Membership inference with shadow models: the attacker refits the synthesizer with and without each target.

The synthesizer is fitted several times to half of the users. Each target is in half of the fits, so that for every
target two distributions of a score are known, with and without it. A fit is attacked with the others as shadows, by the
ratio of the two likelihoods (normal, of equal spread). The attacker knows the whole table, the synthesizer and its
settings, and lacks only the noise: far more than anybody outside has.
Source: likelihood-ratio attack, Carlini et al. 2022, "Membership Inference Attacks From First Principles"; shadow
models for synthetic data, Stadler, Oprisanu, Troncoso 2022.

`U` targets, `N` fits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from adyton.kernel.chance import stream
from adyton.learning.errors import TableError
from adyton.learning.metrics import auc
from adyton.learning.schema import Role, TableSchema
from adyton.learning.synth.codes import combined
from adyton.learning.synth.compared import Ints, code_matrices, compared
from adyton.learning.synth.privacy import REFERENCE_ROWS, Estimate, closeness

Floats = npt.NDArray[np.float64]
Refit = Callable[[pa.Table, int], pa.Table]
"""(rows to fit to, number of the fit) -> a synthetic table."""

_ROWS_OF_A_TARGET = 4
_DRAWS = 200


@dataclass(frozen=True)
class ShadowAttack:
    """auc: of telling fits with a target from fits without, .5 is a coin; 95 % interval over targets.

    caught: share of memberships found while one in a hundred of the others is accused.
    """

    auc: Estimate
    caught: float
    shadows: int
    targets: int

    def as_json(self) -> dict[str, object]:
        return {
            "auc": self.auc.as_json(),
            "found_at_1_percent_false": self.caught,
            "shadow_models": self.shadows,
            "targets": self.targets,
        }


def shadow_attack(
    table: pa.Table, schema: TableSchema, refit: Refit, *, shadows: int = 16, targets: int = 400, seed: int = 0
) -> ShadowAttack:
    """Attack the synthesizer behind `refit` on the users of `table`; without a user id each row is a user of its own.

    shadows: fits, even and at least 4.   targets: users attacked, chosen at random.
    Raises TableError if there are fewer than 20 users.
    """
    if shadows < 4 or shadows % 2:
        raise TableError("shadow models come in pairs, at least 4")
    users = _users(table, schema)
    n_users = int(users.max()) + 1
    if n_users < 20:
        raise TableError("too few users to attack")
    rng = stream(seed, "shadow models")
    # Every user is in exactly half of the fits, each by a shuffle of its own.
    is_in = np.argsort(rng.random((n_users, shadows)), axis=1) < shadows // 2
    chosen = np.sort(rng.permutation(n_users)[: min(targets, n_users)])
    rows, owner = _target_rows(users, chosen, rng)
    scores = np.empty((chosen.size, shadows))
    for number in range(shadows):
        made = refit(table.filter(pa.array(is_in[users, number])), number)
        real, synthetic = code_matrices(compared([table, made], schema))
        base = synthetic[rng.permutation(len(synthetic))[:REFERENCE_ROWS]]
        density = closeness(real[rows], base)
        scores[:, number] = np.bincount(owner, density) / np.bincount(owner)
    return _judged(scores, is_in[chosen], stream(seed, "shadow interval"))


def _judged(scores: Floats, is_in: npt.NDArray[np.bool_], rng: np.random.Generator) -> ShadowAttack:
    """scores, is_in: [U, N]."""
    n_targets, shadows = scores.shape
    ratio = np.empty_like(scores)
    for number in range(shadows):
        inside, outside = is_in.copy(), ~is_in
        inside[:, number] = outside[:, number] = False
        # As many shadows with the target as without: then no attack on nothing does better or worse than a coin.
        larger = np.where(is_in[:, [number]], outside, inside)
        dropped = np.argmax(rng.random(larger.shape) * larger, axis=1)
        inside[np.arange(n_targets), dropped] = outside[np.arange(n_targets), dropped] = False
        n = shadows // 2 - 1
        mean_in, mean_out = (scores * inside).sum(axis=1) / n, (scores * outside).sum(axis=1) / n
        off = np.where(inside, scores - mean_in[:, None], np.where(outside, scores - mean_out[:, None], 0.0))
        spread = (off**2).sum(axis=1) / (2 * n) + 1e-9
        middle = (mean_in + mean_out) / 2
        ratio[:, number] = (scores[:, number] - middle) * (mean_in - mean_out) / spread
    member = is_in.astype(np.int64)
    value = auc(member.ravel(), ratio.ravel())
    drawn = []
    for _ in range(_DRAWS):
        again = rng.integers(0, n_targets, n_targets)
        drawn.append(auc(member[again].ravel(), ratio[again].ravel()))
    low, high = np.percentile(drawn, (2.5, 97.5))
    limit = np.quantile(ratio[~is_in], 0.99)
    return ShadowAttack(
        Estimate(value, float(low), float(high)), float((ratio[is_in] > limit).mean()), shadows, n_targets
    )


def _target_rows(users: Ints, chosen: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Up to a few rows of each chosen user: (row numbers, position in `chosen`), int64[R] each."""
    order = rng.permutation(users.size)
    order = order[np.argsort(users[order], kind="stable")]
    first = np.searchsorted(users[order], chosen)
    last = np.searchsorted(users[order], chosen, side="right")
    lengths = np.minimum(last - first, _ROWS_OF_A_TARGET)
    owner = np.repeat(np.arange(chosen.size), lengths)
    place = np.arange(owner.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return order[first[owner] + place], owner


def _users(table: pa.Table, schema: TableSchema) -> Ints:
    if not schema.with_role(Role.USER_ID):
        return np.arange(table.num_rows)
    encoded = combined(table.column(schema.user_id.name)).dictionary_encode(null_encoding="encode")
    return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.int64)
