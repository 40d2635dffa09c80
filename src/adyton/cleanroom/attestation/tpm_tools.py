"""Setting a TPM 2.0 up through tpm2-tools, and starting a software one with swtpm.

The software TPM listens on UNIX sockets, which a process without any network still reaches. Facts that cost time
elsewhere (cleanroom §2.5): swtpm changes directory, so its paths are absolute; its control socket is the server's path
with `.ctrl` behind it; transient handles stay in the TPM until they are flushed.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from adyton.cleanroom.attestation.errors import TpmUnavailableError
from adyton.cleanroom.attestation.tpm_wire import TpmWire

COMMAND_SECONDS = 60
START_SECONDS = 10
TOOLS = ("tpm2_createek", "tpm2_createak", "tpm2_makecredential", "tpm2_activatecredential", "tpm2_evictcontrol")


def tools_are_installed(*, software_tpm: bool = True) -> bool:
    """Whether tpm2-tools, and swtpm if asked, are on this machine."""
    return all(shutil.which(tool) for tool in (*TOOLS, *(("swtpm",) if software_tpm else ())))


@dataclass(frozen=True)
class TpmConnection:
    """A TPM by its TCTI (`device:/dev/tpmrm0`, `swtpm:path=...`), and a folder for key contexts."""

    tcti: str
    folder: Path

    @property
    def wire(self) -> TpmWire:
        """The same TPM, spoken to without tools."""
        kind, _, place = self.tcti.partition(":")
        return TpmWire(place if kind == "device" else f"unix:{place.removeprefix('path=')}")

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
    # A folder of its own: a socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="adyton-tpm-") as sockets:
        path = Path(sockets) / "tpm"
        command = [
            *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--flags", "not-need-init,startup-clear"),
            *("--server", f"type=unixio,path={path}", "--ctrl", f"type=unixio,path={path}.ctrl"),
        ]
        with _running(command, path):
            connection = TpmConnection(f"swtpm:path={path}", work)
            try:
                yield connection
            finally:
                with suppress(TpmUnavailableError):
                    connection.wire.shut_down()


@contextmanager
def _running(command: list[str], path: Path) -> Iterator[None]:
    try:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise TpmUnavailableError("swtpm is not installed", hint="apt-get install swtpm tpm2-tools") from error
    try:
        _wait_for(process, path)
        yield
    finally:
        process.terminate()
        try:
            process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(process: subprocess.Popen[bytes], path: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(path))
            except OSError:
                time.sleep(0.02)
            else:
                return
    raise TpmUnavailableError("swtpm did not start", hint="is its state folder used by another one, or not writable?")
