"""Stochastic rounding of what reportResult and reportWin may see (protected-auction §8.7)."""

from __future__ import annotations

import math

from adyton.kernel.chance import RandomSource, bernoulli

_MANTISSA_BITS = 8
_FRACTION_SCALE = 1 << 53  # the fraction of a double times 2^8 is a multiple of 2^-45


def stochastic_round(value: float, source: RandomSource) -> float:
    """`value` with an 8-bit mantissa and a signed 8-bit exponent, up with probability equal to what is cut off.

    NaN and infinities are unchanged; too small gives a signed zero, too large a signed infinity. Unbiased in between:
    the probability is exact, no float is compared with a random float.
    """
    if not math.isfinite(value) or value == 0:
        return value
    mantissa, exponent = math.frexp(value)
    if exponent < -128:
        return math.copysign(0.0, value)
    if exponent > 127:
        return math.copysign(math.inf, value)
    scaled = mantissa * (1 << _MANTISSA_BITS)
    whole = math.floor(scaled)
    rounded = whole + bernoulli(source, int((scaled - whole) * _FRACTION_SCALE), _FRACTION_SCALE)
    return math.ldexp(rounded, exponent - _MANTISSA_BITS)
