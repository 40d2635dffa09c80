"""An empirical audit: a lower bound on the epsilon that a synthesizer really has, from one fit with many canaries.

Canary users are put into a table, each by its own coin flip, and the auditor guesses from the released model who is in.
No (epsilon, delta)-DP mechanism lets a guesser be right more often than the bound of Steinke, Nasr, Jagielski 2023
("Privacy Auditing with One (1) Training Run", Theorem 5.2). Being right more often refutes the claim at the stated
confidence. The reverse does not hold: an audit that finds nothing proves nothing.

The auditor is as strong as the claim allows: it knows every canary, and each canary fills one cell of its own with as
many rows as a user may bring, or more. For stars the cell is a value of one column; for the cliques of a junction tree
it is a combination of three columns, whose ordinary rows depend on each other in such a way that it is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.stats import binom

from adyton.kernel.chance import RandomSource, stream
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.schema import Column, Kind, Role, TableSchema
from adyton.learning.synth.domains import Values
from adyton.learning.synth.errors import SynthesisInputError
from adyton.learning.synth.label_tree import LabelTree
from adyton.learning.synth.noise import Ints
from adyton.learning.synth.structure import Structure
from adyton.learning.synth.synthesizer import SynthesizerModel, fit

_DIGITS = 3
_RELATION = 30
"""How many times as many ordinary rows there are where the digits add up to a multiple of the base."""
_ROWS_OF_A_CANARY = 24
_MOST_EPSILON = 20.0


@dataclass(frozen=True)
class AuditResult:
    """epsilon_low: with `confidence`, the true epsilon is at least this.   right of `guesses` guesses were correct."""

    claimed: PrivacyLoss
    epsilon_low: float
    confidence: float
    canaries: int
    guesses: int
    right: int

    @property
    def refutes_the_claim(self) -> bool:
        """True when the synthesizer leaks more than it says."""
        return self.epsilon_low > float(self.claimed.epsilon)

    def as_json(self) -> dict[str, object]:
        return {
            "claimed": self.claimed.as_json(),
            "epsilon_low": self.epsilon_low,
            "confidence": self.confidence,
            "canaries": self.canaries,
            "guesses": self.guesses,
            "right": self.right,
            "refutes_the_claim": self.refutes_the_claim,
        }


Fit = Callable[..., SynthesizerModel]


def audit(
    loss: PrivacyLoss,
    *,
    source: RandomSource,
    seed: int,
    canaries: int = 1000,
    max_rows_per_user: int = 4,
    confidence: float = 0.95,
    structure: Structure = Structure.TREE,
    fit: Fit = fit,
) -> AuditResult:
    """Audit user-level privacy of `fit` at `loss` with one fit on a made-up table.

    canaries: at least 20; each brings 24 rows, which bounding must cut to `max_rows_per_user`.   structure: a junction
    tree is audited through a clique, other structures through a star.   fit: what is audited.
    """
    if canaries < 20:
        raise SynthesisInputError("an audit needs at least 20 canaries")
    rng = stream(seed, "canaries")
    included = rng.random(canaries) < 0.5
    cells, base = _cells(canaries, structure)
    # A floor of ordinary users under every cell, so that cutting noisy counts off at zero hides nothing.
    floor = 8 * max_rows_per_user * np.ones(canaries, np.int64)
    if structure is Structure.JUNCTION_TREE:
        floor[cells.sum(axis=1) % base == 0] *= _RELATION
    of_canaries = np.repeat(np.flatnonzero(included), _ROWS_OF_A_CANARY)
    ordinary = np.repeat(np.arange(canaries), floor)
    cell = np.concatenate([of_canaries, ordinary])
    user = np.concatenate([of_canaries, canaries + np.arange(ordinary.size) // max_rows_per_user])
    marks = [f"mark{position}" for position in range(cells.shape[1])]
    schema = TableSchema(
        (
            Column("user", Role.USER_ID, Kind.CATEGORY),
            Column("clicked", Role.LABEL, Kind.BINARY),
            *(Column(mark, Role.USER, Kind.CATEGORY) for mark in marks),
        )
    )
    digits = {mark: cells[cell, position] for position, mark in enumerate(marks)}
    model = fit(
        pa.table({"user": user, "clicked": pa.array(np.ones(cell.size, np.int8)), **digits}),
        schema,
        loss=loss,
        unit="user",
        max_rows_per_user=max_rows_per_user,
        domains={mark: Values(tuple(range(base))) for mark in marks},
        structure=structure,
        source=source,
    )
    return _result(loss, _released(model.tree, cells) - floor, included, confidence)


def _cells(canaries: int, structure: Structure) -> tuple[Ints, int]:
    """(the values of each canary's cell, int64[canaries, columns]; how many values a column has)."""
    if structure is not Structure.JUNCTION_TREE:
        return np.arange(canaries)[:, None], canaries
    base = max(2, math.ceil(round(canaries ** (1 / _DIGITS), 9)))
    return np.stack(np.unravel_index(np.arange(canaries), (base,) * _DIGITS), axis=1), base


def _released(tree: LabelTree, cells: Ints) -> npt.NDArray[np.float64]:
    """What the model tells of the rows in each cell: float64[canaries]."""
    if cells.shape[1] == 1:
        return np.asarray(tree.stars[0].sum(axis=0)[cells[:, 0]])
    last = tree.cliques[-1]
    parts = (*last.parents, last.child)
    if len(parts) < cells.shape[1]:
        raise SynthesisInputError(
            "no clique was measured, so that there is nothing to audit", hint="take a larger epsilon"
        )
    return np.asarray(last.joint.sum(axis=0)[tuple(cells[:, part] for part in parts)])


def epsilon_low(right: int, guesses: int, canaries: int, delta: float, confidence: float) -> float:
    """The largest epsilon refuted at `confidence` by `right` of `guesses` correct guesses.

    Refuted: P[Binomial(guesses, e^eps / (1 + e^eps)) >= right] + 2 canaries delta < 1 - confidence. The second term
    bounds the paper's delta term from above.   Source: Steinke, Nasr, Jagielski 2023, Theorem 5.2.
    """

    def is_refuted(epsilon: float) -> bool:
        chance = float(binom.sf(right - 1, guesses, 1 / (1 + np.exp(-epsilon))))
        return chance + 2 * canaries * delta < 1 - confidence

    if not is_refuted(0.0):
        return 0.0
    low, high = 0.0, _MOST_EPSILON
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if is_refuted(middle) else (low, middle)
    return low


def _result(
    loss: PrivacyLoss, scores: npt.NDArray[np.float64], included: npt.NDArray[np.bool_], confidence: float
) -> AuditResult:
    """Guess "in" for the highest tenth of scores and "out" for the lowest: surest guesses refute most."""
    n = included.size
    order = np.argsort(scores, kind="stable")
    tail = max(1, n // 10)
    right = int((~included[order[:tail]]).sum() + included[order[-tail:]].sum())
    low = epsilon_low(right, 2 * tail, n, float(loss.delta), confidence)
    return AuditResult(loss, low, confidence, n, 2 * tail, right)
