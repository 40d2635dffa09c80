"""What the store is made of: key/value mutations and versions of the retrieval script (protected-auction §10.5)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from adyton.auction.retrieval.errors import RecordError


class Mutation(Enum):
    """What a record does to its key."""

    UPDATE = "UPDATE"
    DELETE = "DELETE"


class ValueType(Enum):
    """Type of a value. The stored text is the name used in files."""

    STRING = "string"
    STRING_SET = "string_set"
    UINT32_SET = "uint32_set"
    UINT64_SET = "uint64_set"


UINT_BITS = {ValueType.UINT32_SET: 32, ValueType.UINT64_SET: 64}

Elements = frozenset[str] | frozenset[int]


@dataclass(frozen=True)
class StoreRecord:
    """One mutation of one key.

    value: text for STRING (ignored by DELETE), elements for sets: UPDATE adds them, DELETE removes them.
    logical_commit_time: a mutation applies only if it is newer than what it would replace, per key for strings and per
    element for sets.
    """

    key: str
    logical_commit_time: int
    mutation: Mutation
    value_type: ValueType
    value: str | Elements

    def __post_init__(self) -> None:
        if self.value_type is ValueType.STRING:
            if not isinstance(self.value, str):
                raise RecordError("the value of a string record must be text")
            return
        if isinstance(self.value, str):
            raise RecordError("the value of a set record must be a set")
        bits = UINT_BITS.get(self.value_type)
        for element in self.value:
            if bits is None:
                if not isinstance(element, str):
                    raise RecordError("elements of a string set must be text")
            elif type(element) is not int or not 0 <= element < 1 << bits:
                raise RecordError(f"elements must be integers of {bits} bits")


@dataclass(frozen=True)
class UdfRecord:
    """A version of the retrieval script; the newest commit time wins."""

    code_snippet: str
    handler_name: str
    logical_commit_time: int
    version: int


def string_record(key: str, value: str, logical_commit_time: int) -> StoreRecord:
    """The UPDATE that sets `key` to text."""
    return StoreRecord(key, logical_commit_time, Mutation.UPDATE, ValueType.STRING, value)
