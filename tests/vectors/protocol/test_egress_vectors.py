"""Worked examples of protected-auction §11.3 and §11.7, and what must not pass."""

from __future__ import annotations

import json

import pytest

from adyton.protocol.egress_field import egress_field
from adyton.protocol.egress_schema import Dialect, EgressSchema, Feature, Kind, Value
from adyton.protocol.egress_wire import decode_payload, encode_payload, feature_bits, from_base64, to_base64
from adyton.protocol.errors import EgressPayloadError, EgressSchemaError, EgressTooLargeError, EgressWireError

BOOLEAN = {"name": "boolean-feature"}


def unsigned(size: int) -> dict[str, object]:
    return {"name": "unsigned-integer-feature", "size": size}


def signed(size: int) -> dict[str, object]:
    return {"name": "signed-integer-feature", "size": size}


def histogram(*parts: dict[str, object]) -> dict[str, object]:
    return {"name": "histogram-feature", "size": len(parts), "value": list(parts)}


def schema_of(*features: dict[str, object], version: int = 2, dialect: Dialect = Dialect.SHIPPED) -> EgressSchema:
    document = {"cddl_version": "1.0.0", "version": version, "features": list(features)}
    return EgressSchema.parse(json.dumps(document), dialect=dialect)


def payload_of(*features: tuple[str, object]) -> str:
    return json.dumps({"features": [{"name": f"{name}-feature", "value": value} for name, value in features]})


def test_example_1() -> None:
    schema = schema_of(unsigned(7), BOOLEAN, histogram(signed(1)))
    payload = payload_of(
        ("unsigned-integer", 2),
        ("boolean", True),
        ("histogram", [{"name": "signed-integer-feature", "value": -1}]),
    )

    wire = encode_payload(schema, payload)

    assert wire == bytes.fromhex("018240")
    assert to_base64(wire) == "AYJA"
    assert decode_payload(schema, wire).values == (2, True, (-1,))
    assert decode_payload(schema, wire).as_json(schema) == json.loads(payload)


def test_example_2_and_its_limits() -> None:
    schema = schema_of(BOOLEAN, unsigned(7), histogram(signed(1)))
    payload = payload_of(
        ("boolean", True),
        ("unsigned-integer", 127),
        ("histogram", [{"name": "signed-integer-feature", "value": -1}]),
    )

    assert to_base64(encode_payload(schema, payload, max_bits=9)) == "Af9A"
    with pytest.raises(EgressTooLargeError):
        encode_payload(schema, payload, max_bits=8)
    assert egress_field(payload, schema, max_bits=9, noise=None) == "Af9A"
    for limit in (8, 7, 0, -1):
        assert egress_field(payload, schema, max_bits=limit, noise=None) == ""
    assert egress_field(payload, schema, max_bits=None, noise=None) == "Af9A"


def test_example_3_with_nullable_features_and_padding() -> None:
    document = [
        {
            "type": "histogram-feature-type",
            "size": 2,
            "value": [
                {"type": "unsigned-integer-feature-type", "size": 3},
                {"type": "signed-integer-feature-type", "size": 4},
            ],
        },
        {"type": "boolean-feature-type"},
        {"type": "bucket-feature-type", "size": 4, "nullable": True},
        {"type": "boolean-feature-type", "nullable": True},
    ]
    schema = schema_of(*document, dialect=Dialect.DOCUMENTED)
    payload = {
        "features": [
            {
                "type": "histogram-feature-type",
                "value": [
                    {"type": "unsigned-integer-feature-type", "value": 5},
                    {"type": "signed-integer-feature-type", "value": -3},
                ],
            },
            {"type": "boolean-feature-type", "value": False},
            {"type": "bucket-feature-type", "value": [True, False, True, False]},
            {"type": "boolean-feature-type", "value": None},
        ]
    }

    unlimited = encode_payload(schema, payload, protocol=1)
    limited = encode_payload(schema, payload, protocol=1, max_bits=20, pad_to_max=True)

    assert schema.bits == 15
    assert to_base64(unlimited) == "C21B"
    assert to_base64(limited) == "AAttQQ=="
    assert to_base64(encode_payload(schema, payload)) == "C21A"
    assert decode_payload(schema, limited, max_bits=20) == decode_payload(schema, unlimited)
    assert decode_payload(schema, unlimited).values == ((5, -3), False, (True, False, True, False), None)


@pytest.mark.parametrize(
    ("feature", "value", "bits"),
    [
        (Feature(Kind.SIGNED, 3), 3, "011"),
        (Feature(Kind.SIGNED, 3), -4, "100"),
        (Feature(Kind.SIGNED, 3), -1, "111"),
        (Feature(Kind.SIGNED, 3), -3, "101"),
        (Feature(Kind.HISTOGRAM, 2, (Feature(Kind.UNSIGNED, 2), Feature(Kind.SIGNED, 3))), (2, -3), "10110"),
        (Feature(Kind.BUCKET, 2), (True, False), "01"),
        (Feature(Kind.BOOLEAN, nullable=True), False, "01"),
        (Feature(Kind.BOOLEAN, nullable=True), True, "11"),
        (Feature(Kind.BOOLEAN, nullable=True), None, "00"),
        (Feature(Kind.UNSIGNED, 3, nullable=True), 5, "1011"),
        (Feature(Kind.SIGNED, 4, nullable=True), -3, "11011"),
        (Feature(Kind.BUCKET, 4, nullable=True), (True, False, True, False), "01011"),
        (Feature(Kind.BUCKET, 4, nullable_elements=True), (True, False, True, None), "00110111"),
    ],
)
def test_bits_of_single_features(feature: Feature, value: Value, bits: str) -> None:
    assert feature_bits(feature, value) == bits


