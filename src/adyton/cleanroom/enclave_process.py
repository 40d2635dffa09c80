"""The enclave's process as its operator sees it: JSON lines in, JSON lines out, killed when nobody listens any more."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import IO, Any, Self

from adyton.cleanroom.errors import EnclaveProtocolError, EnclaveUnavailableError


class EnclaveProcess:
    """One process. Use as a context manager.

    start: the first line (`enclave_main`).   timeout_s: after which it is killed; None for a stream.
    Raises EnclaveUnavailableError if it does not start.
    """

    def __init__(self, start: Mapping[str, Any], threads: int, timeout_s: float | None) -> None:
        command = [sys.executable, "-I", "-m", "adyton.cleanroom.enclave_main"]
        environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "OMP_NUM_THREADS": str(threads)}
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
                text=True,
            )
        except OSError as error:
            raise EnclaveUnavailableError(f"the enclave's process did not start ({error.strerror})") from error
        self._timeout_s, self._took_too_long = timeout_s, threading.Event()
        self._timer = threading.Timer(timeout_s, self._end_in_time) if timeout_s is not None else None
        if self._timer is not None:
            self._timer.start()
        self.send(start)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, line: Mapping[str, Any]) -> None:
        """Say one line. Raises EnclaveUnavailableError if the process is gone."""
        pipe = _pipe(self._process.stdin)
        try:
            pipe.write(json.dumps(line) + "\n")
            pipe.flush()
        except (BrokenPipeError, ValueError):
            # What it said before it died says more; nobody may have listened yet.
            if self._process.poll() is None:
                raise EnclaveUnavailableError("the enclave does not listen") from None

    def events(self) -> Iterator[Mapping[str, Any]]:
        """Its lines, until it ends. Raises EnclaveUnavailableError if it was killed, EnclaveProtocolError."""
        for line in _pipe(self._process.stdout):
            try:
                event = json.loads(line)
            except ValueError as error:
                raise EnclaveProtocolError("the enclave's line is no JSON") from error
            yield event
        code = self._process.wait()
        if self._took_too_long.is_set():
            raise EnclaveUnavailableError(
                f"the enclave was killed after {self._timeout_s:g} s, which is all the time it had",
                hint="nothing was released; ask for less in one job",
            )
        if code < 0:
            raise EnclaveUnavailableError(
                f"the enclave was killed ({signal.Signals(-code).name})",
                hint="nothing was released; run the job again, with more memory if it ran out",
            )

    def _end_in_time(self) -> None:
        self._took_too_long.set()
        self._process.kill()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                _pipe(pipe).close()
            except BrokenPipeError:
                continue


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None, "asked for a pipe"
    return pipe
