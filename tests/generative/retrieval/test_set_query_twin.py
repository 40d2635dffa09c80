"""The set query engine against a naive twin that reads the query character by character."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adyton.auction.retrieval.errors import SetQueryError
from adyton.auction.retrieval.records import Mutation, StoreRecord, ValueType
from adyton.auction.retrieval.set_query import parse_set_query
from adyton.auction.retrieval.store import AdRetrievalStore

NAMES = ["a", "b:1", "c.d", "empty", "with-dash", "x|y"]
OPERATORS = {"|": "|", "UNION": "|", "&": "&", "INTERSECTION": "&", "-": "-", "DIFFERENCE": "-"}


def spelled(name: str) -> str:
    return name if re.fullmatch(r"[a-zA-Z0-9_:.]+", name) else f'"{name}"'


# A query is a nested list, so that the twin never parses: [operand, operator, operand, ...]
leaves = st.one_of(
    st.sampled_from(NAMES), st.lists(st.integers(0, 9), min_size=1, max_size=4).map(lambda xs: ("SET", tuple(xs)))
)


@st.composite
def chains(draw: st.DrawFn, inner: st.SearchStrategy[object]) -> list[object]:
    chain = [draw(inner)]
    for _ in range(draw(st.integers(0, 3))):
        chain += [draw(st.sampled_from(sorted(OPERATORS))), draw(inner)]
    return chain


queries = st.recursive(leaves, chains, max_leaves=12)
sets = st.dictionaries(st.sampled_from(NAMES), st.frozensets(st.integers(0, 9)))


def text_of(query: object, integers: bool, space: str) -> str:
    if isinstance(query, str):
        return spelled(query)
    if isinstance(query, tuple):
        elements = [str(x) if integers else f'"{x}"' for x in query[1]]
        return f"SET({','.join(elements)})"
    assert isinstance(query, list)
    parts = [text_of(part, integers, space) if i % 2 == 0 else str(part) for i, part in enumerate(query)]
    glued = space.join(parts) if all(part in "|&-" for part in query[1::2]) else " ".join(parts)
    return f"({glued})"


def meaning(query: object, members: dict[str, frozenset[int]]) -> set[int]:
    if isinstance(query, str):
        return set(members.get(query, frozenset()))
    if isinstance(query, tuple):
        return set(query[1])
    assert isinstance(query, list)
    result = meaning(query[0], members)
    for operator, operand in zip(query[1::2], query[2::2], strict=True):
        right = meaning(operand, members)
        sign = OPERATORS[operator]
        result = result | right if sign == "|" else result & right if sign == "&" else result - right
    return result


@settings(max_examples=40)
@given(queries, sets, st.sampled_from(["", " ", "  \n"]))
def test_all_three_hooks_agree_with_the_naive_meaning(
    query: object, members: dict[str, frozenset[int]], space: str
) -> None:
    store = AdRetrievalStore()
    for name, elements in members.items():
        texts = frozenset(map(str, elements))
        store.apply(StoreRecord(name, 1, Mutation.UPDATE, ValueType.STRING_SET, texts))
        store.apply(StoreRecord(name, 1, Mutation.UPDATE, ValueType.UINT32_SET, elements))
        store.apply(StoreRecord(name, 1, Mutation.UPDATE, ValueType.UINT64_SET, elements))
    expected = sorted(meaning(query, members))

    numbers = store.uint_query(text_of(query, True, space), ValueType.UINT32_SET)
    long_numbers = store.uint_query(text_of(query, True, space), ValueType.UINT64_SET)

    assert store.string_query(text_of(query, False, space)) == sorted(map(str, expected))
    assert numbers.tolist() == expected
    assert numbers.dtype == np.uint32
    assert long_numbers.tolist() == expected
    assert long_numbers.dtype == np.uint64


@settings(max_examples=100)
@given(st.text(alphabet='aSET(),|&-"1 UNIO:.é', max_size=30), st.booleans())
def test_any_text_is_a_query_or_a_set_query_error(text: str, integers: bool) -> None:
    try:
        parse_set_query(text, integers=integers)
    except SetQueryError as error:
        assert error.where is None or error.where.startswith("offset ")  # noqa: PT017 - both outcomes are right


@pytest.mark.parametrize(
    "query", ["(", "a |", "| a", "a b", "SET()", "SET(a)", 'SET("a"', "a && b", '"open', "a + b", "UNION", "()", "é"]
)
def test_malformed_queries_are_refused(query: str) -> None:
    with pytest.raises(SetQueryError):
        parse_set_query(query, integers=False)


def test_operators_have_one_precedence_and_associate_to_the_left() -> None:
    store = AdRetrievalStore()

    assert store.string_query('SET("a") | SET("b") & SET("b")') == ["b"]
    assert store.string_query('SET("a") | (SET("b") & SET("b"))') == ["a", "b"]
    assert store.string_query('SET("a","b") - SET("a") - SET("b")') == []
    assert store.string_query("  ") == []


def test_deep_and_long_queries_end_in_an_answer_or_a_refusal() -> None:
    store = AdRetrievalStore()

    assert store.string_query("|".join(["a"] * 10_000)) == []
    with pytest.raises(SetQueryError):
        store.string_query("(" * 10_000 + "a" + ")" * 10_000)
    with pytest.raises(SetQueryError):
        store.string_query("a|" * 20_000 + "a")
    with pytest.raises(SetQueryError):
        store.uint_query("SET(4294967296)", ValueType.UINT32_SET)
    assert store.uint_query("SET(4294967296)", ValueType.UINT64_SET).tolist() == [1 << 32]
