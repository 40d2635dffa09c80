"""Egress payloads as wire bytes and back (protected-auction §11.3-11.5).

    out = body || header      body: all features packed upwards, big-endian, zeros on top
                              header: version << 5 | protocol

One integer holds the packed bits; feature i sits at the sum of the bits of the features before it.
"""

from __future__ import annotations

import base64
import binascii

from adyton.protocol.egress_schema import EgressPayload, EgressSchema, Feature, Kind, Value
from adyton.protocol.errors import EgressPayloadError, EgressTooLargeError, EgressWireError

SHIPPED_PROTOCOL = 0
"""The header's low five bits as the reference code sends them; its documents say 1."""


def encode_payload(
    schema: EgressSchema,
    payload: EgressPayload | object,
    *,
    protocol: int = SHIPPED_PROTOCOL,
    max_bits: int | None = None,
    pad_to_max: bool = False,
) -> bytes:
    """Wire bytes of a payload: an `EgressPayload`, JSON text or parsed JSON.

    protocol: 0...31.   max_bits: refuse more bits than this.   pad_to_max: pad to `max_bits` first, which hides the
    length (documented, not shipped).   Raises EgressPayloadError, EgressTooLargeError.
    """
    if not 0 <= protocol <= 31:
        raise EgressPayloadError(f"protocol must be 0 to 31, got {protocol}")
    if pad_to_max and max_bits is None:
        raise EgressPayloadError("padding to the maximum needs a maximum", hint="give max_bits")
    checked = payload if isinstance(payload, EgressPayload) else EgressPayload.parse(schema, payload)
    if max_bits is not None and schema.bits > max_bits:
        raise EgressTooLargeError(f"the payload has {schema.bits} bits, the limit is {max_bits}")
    if len(checked.values) != len(schema.features):
        raise EgressPayloadError(f"{len(schema.features)} features expected, got {len(checked.values)}")
    packed, offset = 0, 0
    for feature, value in zip(schema.features, checked.values, strict=True):
        packed |= _pack(feature, value) << offset
        offset += feature.bits
    n_bits = max_bits if pad_to_max and max_bits is not None else schema.bits
    return packed.to_bytes(_bytes_for(n_bits), "big") + bytes([(schema.version << 5) | protocol])


def decode_payload(
    schema: EgressSchema, wire: bytes, *, protocol: int | None = None, max_bits: int | None = None
) -> EgressPayload:
    """The payload of wire bytes.

    protocol: the one to insist on; None takes any.   max_bits: also accept bytes padded to this many bits.
    Raises EgressWireError: another schema version or protocol, another length, a one in the padding, or a null feature
    with value bits.
    """
    if not wire:
        raise EgressWireError("there are no bytes")
    body, header = wire[:-1], wire[-1]
    if header >> 5 != schema.version:
        raise EgressWireError(f"the payload is of schema version {header >> 5}, not {schema.version}")
    if protocol is not None and header & 0x1F != protocol:
        raise EgressWireError(f"the payload is of protocol {header & 0x1F}, not {protocol}")
    lengths = {_bytes_for(schema.bits)}
    if max_bits is not None and max_bits >= schema.bits:
        lengths.add(_bytes_for(max_bits))
    if len(body) not in lengths:
        raise EgressWireError(f"the body has {len(body)} bytes, {sorted(lengths)[0]} expected")
    packed = int.from_bytes(body, "big")
    if packed >> schema.bits:
        raise EgressWireError("the padding is not zero")
    values: list[Value] = []
    for i, feature in enumerate(schema.features):
        values.append(_unpack(feature, packed & ((1 << feature.bits) - 1), f"$.features[{i}]"))
        packed >>= feature.bits
    return EgressPayload(tuple(values))


def to_base64(wire: bytes) -> str:
    """Standard base64 with padding, as reportWin receives it."""
    return base64.b64encode(wire).decode()


def from_base64(text: str) -> bytes:
    """Wire bytes of a base64 text.

    Raises EgressWireError.
    """
    try:
        wire = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise EgressWireError("this is not base64") from error
    if to_base64(wire) != text:
        raise EgressWireError("this is not the base64 that an encoder writes")
    return wire


def feature_bits(feature: Feature, value: Value) -> str:
    """The bits of one feature as text, most significant first, as §11.3 writes them."""
    return format(_pack(feature, value), f"0{feature.bits}b")


def _pack(feature: Feature, value: Value) -> int:
    if value is None:
        if not feature.nullable:
            raise EgressPayloadError("a feature that is not nullable has no value")
        return 0
    bits = _pack_value(feature, value)
    return (bits << 1) | 1 if feature.nullable else bits


def _pack_value(feature: Feature, value: Value) -> int:
    if isinstance(value, tuple):
        parts = _parts(feature)
        if len(parts) != len(value) or feature.kind not in (Kind.BUCKET, Kind.HISTOGRAM):
            raise EgressPayloadError(f"a {feature.kind.value} of size {feature.size} does not hold these elements")
        bits, offset = 0, 0
        for part, item in zip(parts, value, strict=True):
            bits |= _pack(part, item) << offset
            offset += part.bits
        return bits
    if value is None or feature.kind in (Kind.BUCKET, Kind.HISTOGRAM) or not feature.low <= value <= feature.high:
        raise EgressPayloadError(f"a value does not fit a {feature.kind.value} of size {feature.size}")
    return value & ((1 << feature.size) - 1)


def _unpack(feature: Feature, bits: int, where: str) -> Value:
    if feature.nullable:
        present, bits = bits & 1, bits >> 1
        if not present:
            if bits:
                raise EgressWireError("a null feature has value bits", where=where)
            return None
    if feature.kind is Kind.BOOLEAN:
        return bool(bits)
    if feature.kind is Kind.UNSIGNED:
        return bits
    if feature.kind is Kind.SIGNED:
        return bits - (1 << feature.size) if bits >> (feature.size - 1) else bits
    values: list[Value] = []
    for i, part in enumerate(_parts(feature)):
        values.append(_unpack(part, bits & ((1 << part.bits) - 1), f"{where}.value[{i}]"))
        bits >>= part.bits
    return tuple(values)


def _parts(feature: Feature) -> tuple[Feature, ...]:
    if feature.kind is Kind.HISTOGRAM:
        return feature.parts
    return (Feature(Kind.BOOLEAN, nullable=feature.nullable_elements),) * feature.size


def _bytes_for(n_bits: int) -> int:
    return (n_bits + 7) // 8
