"""A nonce is used once: by many at the same moment, by several processes, after a kill, and whatever the clock says."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adyton.cleanroom.attestation.errors import BrokerUnavailableError
from adyton.cleanroom.broker_store import BrokerStore, NonceUse
from adyton.cleanroom.ledger_store import CounterValue
from adyton.kernel.audit import GENESIS_HASH, verify_chain

NONCE = bytes(range(32))
LIFE_MS = 300_000


def test_of_many_who_show_a_nonce_at_once_one_is_first(tmp_path: Path) -> None:
    stores = [BrokerStore(tmp_path / "s.sqlite") for _ in range(4)]
    for round_number in range(5):
        nonce = bytes([round_number]) * 32
        stores[0].add_nonce(nonce, 1, life_ms=LIFE_MS, most_open=10)
        with ThreadPoolExecutor(16) as pool:
            used = pool.map(lambda i, n=nonce: stores[i % 4].use_nonce(n, 2, life_ms=LIFE_MS), range(32))
        assert Counter(used) == {NonceUse.FIRST: 1, NonceUse.REPLAYED: 31}


def test_a_broker_that_is_killed_right_after_has_not_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    BrokerStore(path).add_nonce(NONCE, 1, life_ms=LIFE_MS, most_open=10)
    code = (
        "import os, sys; from pathlib import Path; from adyton.cleanroom.broker_store import BrokerStore; "
        f"print(BrokerStore(Path(sys.argv[1])).use_nonce(bytes(range(32)), 2, life_ms={LIFE_MS}).name, flush=True); "
        "os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)

    assert (killed.stdout.strip(), killed.returncode) == ("FIRST", -9)
    assert BrokerStore(path).use_nonce(NONCE, 3, life_ms=LIFE_MS) is NonceUse.REPLAYED


@pytest.mark.parametrize("at_ms", [999, 1_000 + LIFE_MS + 1])
def test_a_clock_that_was_set_back_or_ran_on_uses_a_nonce_up(tmp_path: Path, at_ms: int) -> None:
    store = BrokerStore(tmp_path / "s.sqlite")
    store.add_nonce(NONCE, 1_000, life_ms=LIFE_MS, most_open=10)

    assert store.use_nonce(NONCE, at_ms, life_ms=LIFE_MS) is NonceUse.STALE
    assert store.use_nonce(NONCE, 1_001, life_ms=LIFE_MS) is NonceUse.REPLAYED
    assert store.use_nonce(NONCE[::-1], 1_001, life_ms=LIFE_MS) is NonceUse.UNKNOWN


def test_nonces_that_nobody_uses_do_not_pile_up(tmp_path: Path) -> None:
    store = BrokerStore(tmp_path / "s.sqlite")
    for number in range(3):
        store.add_nonce(bytes([number]) * 32, 1, life_ms=LIFE_MS, most_open=3)
    with pytest.raises(BrokerUnavailableError, match="too many"):
        store.add_nonce(NONCE, 2, life_ms=LIFE_MS, most_open=3)
    store.add_nonce(NONCE, 2 + LIFE_MS, life_ms=LIFE_MS, most_open=3)


def test_entries_of_several_at_once_are_one_chain(tmp_path: Path) -> None:
    stores = [BrokerStore(tmp_path / "s.sqlite") for _ in range(3)]
    with ThreadPoolExecutor(9) as pool:
        list(pool.map(lambda i: stores[i % 3].append(at_ms=i, kind="refused", body={"n": i}), range(30)))

    entries = stores[0].log()
    assert verify_chain(entries) == entries[-1].entry_hash
    assert sorted(int(str(entry.body["n"])) for entry in entries) == list(range(30))


def test_of_two_ledgers_that_go_on_from_one_head_one_is_taken_also_across_restarts(tmp_path: Path) -> None:
    stores = [BrokerStore(tmp_path / "s.sqlite") for _ in range(4)]
    known = CounterValue(0, GENESIS_HASH)
    for length in range(1, 6):
        heads = [CounterValue(length, f"{length}{way}".rjust(64, "0")) for way in range(8)]
        with ThreadPoolExecutor(8) as pool:
            taken = list(pool.map(lambda i, k=known, h=heads: stores[i % 4].move_ledger_head(k, h[i]), range(8)))
        assert taken.count(True) == 1
        known = heads[taken.index(True)]
        assert BrokerStore(tmp_path / "s.sqlite").ledger_head() == known
