"""Plausible deniability for egress payloads (protected-auction §11.6).

With probability `rate` a payload is replaced: every feature becomes uniformly random over the values that its type
allows. For a schema of V possible payloads and rate p, every output has probability at least p / V whatever the input,
and reporting one payload instead of another changes it by at most a factor 1 + (1 - p) V / p: that is randomized
response over V values, pure epsilon-DP with e^epsilon = (p / V + 1 - p) / (p / V).
Nothing in the bytes tells a replaced payload: the schema alone decides the size.
"""

from __future__ import annotations

import re
from fractions import Fraction

from adyton.kernel.chance import RandomSource, bernoulli, randbelow
from adyton.kernel.errors import BadInputError
from adyton.protocol.egress_schema import EgressPayload, EgressSchema, Feature, Kind, Value

_RATE = re.compile(r"[0-9]{1,18}/[0-9]{0,17}[1-9][0-9]{0,17}|[0-9]{1,18}(?:\.[0-9]{0,18})?(?:[eE][+-]?[0-9]{1,2})?")
DEFAULT_RATE = Fraction(1, 100)
"""The share of payloads that the proposal replaces."""


def parse_rate(text: str) -> Fraction:
    """The exact rate of a text such as "0.01", "1e-2" or "1/100".

    Raises BadInputError for anything else, for what is not from 0 to 1, and for more digits than any rate needs: an
    exponent of nine digits would fill the memory.
    """
    if not _RATE.fullmatch(text) or (rate := Fraction(text)) > 1:
        raise BadInputError("a rate is a number from 0 to 1, such as 0.01 or 1/100")
    return rate


def noise_payload(
    schema: EgressSchema, payload: EgressPayload, source: RandomSource, rate: Fraction = DEFAULT_RATE
) -> EgressPayload:
    """`payload`, or with probability exactly `rate` (0...1) a uniformly random one of the same schema.

    The random payload is drawn every time, so that the work does not tell either.
    """
    if not isinstance(rate, Fraction) or not 0 <= rate <= 1:
        raise BadInputError("the noise rate must be an exact Fraction from 0 to 1")
    replacement = random_payload(schema, source)
    return replacement if bernoulli(source, rate.numerator, rate.denominator) else payload


def random_payload(schema: EgressSchema, source: RandomSource) -> EgressPayload:
    """A payload whose features are independent and uniform over the values valid for their type."""
    return EgressPayload(tuple(_random_value(feature, source) for feature in schema.features))


def possible_values(feature: Feature) -> int:
    """How many values a feature can take, null included where it is nullable."""
    if feature.kind is Kind.HISTOGRAM:
        count = 1
        for part in feature.parts:
            count *= possible_values(part)
    elif feature.kind is Kind.BUCKET:
        count = (3 if feature.nullable_elements else 2) ** feature.size
    else:
        count = 1 << feature.size
    return count + feature.nullable


def _random_value(feature: Feature, source: RandomSource) -> Value:
    count = possible_values(feature)
    if feature.nullable and randbelow(source, count) == 0:
        return None
    if feature.kind is Kind.HISTOGRAM:
        return tuple(_random_value(part, source) for part in feature.parts)
    if feature.kind is Kind.BUCKET:
        element = Feature(Kind.BOOLEAN, nullable=feature.nullable_elements)
        return tuple(_random_value(element, source) for _ in range(feature.size))
    drawn = randbelow(source, 1 << feature.size)
    return bool(drawn) if feature.kind is Kind.BOOLEAN else drawn + feature.low
