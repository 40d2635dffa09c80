"""Privacy accounting of one fit: zero-concentrated DP inside, (epsilon, delta) outside.

Every mechanism of the synthesizer is rho-zCDP with rho = sensitivity^2 / (2 scale^2): the discrete Gaussian
(Canonne, Kamath, Steinke 2020, "The Discrete Gaussian for Differential Privacy", Theorem 14) and the exponential
mechanism by Gumbel noise (Cesar, Rogers 2021, "Bounding, Concentrating, and Truncating", bounded range
epsilon = 2 sensitivity / scale, which is epsilon^2/8-zCDP). zCDP adds up under adaptive composition (Bun, Steinke 2016,
Lemma 1.7). Found domains add a small delta each, `delta`-approximate zCDP (Bun, Steinke 2016, Section 8).

The total is turned into (epsilon, delta) by Canonne, Kamath, Steinke 2020, Proposition 12, inequality for every
alpha > 1; any alpha gives a valid bound, so a poor search can only make the guarantee stated weaker than it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.synth.errors import PrivacySpendError, SynthesisInputError

ACCOUNTANT = (
    "zCDP composition (Bun & Steinke 2016, Lemma 1.7), converted by Canonne, Kamath & Steinke 2020, Proposition 12"
)
_SAFETY = Fraction(10**6 - 1, 10**6)
"""rho is computed in floating point and then lowered by this factor, far more than rounding can reach."""


def delta_of(rho: float, epsilon: float) -> float:
    """An upper bound on the delta for which a `rho`-zCDP mechanism is (`epsilon`, delta)-DP.

    rho > 0, epsilon >= 0.   Source: Canonne, Kamath, Steinke 2020, Proposition 12.
    """

    def log_delta(log_alpha_minus_one: float) -> float:
        a = math.exp(log_alpha_minus_one)  # alpha - 1
        return a * ((a + 1) * rho - epsilon) - math.log(a) + (a + 1) * (math.log(a) - math.log1p(a))

    low, high = math.log(1e-4), math.log(1e6)
    for _ in range(200):  # ternary search; the exponent is unimodal in alpha
        third = (high - low) / 3
        if log_delta(low + third) < log_delta(high - third):
            high -= third
        else:
            low += third
    return min(1.0, math.exp(min(0.0, log_delta((low + high) / 2))))


def rho_for(loss: PrivacyLoss) -> Fraction:
    """The largest rho (to one part in a million, rounded down) whose conversion stays within `loss`.

    Raises SynthesisInputError unless epsilon > 0 and 0 < delta < 1.
    """
    if loss.epsilon <= 0 or not 0 < loss.delta < 1:
        raise SynthesisInputError(
            "the synthesizer needs epsilon above 0 and delta between 0 and 1",
            hint='for example epsilon 3, delta "1e-6"',
        )
    epsilon, delta = float(loss.epsilon), float(loss.delta)
    low, high = 0.0, epsilon + 1.0
    for _ in range(200):
        middle = (low + high) / 2
        if middle > 0 and delta_of(middle, epsilon) <= delta:
            low = middle
        else:
            high = middle
    rho = Fraction(low) * _SAFETY
    if rho <= 0:
        raise SynthesisInputError("epsilon is too small to synthesize anything")
    return rho


def scale_for(sensitivity: int, rho: Fraction) -> float:
    """The noise scale at which `sensitivity` costs at most `rho`: sqrt(sensitivity^2 / (2 rho)), rounded up."""
    return math.nextafter(math.sqrt(sensitivity**2 / (2 * float(rho))) * (1 + 1e-9), math.inf)


def rho_of(sensitivity: int, scale: float) -> Fraction:
    """The exact cost sensitivity^2 / (2 scale^2) of one mechanism."""
    return Fraction(sensitivity) ** 2 / (2 * Fraction(scale) ** 2)


@dataclass
class Spending:
    """What one fit may spend and has spent. Exact; a mechanism that would pass the limit is refused before it runs.

    limit: rho in total.   delta_limit: for found domains in total.   entries: (purpose, rho) in order.
    """

    limit: Fraction
    delta_limit: Fraction
    rho: Fraction = Fraction(0)
    delta: Fraction = Fraction(0)
    entries: list[tuple[str, Fraction]] = field(default_factory=list)

    def charge(self, purpose: str, sensitivity: int, scale: float, delta: Fraction = Fraction(0)) -> None:
        """Book one mechanism.   Raises PrivacySpendError if it does not fit."""
        cost = rho_of(sensitivity, scale)
        if self.rho + cost > self.limit or self.delta + delta > self.delta_limit:
            raise PrivacySpendError("a mechanism would spend more than the fit was given", where=purpose)
        self.rho += cost
        self.delta += delta
        self.entries.append((purpose, cost))
