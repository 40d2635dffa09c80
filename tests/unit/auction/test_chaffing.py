"""Chaff: how often, to whom, how large, in which order, and the same again for the same generation id."""

from __future__ import annotations

import numpy as np
import pytest

from adyton.auction.buyer.chaff_answers import chaff_delay_ms, chaff_response_size
from adyton.auction.seller.buyer_cache import BuyerCache
from adyton.auction.seller.buyer_selection import MAX_BUYERS_WITH_CHAFF, chaff_candidates, select_buyers
from adyton.auction.seller.chaffing import (
    MEDIAN_WINDOW,
    MedianChaffSizes,
    PlannedRequest,
    UniformChaffSizes,
    chaff_generator,
    plan_replay,
    plan_requests,
    within_limit,
)
from adyton.auction.seller.replay_window import is_inside_replay_window
from adyton.kernel.chance import stream

CANDIDATES = tuple(f"c{i}" for i in range(6))


def plan(generation_id: str, *, real: tuple[str, ...] = ("r",), n_configured: int = 7) -> tuple[object, ...]:
    return plan_requests(
        real=real,
        candidates=CANDIDATES,
        n_configured=n_configured,
        sizes=UniformChaffSizes(),
        generator=chaff_generator(generation_id),
    )


@pytest.mark.parametrize(("n_configured", "share"), [(5, 0.01), (6, 0.05)])
def test_chaff_is_sent_as_rarely_as_documented(n_configured: int, share: float) -> None:
    """Fixed ids: three standard deviations of 20,000 plans notice a share that is off by a quarter or less."""
    n = 20_000
    sent = sum(len(plan(str(i), n_configured=n_configured)) > 1 for i in range(n))

    assert abs(sent - n * share) < 3 * np.sqrt(n * share * (1 - share))


def test_a_replay_makes_the_same_plan() -> None:
    assert [plan(str(i)) for i in range(300)] == [plan(str(i)) for i in range(300)]


def test_numbers_sizes_and_candidates_stay_in_their_ranges() -> None:
    with_real = [p for i in range(3000) if len(p := plan(str(i))) > 1]
    alone = [p for i in range(3000) if (p := plan(str(i), real=()))]

    assert {sum(r.is_chaff for r in p) for p in with_real} == {1, 2, 3, 4, 5, 6}
    assert {len(p) for p in alone} == {2, 3, 4, 5, 6}
    sizes = [r.chaff_size_bytes for p in with_real for r in p if r.is_chaff]
    assert 9_000 <= min(sizes) < 15_000
    assert 90_000 < max(sizes) <= 95_000
    first_places = {p[0].is_chaff for p in with_real}
    assert first_places == {True, False}


def test_one_candidate_is_enough_even_without_real_requests() -> None:
    planned = [
        plan_requests(
            real=(), candidates=("c",), n_configured=9, sizes=UniformChaffSizes(), generator=chaff_generator(str(i))
        )
        for i in range(500)
    ]

    assert {len(p) for p in planned} == {0, 1}


def test_median_sizes_answer_the_default_until_their_window_is_full() -> None:
    sizes = MedianChaffSizes(window=5, sampling_probability=1.0)
    generator = stream(1)
    answers = []
    for size in (10, 50, 20, 40, 30, 1000, 1000, 1000):
        sizes.observe("b", size, generator)
        answers.append(sizes.request_size("b", generator))

    assert answers == [100_000] * 4 + [30, 40, 40, 1000]
    assert sizes.request_size("other", generator) == 100_000


def test_real_requests_are_as_long_as_chaff_until_the_window_is_full() -> None:
    sizes = MedianChaffSizes(window=3, sampling_probability=1.0)
    least = []
    for _ in range(4):
        least.append(sizes.least_real_size("b"))
        sizes.observe("b", 50, stream(1))

    assert least == [100_000, 100_000, 100_000, 0]
    assert sizes.least_real_size("other") == 100_000
    assert UniformChaffSizes().least_real_size("b") == 0


