"""`adyton ctr train --dp-epsilon`: paid for before anything is computed, refused when the budget is spent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from adyton.cleanroom.ledger_store import FileCounter, LedgerStore
from adyton.cli.ctr import ctr
from adyton.kernel.errors import BadInputError
from adyton.kernel.ledger import Account, OverBudgetError, ReservationState
from adyton.learning.ctr import store

SCHEMA = {
    "columns": [
        {"name": "user", "role": "user_id", "kind": "category"},
        {"name": "when", "role": "time", "kind": "timestamp"},
        {"name": "clicked", "role": "label", "kind": "binary"},
        {"name": "taste", "role": "user", "kind": "category"},
        {"name": "slot", "role": "context", "kind": "category"},
    ]
}


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(900), 2)
    clicked = (rng.random(1800) < np.where(user % 3 == 0, 0.7, 0.2)).astype(np.int8)
    when = 1_651_363_200_000 + 1000 * np.arange(1800)
    taste = [f"t{u % 3}" for u in user]
    table = {"user": user, "when": when, "clicked": clicked, "taste": taste, "slot": rng.integers(0, 2, 1800)}
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    ledger = ["--ledger", str(tmp_path / "ledger.db"), "--counter", str(tmp_path / "counter")]
    times = ["--validation-from", "2022-05-01T00:25Z", "--test-from", "2022-05-01T00:28Z"]
    return ["train", str(tmp_path / "rows.parquet"), "--schema", str(tmp_path / "schema.json"), *times, *ledger]


def _ledger(folder: Path) -> LedgerStore:
    return LedgerStore(folder / "ledger.db", FileCounter(folder / "counter"))


def test_a_private_model_is_paid_for_and_a_second_one_is_refused(arguments: list[str], tmp_path: Path) -> None:
    first, second = tmp_path / "first.npz", tmp_path / "second.npz"
    result = CliRunner().invoke(ctr, [*arguments, "--dp-epsilon", "2", "-o", str(first), "--json"])

    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["loss"] == {"epsilon": "2", "delta": "1/1000000"}
    assert report["epsilon_left"] == "1"
    assert str(report["privacy"]).startswith("epsilon 2, delta 1e-06, unit user")
    assert store.load(first).privacy == report["privacy"]

    refused = CliRunner().invoke(ctr, [*arguments, "--dp-epsilon", "2", "-o", str(second)])
    assert isinstance(refused.exception, OverBudgetError)
    assert not second.exists()
    entries = _ledger(tmp_path).ledger({}).reservations.values()
    assert [(r.account, r.state) for r in entries] == [(Account("owner", "users"), ReservationState.COMMITTED)]


def test_what_fails_before_noise_is_drawn_costs_nothing(arguments: list[str], tmp_path: Path) -> None:
    output = tmp_path / "model.npz"
    result = CliRunner().invoke(ctr, [*arguments, "--dp-epsilon", "1", "--feature", "user", "-o", str(output)])

    assert isinstance(result.exception, BadInputError)
    (held,) = _ledger(tmp_path).ledger({}).reservations.values()
    assert held.state is ReservationState.CANCELLED
    assert not output.exists()


def test_what_fails_after_noise_was_drawn_is_paid(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("adyton.learning.ctr.private_trainer._descend", fail)
    result = CliRunner().invoke(ctr, [*arguments, "--dp-epsilon", "1", "-o", str(tmp_path / "model.npz")])

    assert isinstance(result.exception, MemoryError)
    (held,) = _ledger(tmp_path).ledger({}).reservations.values()
    assert held.state is ReservationState.COMMITTED


@pytest.mark.parametrize(
    "wrong", [["--with-user-id"], ["--ledger-is-missing"], ["--members", "2"], ["--recipe", "single"]]
)
def test_a_private_training_without_ledger_or_with_user_ids_is_a_usage_error(
    arguments: list[str], tmp_path: Path, wrong: list[str]
) -> None:
    used = arguments[:-4] if wrong == ["--ledger-is-missing"] else [*arguments, *wrong]
    result = CliRunner().invoke(ctr, [*used, "--dp-epsilon", "1", "-o", str(tmp_path / "model.npz")])

    assert result.exit_code == 2
