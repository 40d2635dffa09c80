"""Brokers remember where the ledger stood: rolled back and forged ones get no key, honest ones always go on."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from adyton.cleanroom.attestation.errors import LedgerNotContinuedError
from adyton.cleanroom.broker_store import BrokerStore
from adyton.cleanroom.contract import Template
from adyton.cleanroom.errors import EnclaveUnavailableError
from adyton.cleanroom.ledger_store import CounterValue, FileCounter, LedgerStore
from adyton.cli.broker import broker as broker_command
from adyton.kernel.ledger import Account, PrivacyLoss

LOSS = PrivacyLoss.of("1/2")
STATISTICS = (Template.JOIN_STATISTICS,)


def store(room: Any) -> LedgerStore:
    return LedgerStore(room.folder / "ledger" / "ledger.sqlite", FileCounter(room.folder / "counter" / "counter.json"))


def spent(room: Any) -> PrivacyLoss:
    return store(room).ledger({}).spent(Account("publisher", "users"))


def remembered(room: Any, owner: str) -> CounterValue | None:
    return BrokerStore(room.folder / f"{owner}.sqlite").ledger_head()


def noised(room: Any, job_id: str) -> Any:
    return room.job(job_id, *STATISTICS, statistics_loss=LOSS)


def copied(room: Any, name: str) -> Callable[[], None]:
    """Keep ledger and counter as they are now; gives how to put them back."""
    kept = room.folder / name
    for folder in ("ledger", "counter"):
        shutil.copytree(room.folder / folder, kept / folder)

    def put_back() -> None:
        for folder in ("ledger", "counter"):
            shutil.rmtree(room.folder / folder)
            shutil.copytree(kept / folder, room.folder / folder)

    return put_back


def test_a_ledger_put_back_with_its_counter_or_started_anew_gets_no_key(make_room: Callable[..., Any]) -> None:
    """Both files are whoever's who runs the enclave: only the owners' brokers know better."""
    room = make_room()
    room.run(noised(room, "first"))
    put_back = copied(room, "kept")
    room.run(noised(room, "second"))
    newest = copied(room, "newest")
    head = store(room).head()
    assert remembered(room, "publisher") == remembered(room, "advertiser") == head

    put_back()
    with pytest.raises(LedgerNotContinuedError, match="has 4 entries and does not go on from the 8") as refused:
        room.run(noised(room, "third"))
    assert "restore the newest" in str(refused.value.hint)
    for folder in ("ledger", "counter"):
        shutil.rmtree(room.folder / folder)
    with pytest.raises(LedgerNotContinuedError, match="has 0 entries"):
        room.run(noised(room, "fourth"))
    assert not any((room.folder / f"out-{name}").exists() for name in ("third", "fourth"))

    newest()
    room.run(noised(room, "fifth"))
    assert spent(room) == PrivacyLoss.of("3/2")


@pytest.mark.slow
def test_a_forged_chain_that_is_longer_gets_no_key(make_room: Callable[..., Any]) -> None:
    """Whole in itself, with as many entries and more, and spending that never was."""
    room = make_room()
    room.run(noised(room, "first"))
    for folder in ("ledger", "counter"):
        shutil.rmtree(room.folder / folder)
    (room.folder / "ledger").mkdir()
    (room.folder / "counter").mkdir()
    forged = store(room)
    for number in range(5):
        account = Account("nobody", "users")
        forged.reserve(f"made-up/{number}", account, "nothing", PrivacyLoss.of(0), PrivacyLoss.of(1))
        forged.cancel(f"made-up/{number}")
    assert forged.head().entries > 4

    with pytest.raises(LedgerNotContinuedError, match="has 10 entries and does not go on from the 4"):
        room.run(noised(room, "second"))


@pytest.mark.slow
@pytest.mark.parametrize("at", ["telling brokers", "sealing outputs"])
def test_a_crash_between_settlement_and_report_loses_nothing(
    make_room: Callable[..., Any], enclaves: Callable[[], list[int]], at: str
) -> None:
    room = make_room()
    running: list[int] = []

    def kill_when_there(fraction: float, what: str) -> None:
        # Looked for beforehand: sealing is over in the time that a look through all processes takes.
        running[:] = running or enclaves()
        if at in what:
            for process in running:
                os.kill(process, signal.SIGKILL)

    with pytest.raises(EnclaveUnavailableError, match="SIGKILL"):
        room.run(noised(room, "crash"), progress=kill_when_there)
    assert not (room.folder / "out-crash").exists()
    assert spent(room) == LOSS
    room.run(noised(room, "after"))

    assert spent(room) == PrivacyLoss.of(1)
    assert remembered(room, "publisher") == store(room).head()


@pytest.mark.slow
def test_enclaves_on_one_ledger_at_once_all_go_on(make_room: Callable[..., Any]) -> None:
    room = make_room()
    names = [f"side-{number}" for number in range(3)]
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda name: room.run(noised(room, name)), names))

    assert len(results) == 3
    assert spent(room) == PrivacyLoss.of("3/2")
    assert remembered(room, "publisher") == remembered(room, "advertiser") == store(room).head()


@pytest.mark.slow
def test_an_owner_whose_ledger_is_lost_lets_a_new_one_in_and_its_log_says_so(make_room: Callable[..., Any]) -> None:
    """As a broker that has just been set up, it takes the first ledger that it is told of."""
    room = make_room()
    room.run(noised(room, "first"))
    for folder in ("ledger", "counter"):
        shutil.rmtree(room.folder / folder)
    stores = {owner: room.folder / f"{owner}.sqlite" for owner in room.parties}
    shown = CliRunner().invoke(broker_command, ["ledger", "--store", str(stores["publisher"])])
    assert shown.stdout.startswith("4 entries, newest ")
    forgotten(stores["publisher"])
    with pytest.raises(LedgerNotContinuedError, match="does not go on"):
        room.run(noised(room, "second"))  # one owner's word is not every owner's
    forgotten(stores["advertiser"])
    # The publisher's broker has meanwhile been told of the new, empty ledger, which goes on.
    room.run(noised(room, "third"))

    assert "ledger-forgotten" in [entry.kind for entry in BrokerStore(stores["advertiser"]).log()]
    assert remembered(room, "advertiser") == store(room).head()


def forgotten(path: Path) -> None:
    result = CliRunner().invoke(broker_command, ["ledger", "--store", str(path), "--forget"])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("forgotten: ")
