"""A user's level that follows the user's outcomes while a model is live, and never reorders the user's own rows.

A trained model is a *standing* logit b: it does not learn while it is live. Each user gets one number c more, a bias of
the user's side that follows what the user did since. It is the mean of a Gaussian belief that starts at 0 with
precision P, and after outcomes y at standing logits b moves by one Laplace step:

    p = sigmoid(b + c)          P += sum p (1 - p)          c += sum (y - p) / P

The score b + c alone would raise AUC and ruin GAUC, since a click raises the user's later rows above the one that was
clicked (docs/explanation/counters-and-gauc.md). So a row is given the score nearest to b + c that keeps the standing
order among the user's rows since the model went live: above the given score of every earlier row that stands lower,
below that of every earlier row that stands higher. Only standing and given scores set these bounds, no outcome does.
At any moment a user's given score is a strictly rising function of the standing one, so that retrieval by dot products,
and the order of the ads of one request, stay what they were.

Source of the step: online Bayesian logistic regression (Spiegelhalter and Lauritzen 1990), for the intercept alone.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from adyton.learning.ctr.calibration import probabilities
from adyton.learning.ctr.features import event_times
from adyton.learning.ctr.training import TrainedModel
from adyton.learning.errors import ModelError
from adyton.learning.metrics import logloss

CANDIDATE_PRECISIONS = tuple(2.0 ** (k / 2) for k in range(13))
"""1 to 64: the lowest means that levels of users move by a standard deviation of 1 in logits."""
TIGHTEST = 1e-3
"""Of a distance between standing logits, how much is kept where a bound holds: more than a tie."""


@dataclass(frozen=True)
class Shown:
    """One impression as it was scored, and what became of it."""

    standing: float
    given: float
    clicked: bool


@dataclass
class UserLevel:
    """What one user owns: the belief about the level, and the scores that were given.

    prior_precision: of the level before any outcome, in 1 / logit^2.   Memory: two numbers an impression.
    """

    prior_precision: float
    level: float = 0.0
    _precision: float = field(init=False)
    _standing: list[float] = field(default_factory=list, init=False)
    _given: list[float] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._precision = self.prior_precision

    def logit(self, standing: float) -> float:
        """The score of a row with this standing logit, now."""
        wanted = standing + self.level
        at = bisect_left(self._standing, standing)
        has_below, has_above = at > 0, at < len(self._standing)
        if has_above and self._standing[at] == standing:
            return self._given[at]
        tightest = TIGHTEST
        if has_below and has_above:
            room = (self._given[at] - self._given[at - 1]) / (self._standing[at] - self._standing[at - 1])
            tightest = min(tightest, room / 2)
        if has_below:
            wanted = max(wanted, self._given[at - 1] + tightest * (standing - self._standing[at - 1]))
        if has_above:
            wanted = min(wanted, self._given[at] - tightest * (self._standing[at] - standing))
        return wanted

    def learn(self, shown: Iterable[Shown]) -> None:
        """Take in impressions of one moment: none of them knew of the others."""
        slope = 0.0
        level = self.level
        for one in shown:
            p = 1 / (1 + math.exp(-(one.standing + level)))
            slope += one.clicked - p
            self._precision += p * (1 - p)
            at = bisect_left(self._standing, one.standing)
            if at == len(self._standing) or self._standing[at] != one.standing:
                self._standing.insert(at, one.standing)
                self._given.insert(at, one.given)
        self.level += slope / self._precision


def follow(
    standing: NDArray[np.float64],
    clicked: Sequence[int] | NDArray[np.int64],
    users: NDArray[np.int64],
    times_ms: NDArray[np.int64],
    *,
    prior_precision: float,
) -> NDArray[np.float64]:
    """Given logits float64[B] of rows since a model went live; a row knows outcomes of strictly earlier rows only.

    standing: float64[B].   clicked: 0/1 [B].   users: codes [B].   times_ms: [B]; rows in any order.
    """
    given = np.empty(len(standing))
    order = np.lexsort((times_ms, users)).tolist()
    logits, labels, moments = standing.tolist(), np.asarray(clicked).tolist(), times_ms.tolist()
    for _, rows in groupby(order, key=users.tolist().__getitem__):
        user = UserLevel(prior_precision)
        for _, together in groupby(rows, key=moments.__getitem__):
            now = list(together)
            shown = [Shown(logits[row], user.logit(logits[row]), bool(labels[row])) for row in now]
            given[now] = [one.given for one in shown]
            user.learn(shown)
    return given


def with_live_level(model: TrainedModel, table: pa.Table, rows: NDArray[np.int64]) -> TrainedModel:
    """The model with the prior precision that gives the lowest log loss on `rows`, as if it went live at the first.

    rows: of `table`, not of training, such as the validation rows.   Raises as `TrainedModel.logits`.
    """
    past = table.take(pa.array(rows))
    standing, clicked = model.logits(past), past[model.schema.label.name].cast(pa.int64()).to_numpy()

    def loss(prior_precision: float) -> float:
        given = follow(standing, clicked, *_users_and_times(model, past), prior_precision=prior_precision)
        return logloss(clicked, probabilities(given))

    return replace(model, live_precision=min(CANDIDATE_PRECISIONS, key=loss))


def live_logits(model: TrainedModel, table: pa.Table) -> NDArray[np.float64]:
    """Logits float64[B] of `table`, all rows since the model went live: each as of its own time.

    Raises ModelError for a model without a live level, TableError for a missing or unfit column.
    """
    if model.live_precision is None:
        raise ModelError(
            "this model has no live level",
            hint="train with `adyton ctr train --live-level`, or call with_live_level",
        )
    clicked = table[model.schema.label.name].cast(pa.int64()).to_numpy()
    users, times = _users_and_times(model, table)
    return follow(model.logits(table), clicked, users, times, prior_precision=model.live_precision)


def _users_and_times(model: TrainedModel, table: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    coded = table[model.schema.user_id.name].combine_chunks().dictionary_encode()
    users: NDArray[np.int64] = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return users, event_times(table, model.schema.time.name)
