"""Talking to a TPM 2.0 through tpm2-tools, and starting a software one with swtpm.

Facts that cost time elsewhere (cleanroom §2.5): swtpm changes directory, so its state path is absolute; its control
port is the server port plus one; transient handles stay in the TPM until they are flushed.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adyton.cleanroom.attestation.errors import TpmUnavailableError

COMMAND_SECONDS = 60
START_SECONDS = 10
TOOLS = ("tpm2_createek", "tpm2_createak", "tpm2_quote", "tpm2_pcrextend", "tpm2_pcrread", "tpm2_nvdefine")


def tools_are_installed(*, software_tpm: bool = True) -> bool:
    """Whether tpm2-tools, and swtpm if asked, are on this machine."""
    return all(shutil.which(tool) for tool in (*TOOLS, *(("swtpm",) if software_tpm else ())))


@dataclass(frozen=True)
class TpmConnection:
    """A TPM by its TCTI (`device:/dev/tpmrm0`, `swtpm:host=...,port=...`), and a folder for key contexts."""

    tcti: str
    folder: Path

    def call(self, tool: str, *arguments: str) -> bytes:
        """Run one tpm2 tool in the folder and give its stdout.

        Raises TpmUnavailableError if it is missing, hangs or fails.
        """
        environment = {**os.environ, "TPM2TOOLS_TCTI": self.tcti}
        try:
            done = subprocess.run(
                [tool, *arguments],
                cwd=self.folder,
                env=environment,
                capture_output=True,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except FileNotFoundError as error:
            raise TpmUnavailableError(f"{tool} is not installed", hint="apt-get install swtpm tpm2-tools") from error
        except subprocess.TimeoutExpired as error:
            raise TpmUnavailableError(f"{tool} does not answer") from error
        if done.returncode != 0:
            said = [line for line in done.stderr.decode(errors="replace").splitlines() if line.startswith("ERROR")]
            raise TpmUnavailableError(f"{tool} failed: {said[0][:200] if said else 'no reason given'}")
        return done.stdout

    def flush(self) -> None:
        """Drop transient objects, which would fill the TPM."""
        self.call("tpm2_flushcontext", "-t")

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


@contextmanager
def software_tpm(folder: Path) -> Iterator[TpmConnection]:
    """A software TPM with its state in `folder`, for the length of a `with` block. DEVELOPMENT ONLY.

    Raises TpmUnavailableError if swtpm is missing or does not start.
    """
    folder = folder.absolute()
    state, work = folder / "state", folder / "work"
    for path in (state, work):
        path.mkdir(parents=True, exist_ok=True)
    port = _free_port_pair()
    command = [
        *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--flags", "not-need-init,startup-clear"),
        *(
            "--server",
            f"type=tcp,port={port},bindaddr=127.0.0.1",
            "--ctrl",
            f"type=tcp,port={port + 1},bindaddr=127.0.0.1",
        ),
    ]
    try:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise TpmUnavailableError("swtpm is not installed", hint="apt-get install swtpm tpm2-tools") from error
    try:
        _wait_for(process, port + 1)
        yield TpmConnection(f"swtpm:host=127.0.0.1,port={port}", work)
    finally:
        process.terminate()
        try:
            process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise TpmUnavailableError("swtpm did not start")


def _free_port_pair() -> int:
    for _ in range(50):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port
    raise TpmUnavailableError("no two neighbouring ports are free")
