"""The CBOR bodies of the key/value service: the members of the JSON form, and bytes where JSON has base64 (§10.2).

request   {"metadata": {...}, "partitions": [{"id", "compressionGroupId", "arguments": [{"tags", "data"}]}]}
answer    {"compressionGroups": [{"compressionGroupId", "content": CBOR of the list of outputs}]}
outputs   [{"id", "keyGroupOutputs": [{"tags", "keyValues": {key: {"value": text}}}]}]; other members stay out
          {"singlePartition": {"id", "stringOutput"}} for is_pas, which the reference refuses in CBOR
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
    """The CBOR body of an answer, in deterministic form: map keys by length, then in order."""
    document = json_format.MessageToDict(response)
    for group, printed in zip(response.compression_groups, document.get("compressionGroups", []), strict=True):
        outputs = [_known_members(output) for output in orjson.loads(group.content)]
        printed["content"] = cbor2.dumps(outputs, canonical=True)
    return bytes(cbor2.dumps(document, canonical=True))


def _known_members(output: dict[str, object]) -> dict[str, object]:
    """What of a script's output has a place in CBOR. Values that are no text are empty text, as in the reference."""
    key_groups = []
    found = output.get("keyGroupOutputs")
    for entry in found if isinstance(found, list) else []:
        values = entry.get("keyValues") if isinstance(entry, dict) else None
        if not isinstance(values, dict) or not values:
            continue
        texts = {key: {"value": _text(value)} for key, value in values.items()}
        tags = entry.get("tags")
        key_groups.append({"tags": tags if isinstance(tags, list) else [], "keyValues": texts})
    return {"id": output.get("id", 0), "keyGroupOutputs": key_groups}


def _text(entry: object) -> str:
    value = entry.get("value") if isinstance(entry, dict) else None
    return value if isinstance(value, str) else ""
