"""The CBOR bodies of the key/value service: the members of the JSON form, and bytes where JSON has base64 (§10.2).

request   {"metadata": {...}, "partitions": [{"id", "compressionGroupId", "arguments": [{"tags", "data"}]}]}
answer    {"singlePartition": {"id", "stringOutput"}} or
          {"compressionGroups": [{"compressionGroupId", "content": CBOR of the list of outputs}]}
"""

from __future__ import annotations

import io

import cbor2
import orjson
from google.protobuf import json_format

from adyton.auction.errors import RequestError
from adyton.protocol.messages import kv_server_v2_pb2 as kv

_TEXT = "the body is not the CBOR of a GetValuesRequest"


def parse_cbor_request(body: bytes) -> kv.GetValuesRequest:
    """The request of a CBOR body. Raises RequestError, also for bytes after it and for types that JSON lacks."""
    stream = io.BytesIO(body)
    try:
        document = cbor2.CBORDecoder(stream).decode()
        text = orjson.dumps(document, option=orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS)
        request = json_format.Parse(text, kv.GetValuesRequest())
    # Decoders of tagged values raise whatever their types do; no byte string may be more than a bad request.
    except Exception as error:
        raise RequestError(_TEXT) from error
    if stream.read(1):
        raise RequestError(_TEXT)
    return request


def print_cbor_response(response: kv.GetValuesResponse) -> bytes:
    """The CBOR body of an answer, in deterministic form."""
    document = json_format.MessageToDict(response)
    for group, printed in zip(response.compression_groups, document.get("compressionGroups", []), strict=True):
        printed["content"] = cbor2.dumps(orjson.loads(group.content), canonical=True)
    return bytes(cbor2.dumps(document, canonical=True))
