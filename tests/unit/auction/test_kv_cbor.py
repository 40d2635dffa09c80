"""CBOR bodies of the key/value service mean what the JSON ones mean, and no bytes are more than a bad request."""

from __future__ import annotations

import contextlib
import datetime
import json
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adyton.auction.errors import RequestError
from adyton.auction.kv_cbor import parse_cbor_request, print_cbor_response
from adyton.auction.kv_messages import CBOR_CONTENT_TYPE
from adyton.auction.services.kv_wire import frame_response, parse_json_request, unframe_request
from adyton.protocol.frames import decode_client_frame, encode_client_frame
from adyton.protocol.messages import kv_server_v2_pb2 as kv

DOCUMENT: dict[str, Any] = {
    "metadata": {"client_type": "1"},
    "partitions": [
        {"id": 0, "compressionGroupId": 1, "arguments": [{"tags": ["renderUrls"], "data": ["https://a", "https://b"]}]}
    ],
}
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def test_a_request_means_what_its_json_means() -> None:
    assert parse_cbor_request(cbor2.dumps(DOCUMENT)) == parse_json_request(json.dumps(DOCUMENT).encode())
    frame = encode_client_frame(cbor2.dumps(DOCUMENT), size=512)
    assert unframe_request(frame, CBOR_CONTENT_TYPE).partitions[0].compression_group_id == 1


def test_an_answer_holds_its_groups_as_cbor_in_bytes() -> None:
    response = kv.GetValuesResponse()
    outputs = [{"id": 0, "keyGroupOutputs": [{"tags": ["renderUrls"], "keyValues": {"https://a": {"value": "1"}}}]}]
    response.compression_groups.add(compression_group_id=0, content=json.dumps(outputs).encode())
    document = cbor2.loads(decode_client_frame(frame_response(response, CBOR_CONTENT_TYPE)).payload)

    assert document["compressionGroups"][0]["compressionGroupId"] == 0
    assert cbor2.loads(document["compressionGroups"][0]["content"]) == outputs
    response = kv.GetValuesResponse()
    response.single_partition.string_output = "[]"
    assert cbor2.loads(print_cbor_response(response)) == {"singlePartition": {"stringOutput": "[]"}}


def test_the_bytes_of_an_answer_are_the_ones_of_a_strict_client() -> None:
    """Written by hand from RFC 8949: definite lengths, map keys shorter first, `content` as one byte string."""
    outputs = [
        {
            "udfOutputApiVersion": 1,
            "keyGroupOutputs": [
                {"tags": ["t"], "keyValues": {"bb": {"value": "2"}, "c": {"value": 3}, "a": {"value": "1"}}},
                {"tags": ["empty"], "keyValues": {}},
                {"keyValues": {"k": {"value": "v"}}},
            ],
            "id": 7,
        }
    ]
    response = kv.GetValuesResponse()
    response.compression_groups.add(compression_group_id=0, ttl_ms=24, content=json.dumps(outputs).encode())

    first = "a2 64 74616773 81 61 74 69 6b657956616c756573 a3 6161 a1 6576616c7565 6131 6163 a1 6576616c7565 60"
    first += " 626262 a1 6576616c7565 6132"
    second = "a2 64 74616773 80 69 6b657956616c756573 a1 616b a1 6576616c7565 6176"
    content = bytes.fromhex("81 a2 62 6964 07 6f 6b657947726f75704f757470757473 82" + first + second)
    expected = bytes.fromhex("a1 71 636f6d7072657373696f6e47726f757073 81 a3 65 74746c4d73 18 18")
    expected += bytes.fromhex("67 636f6e74656e74 58") + bytes([len(content)]) + content
    expected += bytes.fromhex("72 636f6d7072657373696f6e47726f75704964 00")
    assert print_cbor_response(response) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        cbor2.dumps(DOCUMENT) + b"\x00",
        cbor2.dumps([1]),
        cbor2.dumps({"partitions": 1}),
        cbor2.dumps({"metadata": {"when": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)}}),
        cbor2.dumps({"metadata": {"bytes": b"x"}}),
        cbor2.dumps({1: 2}),
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x81" * 100_000,
    ],
)
def test_other_bodies_are_the_documented_error(body: bytes) -> None:
    with pytest.raises(RequestError, match="not the CBOR"):
        parse_cbor_request(body)


@given(json_values)
@settings(max_examples=50)
def test_any_json_value_arrives_as_it_was_sent(value: Any) -> None:
    document = {"metadata": {"value": value}}
    assert parse_cbor_request(cbor2.dumps(document)) == parse_json_request(json.dumps(document).encode())


@given(st.binary(max_size=64))
@settings(max_examples=200)
def test_any_bytes_are_a_request_or_the_documented_error(body: bytes) -> None:
    with contextlib.suppress(RequestError):
        parse_cbor_request(body)
