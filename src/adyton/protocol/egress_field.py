"""What becomes of a bid's egress text on its way to reportWin (protected-auction §11.5-11.6).

A field that cannot be used is cleared, silently: the bid stays, and the ad tech's script learns nothing more.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from adyton.kernel.chance import RandomSource
from adyton.protocol.egress_noise import DEFAULT_RATE, noise_payload
from adyton.protocol.egress_schema import EgressPayload, EgressSchema
from adyton.protocol.egress_wire import SHIPPED_PROTOCOL, encode_payload, to_base64
from adyton.protocol.errors import EgressPayloadError


@dataclass(frozen=True)
class Noise:
    """Where the noise comes from and how often a payload is replaced."""

    source: RandomSource
    rate: Fraction = DEFAULT_RATE


def egress_field(
    payload_json: str,
    schema: EgressSchema | None,
    *,
    max_bits: int | None,
    noise: Noise | None,
    protocol: int = SHIPPED_PROTOCOL,
    pad_to_max: bool = False,
) -> str:
    """The base64 wire value, or "" wherever §11.5 clears the field.

    max_bits: `limited_egress_bits` (0 or less clears always); None for the temporary unlimited channel.
    noise: None leaves the payload as it is (byte-compatible with the reference).
    """
    if not payload_json or schema is None or schema.bits == 0 or (max_bits is not None and schema.bits > max_bits):
        return ""
    try:
        payload = EgressPayload.parse(schema, payload_json)
    except EgressPayloadError:
        return ""
    if noise is not None:
        payload = noise_payload(schema, payload, noise.source, noise.rate)
    wire = encode_payload(schema, payload, protocol=protocol, max_bits=max_bits, pad_to_max=pad_to_max)
    return to_base64(wire)
