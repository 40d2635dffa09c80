"""A ledger whose counter a TPM vouches for: putting back every file of it is noticed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from adyton.cleanroom.attestation.tpm_counter import TpmCounter
from adyton.cleanroom.attestation.tpm_tools import software_tpm, tools_are_installed
from adyton.cleanroom.errors import LedgerRollbackError, LedgerUnavailableError
from adyton.cleanroom.ledger_store import FileCounter, LedgerStore
from adyton.cleanroom.tpm_guard import TpmGuardedCounter
from adyton.kernel.ledger import Account, PrivacyLoss

pytestmark = pytest.mark.skipif(not tools_are_installed(), reason="swtpm or tpm2-tools are not installed")
ACCOUNT = Account("publisher", "users")


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[TpmCounter]:
    with software_tpm(tmp_path / "tpm") as connection:
        counter = TpmCounter(connection.wire)
        counter.create()
        yield counter


def spend(store: LedgerStore, name: str) -> None:
    store.reserve(name, ACCOUNT, "test", PrivacyLoss.of(1), PrivacyLoss.of(9))
    store.commit(name)


def test_ledger_and_counter_put_back_together_are_refused(tmp_path: Path, tpm: TpmCounter) -> None:
    folder, copy = tmp_path / "ledger", tmp_path / "copy"
    folder.mkdir()
    counter = TpmGuardedCounter(folder / "counter.json", tpm)
    counter.start()
    store = LedgerStore(folder / "ledger.sqlite", counter)
    spend(store, "one/x")
    shutil.copytree(folder, copy)
    spend(store, "two/x")
    assert store.ledger({}).spent(ACCOUNT) == PrivacyLoss.of(2)
    store.close()
    shutil.rmtree(folder)
    shutil.copytree(copy, folder)

    with pytest.raises(LedgerRollbackError, match="the TPM stands at"):
        LedgerStore(folder / "ledger.sqlite", TpmGuardedCounter(folder / "counter.json", tpm))
    # What a counter in a plain file misses.
    record = json.loads((folder / "counter.json").read_text())
    (folder / "plain.json").write_text(json.dumps({name: value for name, value in record.items() if name != "tpm"}))
    LedgerStore(folder / "ledger.sqlite", FileCounter(folder / "plain.json")).close()


def test_a_crash_between_file_and_tpm_is_completed(tmp_path: Path, tpm: TpmCounter) -> None:
    counter = TpmGuardedCounter(tmp_path / "counter.json", tpm)
    counter.start()
    before = tpm.value()
    text = (tmp_path / "counter.json").read_text()
    (tmp_path / "counter.json").write_text(text.replace(f'"tpm": {before}', f'"tpm": {before + 1}'))

    assert counter.read().entries == 0
    assert tpm.value() == before + 1


def test_a_missing_file_is_no_empty_ledger(tmp_path: Path, tpm: TpmCounter) -> None:
    with pytest.raises(LedgerUnavailableError):
        LedgerStore(tmp_path / "ledger.sqlite", TpmGuardedCounter(tmp_path / "counter.json", tpm))
    counter = TpmGuardedCounter(tmp_path / "counter.json", tpm)
    counter.start()
    with pytest.raises(LedgerRollbackError, match="started before"):
        counter.start()
