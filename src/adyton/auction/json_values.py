"""JSON values to and from `google.protobuf.Value`, without the detour over text."""

from __future__ import annotations

import math
from collections.abc import Mapping

from google.protobuf import struct_pb2

from adyton.auction.errors import RequestError

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]

MAX_DEPTH = 100


def to_value(json: object, depth: int = 0) -> struct_pb2.Value:
    """The protobuf form of a JSON value.

    Raises RequestError for what JSON cannot hold (NaN, infinities, other types) and for nesting over 100 levels.
    """
    if depth > MAX_DEPTH:
        raise RequestError("JSON value is nested too deeply")
    if json is None:
        return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
    if isinstance(json, bool):
        return struct_pb2.Value(bool_value=json)
    if isinstance(json, int | float):
        if not math.isfinite(json):
            raise RequestError("JSON numbers must be finite")
        return struct_pb2.Value(number_value=json)
    if isinstance(json, str):
        return struct_pb2.Value(string_value=json)
    if isinstance(json, list | tuple):
        return struct_pb2.Value(list_value=struct_pb2.ListValue(values=[to_value(item, depth + 1) for item in json]))
    if isinstance(json, Mapping):
        fields = {str(key): to_value(item, depth + 1) for key, item in json.items()}
        return struct_pb2.Value(struct_value=struct_pb2.Struct(fields=fields))
    raise RequestError(f"{type(json).__name__} is not a JSON type")


def from_value(value: struct_pb2.Value) -> JsonValue:
    """The JSON value of a protobuf one. Whole numbers come back as int; a value without a kind is null."""
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    if kind == "string_value":
        return value.string_value
    if kind == "bool_value":
        return value.bool_value
    if kind == "struct_value":
        return from_struct(value.struct_value)
    if kind == "list_value":
        return [from_value(item) for item in value.list_value.values]
    return None


def from_struct(struct: struct_pb2.Struct) -> dict[str, JsonValue]:
    """The JSON object of a protobuf Struct."""
    return {key: from_value(item) for key, item in struct.fields.items()}


def to_struct(json: Mapping[str, object]) -> struct_pb2.Struct:
    """The protobuf Struct of a JSON object. Raises RequestError as `to_value`."""
    return to_value(json).struct_value
