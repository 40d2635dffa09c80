"""What commands of the clean room do on a full disk, with files of another kind and with names that are taken."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adyton.cleanroom.appended import sealed_files
from adyton.cleanroom.attestation.errors import BrokerProtocolError, BrokerUnavailableError
from adyton.cleanroom.broker_client import BrokerClient
from adyton.cleanroom.broker_server import listen
from adyton.cleanroom.broker_store import BrokerStore
from adyton.cleanroom.contract import Template
from adyton.cleanroom.errors import LedgerUnavailableError
from adyton.cleanroom.ledger_store import FileCounter, LedgerStore
from adyton.cleanroom.receipt import RECEIPT_FORMAT, Receipt
from adyton.cli.main import run

SCHEMA = {
    "columns": [
        {"name": "user_id", "role": "user_id", "kind": "category"},
        {"name": "age", "role": "user", "kind": "number"},
    ]
}
PLAIN = {"ADYTON_PASSPHRASE": "correct horse", "PATH": os.environ["PATH"]}


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADYTON_PASSPHRASE", "correct horse")
    Path("schema.json").write_text(json.dumps(SCHEMA))
    Path("table.csv").write_text("user_id,age\n" + "".join(f"user-{i},{i}\n" for i in range(500)))


@pytest.fixture
def sealed() -> None:
    assert run(["party", "init", "ada"]) == 0
    assert run(["seal", "table.csv", "--schema", "schema.json", "--id", "log", "--key", "ada.key.json"]) == 0


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Files of this process may have `size` bytes; beyond that a write fails, as on a full disk.

    Only around the command: pytest's own output may be a file, too.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_party_on_a_full_disk_is_not_half_made(capsys: pytest.CaptureFixture[str]) -> None:
    with full_disk(300):
        assert run(["party", "init", "ada", "--folder", "keys"]) == 13
    assert "File too large" in capsys.readouterr().err
    assert list(Path("keys").iterdir()) == []


def test_another_partys_public_record_is_not_written_over() -> None:
    Path("ada.party.json").write_text("received from ada")
    assert run(["party", "init", "ada"]) == 10
    assert Path("ada.party.json").read_text() == "received from ada"
    assert not Path("ada.key.json").exists()


@pytest.mark.usefixtures("sealed")
def test_rows_that_do_not_fit_on_the_disk_leave_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    before = set(Path().iterdir())
    offer = ["psi", "offer", "table.csv", "--column", "user_id", "-o", "offer.json", "--secret", "secret"]
    with full_disk(1000):
        assert run(["unseal", "sealed/log.v1.manifest.json", "--key", "ada.key.json", "-o", "rows.parquet"]) == 13
        assert run(offer) == 13
    assert "offer.json: the file cannot be written" in capsys.readouterr().err
    assert set(Path().iterdir()) - before <= {Path("secret")}


@pytest.mark.usefixtures("sealed")
def test_json_that_nests_without_end_is_refused_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    Path("deep.json").write_text("[" * 200_000)
    seal = ["seal", "table.csv", "--id", "x"]
    for command in (
        [*seal, "--schema", "deep.json", "--key", "ada.key.json"],
        [*seal, "--schema", "schema.json", "--mapping", "deep.json", "--key", "ada.key.json"],
        [*seal, "--schema", "schema.json", "--key", "deep.json"],
        ["party", "show", "deep.json"],
    ):
        assert run(command) == 10
        assert "deep.json" in capsys.readouterr().err


def test_a_deserted_socket_is_taken_over_and_a_live_one_is_not(tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 's'}"
    listen(address).close()
    with listen(address):
        with pytest.raises(BrokerUnavailableError, match="in use"):
            listen(address)
        assert (tmp_path / "s").is_socket()
    (tmp_path / "file").write_text("somebody's")
    with pytest.raises(BrokerUnavailableError):
        listen(f"unix:{tmp_path / 'file'}")
    assert (tmp_path / "file").read_text() == "somebody's"
    with pytest.raises(BrokerUnavailableError):
        listen("unix:")


def test_a_broker_and_a_ledger_do_not_write_into_each_others_files(tmp_path: Path) -> None:
    BrokerStore(tmp_path / "store").close()
    LedgerStore(tmp_path / "ledger", FileCounter(tmp_path / "counter")).close()
    with pytest.raises(BrokerUnavailableError, match="another database"):
        BrokerStore(tmp_path / "ledger")
    with pytest.raises(LedgerUnavailableError, match="another database"):
        LedgerStore(tmp_path / "store", FileCounter(tmp_path / "counter-2"))
    BrokerStore(tmp_path / "store").close()


def test_a_broker_that_answers_garbage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()
        answer = "import socket,sys;c,_=socket.socket(fileno=int(sys.argv[1])).accept();c.recv(9999);"
        answer += r"c.sendall(b'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]');c.recv(1)"
        command = [sys.executable, "-c", answer, str(server.fileno())]
        with subprocess.Popen(command, pass_fds=[server.fileno()]) as process:
            with BrokerClient(f"unix:{path}") as client, pytest.raises(BrokerProtocolError) as error:
                client.nonce()
            process.kill()
    assert str(error.value).startswith(f"unix:{path}, body: ")


def test_a_broker_that_is_told_to_end_leaves_no_socket(tmp_path: Path, sealed: None) -> None:
    run(["party", "init", "bob"])
    run(["seal", "table.csv", "--schema", "schema.json", "--id", "other", "--key", "bob.key.json"])
    draft = ["contract", "draft", "c.json", "--id", "spring", "--output", "model=ada", "--allow-dev"]
    for party, table in (("ada", "log"), ("bob", "other")):
        draft += ["--party", f"{party}.party.json", "--manifest", f"sealed/{table}.v1.manifest.json"]
    assert run(draft) == 0
    serve = ["broker", "serve", "--key", "ada.key.json", "--contract", "c.json", "--sealed", "sealed"]
    command = [sys.executable, "-m", "adyton", *serve, "--store", "store", "--listen", "unix:s"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=PLAIN) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "unix:s\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert not (tmp_path / "s").exists()


def test_whoever_ends_a_run_ends_its_enclave(room: Any, tmp_path: Path) -> None:
    job = room.job("ended", Template.JOIN_STATISTICS, Template.TRAIN)
    (tmp_path / "job.json").write_text(json.dumps(job.as_json()))
    command = [sys.executable, "-m", "adyton", "cleanroom", "run", str(room.folder / "contract.json")]
    command += ["--job", "job.json", "--sealed", str(room.folder / "sealed"), "--out", "out"]
    command += ["--ledger", str(room.folder / "ledger" / "ledger.sqlite")]
    command += ["--counter", str(room.folder / "counter" / "counter.json")]
    for owner, address in room.brokers.items():
        command += ["--broker", f"{owner}={address}"]
    with subprocess.Popen(command, env=PLAIN) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while process.poll() is None and not (room.folder / "ledger" / "ledger.sqlite.ended.lock").exists():
            time.sleep(0.01)
        (enclave,) = children.read_text().split()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
    assert not Path(f"/proc/{enclave}").exists()
    assert not (tmp_path / "out").exists()


def test_a_manifest_of_no_version_is_nobodys(tmp_path: Path, room: Any) -> None:
    contract = room.signed.contract
    appending = replace(contract, datasets=tuple(replace(one, appends=True) for one in contract.datasets))
    (tmp_path / "publisher-log.v\N{SUPERSCRIPT TWO}.manifest.json").write_text("{}")
    assert set(sealed_files(appending, tmp_path)) == {"publisher-log", "advertiser-log"}


def test_a_folder_without_boxes_proves_nothing_of_them(
    room: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("receipt.json").write_text(json.dumps(Receipt({"format": RECEIPT_FORMAT}, bytes(64)).as_json()))
    verify = ["receipt", "verify", "receipt.json", "--contract", str(room.folder / "contract.json")]
    assert run([*verify, "--outputs", str(tmp_path)]) == 10
    assert "no sealed outputs lie in this folder" in capsys.readouterr().err
