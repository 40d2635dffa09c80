"""Members of a JSON document that must have one type. All raise ValueError or TypeError, without the value."""

from __future__ import annotations

import base64
import binascii


def text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def whole_number(value: object) -> int:
    """An integer that is not negative."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError("not a whole number")
    return value


def items(value: object) -> list[dict[str, object]]:
    """A list of objects."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise TypeError("not a list of objects")
    return value


def from_base64(value: object) -> bytes:
    try:
        return base64.b64decode(text(value), validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error


def to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
