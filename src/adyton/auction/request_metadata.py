"""The three device headers that travel with a request (protected-auction §6.8).

They are told as gRPC metadata from hop to hop and reach the retrieval UDF inside its device-metadata argument, never as
headers of that call.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from adyton.auction.errors import RequestError

_KEY = re.compile(r"[a-z0-9._-]+")
_FORWARDED: Mapping[str, str] = MappingProxyType(
    {
        "x-accept-language": "X-Accept-Language",
        "x-user-agent": "X-User-Agent",
        "x-bna-client-ip": "X-BnA-Client-IP",
    }
)
FORWARDED_KEYS = tuple(_FORWARDED)
"""Names of the headers that go on to the next hop, in the order of the specification's table."""


def forwarded_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> tuple[tuple[str, str], ...]:
    """The pairs that go on to the next hop, in the order of the specification's table.

    Raises RequestError for a key outside `[a-z0-9._-]` or a value with a character outside 32..126. Values of binary
    (`-bin`) keys are never forwarded and not looked at.
    """
    found: dict[str, str] = {}
    for key, value in metadata:
        if not _KEY.fullmatch(key):
            raise RequestError("Illegal header key.")
        if key.endswith("-bin"):
            continue
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        if any(not 32 <= ord(character) <= 126 for character in text):
            raise RequestError("Illegal header value.")
        if key in _FORWARDED:
            found[key] = text
    return tuple((key, found[key]) for key in _FORWARDED if key in found)


def device_metadata(metadata: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The retrieval UDF's device-metadata argument: `{"X-Accept-Language": ...}`, only what is known (§10.3)."""
    return {_FORWARDED[key]: value for key, value in metadata if key in _FORWARDED}
