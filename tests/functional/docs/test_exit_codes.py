"""The exit codes that `adyton --help` promises, where no command has an error of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from adyton.cli import main
from adyton.kernel.errors import InternalError

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", [["queue", "states"], ["review", "allocators"]])
def test_output_onto_a_full_disk_is_this_machines_fault_and_no_traceback(command: list[str]) -> None:
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "adyton", *command],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=120,
        )

    assert done.returncode == 13
    assert "no space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("error", [InternalError("we did wrong"), TypeError("we did wrong"), OSError(22, "we did")])
def test_a_defect_has_its_traceback_and_its_own_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    @click.command()
    def broken() -> None:
        raise error

    monkeypatch.setattr(main._LazyGroup, "get_command", lambda *_: broken)

    assert main.run(["states"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_a_file_that_may_not_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def forbidden() -> None:
        raise PermissionError(13, "Permission denied", "/somewhere/out.csv")

    monkeypatch.setattr(main._LazyGroup, "get_command", lambda *_: forbidden)

    assert main.run(["states"]) == 13
    told = capsys.readouterr().err
    assert told.startswith("error: /somewhere/out.csv: permission denied")
    assert "Traceback" not in told
