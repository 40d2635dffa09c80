"""What of a bid's egress payloads leaves the bidding service (protected-auction §11.5, §11.6).

A payload that breaks a rule is cleared without a word and its bid is kept: an error here would be a channel of its own.
The bounded channel is noised; the temporary unlimited one is not, as in the reference, and is off unless the device
and this server both allow it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from fractions import Fraction

from adyton.kernel.chance import RandomSource
from adyton.protocol.egress_noise import DEFAULT_RATE, noise_payload
from adyton.protocol.egress_schema import EgressPayload, EgressSchema
from adyton.protocol.egress_wire import SHIPPED_PROTOCOL, encode_payload
from adyton.protocol.errors import EgressPayloadError


@dataclass(frozen=True)
class EgressRules:
    """A server's egress configuration.

    limited_bits: most bits of an egressPayload; 0 closes the channel.   noise_rate: share of egressPayloads that are
    replaced by random ones.   protocol, pads_to_limit: options of the wire format (§11.4).
    """

    limited_bits: int = 0
    is_unlimited_enabled: bool = True
    noise_rate: Fraction = DEFAULT_RATE
    protocol: int = SHIPPED_PROTOCOL
    pads_to_limit: bool = False


def limited_egress_value(
    payload_json: str, schema: EgressSchema | None, rules: EgressRules, noise: RandomSource
) -> str:
    """Base64 wire value of a validated and noised `egressPayload`, or "" where a rule clears it."""
    if not payload_json or schema is None or rules.limited_bits <= 0:
        return ""
    if schema.bits == 0 or schema.bits > rules.limited_bits:
        return ""
    try:
        payload = noise_payload(schema, EgressPayload.parse(schema, payload_json), noise, rules.noise_rate)
        wire = encode_payload(
            schema,
            payload,
            protocol=rules.protocol,
            max_bits=rules.limited_bits,
            pad_to_max=rules.pads_to_limit,
        )
    except EgressPayloadError:
        return ""
    return base64.b64encode(wire).decode()


def unlimited_egress_value(
    payload_json: str, schema: EgressSchema | None, rules: EgressRules, *, is_allowed_by_device: bool
) -> str:
    """Base64 wire value of a `temporaryUnlimitedEgressPayload`, or "" where a rule clears it. Never noised."""
    if not payload_json or schema is None or not is_allowed_by_device or not rules.is_unlimited_enabled:
        return ""
    if schema.bits == 0:
        return ""
    try:
        wire = encode_payload(schema, payload_json, protocol=rules.protocol)
    except EgressPayloadError:
        return ""
    return base64.b64encode(wire).decode()
