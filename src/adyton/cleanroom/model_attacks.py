"""Attacks on a trained model: what it tells about the rows it was trained on. Evidence, not proof.

membership            telling training rows from later ones by the model's loss (Yeom et al. 2018, adversary 1)
attribute inference   guessing a user's attribute by the value that makes the model err least on the known label
                      (Yeom et al. 2018, adversary 4; Fredrikson et al. 2015), members against outsiders

Both compare rows that the model saw with rows that it did not, so that what follows from the population alone is not
counted as a leak. Only (epsilon, delta) bounds what any attack can do; a model without it leaves by the owners' word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from adyton.kernel.chance import stream
from adyton.learning.ctr.training import TrainedModel
from adyton.learning.metrics import auc
from adyton.learning.schema import Kind, Role
from adyton.learning.synth.privacy import Advantage

_LOSS_ROWS: Final = 5_000
_ATTRIBUTE_ROWS: Final = 1_500
_MOST_VALUES: Final = 16
"""An attribute with more values is attacked on the rows that have one of the most common ones."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ModelAttacks:
    """What the attacks found. `attribute` is the attacked column, None where the model uses no user attribute."""

    membership_auc: float
    attribute: str | None
    attribute_inference: Advantage | None


def attack_model(
    model: TrainedModel, table: pa.Table, labels: Ints, members: Ints, outsiders: Ints, seed: int
) -> ModelAttacks:
    """All attacks.   labels: int64[B].   members, outsiders: row numbers that the model was and was not trained on."""
    attribute = _attribute(model, table)
    return ModelAttacks(
        loss_attack(model, table, labels, members, outsiders, seed),
        attribute,
        None if attribute is None else _guess_attribute(model, table, labels, members, outsiders, attribute, seed),
    )


def loss_attack(model: TrainedModel, table: pa.Table, labels: Ints, members: Ints, outsiders: Ints, seed: int) -> float:
    """AUC of telling members from outsiders by the model's loss; .5 is a coin.

    The rows compared have the same label, since rows of one class lose more than the other's for reasons that are no
    leak; the two classes are averaged by size.
    """
    rng = stream(seed, "loss attack")
    n = min(len(members), len(outsiders), _LOSS_ROWS)
    rows = np.concatenate([rng.choice(part, size=n, replace=False) for part in (members, outsiders)])
    logits = model.logits(table.take(pa.array(rows)))
    is_member = np.r_[np.ones(n, np.int64), np.zeros(n, np.int64)]
    total, weight = 0.0, 0
    for label in (0, 1):
        of_class = labels[rows] == label
        if 0 < is_member[of_class].sum() < of_class.sum():
            confidence = logits[of_class] * (1 if label else -1)
            total += auc(is_member[of_class], confidence) * int(of_class.sum())
            weight += int(of_class.sum())
    return total / weight if weight else 0.5


def _attribute(model: TrainedModel, table: pa.Table) -> str | None:
    """The user attribute of the model with the most values, since a guess of it is hardest; None without one."""
    of_user = [c.name for c in model.schema.with_role(Role.USER) if c.kind in (Kind.CATEGORY, Kind.BINARY)]
    counted = {name: int(pc.count_distinct(table[name]).as_py()) for name in of_user if name in table.column_names}
    several = {name: n for name, n in counted.items() if n > 1}
    return max(several, key=lambda name: several[name]) if several else None


def _guess_attribute(
    model: TrainedModel, table: pa.Table, labels: Ints, members: Ints, outsiders: Ints, attribute: str, seed: int
) -> Advantage:
    rng = stream(seed, "attribute attack")
    counts = pc.value_counts(table[attribute].take(pa.array(members))).to_pylist()
    counts = [one for one in counts if one["values"] is not None]
    common = sorted(counts, key=lambda one: -one["counts"])[:_MOST_VALUES]
    values = pa.array([one["values"] for one in common], table[attribute].type)
    prior = np.log([one["counts"] / sum(c["counts"] for c in common) for one in common])
    successes, sizes = [], []
    for part in (members, outsiders):
        held = part[pc.is_in(table[attribute].take(pa.array(part)), value_set=values).to_numpy()]
        rows = rng.choice(held, size=min(len(held), _ATTRIBUTE_ROWS), replace=False)
        guessed = _likeliest(model, table.take(pa.array(rows)), labels[rows], attribute, values, prior)
        successes.append(int((guessed == pc.index_in(table[attribute].take(pa.array(rows)), values).to_numpy()).sum()))
        sizes.append(max(len(rows), 1))
    return Advantage.of(successes[0], successes[1], sizes[0], sizes[1])


def _likeliest(
    model: TrainedModel, rows: pa.Table, labels: Ints, attribute: str, values: pa.Array, prior: NDArray[np.float64]
) -> Ints:
    """int64[B]: for each row, the index of the value under which its label is likeliest, by Bayes with `prior`."""
    place = rows.column_names.index(attribute)
    scores = np.empty((len(values), rows.num_rows))
    for index in range(len(values)):
        assumed = values.take(pa.array([index] * rows.num_rows, pa.int64()))
        logits = model.logits(rows.set_column(place, rows.schema.field(place), assumed))
        # log P(label | row with this value)
        scores[index] = -np.logaddexp(0.0, np.where(labels == 1, -logits, logits)) + prior[index]
    return np.asarray(scores.argmax(axis=0), np.int64)
