"""`adyton queue` as an operator uses it, in its own processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx
from click.testing import CliRunner

from adyton.cli.queue import queue
from adyton.kernel.errors import AdytonError


def _run(folder: Path, *arguments: str) -> tuple[str, str]:
    result = CliRunner().invoke(queue, [*arguments, "--database", f"sqlite:///{folder}/queue.db"])
    if isinstance(result.exception, AdytonError):
        return "", f"{type(result.exception).__name__}: {result.exception} [{result.exception.hint}]"
    assert result.exception is None, result.exception
    return result.stdout, result.stderr


def test_from_nothing_to_an_answer_over_http(tmp_path: Path) -> None:
    refused = _run(tmp_path, "verify")
    first, again = _run(tmp_path, "migrate"), _run(tmp_path, "migrate")
    _run(tmp_path, "person", "ann", "--role", "lead", "--market", "US")
    _run(tmp_path, "policy", "weapons", "--title", "Weapons", "--worst", "rejected")
    token = _run(tmp_path, "token", "ann")[0].strip()
    server = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from adyton.cli.queue import queue; queue()",
            "serve",
            "--port",
            "0",
            "--database",
            f"sqlite:///{tmp_path}/queue.db",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        line = server.stderr.readline()
        address = line.removeprefix("listening on ").strip()
        me = httpx.get(f"{address}/api/me", headers={"Authorization": f"Bearer {token}"}, timeout=30).json()
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
        server.stderr.close()
    verified = json.loads(_run(tmp_path, "verify", "--json")[0])

    assert refused[1].startswith("StoreUnavailableError")
    assert refused[1].endswith("[run: adyton queue migrate]")
    assert first[1] == "from version none to 0002\n"
    assert again[1] == "already at version 0002\n"
    assert me["role"] == "lead"
    assert verified["n_events"] == 3


def test_data_goes_to_stdout_and_everything_else_to_stderr(tmp_path: Path) -> None:
    _run(tmp_path, "migrate")
    exported = _run(tmp_path, "export")
    swept = _run(tmp_path, "sweep")

    assert exported == ("", "0 ads; 0 kept back, their limits would not be kept\n")
    assert swept == ("", "0 claims taken back, 0 ads ended\n")


def test_an_unknown_person_gets_no_token(tmp_path: Path) -> None:
    _run(tmp_path, "migrate")

    assert _run(tmp_path, "token", "nobody")[1].startswith("UnknownRecordError")


def test_another_kind_of_database_is_refused_with_the_kinds_there_are() -> None:
    result = CliRunner().invoke(queue, ["migrate", "--database", "mysql://localhost/x"])

    assert isinstance(result.exception, AdytonError)
    assert "sqlite" in str(result.exception.hint)
