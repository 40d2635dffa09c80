"""The encrypted form of a key/value call (protected-auction §5.2, §5.3, §10.2)."""

from __future__ import annotations

from google.protobuf import json_format
from google.protobuf.message import DecodeError

from adyton.auction.errors import RequestError
from adyton.auction.kv_cbor import parse_cbor_request, print_cbor_response
from adyton.auction.kv_messages import CBOR_CONTENT_TYPE, JSON_CONTENT_TYPE, PROTO_CONTENT_TYPE
from adyton.protocol.errors import MalformedMessageError
from adyton.protocol.frames import (
    decode_client_frame,
    encode_client_frame,
    padded_key_value_response_size,
    padded_response_size,
)
from adyton.protocol.messages import kv_server_v2_pb2 as kv

CONTENT_TYPE_KEY = "kv-content-type"
OBLIVIOUS_RESPONSE_TYPE = "message/ad-auction-trusted-signals-response"
"""The media type of every encrypted answer, whatever is inside."""
_KNOWN_TYPES = frozenset({PROTO_CONTENT_TYPE, JSON_CONTENT_TYPE, CBOR_CONTENT_TYPE})


def known_content_type(named: str, *, default: str) -> str:
    """The content type that a header names, in any case of letters; `default` for every other text (§10.2).

    The reference falls back rather than refuse, and HTTP clients send content types of their own, such as
    application/json.
    """
    lower = named.strip().lower()
    return lower if lower in _KNOWN_TYPES else default


def response_content_type(request_content_type: str) -> str:
    """The content type of the plain answer to a request with this one."""
    return request_content_type.replace("-request", "-response")


def frame_request(request: kv.GetValuesRequest) -> bytes:
    """The padded plaintext of a protobuf request: at least 512 bytes and a power of two."""
    payload = request.SerializeToString()
    return encode_client_frame(payload, size=padded_response_size(len(payload)))


def unframe_request(frame: bytes, content_type: str) -> kv.GetValuesRequest:
    """The request of a decrypted frame whose body has this known content type.

    Raises RequestError for a frame or body that cannot be read.
    """
    try:
        payload = decode_client_frame(frame).payload
    except MalformedMessageError as error:
        raise RequestError(error.what) from error
    # The frame's length says where the payload ends, so padding is no part of it.
    return parse_request(payload, content_type)


def frame_response(response: kv.GetValuesResponse, content_type: str) -> bytes:
    """The padded plaintext of an answer: a power of two."""
    payload = print_response(response, content_type)
    return encode_client_frame(payload, size=padded_key_value_response_size(len(payload)))


def parse_request(body: bytes, content_type: str) -> kv.GetValuesRequest:
    """The request of an unframed body of a known content type. Raises RequestError."""
    if content_type == JSON_CONTENT_TYPE:
        return parse_json_request(body)
    if content_type == CBOR_CONTENT_TYPE:
        return parse_cbor_request(body)
    try:
        return kv.GetValuesRequest.FromString(body)
    except DecodeError as error:
        raise RequestError("Malformed request.") from error


def print_response(response: kv.GetValuesResponse, content_type: str) -> bytes:
    """The unframed body of an answer in a known content type."""
    if content_type == PROTO_CONTENT_TYPE:
        return response.SerializeToString()
    return print_json_response(response) if content_type == JSON_CONTENT_TYPE else print_cbor_response(response)


def unframe_response(frame: bytes) -> kv.GetValuesResponse:
    """The answer of a decrypted protobuf frame.

    Raises RequestError if it cannot be read.
    """
    try:
        return kv.GetValuesResponse.FromString(decode_client_frame(frame).payload)
    except (MalformedMessageError, DecodeError) as error:
        raise RequestError("Malformed response.") from error


def parse_json_request(body: bytes) -> kv.GetValuesRequest:
    """The request of a JSON body (§10.3).

    Raises RequestError.
    """
    try:
        return json_format.Parse(body, kv.GetValuesRequest())
    except (json_format.ParseError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise RequestError("the body is not the JSON of a GetValuesRequest") from error


def print_json_response(response: kv.GetValuesResponse) -> bytes:
    """The JSON body of an answer."""
    return json_format.MessageToJson(response, indent=None).encode()
