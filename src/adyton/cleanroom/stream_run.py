"""A stream from outside: start its enclave, hand it sealed batches, keep the sealed scores.

with CleanroomStream(contract, inputs, brokers, job, out_dir, ledger=..., counter=...) as stream:
    stream.first                                   # what the first job handed out
    stream.score({"advertiser-log@v2": files})     # OUT/batch-000001: receipt and boxes, or None
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from adyton.cleanroom.enclave_process import EnclaveProcess
from adyton.cleanroom.errors import EnclaveProtocolError
from adyton.cleanroom.job import JobSpec, Progress
from adyton.cleanroom.run import (
    RunResult,
    check_out_dir,
    input_paths,
    keep_result,
    next_result,
    remote_error,
    start_line,
)


class CleanroomStream:
    """One enclave that stays. Arguments are those of `run_cleanroom`; the job is run as an incremental one.

    Raises what `run_cleanroom` raises. Use as a context manager: leaving it ends the enclave.
    """

    def __init__(
        self,
        contract: Path,
        inputs: Mapping[str, tuple[Path, Path]],
        brokers: Mapping[str, str],
        job: JobSpec,
        out_dir: Path,
        *,
        ledger: Path,
        counter: Path,
        progress: Progress | None = None,
        threads: int = 2,
    ) -> None:
        check_out_dir(out_dir)
        streamed = replace(job, incremental=True)
        start = start_line(contract, inputs, brokers, streamed, ledger=ledger, counter=counter, threads=threads)
        self._out_dir, self._batches = out_dir, 0
        self._process = EnclaveProcess({**start, "stream": True}, threads, timeout_s=None)
        self._events = self._process.events()
        try:
            self.first: RunResult = keep_result(next_result(self._events, progress), out_dir / "first")
        except BaseException:
            self._process.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.close()

    def score(self, batch: Mapping[str, tuple[Path, Path]]) -> RunResult | None:
        """Scores of a batch's base rows; None if it holds partners' rows only.

        batch: sealed file and manifest by `DATASET@vN`.   Raises the error of a refused batch; the stream goes on.
        """
        self._process.send({"batch": input_paths(batch)})
        event = next(self._events, None)
        if event is None:
            raise EnclaveProtocolError("the enclave ended")
        if event.get("event") == "error":
            raise remote_error(event)
        if event.get("event") == "taken":
            return None
        self._batches += 1
        return keep_result(event, self._out_dir / f"batch-{self._batches:06d}")
