"""The fit never spends more than it was given, and the conversion agrees with another implementation."""

from __future__ import annotations

import math
from fractions import Fraction

import opendp.prelude as dp
import pytest

from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.synth.accounting import Spending, delta_of, rho_for, rho_of, scale_for
from adyton.learning.synth.errors import PrivacySpendError, SynthesisInputError

dp.enable_features("contrib")


@pytest.mark.parametrize("epsilon", ["0.1", "1", "3", "10"])
def test_conversion_is_no_more_generous_than_opendps(epsilon: str) -> None:
    """OpenDP converts zCDP by the same theorem; our epsilon must not be below what it certifies."""
    rho = rho_for(PrivacyLoss.of(epsilon, "1e-6"))
    scale = scale_for(1, rho)
    gaussian = dp.m.make_gaussian(dp.vector_domain(dp.atom_domain(T=int)), dp.l2_distance(T=float), scale)
    certified = dp.c.make_zCDP_to_approxDP(gaussian).map(1.0).epsilon(1e-6)

    assert certified <= float(Fraction(epsilon)) * (1 + 1e-6)
    assert certified >= float(Fraction(epsilon)) * 0.99


def test_known_pair_of_the_closed_form_is_respected() -> None:
    """Bun and Steinke's closed form epsilon = rho + 2 sqrt(rho ln(1/delta)) is weaker, so its delta bounds ours."""
    rho, delta = 0.1, 1e-6
    epsilon = rho + 2 * math.sqrt(rho * math.log(1 / delta))

    assert 0 < delta_of(rho, epsilon) < delta


def test_delta_falls_with_epsilon_and_rises_with_rho() -> None:
    assert delta_of(0.1, 2) > delta_of(0.1, 3)
    assert delta_of(0.2, 3) > delta_of(0.1, 3)


def test_a_scale_never_costs_more_than_it_was_made_for() -> None:
    for sensitivity in (1, 2, 6, 100):
        for rho in (Fraction(1, 7), Fraction(3, 10**6), Fraction(5)):
            assert rho_of(sensitivity, scale_for(sensitivity, rho)) <= rho


def test_a_mechanism_past_the_limit_is_refused_before_it_is_booked() -> None:
    spending = Spending(Fraction(1, 10), Fraction(0))
    spending.charge("first", 1, 3.0)
    before = spending.rho

    with pytest.raises(PrivacySpendError):
        spending.charge("second", 1, 3.0)
    assert spending.rho == before


def test_found_domains_may_not_spend_delta_that_was_not_set_aside() -> None:
    with pytest.raises(PrivacySpendError):
        Spending(Fraction(1), Fraction(0)).charge("domain", 1, 10.0, Fraction(1, 10**9))


@pytest.mark.parametrize(("epsilon", "delta"), [("0", "1e-6"), ("1", "0"), ("1", "1")])
def test_losses_without_room_for_noise_are_refused(epsilon: str, delta: str) -> None:
    with pytest.raises(SynthesisInputError):
        rho_for(PrivacyLoss.of(epsilon, delta))
