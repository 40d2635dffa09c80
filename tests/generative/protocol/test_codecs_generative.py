"""Every codec round trips, and any bytes give a value or the one documented error."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adyton.protocol.compression import gzip_compress, gzip_decompress
from adyton.protocol.egress_schema import Dialect, EgressPayload, EgressSchema, Feature, Kind, validate
from adyton.protocol.egress_wire import decode_payload, encode_payload, feature_bits, from_base64, to_base64
from adyton.protocol.errors import (
    EgressPayloadError,
    EgressSchemaError,
    EgressWireError,
    EncapsulationError,
    KeyListError,
    MalformedMessageError,
    SignalUpdateError,
)
from adyton.protocol.frames import (
    Compression,
    PaddingFormat,
    decode_client_frame,
    decode_get_bids_frame,
    encode_client_frame,
    encode_get_bids_frame,
    padded_request_size,
)
from adyton.protocol.keys import TEST_MODE_KEY, KeyRing, parse_public_key_list, print_public_key_list
from adyton.protocol.ohttp import Label, Receiver, decapsulate_request, encapsulate_request
from adyton.protocol.signal_updates import Append, Put, PutIfNotPresent, Remove, SignalUpdate, parse_update
from adyton.protocol.tee import open_request, seal_request

RING = KeyRing.test_mode()
KEY = TEST_MODE_KEY.public_key

integers = st.builds(Feature, st.sampled_from([Kind.UNSIGNED, Kind.SIGNED]), st.integers(1, 40), nullable=st.booleans())
features = st.one_of(
    integers,
    st.builds(Feature, st.just(Kind.BOOLEAN), nullable=st.booleans()),
    st.builds(
        Feature, st.just(Kind.BUCKET), st.integers(1, 5), nullable=st.booleans(), nullable_elements=st.booleans()
    ),
    st.lists(integers, min_size=1, max_size=4).map(lambda parts: Feature(Kind.HISTOGRAM, len(parts), tuple(parts))),
)
schemas = st.builds(
    EgressSchema, st.integers(0, 7), st.lists(features, max_size=6).map(tuple), st.just(Dialect.DOCUMENTED)
)


def values_of(feature: Feature) -> st.SearchStrategy[Any]:
    if feature.kind is Kind.BOOLEAN:
        base: st.SearchStrategy[Any] = st.booleans()
    elif feature.kind is Kind.BUCKET:
        element = st.booleans() | st.none() if feature.nullable_elements else st.booleans()
        base = st.tuples(*[element] * feature.size)
    elif feature.kind is Kind.HISTOGRAM:
        base = st.tuples(*map(values_of, feature.parts))
    else:
        base = st.integers(feature.low, feature.high)
    return base | st.none() if feature.nullable else base


@settings(max_examples=60)
@given(st.data(), schemas, st.integers(0, 31), st.integers(0, 40))
def test_egress_payloads_round_trip_and_agree_with_bits_written_as_text(
    data: st.DataObject, schema: EgressSchema, protocol: int, spare_bits: int
) -> None:
    payload = EgressPayload(tuple(data.draw(values_of(feature)) for feature in schema.features))
    limit = schema.bits + spare_bits

    wire = encode_payload(schema, payload, protocol=protocol)
    padded = encode_payload(schema, payload, protocol=protocol, max_bits=limit, pad_to_max=True)
    # The slow twin: bits as text, the first feature last.
    text = "".join(feature_bits(f, v) for f, v in reversed(list(zip(schema.features, payload.values, strict=True))))
    text = text.rjust(-(-schema.bits // 8) * 8, "0")

    assert wire[:-1] == bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))
    assert wire[-1] == schema.version << 5 | protocol
    assert decode_payload(schema, wire, protocol=protocol) == payload
    assert decode_payload(schema, padded, max_bits=limit) == payload
    assert len(padded) == -(-limit // 8) + 1
    assert EgressPayload.parse(schema, json.dumps(payload.as_json(schema))) == payload
    assert EgressSchema.parse(json.dumps(schema.as_json()), dialect=Dialect.DOCUMENTED) == schema
    assert from_base64(to_base64(wire)) == wire


@given(schemas, st.binary(max_size=12))
def test_any_wire_bytes_are_a_payload_that_encodes_back_or_the_wire_error(schema: EgressSchema, wire: bytes) -> None:
    try:
        payload = decode_payload(schema, wire)
    except EgressWireError:
        return
    assert encode_payload(schema, payload, protocol=wire[-1] & 31) == wire


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "value", "size", "features", "version", "cddl_version", "x"])
            | st.sampled_from(["put", "append", "remove", "values", "max_signals", "update_encoder", "AAAAAQ=="]),
            inner | st.sampled_from([*[kind.value for kind in Kind], "1.0.0", "AA==", 1, 2]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=50)
@given(json_values)
def test_any_json_is_a_schema_or_the_schema_error(document: object) -> None:
    try:
        schema = EgressSchema.parse(json.dumps(document))
    except EgressSchemaError:
        return
    assert EgressSchema.parse(schema.as_json()) == schema


@settings(max_examples=50)
@given(schemas, json_values)
def test_any_json_is_a_payload_or_the_payload_error_and_validate_agrees(schema: EgressSchema, document: object) -> None:
    text = json.dumps(document)
    problems = validate(text, schema)

    if not problems:
        EgressPayload.parse(schema, text)
        return
    with pytest.raises(EgressPayloadError) as caught:
        EgressPayload.parse(schema, text)
    assert caught.value.problems == tuple(map(str, problems))


@given(st.text(max_size=20))
def test_any_text_is_base64_of_its_bytes_or_the_wire_error(text: str) -> None:
    with contextlib.suppress(EgressWireError):
        assert to_base64(from_base64(text)) == text


@given(st.binary(max_size=300), st.sampled_from(Compression), st.integers(0, 7), st.integers(0, 50))
def test_client_frames_round_trip(payload: bytes, compression: Compression, version: int, spare: int) -> None:
    frame = encode_client_frame(
        payload,
        compression=compression,
        version=version,
        size=padded_request_size(len(payload) + spare, PaddingFormat.V1),
    )

    decoded = decode_client_frame(frame, read_compression=False)

    assert (decoded.version, decoded.compression, decoded.payload) == (version, compression, payload)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_client_frame_or_malformed(frame: bytes) -> None:
    try:
        decoded = decode_client_frame(frame)
    except MalformedMessageError:
        return
    again = encode_client_frame(decoded.payload, compression=Compression(decoded.compression))
    assert frame.startswith(again)


@given(st.binary(max_size=300), st.booleans(), st.integers(0, 50))
def test_get_bids_frames_round_trip(payload: bytes, gzip: bool, spare: int) -> None:
    frame = encode_get_bids_frame(payload, gzip=gzip)

    assert decode_get_bids_frame(frame.ljust(len(frame) + spare, b"\0")) == payload


@given(st.binary(max_size=40), st.sampled_from([b"", b"\0", b"\1"]))
def test_any_bytes_are_a_get_bids_frame_or_malformed(rest: bytes, first: bytes) -> None:
    with contextlib.suppress(MalformedMessageError):
        decode_get_bids_frame(first + rest)


@given(st.binary(max_size=400))
def test_gzip_round_trips_and_refuses_other_bytes(data: bytes) -> None:
    assert gzip_decompress(gzip_compress(data)) == data
    with contextlib.suppress(MalformedMessageError):
        gzip_decompress(data)


@settings(max_examples=40)
@given(st.binary(max_size=2000), st.binary(max_size=2000), st.sampled_from(Label))
def test_encapsulation_round_trips(request: bytes, response: bytes, label: Label) -> None:
    receiver = Receiver.KEY_VALUE if label is Label.KEY_VALUE else Receiver.SELLER_FRONT_END

    body, client = encapsulate_request(KEY, request, label)
    opened, server = decapsulate_request(RING, body, expect=receiver)

    assert opened == request
    assert server.label is label
    assert client.decapsulate_response(server.encapsulate_response(response)) == response


@settings(max_examples=40)
@given(st.binary(max_size=2000), st.binary(max_size=2000))
def test_service_encryption_round_trips(request: bytes, response: bytes) -> None:
    ciphertext, client = seal_request(KEY, request)
    opened, server = open_request(RING, ciphertext, KEY.decimal_id)

    assert opened == request
    assert client.open_response(server.seal_response(response)) == response


HEADERS = [b"", b"\x40\x00\x20\x00\x01\x00\x02", b"\x00\x40\x00\x20\x00\x01\x00\x02"]


@settings(max_examples=60)
@given(st.sampled_from(HEADERS), st.binary(max_size=80), st.sampled_from(Receiver))
def test_any_bytes_are_refused_as_an_encapsulated_request(header: bytes, rest: bytes, receiver: Receiver) -> None:
    try:
        decapsulate_request(RING, header + rest, expect=receiver)
    except EncapsulationError:
        return
    raise AssertionError("random bytes opened")


@settings(max_examples=60)
@given(st.binary(max_size=80), st.text(max_size=4) | st.binary(max_size=4) | st.just("64"))
def test_any_bytes_are_refused_between_services(ciphertext: bytes, key_id: str | bytes) -> None:
    try:
        open_request(RING, ciphertext, key_id)
    except EncapsulationError:
        return
    raise AssertionError("random bytes opened")


@given(st.binary(max_size=60) | json_values.map(lambda v: json.dumps(v).encode()))
def test_any_bytes_are_a_key_list_or_the_key_list_error(text: bytes) -> None:
    try:
        keys = parse_public_key_list(text, test_mode=True)
    except KeyListError:
        return
    assert parse_public_key_list(print_public_key_list(keys), test_mode=True) == keys


key_bytes = st.binary(min_size=4, max_size=4)
value_bytes = st.binary(max_size=100)


@st.composite
def updates(draw: st.DrawFn) -> SignalUpdate:
    keys = draw(st.lists(key_bytes, unique=True, max_size=8))
    commands: list[Put | PutIfNotPresent | Append | Remove] = []
    for key in keys:
        kind = draw(st.integers(0, 3))
        if kind == 0:
            commands.append(Put(key, draw(value_bytes)))
        elif kind == 1:
            commands.append(PutIfNotPresent(key, draw(value_bytes)))
        elif kind == 2:
            values = tuple(draw(st.lists(value_bytes, max_size=3)))
            commands.append(Append(key, values, len(values) + draw(st.integers(0, 3))))
        else:
            commands.append(Remove(key))
    return SignalUpdate(tuple(commands))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def written(update: SignalUpdate) -> str:
    tree: dict[str, Any] = {"put": {}, "put_if_not_present": {}, "append": {}, "remove": []}
    for command in update.commands:
        if isinstance(command, Put):
            tree["put"][b64(command.key)] = b64(command.value)
        elif isinstance(command, PutIfNotPresent):
            tree["put_if_not_present"][b64(command.key)] = b64(command.value)
        elif isinstance(command, Append):
            values = [b64(value).rstrip("=") for value in command.values]
            tree["append"][b64(command.key)] = {"values": values, "max_signals": command.max_signals}
        else:
            tree["remove"].append(b64(command.key))
    return json.dumps(tree)


@given(updates())
def test_signal_updates_round_trip(update: SignalUpdate) -> None:
    parsed = parse_update(written(update))

    assert set(parsed.commands) == set(update.commands)
    assert len(parsed.commands) == len(update.commands)


@given(st.binary(max_size=60) | json_values.map(lambda v: json.dumps(v).encode()))
def test_any_bytes_are_an_update_or_the_update_error(body: bytes) -> None:
    try:
        update = parse_update(body)
    except SignalUpdateError:
        return
    assert len({command.key for command in update.commands}) == len(update.commands)
