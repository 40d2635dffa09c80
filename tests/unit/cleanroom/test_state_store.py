"""The state of incremental runs is sealed under what every owner shared, one owner included."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from adyton.cleanroom.join_state import JoinState
from adyton.cleanroom.ledger_store import FileCounter, LedgerStore
from adyton.cleanroom.secret_bytes import SecretBytes
from adyton.cleanroom.state_store import StateOrigin, StateStore
from adyton.kernel.chance import InsecureFixedRandom
from adyton.kernel.ids import ContractHash

ORIGIN = StateOrigin(ContractHash("ab" * 32), "cd" * 32, "daily")
STATE = JoinState(b"k" * 32, {"log": 1}, {"log": pa.array([1, 2], pa.int64())}, {"log": 2})


def store(folder: Path, *shares: SecretBytes) -> StateStore:
    return StateStore(
        folder, LedgerStore(folder / "ledger.sqlite", FileCounter(folder / "counter.json")), ORIGIN, shares
    )


@pytest.mark.parametrize("n_owners", [1, 2, 3])
def test_each_run_opens_what_the_run_before_kept(tmp_path: Path, n_owners: int) -> None:
    keys = [bytes([i + 1]) * 32 for i in range(n_owners)]
    for run in range(3):
        shares = [SecretBytes.copy_of(key) for key in keys]
        one = store(tmp_path, *shares)
        kept = one.newest()
        assert (kept is None) == (run == 0)
        assert kept is None or kept.join_key == STATE.join_key
        one.keep(STATE, InsecureFixedRandom(run, "state"))
        assert [bytes(share.data) for share in shares] == keys
