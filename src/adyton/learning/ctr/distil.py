"""One network that scores like the mean of many: shorter vectors on the device and in the store, and faster scores.

The network learns the members' mean click probability instead of clicks, on training rows and on as many *crossed*
rows, each of one training row's user, another's ad and a third's context. Clicks are noise that many members average
away. A teacher's labels have none, so that a second pass overfits little, and any row can have one: crossed rows teach
users and ads apart from who happened to see what. Measured in docs/explanation/one-model-of-many.md.

Source: Hinton, Vinyals and Dean 2015 (soft targets); crossed rows are possible because a score has three sides.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adyton.learning.ctr.calibration import probabilities
from adyton.learning.ctr.config import TrainConfig
from adyton.learning.ctr.data import TrainData
from adyton.learning.ctr.network import FactorisedNetwork
from adyton.learning.ctr.prediction import ROWS_AT_ONCE, mean_logits_of
from adyton.learning.ctr.row_kernels import step_rows
from adyton.learning.ctr.row_trainer import FIRST_SQUARE, RowLayout, RowWeights


def distil(
    network: FactorisedNetwork,
    members: Sequence[FactorisedNetwork],
    data: TrainData,
    config: TrainConfig,
    rng: np.random.Generator,
) -> None:
    """Teach `network` the mean of `members` in `config.distil_passes` passes over the training rows of `data`.

    Labels and validation rows are not looked at. A few ten thousand rows are scored and learned at a time.
    """
    layout, weights = RowLayout.of(network), RowWeights.of(network)
    squares, rows = weights.filled(FIRST_SQUARE), data.split.train
    mean_weight = data.weights[rows].mean()
    for _ in range(config.distil_passes):
        order = rows[rng.permutation(len(rows))]
        for part in np.array_split(order, -(-2 * len(order) // ROWS_AT_ONCE)):
            inputs = [x[np.concatenate([part, rng.choice(rows, len(part))])] for x in data.inputs]
            row_weights = np.concatenate([data.weights[part], np.full(len(part), mean_weight)])
            step_rows(
                layout.place(inputs), probabilities(mean_logits_of(members, inputs)).astype(np.float32),
                row_weights.astype(np.float32), rng.permutation(2 * len(part)), *layout.arguments, weights.w, weights.v,
                *weights.towers, squares.w, squares.v, *squares.towers,
                np.float32(config.row_rate), np.float32(config.row_decay),
            )  # fmt: skip
    weights.write_to(network)
