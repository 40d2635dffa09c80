"""The bytes of `getValuesBinary`. Written by hand from the field numbers of the reference's `binary_get_values.proto`
(key/value service 1.2.0): response {status = 1, kv_pairs = 2}, value {status = 1, data = 2}, status {code = 1,
message = 2}; and read back by the protobuf runtime from those same declarations.
"""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

from adyton.auction.retrieval.binary_values import encode_binary_values

OK = bytes.fromhex("0a04 1202 6f6b")
FOUND = bytes.fromhex("120a 0a03 61645f 1203 1201 76")


@pytest.fixture(scope="module")
def response_class() -> type[Message]:
    """The message class of the published declarations."""
    file = descriptor_pb2.FileDescriptorProto(name="vectors/binary.proto", package="vectors", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto

    def message(name: str) -> descriptor_pb2.DescriptorProto:
        return file.message_type.add(name=name)

    def field(owner: descriptor_pb2.DescriptorProto, name: str, number: int, kind: int, type_name: str = "") -> None:
        added = owner.field.add(name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
        if type_name:
            added.type_name = type_name

    status = message("Status")
    field(status, "code", 1, kinds.TYPE_INT32)
    field(status, "message", 2, kinds.TYPE_STRING)
    value = message("Value")
    value.oneof_decl.add(name="value")
    field(value, "status", 1, kinds.TYPE_MESSAGE, ".vectors.Status")
    field(value, "data", 2, kinds.TYPE_BYTES)
    for member in value.field:
        member.oneof_index = 0
    response = message("Response")
    field(response, "status", 1, kinds.TYPE_MESSAGE, ".vectors.Status")
    entry = response.nested_type.add(name="KvPairsEntry")
    entry.options.map_entry = True
    field(entry, "key", 1, kinds.TYPE_STRING)
    field(entry, "value", 2, kinds.TYPE_MESSAGE, ".vectors.Value")
    field(response, "kv_pairs", 2, kinds.TYPE_MESSAGE, ".vectors.Response.KvPairsEntry")
    response.field[-1].label = kinds.LABEL_REPEATED
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found: type[Message] = message_factory.GetMessageClass(pool.FindMessageTypeByName("vectors.Response"))
    return found


def test_values_found_are_data_and_others_a_status() -> None:
    assert encode_binary_values({"ad_": "v"}, 0, "ok") == OK + FOUND
    assert encode_binary_values({}, 0, "ok") == OK
    assert encode_binary_values({}, 3, "no") == bytes.fromhex("0a06 0803 1202 6e6f")


def test_the_declared_message_reads_them(response_class: type[Message]) -> None:
    long_value = "x" * 300
    read = response_class()
    read.ParseFromString(encode_binary_values({"a": "1", "none": None, "long": long_value}, 0, "ok"))

    assert (read.status.code, read.status.message) == (0, "ok")
    assert (read.kv_pairs["a"].data, read.kv_pairs["long"].data) == (b"1", long_value.encode())
    missing = read.kv_pairs["none"]
    assert missing.WhichOneof("value") == "status"
    assert (missing.status.code, missing.status.message) == (5, "Key not found: none")


def test_bytes_of_other_field_numbers_are_not_these(response_class: type[Message]) -> None:
    swapped = OK + FOUND.replace(bytes.fromhex("1201 76"), bytes.fromhex("1a01 76"))
    read = response_class()
    read.ParseFromString(swapped)
    assert read.kv_pairs["ad_"].WhichOneof("value") is None
    assert swapped != encode_binary_values({"ad_": "v"}, 0, "ok")
