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

from adyton.auction.errors import RequestError, UnsupportedError
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
    for content_type in ("", CBOR_CONTENT_TYPE):
        frame = encode_client_frame(cbor2.dumps(DOCUMENT), size=512)
        assert unframe_request(frame, content_type).partitions[0].compression_group_id == 1
    with pytest.raises(UnsupportedError):
        unframe_request(encode_client_frame(b"", size=512), "text/plain")


def test_an_answer_holds_its_groups_as_cbor_in_bytes() -> None:
    response = kv.GetValuesResponse()
    outputs = [{"id": 0, "keyGroupOutputs": [{"tags": ["renderUrls"], "keyValues": {"https://a": {"value": "1"}}}]}]
    response.compression_groups.add(compression_group_id=1, content=json.dumps(outputs).encode())
    document = cbor2.loads(decode_client_frame(frame_response(response, "")).payload)

    assert document["compressionGroups"][0]["compressionGroupId"] == 1
    assert cbor2.loads(document["compressionGroups"][0]["content"]) == outputs
    response = kv.GetValuesResponse()
    response.single_partition.string_output = "[]"
    assert cbor2.loads(print_cbor_response(response)) == {"singlePartition": {"stringOutput": "[]"}}


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