def test_header_of_protocol_1_schema_2() -> None:
    assert encode_payload(schema_of(BOOLEAN), payload_of(("boolean", True)), protocol=1)[-1] == 0b01000001


@pytest.mark.parametrize("elements", [[True, False], [{"name": "boolean-feature", "value": v} for v in (True, False)]])
def test_bucket_elements_may_be_bare_or_objects(elements: list[object]) -> None:
    schema = schema_of({"name": "bucket-feature", "size": 2})

    assert encode_payload(schema, payload_of(("bucket", elements))) == b"\x01\x40"


@pytest.mark.parametrize(
    ("feature", "value"),
    [
        (unsigned(7), 128),
        (unsigned(7), -1),
        (unsigned(7), True),
        (unsigned(7), 1.0),
        (unsigned(7), "1"),
        (unsigned(7), None),
        (signed(3), 4),
        (signed(3), -5),
        (BOOLEAN, 1),
        (BOOLEAN, None),
        ({"name": "bucket-feature", "size": 2}, [True]),
        ({"name": "bucket-feature", "size": 2}, [True, 1]),
        (histogram(signed(2)), [{"name": "unsigned-integer-feature", "value": 1}]),
        (histogram(signed(2)), []),
    ],
)
def test_a_value_outside_its_type_is_refused_and_clears_the_field(feature: dict[str, object], value: object) -> None:
    schema = schema_of(feature)
    payload = json.dumps({"features": [{"name": feature["name"], "value": value}]})

    with pytest.raises(EgressPayloadError):
        encode_payload(schema, payload)
    assert egress_field(payload, schema, max_bits=100, noise=None) == ""


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"features":{}}',
        '{"features":[]}',
        '{"features":[],"x":1}',
        '{"features":[{"name":"boolean-feature"}]}',
        '{"features":[{"name":"signed-integer-feature","value":true}]}',
        '{"features":[{"name":"boolean-feature","value":true,"x":0}]}',
        '{"features":[{"name":"boolean-feature","value":true},{"name":"boolean-feature","value":true}]}',
        "[" * 100_000,
    ],
)
def test_a_payload_of_another_form_is_refused_and_clears_the_field(payload: str) -> None:
    schema = schema_of(BOOLEAN)

    with pytest.raises(EgressPayloadError):
        encode_payload(schema, payload)
    assert egress_field(payload, schema, max_bits=8, noise=None) == ""


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[]",
        '{"cddl_version":"1.0.0","version":8,"features":[]}',
        '{"cddl_version":"1.0.0","version":-1,"features":[]}',
        '{"cddl_version":"1.0.0","version":true,"features":[]}',
        '{"cddl_version":"2.0.0","version":1,"features":[]}',
        '{"cddl_version":"1.0.0","version":1}',
        '{"cddl_version":"1.0.0","version":1,"features":[{"name":"other"}]}',
        '{"cddl_version":"1.0.0","version":1,"features":[{"type":"boolean-feature-type"}]}',
        '{"cddl_version":"1.0.0","version":1,"features":[{"name":"boolean-feature","nullable":true}]}',
        '{"cddl_version":"1.0.0","version":1,"features":[{"name":"unsigned-integer-feature"}]}',
        '{"cddl_version":"1.0.0","version":1,"features":[{"name":"unsigned-integer-feature","size":0}]}',
        '{"cddl_version":"1.0.0","version":1,"features":[{"name":"unsigned-integer-feature","size":1e9}]}',
        '{"cddl_version":"1.0.0","version":1,"features":[{"name":"unsigned-integer-feature","size":99999999999}]}',
        '{"cddl_version":"1.0.0","version":1,"features":[{"name":"histogram-feature","size":1,"value":[]}]}',
        '{"cddl_version":"1.0.0","version":1,"features":'
        '[{"name":"histogram-feature","size":1,"value":[{"name":"boolean-feature"}]}]}',
    ],
)
def test_a_schema_of_another_form_is_not_loaded(document: str) -> None:
    with pytest.raises(EgressSchemaError):
        EgressSchema.parse(document)


def test_an_empty_schema_and_no_schema_clear_the_field() -> None:
    assert egress_field('{"features":[]}', schema_of(), max_bits=8, noise=None) == ""
    assert egress_field('{"features":[]}', None, max_bits=8, noise=None) == ""


@pytest.mark.parametrize(
    ("wire_hex", "what"),
    [
        ("", "no bytes"),
        ("018260", "schema version 3"),
        ("8240", "bytes"),
        ("00018240", "bytes"),
        ("038240", "padding"),
    ],
)
def test_wire_bytes_that_do_not_fit_are_refused(wire_hex: str, what: str) -> None:
    schema = schema_of(unsigned(7), BOOLEAN, histogram(signed(1)))

    with pytest.raises(EgressWireError, match=what):
        decode_payload(schema, bytes.fromhex(wire_hex))


def test_another_protocol_is_refused_where_one_is_asked_for() -> None:
    schema = schema_of(BOOLEAN)

    assert decode_payload(schema, b"\x01\x41").values == (True,)
    with pytest.raises(EgressWireError, match="protocol 1"):
        decode_payload(schema, b"\x01\x41", protocol=0)


def test_a_null_feature_with_value_bits_is_refused() -> None:
    schema = schema_of({"type": "boolean-feature-type", "nullable": True}, dialect=Dialect.DOCUMENTED)

    with pytest.raises(EgressWireError, match="null"):
        decode_payload(schema, bytes([0b10, 0x40]))


@pytest.mark.parametrize("text", ["AYJA=", "AY JA", "AYJ", "é"])
def test_text_that_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(EgressWireError):
        from_base64(text)
