"""Add one, remove one: a party seals its table with and without a person and reads the match rate.

The IAB's guidance on clean rooms warns of this attack (cleanroom §1.2). Exact counts give the person away every time;
that is why they leave only by every owner's word. With noise the attacker does no better than epsilon says, and each
probe is paid for until the ledger refuses.
"""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import pytest

from adyton.cleanroom.disclosure import join_statistics
from adyton.cleanroom.join import JoinCounts
from adyton.cleanroom.ledger_store import FileCounter, LedgerStore
from adyton.kernel.chance import stream
from adyton.kernel.ledger import Account, OverBudgetError, PrivacyLoss

PARTNERS_USERS = frozenset(range(200))
TARGET = 7
PROBES = 1_500


def matched(*, with_target: bool, loss: PrivacyLoss | None) -> int:
    """What the attacker reads. Its own table holds everybody but, sometimes, the target."""
    own = frozenset(range(1_000)) if with_target else frozenset(range(1_000)) - {TARGET}
    joined = len(own & PARTNERS_USERS)
    counts = JoinCounts(5_000, 900, len(own), len(PARTNERS_USERS), joined)
    shown = json.loads(join_statistics(counts, k=50, loss=loss))["users_joined"]
    assert isinstance(shown, int)
    return shown


def success(loss: PrivacyLoss | None) -> float:
    """Share of right guesses "the target is a customer of the partner", one probe each."""
    rng = stream(11, "match rate probing")
    right = 0
    for is_there in rng.random(PROBES) < 0.5:
        right += (matched(with_target=bool(is_there), loss=loss) >= len(PARTNERS_USERS)) == is_there
    return right / PROBES


def test_exact_match_rates_give_the_person_away() -> None:
    assert success(None) == 1.0


@pytest.mark.parametrize("epsilon", ["1/2", "3"])
def test_noised_match_rates_tell_no_more_than_epsilon_allows(epsilon: str) -> None:
    """Any attack on an epsilon-DP answer is right with probability at most e^epsilon / (1 + e^epsilon).

    The joined count gets a third of epsilon. Five standard errors: fails by chance once in 3 million seeds; the noise
    itself is the operating system's, so this is a statement about every run.
    """
    share = float(Fraction(epsilon)) / 3
    bound = math.exp(share) / (1 + math.exp(share))

    assert 0.5 - 0.05 < success(PrivacyLoss.of(epsilon)) < bound + 5 * math.sqrt(0.25 / PROBES)


def test_probing_ends_when_the_budget_does(tmp_path: Path) -> None:
    """A new contract over a table with one row less is the same owner and population: nothing is renewed."""
    store = LedgerStore(tmp_path / "ledger.sqlite", FileCounter(tmp_path / "counter.json"))
    account, budget, probe = Account("partner", "customers"), PrivacyLoss.of(3), PrivacyLoss.of("1/2")
    for number in range(6):
        store.reserve(f"probe-{number}/join_statistics", account, "join_statistics", probe, budget)
        store.commit(f"probe-{number}/join_statistics")

    with pytest.raises(OverBudgetError, match="left are epsilon 0,"):
        store.reserve("probe-7/join_statistics", account, "join_statistics", probe, budget)
