"""A code reads the user alone, keeps to its bits, and does not remember the rows it was learned from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from adyton.learning.egress.errors import EgressInputError
from adyton.learning.egress.features import EgressData, UserFeature
from adyton.learning.egress.machine import FactorizationTrainer
from adyton.learning.egress.trees import Forest
from adyton.learning.egress.user_code import LearnedNumbers, learn_numbers

TRAINER = FactorizationTrainer(epochs=4, learning_rate=0.03)


@pytest.fixture(scope="module")
def learned(data: EgressData) -> LearnedNumbers:
    return learn_numbers(data, TRAINER, Forest(30, 8))


def test_a_code_is_a_function_of_the_users_features_alone(data: EgressData, learned: LearnedNumbers) -> None:
    code = learned.code(5)
    first, again = code.encode(data.user_features), code.encode(data.user_features)
    features = np.column_stack([f.codes for f in data.user_features])
    _, person = np.unique(features, axis=0, return_inverse=True)

    assert code.bits == 5
    for made, repeated in zip(first, again, strict=True):
        assert (made.codes == repeated.codes).all()
        lowest, highest = np.full(person.max() + 1, 99), np.full(person.max() + 1, -1)
        np.minimum.at(lowest, person, made.codes)
        np.maximum.at(highest, person, made.codes)
        assert (lowest == highest).all()
    with pytest.raises(EgressInputError):
        code.encode(data.user_features[::-1])


def test_test_rows_get_what_a_device_would_compute(data: EgressData, learned: LearnedNumbers) -> None:
    code = learned.code(7)
    on_device, in_experiment = code.encode(data.user_features), code.quantised(learned.rows)

    for device, experiment in zip(on_device, in_experiment, strict=True):
        assert (device.codes == experiment.codes)[data.is_test].all()


def test_a_propensity_of_pure_chance_does_not_look_good_on_its_own_training_rows(data: EgressData) -> None:
    """Labels drawn by coin: the trees fit them, but no training row may see trees that have seen its own label.

    Correlation of 11,000 rows with a coin: beyond .05 with probability below 1e-6.
    """
    rng = np.random.default_rng(3)
    many = tuple(UserFeature(f"f{i}", 5, rng.integers(0, 32, data.labels.size)) for i in range(4))
    coin = replace(data, labels=rng.integers(0, 2, data.labels.size), user_features=many)
    learned = learn_numbers(coin, TRAINER, Forest(200, 31))
    train = ~coin.is_test

    def correlation(numbers: np.ndarray) -> float:
        return float(np.corrcoef(numbers[train, 0], coin.labels[train])[0, 1])

    assert abs(correlation(learned.rows)) < 0.05
    assert correlation(learned.numbers.of(many)) > 0.3  # the same trees without cross-fitting


def test_bits_are_shared_as_asked_and_end_where_there_is_no_room(learned: LearnedNumbers) -> None:
    first, edges = learned.code(5, propensity_bits=3).edges[0]

    assert (first, edges.size) == (0, 2**3 - 1)
    assert learned.code(5, propensity_bits=3).bits == 5
    assert learned.code(5, propensity_bits=3, further=False).bits == 3
    assert learned.code(64).bits == 40  # five numbers of eight bits
    for wrong in (0, 65):
        with pytest.raises(EgressInputError):
            learned.code(wrong)
