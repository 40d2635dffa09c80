"""A mutation applies only if its commit time is newer than that of what it would replace (protected-auction §10.5)."""

from __future__ import annotations

import pytest

from adyton.auction.retrieval.key_values import KeyValues
from adyton.auction.retrieval.records import Elements, Mutation, StoreRecord, ValueType

UPDATE, DELETE = Mutation.UPDATE, Mutation.DELETE


@pytest.mark.parametrize(
    ("mutation", "time", "applies"),
    [
        (UPDATE, 4, False),
        (UPDATE, 5, False),
        (UPDATE, 6, True),
        (DELETE, 4, False),
        (DELETE, 5, False),
        (DELETE, 6, True),
    ],
)
def test_a_string_changes_only_by_something_newer(mutation: Mutation, time: int, applies: bool) -> None:
    store = KeyValues()
    store.apply(StoreRecord("k", 5, UPDATE, ValueType.STRING, "old"))

    assert store.apply(StoreRecord("k", time, mutation, ValueType.STRING, "new")) is applies
    assert store.get("k") == (("new" if mutation is UPDATE else None) if applies else "old")


@pytest.mark.parametrize(
    ("kind", "element", "other"),
    [(ValueType.STRING_SET, "a", "b"), (ValueType.UINT32_SET, 7, 8), (ValueType.UINT64_SET, 2**40, 8)],
)
def test_each_element_of_a_set_has_a_time_of_its_own(kind: ValueType, element: str | int, other: str | int) -> None:
    store = KeyValues()

    def members() -> set[str | int]:
        found = store.string_set("k") if kind is ValueType.STRING_SET else store.uint_set(kind, "k").tolist()
        return set(found)

    def apply(time: int, mutation: Mutation, *elements: str | int) -> bool:
        value: Elements = frozenset(elements)  # type: ignore[assignment]
        return store.apply(StoreRecord("k", time, mutation, kind, value))

    assert apply(5, UPDATE, element)
    assert apply(1, UPDATE, other)
    assert not apply(5, DELETE, element)
    assert members() == {element, other}
    assert apply(3, DELETE, element, other)
    assert members() == {element}
    assert apply(6, DELETE, element)
    assert not apply(6, UPDATE, element)
    assert members() == set()
    assert apply(7, UPDATE, element)
    assert members() == {element}
