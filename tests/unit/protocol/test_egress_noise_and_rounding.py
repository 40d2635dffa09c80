"""The statistics of §11.6 and §8.7. Fixed seeds: a test that fails has found a change, not bad luck."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from fractions import Fraction

import pytest
from scipy import stats

from adyton.kernel.chance import InsecureFixedRandom
from adyton.kernel.errors import BadInputError
from adyton.protocol.egress_noise import DEFAULT_RATE, noise_payload, possible_values, random_payload
from adyton.protocol.egress_schema import EgressPayload, EgressSchema, Feature, Kind
from adyton.protocol.egress_wire import encode_payload
from adyton.protocol.rounding import stochastic_round

SCHEMA = EgressSchema(
    3,
    (
        Feature(Kind.BOOLEAN),
        Feature(Kind.UNSIGNED, 3),
        Feature(Kind.SIGNED, 2),
        Feature(Kind.BUCKET, 2),
        Feature(Kind.HISTOGRAM, 2, (Feature(Kind.UNSIGNED, 1), Feature(Kind.SIGNED, 2))),
    ),
)
PAYLOAD = EgressPayload((True, 7, -2, (True, False), (1, -1)))
N = 6_000


def test_one_payload_in_a_hundred_is_replaced() -> None:
    """With 40,000 payloads a rate that is off by a fifth is noticed, and the fixed seed leaves nothing to luck."""
    schema, payload = EgressSchema(0, (Feature(Kind.UNSIGNED, 16),)), EgressPayload((7,))

    def pvalue(rate_of_noise: Fraction) -> float:
        source = InsecureFixedRandom(1)
        changed = sum(noise_payload(schema, payload, source, rate_of_noise) != payload for _ in range(40_000))
        # A replaced payload equals the original in 1 of 2^16 cases.
        return float(stats.binomtest(changed, 40_000, 0.01 * (1 - 2.0**-16)).pvalue)

    assert pvalue(DEFAULT_RATE) > 0.01
    assert pvalue(Fraction(8, 1000)) < 0.005
    assert pvalue(Fraction(12, 1000)) < 0.005


class Scripted:
    """A source of the bytes that it was given."""

    is_secure = False

    def __init__(self, data: bytes) -> None:
        self._left = data

    def token(self, n_bytes: int) -> bytes:
        if len(self._left) < n_bytes:
            raise EOFError
        given, self._left = self._left[:n_bytes], self._left[n_bytes:]
        return given


def outcomes(schema: EgressSchema, payload: EgressPayload, rate: Fraction, n_bytes: int) -> Counter[EgressPayload]:
    """How often each result comes out, over every string of `n_bytes` random bytes that is enough for one."""
    counts: Counter[EgressPayload] = Counter()
    for number in range(256**n_bytes):
        with contextlib.suppress(EOFError):
            counts[noise_payload(schema, payload, Scripted(number.to_bytes(n_bytes, "big")), rate)] += 1
    return counts


def test_the_rate_is_exactly_one_in_a_hundred_and_what_replaces_a_payload_exactly_uniform() -> None:
    """Every string of bytes is tried, so this is the probability itself and no estimate of it."""
    schema = EgressSchema(0, (Feature(Kind.BUCKET, 1),))
    payload, other = EgressPayload(((True,),)), EgressPayload(((False,),))

    counts = outcomes(schema, payload, DEFAULT_RATE, 2)
    assert Fraction(counts[other], counts.total()) == Fraction(1, 100) * Fraction(1, 2)

    numbers = EgressSchema(0, (Feature(Kind.SIGNED, 3),))
    counts = outcomes(numbers, EgressPayload((0,)), Fraction(1), 1)
    assert sorted(value for (value,) in (found.values for found in counts)) == list(range(-4, 4))  # type: ignore[type-var]
    assert len(set(counts.values())) == 1


@pytest.mark.parametrize("rate", [Fraction(0), Fraction(1)])
def test_rates_zero_and_one_are_certain(rate: Fraction) -> None:
    source = InsecureFixedRandom(2)

    seen = {noise_payload(SCHEMA, PAYLOAD, source, rate) for _ in range(50)}

    assert (seen == {PAYLOAD}) == (rate == 0)


def test_replaced_payloads_are_uniform_over_every_possible_payload() -> None:
    source = InsecureFixedRandom(3)
    small = EgressSchema(0, SCHEMA.features[1:])
    counts = Counter(encode_payload(small, random_payload(small, source)) for _ in range(N))

    n_possible = math.prod(possible_values(feature) for feature in small.features)
    observed = [*counts.values(), *[0] * (n_possible - len(counts))]

    assert n_possible == 2**small.bits
    assert stats.chisquare(observed).pvalue > 0.001


def test_the_uniformity_test_notices_a_source_that_favours_small_numbers() -> None:
    class Biased(InsecureFixedRandom):
        def token(self, n_bytes: int) -> bytes:
            drawn = super().token(n_bytes + 1)
            return drawn[1:] if drawn[0] < 230 else bytes(n_bytes)

    source = Biased(3, "biased")
    counts = Counter(random_payload(SCHEMA, source).values[1] for _ in range(2_000))

    assert stats.chisquare([counts[value] for value in range(8)]).pvalue < 0.001


def test_nullable_features_are_uniform_over_values_and_null() -> None:
    source = InsecureFixedRandom(4)
    schema = EgressSchema(
        0, (Feature(Kind.UNSIGNED, 1, nullable=True), Feature(Kind.BUCKET, 1, nullable_elements=True))
    )

    counts = Counter(random_payload(schema, source).values for _ in range(3_000))

    assert len(counts) == 9
    assert stats.chisquare(list(counts.values())).pvalue > 0.001


def test_noise_changes_neither_the_size_nor_the_header() -> None:
    source = InsecureFixedRandom(5)
    plain = encode_payload(SCHEMA, PAYLOAD)

    wires = [encode_payload(SCHEMA, noise_payload(SCHEMA, PAYLOAD, source, Fraction(1, 2))) for _ in range(200)]

    assert {(len(wire), wire[-1]) for wire in wires} == {(len(plain), plain[-1])}
    assert len(set(wires)) > 50


def test_the_same_seed_gives_the_same_noise_and_another_seed_another() -> None:
    def run(seed: int) -> list[EgressPayload]:
        source = InsecureFixedRandom(seed)
        return [noise_payload(SCHEMA, PAYLOAD, source, Fraction(1, 2)) for _ in range(20)]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_a_float_rate_is_refused() -> None:
    with pytest.raises(BadInputError):
        noise_payload(SCHEMA, PAYLOAD, InsecureFixedRandom(1), 0.01)  # type: ignore[arg-type]
    with pytest.raises(BadInputError):
        noise_payload(SCHEMA, PAYLOAD, InsecureFixedRandom(1), Fraction(3, 2))


@pytest.mark.parametrize(
    ("value", "rounded"),
    [
        (0.0, 0.0),
        (1.0, 1.0),
        (-1.0, -1.0),
        (255.0, 255.0),
        (2e38, math.inf),
        (-2e38, -math.inf),
        (1e-39, 0.0),
        (math.inf, math.inf),
        # 2^-129 = 0.5 * 2^-128 and 255/256 * 2^127 have the outermost exponents that are kept.
        (2.0**-129, 2.0**-129),
        (2.0**-130, 0.0),
        (2.0**127 * 255 / 256, 2.0**127 * 255 / 256),
        (2.0**127, math.inf),
        (-(2.0**127), -math.inf),
    ],
)
def test_exact_values_and_extremes_round_to_themselves_or_the_end(value: float, rounded: float) -> None:
    assert stochastic_round(value, InsecureFixedRandom(1)) == rounded


def test_too_small_keeps_its_sign_and_nan_stays_nan() -> None:
    assert math.copysign(1, stochastic_round(-1e-39, InsecureFixedRandom(1))) == -1
    assert math.isnan(stochastic_round(math.nan, InsecureFixedRandom(1)))


@pytest.mark.parametrize(
    ("value", "low", "high", "p_high"),
    [
        (0.3, 0.298828125, 0.30078125, 0.6),
        (129.3, 129.0, 130.0, 0.3),
        (-129.3, -130.0, -129.0, 0.7),
    ],
)
def test_rounding_goes_up_with_the_probability_of_what_is_cut_off(
    value: float, low: float, high: float, p_high: float
) -> None:
    source = InsecureFixedRandom(6)

    counts = Counter(stochastic_round(value, source) for _ in range(3_000))

    assert set(counts) == {low, high}
    assert stats.binomtest(counts[high], 3_000, p_high).pvalue > 0.001