def test_chaff_gives_way_where_buyers_are_limited() -> None:
    planned = [PlannedRequest(name, None if name.startswith("r") else 9_000) for name in ("c1", "r1", "c2", "r2", "c3")]

    def kept(limit: int | None) -> list[str]:
        return [request.buyer for request in within_limit(planned, limit)]

    assert kept(None) == kept(5) == ["c1", "r1", "c2", "r2", "c3"]
    assert kept(4) == ["c1", "r1", "c2", "r2"]
    assert kept(3) == ["c1", "r1", "r2"]
    assert kept(2) == ["r1", "r2"]


def test_numbers_that_take_many_requests_to_reach_are_those_of_the_specification() -> None:
    assert (MEDIAN_WINDOW, MAX_BUYERS_WITH_CHAFF) == (10_000, 15)


def test_median_sizes_keep_a_tenth_of_what_they_see() -> None:
    sizes = MedianChaffSizes(window=400)
    generator = stream(2)
    for _ in range(3000):
        sizes.observe("b", 77, generator)
    before = sizes.request_size("b", generator)
    for _ in range(3000):
        sizes.observe("b", 77, generator)

    assert (before, sizes.request_size("b", generator)) == (100_000, 77)


def test_answers_to_chaff_are_late_and_long_within_their_ranges() -> None:
    generator = stream(3)
    delays = [chaff_delay_ms(generator) for _ in range(2000)]
    sizes = [chaff_response_size(generator) for _ in range(2000)]

    assert 25 <= min(delays) < 30
    assert 370 < max(delays) <= 380
    assert 1_000 <= min(sizes) < 1_100
    assert 10_400 < max(sizes) <= 10_500


def test_only_named_configured_buyers_with_data_are_called_once_each_in_order() -> None:
    chosen = select_buyers(
        configured={"a", "b", "c"}, buyer_list=["c", "x", "a", "c", "b"], with_input={"a", "c", "x"}, max_buyers=None
    )

    assert chosen == ("c", "a")
    assert select_buyers(configured={"a", "b"}, buyer_list=["b", "a"], with_input={"a", "b"}, max_buyers=1) == ("b",)


def test_chaff_goes_to_named_configured_buyers_without_data() -> None:
    assert chaff_candidates(configured={"a", "b", "c"}, buyer_list=["c", "x", "a", "b"], with_input={"a"}) == ("b", "c")


def test_buyer_cache_keeps_the_first_set_until_it_expires_or_is_crowded_out() -> None:
    cache = BuyerCache(capacity=2, lifetime_s=10)
    first, other = frozenset({"a"}), frozenset({"b"})

    assert cache.recall_or_remember("1", first, now_s=0) == first
    assert cache.recall_or_remember("1", other, now_s=9.9) == first
    assert cache.recall_or_remember("1", other, now_s=10) == other
    cache.recall_or_remember("2", first, now_s=11)
    cache.recall_or_remember("3", first, now_s=11)
    assert cache.recall_or_remember("1", first, now_s=12) == first


def test_the_buyer_cache_holds_no_id_that_a_client_could_make_long() -> None:
    cache = BuyerCache()
    cache.recall_or_remember("x" * 1_000_000, frozenset({"a"}), now_s=0)

    assert all(len(key) == 32 for key in cache._entries)


def test_a_replay_reaches_the_remembered_buyers_whatever_the_ad_server_names() -> None:
    planned = plan_replay(
        remembered={"a", "b"}, with_input={"b"}, sizes=UniformChaffSizes(), generator=chaff_generator("1")
    )

    assert {(p.buyer, p.is_chaff) for p in planned} == {("a", True), ("b", False)}


@pytest.mark.parametrize(
    ("timestamp_ms", "window_s", "is_inside"),
    [(1, None, True), (0, 5, True), (95_000, 5, True), (94_999, 5, False), (105_000, 5, True), (105_001, 5, False)],
)
def test_replay_window_is_closed_on_both_sides(timestamp_ms: int, window_s: int | None, is_inside: bool) -> None:
    assert is_inside_replay_window(timestamp_ms, 100_000, window_s) is is_inside
