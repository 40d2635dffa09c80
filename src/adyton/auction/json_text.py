"""JSON as it travels between services and scripts: UTF-8 text, parsed only where a rule needs the value."""

from __future__ import annotations

import orjson

EMPTY_STRING = b'""'
EMPTY_OBJECT = b"{}"


def dump(value: object) -> bytes:
    """UTF-8 JSON text. Numbers that JSON cannot hold become null."""
    return orjson.dumps(value)


def configured_json(text: str) -> bytes:
    """A configured string (signals of the seller or a buyer) as an argument: its own JSON text, `""` if it is empty.

    Text that is no JSON makes the script's call fail, which is then the failure of the party that configured it.
    """
    return text.encode() if text else EMPTY_STRING
