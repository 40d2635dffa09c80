"""The encrypted form of a key/value call (protected-auction §5.2, §5.3, §10.2)."""

from __future__ import annotations

from google.protobuf import json_format
from google.protobuf.message import DecodeError

from adyton.auction.errors import RequestError, UnsupportedError
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


def response_content_type(request_content_type: str) -> str:
    """The content type of the answer to a request with this one."""
    return request_content_type.replace("-request", "-response")


def frame_request(request: kv.GetValuesRequest) -> bytes:
    """The padded plaintext of a protobuf request: at least 512 bytes and a power of two."""
    payload = request.SerializeToString()
    return encode_client_frame(payload, size=padded_response_size(len(payload)))


def unframe_request(frame: bytes, content_type: str) -> kv.GetValuesRequest:
    """The request of a decrypted frame.

    content_type: "" for the default, which is CBOR.   Raises RequestError for a frame or body that cannot be read,
    UnsupportedError for an unknown content type.
    """
    try:
        payload = decode_client_frame(frame).payload
    except MalformedMessageError as error:
        raise RequestError(error.what) from error
    if content_type == PROTO_CONTENT_TYPE:
        try:
            return kv.GetValuesRequest.FromString(payload)
        except DecodeError as error:
            raise RequestError("Malformed request.") from error
    if content_type == JSON_CONTENT_TYPE:
        return parse_json_request(payload)
    if content_type in ("", CBOR_CONTENT_TYPE):
        # The frame's length says where the payload ends, so padding is no part of it.
        return parse_cbor_request(payload)
    raise UnsupportedError(f"send {PROTO_CONTENT_TYPE}, {JSON_CONTENT_TYPE} or {CBOR_CONTENT_TYPE}")


def frame_response(response: kv.GetValuesResponse, content_type: str) -> bytes:
    """The padded plaintext of an answer: a power of two."""
    payload = _printed(response, content_type)
    return encode_client_frame(payload, size=padded_key_value_response_size(len(payload)))


def _printed(response: kv.GetValuesResponse, content_type: str) -> bytes:
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
