"""The kernel's rules: exact money and privacy, independent streams, chains that notice any change."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adyton.kernel.audit import GENESIS_HASH, AuditEntry, BrokenChainError, link, verify_chain
from adyton.kernel.canonical import canonical_bytes
from adyton.kernel.chance import InsecureFixedRandom, OsRandom, randbelow, stream
from adyton.kernel.clock import ManualClock, iso_utc
from adyton.kernel.errors import AdytonError, BadInputError, InternalError
from adyton.kernel.ledger import Account, Ledger, LedgerStateError, OverBudgetError, PrivacyLoss
from adyton.kernel.money import Money

ALICE = Account("alice", "users")


def test_money_rounds_half_to_even_and_refuses_mixed_currencies() -> None:
    """A float price would make two services disagree about a bid."""
    assert Money.from_units("0.0000005", "USD").micros == 0
    assert Money.from_units("0.0000015", "USD").micros == 2
    with pytest.raises(BadInputError, match="cannot add EUR to USD"):
        Money(1, "USD") + Money(1, "EUR")


def test_manual_clock_refuses_to_run_backwards() -> None:
    clock = ManualClock(1_000)
    clock.advance_ms(5)

    assert (clock.now_ms(), clock.monotonic_s()) == (1_005, 0.005)
    with pytest.raises(InternalError):
        clock.advance_ms(-1)


def test_iso_utc_names_the_zone() -> None:
    assert iso_utc(0) == "1970-01-01T00:00:00.000Z"


def test_streams_repeat_by_name_and_differ_between_names() -> None:
    same = stream(7, "a").random(4), stream(7, "a").random(4)
    other = stream(7, "b").random(4)

    np.testing.assert_array_equal(*same)
    assert not np.array_equal(same[0], other)


def test_randbelow_is_uniform() -> None:
    """Chi-square over 6 cells, 60,000 draws: fails by chance once in 10^6 seeds; ours is fixed."""
    source = InsecureFixedRandom(1)
    counts = np.bincount([randbelow(source, 6) for _ in range(60_000)], minlength=6)
    chi_square = float(((counts - 10_000) ** 2 / 10_000).sum())

    assert chi_square < 35.9


def test_only_the_operating_system_source_calls_itself_secure() -> None:
    assert OsRandom().is_secure
    assert not InsecureFixedRandom(0).is_secure


def test_canonical_bytes_are_sorted_and_refuse_floats() -> None:
    assert canonical_bytes({"b": 1, "a": ["é", None]}) == '{"a":["é",null],"b":1}'.encode()
    with pytest.raises(BadInputError, match=r"\$\.a\[0\]"):
        canonical_bytes({"a": [0.5]})  # type: ignore[list-item]


def chain(n: int) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    for i in range(n):
        entries.append(link(entries[-1] if entries else None, at_ms=i, kind="k", body={"i": i}))
    return entries


def test_an_intact_chain_gives_its_newest_hash() -> None:
    assert verify_chain([]) == GENESIS_HASH
    assert verify_chain(chain(3)) == chain(3)[-1].entry_hash


@pytest.mark.parametrize("fault", ["change", "drop", "swap"])
def test_a_changed_dropped_or_swapped_entry_breaks_the_chain(fault: str) -> None:
    entries = chain(4)
    if fault == "change":
        entries[1] = replace(entries[1], body={"i": 99})
    elif fault == "drop":
        del entries[1]
    else:
        entries[1], entries[2] = entries[2], entries[1]

    with pytest.raises(BrokenChainError, match="entry 1"):
        verify_chain(entries)


def test_a_float_epsilon_is_refused() -> None:
    """0.1 + 0.2 must not pass a budget of 0.3 or fail it by a rounding error."""
    with pytest.raises(BadInputError):
        PrivacyLoss(0.1)  # type: ignore[arg-type]


def test_ten_tenths_spend_exactly_one() -> None:
    ledger = Ledger.open({ALICE: PrivacyLoss.of(1)})
    for i in range(10):
        ledger = ledger.reserve(f"r{i}", ALICE, "count", PrivacyLoss.of("0.1")).commit(f"r{i}")

    assert ledger.left(ALICE).epsilon == 0
    with pytest.raises(OverBudgetError, match="left are epsilon 0"):
        ledger.reserve("r10", ALICE, "count", PrivacyLoss(Fraction(1, 10**30)))


def test_a_reservation_counts_until_it_is_settled_and_settles_once() -> None:
    ledger = Ledger.open({ALICE: PrivacyLoss.of(1)}).reserve("a", ALICE, "train", PrivacyLoss.of("0.7"))
    with pytest.raises(OverBudgetError):
        ledger.reserve("b", ALICE, "train", PrivacyLoss.of("0.4"))

    settled = ledger.commit("a", PrivacyLoss.of("0.5"))

    assert settled.left(ALICE).epsilon == Fraction(1, 2)
    for again in (settled.commit, settled.cancel):
        with pytest.raises(LedgerStateError, match="already committed"):
            again("a")
    with pytest.raises(LedgerStateError, match="used before"):
        settled.reserve("a", ALICE, "train", PrivacyLoss.of("0.1"))


def test_a_commit_above_the_reservation_is_refused() -> None:
    ledger = Ledger.open({ALICE: PrivacyLoss.of(1)}).reserve("a", ALICE, "train", PrivacyLoss.of("0.2"))
    with pytest.raises(OverBudgetError):
        ledger.commit("a", PrivacyLoss.of("0.3"))


@given(st.lists(st.tuples(st.integers(0, 60), st.sampled_from(["commit", "cancel", "leave"])), max_size=30))
def test_no_sequence_of_operations_passes_the_budget(operations: list[tuple[int, str]]) -> None:
    budget = PrivacyLoss.of(1)
    ledger = Ledger.open({ALICE: budget})
    for i, (hundredths, ending) in enumerate(operations):
        try:
            ledger = ledger.reserve(str(i), ALICE, "x", PrivacyLoss(Fraction(hundredths, 100)))
        except OverBudgetError:
            continue
        if ending != "leave":
            ledger = ledger.commit(str(i)) if ending == "commit" else ledger.cancel(str(i))

        assert ledger.spent(ALICE).fits_in(budget)


def test_every_error_says_whose_fault_it_is() -> None:
    for cls in AdytonError.__subclasses__():
        assert cls("x").as_json()["fault"] == cls.fault.value
    assert str(BadInputError("no such column", where="ads.csv")) == "ads.csv: no such column"
