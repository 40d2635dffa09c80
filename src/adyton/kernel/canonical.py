"""Canonical JSON bytes for hashing and signing.

A subset of RFC 8785: objects with string keys sorted by code point, no white space, UTF-8, integers, strings, booleans,
null and lists. Floats are refused, since two parties must never disagree about a byte: write exact decimals as strings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from adyton.kernel.errors import BadInputError

Json = None | bool | int | str | Sequence["Json"] | Mapping[str, "Json"]


def canonical_bytes(value: Json) -> bytes:
    """The one byte string for `value`.

    Raises BadInputError for floats, non-string keys and unknown types.
    """
    _check(value, "$")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def canonical_hash(value: Json) -> str:
    """Lower-case hex SHA-256 of `canonical_bytes(value)`."""
    return hashlib.sha256(canonical_bytes(value)).hexdigest()


def _check(value: object, path: str) -> None:
    if value is None or isinstance(value, bool | int | str):
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise BadInputError("keys of canonical JSON must be strings", where=path)
            _check(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check(item, f"{path}[{index}]")
    else:
        raise BadInputError(
            f"{type(value).__name__} has no canonical form",
            where=path,
            hint="write exact decimals as strings",
        )
