"""The ledger on disk: exact, shared by processes, and no copy of the past gives budget back."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

from adyton.cleanroom.errors import LedgerRollbackError, LedgerUnavailableError
from adyton.cleanroom.ledger_store import CounterValue, FileCounter, LedgerStore, open_reservations
from adyton.kernel.audit import GENESIS_HASH, BrokenChainError
from adyton.kernel.ledger import Account, LedgerStateError, OverBudgetError, PrivacyLoss

ALICE, BOB = Account("alice", "users"), Account("bob", "users")
BUDGET = PrivacyLoss.of(1, "1e-6")
TENTH = PrivacyLoss.of("0.1")


def store(folder: Path) -> LedgerStore:
    return LedgerStore(folder / "ledger.sqlite", FileCounter(folder / "counter.json"))


def test_spending_survives_a_restart_and_stays_exact(tmp_path: Path) -> None:
    for i in range(10):
        one = store(tmp_path)
        one.reserve(f"j{i}/a", ALICE, "count", TENTH, BUDGET)
        one.commit(f"j{i}/a")
        one.close()

    with pytest.raises(OverBudgetError, match="left are epsilon 0"):
        store(tmp_path).reserve("j10/a", ALICE, "count", TENTH, BUDGET)


def test_a_new_contract_does_not_renew_what_was_spent(tmp_path: Path) -> None:
    ledger = store(tmp_path)
    ledger.reserve("j1/a", ALICE, "train", PrivacyLoss.of("0.9"), BUDGET)
    ledger.commit("j1/a")

    with pytest.raises(OverBudgetError):
        ledger.reserve("j2/a", ALICE, "train", TENTH + TENTH, BUDGET)
    assert (
        ledger.reserve("j2/a", ALICE, "train", TENTH + TENTH, PrivacyLoss.of(2)).epsilon
        == PrivacyLoss.of("0.9").epsilon
    )
    assert ledger.reserve("j2/b", BOB, "train", TENTH, BUDGET) == PrivacyLoss.of("0.9", "1e-6")


def test_a_reservation_settles_once(tmp_path: Path) -> None:
    ledger = store(tmp_path)
    ledger.reserve("j1/a", ALICE, "train", TENTH, BUDGET)
    ledger.cancel("j1/a")

    for again in (ledger.commit, ledger.cancel, lambda name: ledger.commit_all([name])):
        with pytest.raises(LedgerStateError, match="already cancelled"):
            again("j1/a")
    with pytest.raises(LedgerStateError, match="used before"):
        ledger.reserve("j1/a", ALICE, "train", TENTH, BUDGET)
    with pytest.raises(LedgerStateError, match="unknown"):
        ledger.commit("nobody/x")


def test_concurrent_spending_never_passes_the_budget(tmp_path: Path) -> None:
    """Sixteen threads with a store each want a tenth of a budget of one: exactly ten get it."""
    granted, refused = [], []

    def spend(i: int) -> None:
        try:
            store(tmp_path).reserve(f"j{i}/a", ALICE, "x", TENTH, BUDGET)
            granted.append(i)
        except OverBudgetError:
            refused.append(i)

    threads = [threading.Thread(target=spend, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(granted), len(refused)) == (10, 6)
    assert store(tmp_path).ledger({ALICE: BUDGET}).left(ALICE).epsilon == 0


def test_an_older_copy_of_the_ledger_is_refused(tmp_path: Path) -> None:
    ledger = store(tmp_path)
    ledger.reserve("j1/a", ALICE, "x", TENTH, BUDGET)
    shutil.copy(tmp_path / "ledger.sqlite", tmp_path / "old.sqlite")
    ledger.commit("j1/a")
    ledger.close()
    shutil.copy(tmp_path / "old.sqlite", tmp_path / "ledger.sqlite")

    with pytest.raises(LedgerRollbackError, match="1 entries"):
        store(tmp_path)


def test_a_deleted_ledger_is_refused(tmp_path: Path) -> None:
    ledger = store(tmp_path)
    ledger.reserve("j1/a", ALICE, "x", TENTH, BUDGET)
    ledger.close()
    (tmp_path / "ledger.sqlite").unlink()

    with pytest.raises(LedgerRollbackError):
        store(tmp_path)


def test_a_ledger_of_the_same_length_with_another_history_is_refused(tmp_path: Path) -> None:
    for name, loss in (("a", TENTH), ("b", PrivacyLoss.of("0.2"))):
        store(tmp_path / name).reserve("j1/a", ALICE, "x", loss, BUDGET)
    shutil.copy(tmp_path / "a" / "ledger.sqlite", tmp_path / "b" / "ledger.sqlite")

    with pytest.raises(LedgerRollbackError):
        store(tmp_path / "b")


def test_an_edited_entry_breaks_the_chain(tmp_path: Path) -> None:
    ledger = store(tmp_path)
    ledger.reserve("j1/a", ALICE, "x", TENTH, BUDGET)
    ledger.close()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        body = json.loads(db.execute("SELECT body FROM ledger_entry").fetchone()[0])
        body["loss"]["epsilon"] = "1/1000"
        db.execute("UPDATE ledger_entry SET body = ?", (json.dumps(body),))

    with pytest.raises(BrokenChainError):
        store(tmp_path)


def test_a_crash_between_ledger_and_counter_is_no_rollback(tmp_path: Path) -> None:
    ledger = store(tmp_path)
    ledger.reserve("j1/a", ALICE, "x", TENTH, BUDGET)
    before = (tmp_path / "counter.json").read_bytes()
    ledger.commit("j1/a")
    (tmp_path / "counter.json").write_bytes(before)

    assert store(tmp_path).head().entries == 2
    assert FileCounter(tmp_path / "counter.json").read().entries == 2


def test_the_counter_does_not_go_back(tmp_path: Path) -> None:
    counter = FileCounter(tmp_path / "c.json")
    counter.advance(CounterValue(3, "x"))
    with pytest.raises(LedgerRollbackError):
        counter.advance(CounterValue(2, "y"))


def test_a_dead_jobs_reservation_is_given_back_and_a_living_ones_is_not(tmp_path: Path) -> None:
    ledger = store(tmp_path)
    for job in ("quiet", "done", "alive"):
        ledger.reserve(f"{job}/a", ALICE, "x", TENTH, BUDGET)
    ledger.commit_all(["done/a"])

    with ledger.job_lock("alive"):
        settled = store(tmp_path).settle_crashed()

    assert settled == ["quiet/a"]
    assert [r.reservation_id for r in open_reservations(ledger)] == ["alive/a"]
    assert ledger.ledger({ALICE: BUDGET}).spent(ALICE).epsilon == (TENTH + TENTH).epsilon


def test_what_a_job_held_is_spent_in_one_step_or_not_at_all(tmp_path: Path) -> None:
    """A job that dies between two owners' entries would charge one of them, and could not be run again."""
    ledger = store(tmp_path)
    for owner in ("a", "b"):
        ledger.reserve(f"job/{owner}", ALICE, "x", TENTH, BUDGET)
    before = ledger.head()

    with pytest.raises(LedgerStateError):
        ledger.commit_all(["job/a", "job/b", "job/never-reserved"])
    assert store(tmp_path).head() == before

    ledger.commit_all(["job/a", "job/b"])
    assert store(tmp_path).head().entries == before.entries + 2
    assert not open_reservations(ledger)


