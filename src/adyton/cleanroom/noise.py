"""Discrete Laplace and Gaussian noise on whole numbers, from OpenDP's secure generator.

A fixed source of randomness (`--insecure-fixed-noise`, tests) cannot be given to OpenDP; then exact samplers of the
same two distributions read it, so that a run can be repeated bit for bit. It protects nothing, and a receipt says so.

The modules are imported one by one: `opendp.prelude` also loads scikit-learn, which costs an enclave seconds.
Source: OpenDP `make_laplace` and `make_gaussian` on integers; Ghosh, Roughgarden and Sundararajan (2009); Canonne,
Kamath and Steinke (2020), Algorithms 1 to 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum
from fractions import Fraction

from opendp.domains import atom_domain, vector_domain
from opendp.measurements import make_gaussian, make_laplace
from opendp.metrics import l1_distance, l2_distance
from opendp.mod import enable_features

from adyton.kernel.chance import OsRandom, RandomSource, bernoulli, randbelow


class NoiseKind(Enum):
    """Which noise a query asks for."""

    LAPLACE = "laplace"
    GAUSSIAN = "gaussian"


def noised(
    values: Sequence[int],
    scale: float,
    kind: NoiseKind = NoiseKind.LAPLACE,
    source: RandomSource | None = None,
) -> list[int]:
    """`values`, each with independent noise.

    scale: of Laplace noise, L1 sensitivity / epsilon; of Gaussian noise, its standard deviation.   source: only one
    that is not secure is read.
    """
    if not values:
        return []
    if source is not None and not source.is_secure:
        return [int(value) + _fixed(scale, kind, source) for value in values]
    enable_features("contrib")
    domain = vector_domain(atom_domain(T="i64"))
    if kind is NoiseKind.LAPLACE:
        mechanism = make_laplace(domain, l1_distance(T="i64"), scale=scale)
    else:
        mechanism = make_gaussian(domain, l2_distance(T="f64"), scale=scale)
    return [int(value) for value in mechanism([int(value) for value in values])]


def _fixed(scale: float, kind: NoiseKind, source: RandomSource) -> int:
    if kind is NoiseKind.LAPLACE:
        return discrete_laplace(1 / Fraction(scale), source)
    return discrete_gaussian(Fraction(scale) ** 2, source)


def discrete_laplace(epsilon: Fraction, source: RandomSource | None = None) -> int:
    """P(n) proportional to exp(-epsilon |n|), exactly; epsilon > 0.   Source: the same paper, Algorithm 2."""
    random = source or OsRandom()
    over, under = epsilon.numerator, epsilon.denominator
    while True:
        # Magnitude = floor(x / over) with x geometric of rate 1 / under.
        rest = randbelow(random, under)
        if not _bernoulli_exp(Fraction(rest, under), random):
            continue
        whole = 0
        while _bernoulli_exp(Fraction(1), random):
            whole += 1
        magnitude = (rest + under * whole) // over
        is_negative = bernoulli(random, 1, 2)
        if not (is_negative and magnitude == 0):
            return -magnitude if is_negative else magnitude


def discrete_gaussian(variance: Fraction, source: RandomSource | None = None) -> int:
    """P(n) proportional to exp(-n^2 / 2 variance), exactly; variance > 0.   Source: the same paper, Algorithm 3."""
    random = source or OsRandom()
    t = math.isqrt(variance.numerator // variance.denominator) + 1
    while True:
        candidate = discrete_laplace(Fraction(1, t), random)
        gamma = (abs(candidate) - variance / t) ** 2 / (2 * variance)
        whole = math.floor(gamma)
        if all(_bernoulli_exp(Fraction(1), random) for _ in range(whole)) and _bernoulli_exp(gamma - whole, random):
            return candidate


def _bernoulli_exp(gamma: Fraction, random: RandomSource) -> bool:
    """True with probability exp(-gamma), 0 <= gamma <= 1.   Source: the same paper, Algorithm 1."""
    n = 1
    while bernoulli(random, gamma.numerator, gamma.denominator * n):
        n += 1
    return n % 2 == 1
