"""The audit must pass the real synthesizer and catch broken ones; otherwise it audits nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from adyton.kernel.chance import InsecureFixedRandom, OsRandom
from adyton.kernel.ledger import PrivacyLoss
from adyton.learning.synth import audit as audit_module
from adyton.learning.synth import mechanisms, synthesizer
from adyton.learning.synth.audit import audit, epsilon_low
from adyton.learning.synth.coded_table import CodedTable
from adyton.learning.synth.errors import PrivacySpendError, SynthesisInputError
from adyton.learning.synth.mechanisms import NoisyTable
from adyton.learning.synth.structure import SPLITS, Structure

LOSS = PrivacyLoss.of(1, "1e-7")


class NoNoise:
    """A source whose every draw is the middle one: all noise is zero."""

    is_secure = False

    def token(self, n_bytes: int) -> bytes:
        return (b"\x00" * 7 + b"\x80") * (n_bytes // 8)


def test_the_synthesizer_keeps_its_claim() -> None:
    """Real noise, so the outcome varies: at this confidence a sound fit is refuted once in 10^7 runs at most."""
    result = audit(PrivacyLoss.of(1, "1e-12"), source=OsRandom(), seed=1, confidence=1 - 1e-7)

    assert not result.refutes_the_claim


def test_the_audit_sees_something_of_a_sound_synthesizer() -> None:
    """Fixed noise. A bound above zero shows that the auditor has teeth; one above the claim would be a leak."""
    loss = PrivacyLoss.of(4, "1e-7")
    found = [audit(loss, source=InsecureFixedRandom(seed), seed=seed) for seed in range(3)]

    assert not any(result.refutes_the_claim for result in found)
    assert max(result.epsilon_low for result in found) > 0.3


def test_noise_left_out_is_caught() -> None:
    result = audit(LOSS, source=NoNoise(), seed=1)

    assert result.refutes_the_claim
    assert result.right == result.guesses


def test_contribution_bounding_left_out_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesizer, "bounded_rows", lambda user, max_rows, keys: np.arange(user.size))

    assert audit(LOSS, source=InsecureFixedRandom(1), seed=1).refutes_the_claim


def test_spending_more_than_was_given_is_stopped_by_the_accounting_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accounted twice: the second charge of the same budget is refused before anything is measured."""
    honest_shares = mechanisms._shares
    monkeypatch.setattr(mechanisms, "_shares", lambda cells: [share * 2 for share in honest_shares(cells)])

    with pytest.raises(PrivacySpendError):
        audit(LOSS, source=InsecureFixedRandom(1), seed=1)


def test_a_budget_spent_many_times_over_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger says epsilon 1 while the noise is a sixth of what that needs."""
    honest = mechanisms.scale_for
    monkeypatch.setattr(mechanisms, "scale_for", lambda sensitivity, rho: honest(sensitivity, rho) / 6)
    monkeypatch.setattr(synthesizer.Spending, "charge", lambda *_, **__: None)

    assert audit(LOSS, source=InsecureFixedRandom(1), seed=1).refutes_the_claim


def test_the_cliques_of_a_junction_tree_keep_the_claim() -> None:
    """Real noise; refuted once in 10^7 runs at most."""
    loss = PrivacyLoss.of(1, "1e-12")
    result = audit(loss, source=OsRandom(), seed=1, confidence=1 - 1e-7, structure=Structure.JUNCTION_TREE)

    assert not result.refutes_the_claim


def test_noise_left_out_of_cliques_alone_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stars, links and choices keep their noise; only the tables of cliques come out as they are."""
    honest = mechanisms.Mechanisms.tables

    def leaky(self: mechanisms.Mechanisms, table: CodedTable, parts_of: Any, rho: Any, purpose: str) -> Any:
        measured = honest(self, table, parts_of, rho, purpose)
        if purpose != "clique":
            return measured
        return [NoisyTable(parts, table.with_label(*parts).astype(float), 1e-6) for parts in parts_of]

    sound = audit(LOSS, source=InsecureFixedRandom(1), seed=1, structure=Structure.JUNCTION_TREE)
    monkeypatch.setattr(mechanisms.Mechanisms, "tables", leaky)
    broken = audit(LOSS, source=InsecureFixedRandom(1), seed=1, structure=Structure.JUNCTION_TREE)

    assert not sound.refutes_the_claim
    assert broken.refutes_the_claim


def test_contribution_bounding_left_out_shows_in_cliques(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clique gets a seventh of the budget, so that its noise hides more: canaries of 240 rows."""
    monkeypatch.setattr(audit_module, "_ROWS_OF_A_CANARY", 240)
    sound = audit(LOSS, source=InsecureFixedRandom(1), seed=1, structure=Structure.JUNCTION_TREE)
    monkeypatch.setattr(synthesizer, "bounded_rows", lambda user, max_rows, keys: np.arange(user.size))

    broken = audit(LOSS, source=InsecureFixedRandom(1), seed=1, structure=Structure.JUNCTION_TREE)
    assert not sound.refutes_the_claim
    assert broken.refutes_the_claim


def test_cliques_paid_for_twice_are_stopped_by_the_accounting(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = SPLITS[Structure.JUNCTION_TREE]
    monkeypatch.setitem(SPLITS, Structure.JUNCTION_TREE, replace(honest, cliques=2 * honest.cliques))

    with pytest.raises(PrivacySpendError):
        audit(LOSS, source=InsecureFixedRandom(1), seed=1, structure=Structure.JUNCTION_TREE)


def test_the_bound_of_hand_checked_counts() -> None:
    assert epsilon_low(50, 100, 100, 0.0, 0.95) == 0
    assert epsilon_low(100, 100, 100, 0.0, 0.95) == pytest.approx(np.log(0.05**0.01 / (1 - 0.05**0.01)), rel=1e-6)
    assert epsilon_low(90, 100, 100, 0.0, 0.95) > epsilon_low(80, 100, 100, 0.0, 0.95)


def test_too_few_canaries_are_refused() -> None:
    with pytest.raises(SynthesisInputError):
        audit(LOSS, source=OsRandom(), seed=0, canaries=5)