def test_a_job_runs_once_at_a_time(tmp_path: Path) -> None:
    ledger = store(tmp_path)
    with ledger.job_lock("j1"), pytest.raises(LedgerUnavailableError, match="another process"), ledger.job_lock("j1"):
        pass


def test_a_ledger_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerUnavailableError):
        store(tmp_path / "file")
    (tmp_path / "ledger.sqlite").write_bytes(b"no database at all, but long enough to look like one" * 40)
    with pytest.raises(LedgerUnavailableError):
        store(tmp_path)


def test_files_put_back_under_a_running_process_are_noticed(tmp_path: Path) -> None:
    """Brokers were told of what it read first; both files change while it works."""
    running = store(tmp_path)
    running.reserve("j1/a", ALICE, "count", TENTH, BUDGET)
    running.commit("j1/a")
    with sqlite3.connect(tmp_path / "ledger.sqlite") as other:
        other.execute("DELETE FROM ledger_entry WHERE sequence > 0")
    (tmp_path / "counter.json").unlink()

    with pytest.raises(LedgerRollbackError, match="has 1 entries and does not continue the 2"):
        running.reserve("j2/a", ALICE, "count", TENTH, BUDGET)


def test_a_ledger_tells_its_head_and_what_it_had_at_a_length(tmp_path: Path) -> None:
    ledger = store(tmp_path)
    assert ledger.hash_at(0) == (CounterValue(0, GENESIS_HASH), GENESIS_HASH)
    ledger.reserve("j1/a", ALICE, "count", TENTH, BUDGET)
    first = ledger.head()
    ledger.commit("j1/a")

    assert ledger.hash_at(1) == (ledger.head(), first.newest_hash)
    assert ledger.hash_at(2) == (ledger.head(), ledger.head().newest_hash)
    assert ledger.hash_at(3) == (ledger.head(), None)
