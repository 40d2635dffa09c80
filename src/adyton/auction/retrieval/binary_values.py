"""The protobuf answer of `getValuesBinary`.

    message BinaryGetValuesResponse { google.rpc.Status status = 1; map<string, Value> kv_pairs = 2; }
    message Value { oneof value { google.rpc.Status status = 1; bytes data = 2; } }

Three messages of two fields each, written by hand: scripts read it, no service does.
"""

from __future__ import annotations

from collections.abc import Mapping

_NOT_FOUND = 5


def encode_binary_values(values: Mapping[str, str | None], code: int, message: str) -> bytes:
    """The serialized response; None becomes a NOT_FOUND status."""
    parts = [_field(1, _status(code, message))]
    for key, value in values.items():
        found = _field(1, _status(_NOT_FOUND, f"Key not found: {key}")) if value is None else _field(2, value.encode())
        parts.append(_field(2, _field(1, key.encode()) + _field(2, found)))
    return b"".join(parts)


def _status(code: int, message: str) -> bytes:
    return (b"\x08" + _varint(code) if code else b"") + _field(2, message.encode())


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
