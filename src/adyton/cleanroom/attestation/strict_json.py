"""JSON objects with one meaning: no name twice, no NaN, nothing but JSON.

RFC 8259 §4 leaves open what a second value of one name means; what two readers take for different values is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NoReturn

from adyton.cleanroom.attestation.errors import EvidenceFormatError


def parse_object(data: bytes, what: str) -> Mapping[str, object]:
    """The JSON object in `data` (UTF-8). Raises EvidenceFormatError, which names it by `what`."""
    try:
        value: object = json.loads(data.decode(), object_pairs_hook=_without_repeats, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise EvidenceFormatError(f"{what} is not JSON, or says a name twice") from error
    if not isinstance(value, dict):
        raise EvidenceFormatError(f"{what} is not a JSON object")
    return value


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name appears twice")
    return fields


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
