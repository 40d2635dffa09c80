"""What a model may repeat of a partner's columns is shared by k users, categories and numbers alike."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from adyton.cleanroom.join import keep_common
from adyton.cleanroom.number_steps import steps_of
from adyton.kernel.chance import stream


def masked(values: list[float | None], users: list[int], k: int) -> list[float | None]:
    column = pa.chunked_array([pa.array(values, pa.float64())])
    return steps_of(column, pa.chunked_array([users]), k).applied(column).to_pylist()


@pytest.mark.parametrize("seed", range(4))
def test_every_number_left_stands_for_k_users_and_the_order_is_kept(seed: int) -> None:
    rng = stream(seed, "steps")
    n, k = 400, 7
    users = rng.integers(0, 60, n)
    values = np.round(rng.exponential(30, n), int(seed % 2))
    made = masked(values.tolist(), users.tolist(), k)

    for step in set(made):
        assert len({u for u, m in zip(users, made, strict=True) if m == step}) >= k
    order = np.argsort(values, kind="stable")
    assert np.all(np.diff(np.array(made)[order]) >= 0)
    assert len(set(made)) > 3
    assert sum(made) == pytest.approx(values.sum())  # type: ignore[arg-type]


def test_a_single_users_extreme_is_nobodys_number_any_more() -> None:
    made = masked([1.0] * 10 + [2.0] * 10 + [987654.25], [*range(10), *range(10), 77], 5)

    assert 987654.25 not in made
    assert made[20] == made[10]


def test_unknown_numbers_stay_unknown_and_too_few_users_leave_nothing() -> None:
    assert masked([None, 3.0, 3.0], [1, 2, 3], 2) == [None, 3.0, 3.0]
    assert masked([1.0, 2.0], [1, 1], 2) == [None, None]
    assert masked([None], [1], 2) == [None]


def test_rare_categories_become_null() -> None:
    made = keep_common(pa.chunked_array([["a", "a", "b"]]), pa.chunked_array([[1, 2, 3]]), 2)
    assert made.to_pylist() == ["a", "a", None]
