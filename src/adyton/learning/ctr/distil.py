"""A few networks that score like the mean of many: shorter vectors on the device and in the store, and faster scores.

A student learns the members' mean click probability instead of clicks, on training rows and on as many *crossed* rows,
each of one training row's user, another's ad and a third's context. Clicks are noise that many members average away. A
teacher's labels have none, so that a second pass overfits little, and any row can have one: crossed rows teach users
and ads apart from who happened to see what. Measured in docs/explanation/one-model-of-many.md.

Source: Hinton, Vinyals and Dean 2015 (soft targets); crossed rows are possible because a score has three sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from adyton.learning.ctr.calibration import probabilities
from adyton.learning.ctr.config import TrainConfig
from adyton.learning.ctr.data import TrainData
from adyton.learning.ctr.network import FactorisedNetwork
from adyton.learning.ctr.prediction import ROWS_AT_ONCE, mean_logits_of
from adyton.learning.ctr.row_kernels import Ints, step_rows
from adyton.learning.ctr.row_trainer import FIRST_SQUARE, RowLayout, RowWeights


def distil(
    students: Sequence[FactorisedNetwork],
    members: Sequence[FactorisedNetwork],
    data: TrainData,
    config: TrainConfig,
    rng: np.random.Generator,
) -> None:
    """Teach each of `students` the mean of `members` in `config.distil_passes` passes over the training rows of `data`.

    Labels and validation rows are not looked at. A few ten thousand rows are scored and learned at a time, by as many
    students at once as `config.threads`, each in an order of its own.
    """
    layout, rows, mean_weight = RowLayout.of(students[0]), data.split.train, data.weights[data.split.train].mean()
    learners = [(weights, weights.filled(FIRST_SQUARE)) for weights in map(RowWeights.of, students)]
    rate, decay = np.float32(config.row_rate), np.float32(config.row_decay)

    def learn(part: Ints, pool: ThreadPoolExecutor) -> None:
        inputs = [x[np.concatenate([part, rng.choice(rows, len(part))])] for x in data.inputs]
        codes, wanted = layout.place(inputs), probabilities(mean_logits_of(members, inputs)).astype(np.float32)
        row_weights = np.concatenate([data.weights[part], np.full(len(part), mean_weight)]).astype(np.float32)

        def step(learner: tuple[RowWeights, RowWeights], order: Ints) -> None:
            weights, squares = learner
            step_rows(
                codes, wanted, row_weights, order, *layout.arguments, weights.w, weights.v, *weights.towers,
                squares.w, squares.v, *squares.towers, rate, decay,
            )  # fmt: skip

        list(pool.map(step, learners, [rng.permutation(len(codes)) for _ in learners]))

    with ThreadPoolExecutor(config.threads) as pool:
        for _ in range(config.distil_passes):
            order = rows[rng.permutation(len(rows))]
            for part in np.array_split(order, -(-2 * len(order) // ROWS_AT_ONCE)):
                learn(part, pool)
    for student, (weights, _) in zip(students, learners, strict=True):
        weights.write_to(student)
