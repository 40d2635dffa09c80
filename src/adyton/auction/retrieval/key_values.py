"""Keys, values and their commit times, in memory.

A mutation applies only if its logical commit time is newer than that of what it replaces: per key for strings, per
element for sets. Removed keys and elements keep their time, so a late update cannot bring them back, and the state
does not depend on the order of files (records with equal times for the same thing excepted: the first one stays).
Strings and each type of set are separate name spaces, as in the reference store.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from adyton.auction.retrieval.records import Mutation, StoreRecord, ValueType

UIntArray = npt.NDArray[np.uint32] | npt.NDArray[np.uint64]
_DTYPES: Final = {ValueType.UINT32_SET: np.uint32, ValueType.UINT64_SET: np.uint64}


class KeyValues:
    """The current values. Reads see every applied record at once; not safe for writes from two threads."""

    def __init__(self) -> None:
        self._strings: dict[str, tuple[int, str | None]] = {}
        # Per set: element -> (commit time, present)
        self._sets: dict[ValueType, dict[str, dict[str | int, tuple[int, bool]]]] = {
            kind: {} for kind in ValueType if kind is not ValueType.STRING
        }
        self._text_sets: dict[str, frozenset[str]] = {}
        self._uint_sets: dict[tuple[ValueType, str], UIntArray] = {}

    def apply(self, record: StoreRecord) -> bool:
        """True if the record changed anything that can be read."""
        if isinstance(record.value, str):
            return self._apply_string(record, record.value)
        elements = self._sets[record.value_type].setdefault(record.key, {})
        present = record.mutation is Mutation.UPDATE
        changed = False
        for element in record.value:
            known = elements.get(element)
            if known is None or record.logical_commit_time > known[0]:
                elements[element] = (record.logical_commit_time, present)
                changed = changed or present != (known is not None and known[1])
        if changed:
            self._text_sets.pop(record.key, None)
            self._uint_sets.pop((record.value_type, record.key), None)
        return changed

    def get(self, key: str) -> str | None:
        """The string at `key`, or None."""
        found = self._strings.get(key)
        return None if found is None else found[1]

    def strings(self) -> Iterator[tuple[str, str]]:
        """Every key that has a string."""
        for key, (_, value) in self._strings.items():
            if value is not None:
                yield key, value

    def string_set(self, name: str) -> frozenset[str]:
        """Members of a string set; a missing set is empty."""
        found = self._text_sets.get(name)
        if found is None:
            elements = self._sets[ValueType.STRING_SET].get(name, {})
            found = frozenset(str(element) for element, (_, present) in elements.items() if present)
            self._text_sets[name] = found
        return found

    def uint_set(self, kind: ValueType, name: str) -> UIntArray:
        """Members of an integer set, ascending, without repeats; a missing set is empty."""
        found = self._uint_sets.get((kind, name))
        if found is None:
            elements = self._sets[kind].get(name, {})
            found = np.array(
                sorted(int(element) for element, (_, present) in elements.items() if present), dtype=_DTYPES[kind]
            )
            found.flags.writeable = False
            self._uint_sets[kind, name] = found
        return found

    def forget_removed(self, before_commit_time: int) -> int:
        """Drop the memory of removals older than `before_commit_time`; gives back how many were dropped."""
        stale = [key for key, (time, value) in self._strings.items() if value is None and time < before_commit_time]
        for key in stale:
            del self._strings[key]
        n_dropped = len(stale)
        for sets in self._sets.values():
            for elements in sets.values():
                gone = [e for e, (time, present) in elements.items() if not present and time < before_commit_time]
                for element in gone:
                    del elements[element]
                n_dropped += len(gone)
        return n_dropped

    def _apply_string(self, record: StoreRecord, text: str) -> bool:
        known = self._strings.get(record.key)
        if known is not None and record.logical_commit_time <= known[0]:
            return False
        value = text if record.mutation is Mutation.UPDATE else None
        self._strings[record.key] = (record.logical_commit_time, value)
        return value != (None if known is None else known[1])
