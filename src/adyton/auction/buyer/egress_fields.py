"""What of a bid's egress texts leaves the bidding service (protected-auction §11.5, §11.6).

A payload that breaks a rule is cleared without a word and its bid is kept: an error here would be a channel of its own.
The bounded channel is noised. The temporary unlimited one is off unless the device and this server both allow it, and
noised only where configured: the proposal asks for it, the reference does not do it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from adyton.kernel.chance import RandomSource
from adyton.protocol.egress_field import Noise, egress_field
from adyton.protocol.egress_noise import DEFAULT_RATE
from adyton.protocol.egress_schema import EgressSchema
from adyton.protocol.egress_wire import SHIPPED_PROTOCOL


@dataclass(frozen=True)
class EgressRules:
    """A server's egress configuration.

    limited_bits: most bits of an egressPayload; 0 closes the channel.   noise_rate: share of egressPayloads that are
    replaced by random ones.   noises_unlimited: the other channel's too.   protocol, pads_to_limit: options of the wire
    format (§11.4).
    """

    limited_bits: int = 0
    is_unlimited_enabled: bool = True
    noise_rate: Fraction = DEFAULT_RATE
    noises_unlimited: bool = False
    protocol: int = SHIPPED_PROTOCOL
    pads_to_limit: bool = False


def limited_egress_value(
    payload_json: str, schema: EgressSchema | None, rules: EgressRules, noise: RandomSource
) -> str:
    """Base64 wire value of a validated and noised `egressPayload`, or "" where a rule clears it."""
    return egress_field(
        payload_json,
        schema,
        max_bits=rules.limited_bits,
        noise=Noise(noise, rules.noise_rate),
        protocol=rules.protocol,
        pad_to_max=rules.pads_to_limit,
    )


def unlimited_egress_value(
    payload_json: str,
    schema: EgressSchema | None,
    rules: EgressRules,
    noise: RandomSource,
    *,
    is_allowed_by_device: bool,
) -> str:
    """Base64 wire value of a `temporaryUnlimitedEgressPayload`, or "" where a rule clears it."""
    if not is_allowed_by_device or not rules.is_unlimited_enabled:
        return ""
    return egress_field(
        payload_json,
        schema,
        max_bits=None,
        noise=Noise(noise, rules.noise_rate) if rules.noises_unlimited else None,
        protocol=rules.protocol,
    )
