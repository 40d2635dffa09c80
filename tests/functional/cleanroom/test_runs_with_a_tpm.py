"""Runs whose evidence is a TPM's quote and whose ledger a TPM's counter guards, with swtpm and no TCP at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adyton.cleanroom.attestation.dev_tpm import measurement_of
from adyton.cleanroom.attestation.errors import EvidenceRefusedError, TpmUnavailableError
from adyton.cleanroom.attestation.tpm_tools import tools_are_installed
from adyton.cleanroom.broker_store import BrokerStore
from adyton.cleanroom.contract import Template
from adyton.cleanroom.errors import LedgerRollbackError, LedgerUnavailableError
from adyton.cleanroom.measurement import code_measurement
from adyton.cleanroom.receipt import verify_receipt
from adyton.cleanroom.tpm_folder import KEY_FILE, make_tpm_folder, started_tpm
from adyton.cli.main import run
from adyton.kernel.errors import BadInputError
from adyton.kernel.ledger import PrivacyLoss

pytestmark = pytest.mark.skipif(not tools_are_installed(), reason="swtpm or tpm2-tools are not installed")
STATISTICS = Template.JOIN_STATISTICS
LOSS = PrivacyLoss.of("1/10")


@pytest.fixture
def tpm(tmp_path: Path) -> Path:
    make_tpm_folder(tmp_path / "tpm", tmp_path / "counter.json")
    return tmp_path / "tpm"


@pytest.fixture
def tpm_room(make_room: Callable[..., Any], tpm: Path) -> Any:
    """A contract that allows this code as a TPM states it, and brokers that trust this TPM's key."""
    allowed = frozenset({measurement_of(code_measurement()).hex()})
    return make_room(trust=((tpm / KEY_FILE).read_bytes(),), measurements=allowed)


@pytest.mark.slow
def test_keys_are_released_to_a_quote_and_the_receipt_names_the_platform(tpm_room: Any, tpm: Path) -> None:
    anchors = [(tpm / KEY_FILE).read_bytes()]
    result = tpm_room.run(tpm_room.job("quoted", STATISTICS), tpm=tpm, counter=tpm.parent / "counter.json")

    assert (result.receipt.body["platform"], result.receipt.body["development"]) == ("dev-tpm", True)
    contract = tpm_room.signed.contract
    assert verify_receipt(result.receipt, contract, trust_anchors=anchors).holds
    assert "chain" in verify_receipt(result.receipt, contract).checks[2].found
    log = BrokerStore(tpm_room.folder / "publisher.sqlite").log()
    granted = [entry.body for entry in log if entry.kind == "granted"]
    assert [(one["platform"], one["development"]) for one in granted] == [("dev-tpm", True)]
    receipt, agreed = str(result.receipt_path), str(tpm_room.folder / "contract.json")
    assert run(["receipt", "verify", receipt, "--contract", agreed]) == 11
    assert run(["receipt", "verify", receipt, "--contract", agreed, "--trust", str(tpm / KEY_FILE)]) == 0


@pytest.mark.slow
def test_a_ledger_put_back_with_all_its_files_stops_the_next_run(tpm_room: Any, tpm: Path) -> None:
    """Ledger and counter file both: a counter in a file alone would see nothing."""
    counter, ledger = tpm.parent / "counter.json", tpm_room.folder / "ledger"

    def spend(name: str) -> None:
        job = tpm_room.job(name, STATISTICS, statistics_loss=LOSS)
        tpm_room.run(job, tpm=tpm, counter=counter)

    spend("first")
    shutil.copytree(ledger, tpm.parent / "old")
    shutil.copy(counter, tpm.parent / "old.json")
    spend("second")
    shutil.rmtree(ledger)
    shutil.copytree(tpm.parent / "old", ledger)
    shutil.copy(tpm.parent / "old.json", counter)

    with pytest.raises(LedgerRollbackError, match="the TPM stands at"):
        spend("third")
    command = ["cleanroom", "settle", "--ledger", str(ledger / "ledger.sqlite"), "--counter", str(counter)]
    assert run([*command, "--tpm", str(tpm)]) == 11


@pytest.mark.slow
def test_a_counter_that_a_tpm_guards_is_not_used_without_it(tpm_room: Any, tpm: Path) -> None:
    with pytest.raises(LedgerUnavailableError, match="a TPM guards"):
        tpm_room.run(tpm_room.job("bare", STATISTICS), counter=tpm.parent / "counter.json")


@pytest.mark.slow
def test_another_tpms_key_gets_no_data_key(tpm_room: Any, tmp_path: Path) -> None:
    other, counter = tmp_path / "other", tmp_path / "other.json"
    make_tpm_folder(other, counter)
    with pytest.raises(EvidenceRefusedError, match="chain"):
        tpm_room.run(tpm_room.job("foreign", STATISTICS), tpm=other, counter=counter)


def test_a_folder_is_made_once_and_says_what_to_do_without_one(tpm: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="holds a TPM"):
        make_tpm_folder(tpm, tmp_path / "new.json")
    with pytest.raises(LedgerRollbackError, match="started before"):
        make_tpm_folder(tmp_path / "second", tpm.parent / "counter.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TpmUnavailableError, match="no TPM in this folder"), started_tpm(tmp_path / "empty"):
        pass
