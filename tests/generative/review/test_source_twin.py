"""The compiled accounting of the source and its slow twin agree on generated days, refusals and drops included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adyton.kernel.chance import stream
from adyton.review.arrivals import Pattern
from adyton.review.compat import SOURCE_POLICIES, draw_source_day
from adyton.review.day import DayConfig
from adyton.review.engine.source_accounting import play_source_day
from adyton.review.generator import generate_workbook
from adyton.review.naive_source import play_source_day_slowly

WORKBOOK = generate_workbook(800, 120, stream(11, "twins"))


@pytest.mark.parametrize("allocator", SOURCE_POLICIES)
@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_moderators=st.integers(1, 12),
    horizon=st.integers(20, 200),
    shift=st.sampled_from([0.02, 0.1, 1.0]),
    pattern=st.sampled_from(list(Pattern)),
)
def test_the_sources_accounting_agrees_with_its_twin(
    allocator: str, seed: int, n_moderators: int, horizon: int, shift: float, pattern: Pattern
) -> None:
    config = DayConfig(volume=0.02, n_moderators=n_moderators, horizon=horizon, pattern=pattern)
    arrays = draw_source_day(WORKBOOK, config, seed=seed)
    arrays = arrays._replace(limit=shift * arrays.limit)

    fast = play_source_day(arrays, SOURCE_POLICIES[allocator])
    slow = play_source_day_slowly(arrays, allocator)

    assert (fast.n_refused, fast.n_dropped, fast.n_minutes) == (slow.n_refused, slow.n_dropped, slow.n_minutes)
    assert {int(a): int(fast.done_at[a]) for a in np.flatnonzero(fast.done_at >= 0)} == slow.done_at
    assert fast.wait == pytest.approx(slow.wait)
    assert fast.inaccuracy == pytest.approx(slow.inaccuracy)
    np.testing.assert_allclose(fast.clock, slow.clock)
    np.testing.assert_allclose(fast.worked, slow.worked)
