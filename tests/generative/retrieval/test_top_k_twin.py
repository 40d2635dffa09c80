"""Embedding search against its naive twin. Vectors hold small integers, so inner products are exact in any order."""

from __future__ import annotations

import numpy as np
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from adyton.auction.retrieval.ad_index import AdIndex
from adyton.auction.retrieval.ad_table import Ad, AdTable, parse_ad, parse_filter
from adyton.auction.retrieval.top_k import ApproximateEngine, ExactEngine, naive_top_k

D = 3
values = st.one_of(
    st.sampled_from(["DE", "US", "FR"]),
    st.booleans(),
    st.sampled_from([0, 1, 2.5, -1]),
    st.lists(st.sampled_from(["DE", "US"]), max_size=2),
    st.none(),
)
ads_json = st.fixed_dictionaries(
    {"embedding": st.lists(st.integers(-3, 3), min_size=D, max_size=D)},
    optional={"country": values, "size": st.sampled_from(["S", "M"]), "budget": st.integers(-2, 2)},
)
scalars = st.one_of(st.sampled_from(["DE", "US", "S", "nowhere"]), st.booleans(), st.sampled_from([0, 1, 2.5]))
bounds = st.dictionaries(st.sampled_from(["gt", "ge", "lt", "le"]), st.integers(-2, 2), min_size=1, max_size=2)
filters = st.one_of(
    st.none(),
    st.dictionaries(
        st.sampled_from(["country", "size", "budget", "missing"]),
        st.one_of(scalars, st.lists(scalars, max_size=3), bounds),
        max_size=3,
    ),
)
vectors = st.lists(st.integers(-3, 3), min_size=D, max_size=D)


def ad_of(key: str, value: dict[str, object]) -> Ad:
    ad = parse_ad(key, orjson.dumps(value).decode())
    assert ad is not None
    return ad


@settings(max_examples=50, deadline=None)
@given(st.lists(ads_json, min_size=1, max_size=30), vectors, filters, st.integers(0, 8))
def test_exact_search_agrees_with_the_naive_twin(
    found: list[dict[str, object]], query: list[int], wanted: object, k: int
) -> None:
    ads = [ad_of(f"ad{number:02d}", value) for number, value in enumerate(found)]
    conditions = parse_filter(wanted)
    table = AdTable.of(ads)

    for partitions in (("country", "size"), ("size",), ()):
        neighbours = ExactEngine(table, partitions).top_k(np.array(query, dtype=np.float32), conditions, k)

        assert [table.keys[row] for row in neighbours.rows] == naive_top_k(ads, query, conditions, k)


changes = st.lists(
    st.one_of(st.tuples(st.integers(0, 9), ads_json), st.tuples(st.integers(0, 9), st.none()), st.just("rebuild")),
    max_size=30,
)


@settings(max_examples=40, deadline=None)
@given(changes, vectors, filters, st.integers(0, 6))
def test_an_index_that_changes_agrees_with_the_twin_at_every_step(
    steps: list[object], query: list[int], wanted: object, k: int
) -> None:
    index = AdIndex()
    ads: dict[str, Ad] = {}
    conditions = parse_filter(wanted)
    for step in steps:
        if step == "rebuild":
            index.rebuild()
            assert index.n_changes == 0
            continue
        assert isinstance(step, tuple)
        key = f"ad{step[0]}"
        if step[1] is None:
            index.remove(key)
            ads.pop(key, None)
        else:
            ads[key] = ad_of(key, step[1])
            index.put(ads[key])
        got = index.top_k(np.array(query, dtype=np.float32), conditions, k)

        assert [ad.key for ad in got] == naive_top_k(list(ads.values()), query, conditions, k)
        assert all(ad.text == ads[ad.key].text for ad in got)


def test_approximate_search_only_returns_ads_that_pass_and_misses_few() -> None:
    rng = np.random.default_rng(7)
    n_ads = 40_000
    centres = rng.normal(size=(50, 16))
    vectors = (centres[rng.integers(0, 50, n_ads)] + 0.3 * rng.normal(size=(n_ads, 16))).astype(np.float32)
    budgets = rng.integers(0, 10, n_ads).astype(float).tolist()
    table = AdTable([f"ad{i:06d}" for i in range(n_ads)], vectors, {"budget": budgets}, [""] * n_ads)
    exact = ExactEngine(table)
    approximate = ApproximateEngine(table, exact, n_lists=64, n_probes=16)
    conditions = parse_filter({"budget": {"gt": 2}})
    recalls = []
    for query in vectors[:30]:
        truth, found = (engine.top_k(query, conditions, 50) for engine in (exact, approximate))
        recalls.append(len(set(truth.rows.tolist()) & set(found.rows.tolist())) / 50)

        assert all(budgets[row] > 2 for row in found.rows)
        assert list(found.scores) == sorted(found.scores, reverse=True)

    assert np.mean(recalls) > 0.9
