"""`python -m adyton.cleanroom.enclave_main`: the enclave's process.

One JSON object on standard input says where the contract, sealed files, brokers and ledger are and what to run. JSON
lines on standard output say how far it is; the last line is the result or one error, and carries everything out:

    {"event": "progress", "fraction": 0.3, "what": "..."}
    {"event": "result", "receipt": {...}, "outputs": [{"output", "recipient", "file", "box": base64}]}
    {"event": "error", "error": "GateRefusedError", "what", "where", "hint", "exit_code"}

The process is shut in before any library with threads is loaded. Errors that are not ours leave as their type and place
only, since their text may quote data.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adyton.cleanroom.errors import EnclaveUnavailableError
from adyton.cleanroom.hardening import Measure, shut_in
from adyton.cleanroom.private_memory import FOLDER
from adyton.kernel.errors import AdytonError, BadInputError

if TYPE_CHECKING:
    from adyton.cleanroom.enclave import Enclave, EnclaveResult
    from adyton.cleanroom.job import JobSpec, Progress

MAX_LINE_BYTES = 1 << 20
Send = Callable[[Mapping[str, Any]], None]


def main() -> int:
    """Run one job; gives the exit code."""
    # Standard output belongs to the protocol: whatever a library prints goes to standard error.
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def send(event: Mapping[str, Any]) -> None:
        channel.write(json.dumps(event) + "\n")
        channel.flush()

    try:
        start = json.loads(sys.stdin.buffer.readline(MAX_LINE_BYTES))
        ports = [port for address in start["brokers"].values() if (port := _tcp_port(address)) is not None]
        writable = sorted({Path(start["ledger"]).parent, Path(start["counter"]).parent})
        java_mb = int(start["job"]["memory_mb"]) if start["job"].get("engine") == "spark" else None
        held = shut_in(writable, ports, java_mb=java_mb)
        # torch asks for a cache folder when it first optimizes and writes nothing there: one that exists will do.
        tempfile.tempdir = os.environ["TORCHINDUCTOR_CACHE_DIR"] = "/"
        if java_mb is not None:
            _use_private_memory(held, ports)
        _run(start, held, send)
    except AdytonError as error:
        send({"event": "error", **error.as_json(), "exit_code": error.exit_code})
        return error.exit_code
    except MemoryError:
        hint = "nothing was released; a larger machine, or less data"
        full = EnclaveUnavailableError("the job does not fit into the enclave's memory", hint=hint)
        send({"event": "error", **full.as_json(), "exit_code": full.exit_code})
        return full.exit_code
    except BaseException as error:  # noqa: BLE001  the process line: nothing but an event may cross it
        frame = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__} in {Path(frame.filename).name}, line {frame.lineno}"
        send({"event": "error", "error": "InternalError", "what": what, "where": None, "hint": None, "exit_code": 70})
        return 70
    return 0


def _run(start: Mapping[str, Any], held: tuple[Measure, ...], send: Send) -> None:
    # Imported here: numpy and DuckDB start threads, and namespaces can only be left by a single thread.
    from adyton.cleanroom.attestation.tpm_counter import TpmCounter
    from adyton.cleanroom.attestation.tpm_wire import TpmWire
    from adyton.cleanroom.enclave import Enclave
    from adyton.cleanroom.job import JobSpec
    from adyton.cleanroom.key_exchange import DevelopmentEvidence, EvidenceMaker, SoftwareTpmEvidence
    from adyton.cleanroom.ledger_store import FileCounter, LedgerStore, MonotonicCounter
    from adyton.cleanroom.measurement import code_measurement
    from adyton.cleanroom.opened_inputs import SealedInput
    from adyton.cleanroom.signed_contract import load_contract
    from adyton.cleanroom.tpm_guard import TpmGuardedCounter
    from adyton.cleanroom.workload import ROW_LEVEL
    from adyton.kernel.chance import InsecureFixedRandom, OsRandom
    from adyton.kernel.clock import SystemClock

    threads = int(start.get("threads", 2))
    fixed_noise = start.get("insecure_fixed_noise")
    maker: EvidenceMaker = DevelopmentEvidence(code_measurement())
    counter: MonotonicCounter = FileCounter(Path(start["counter"]))
    if start.get("tpm") is not None:
        tpm = TpmWire(str(start["tpm"]))
        maker, counter = SoftwareTpmEvidence(tpm), TpmGuardedCounter(Path(start["counter"]), TpmCounter(tpm))
    ledger = LedgerStore(Path(start["ledger"]), counter)
    ledger.settle_crashed()
    enclave = Enclave(
        signed=load_contract(Path(start["contract"])),
        inputs={name: SealedInput(Path(s), Path(m)) for name, (s, m) in start["inputs"].items()},
        brokers=start["brokers"],
        ledger=ledger,
        maker=maker,
        hardening=held,
        clock=SystemClock(),
        random=OsRandom(),
        noise=OsRandom() if fixed_noise is None else InsecureFixedRandom(int(fixed_noise), "enclave noise"),
        threads=threads,
    )
    job = JobSpec.from_json(start["job"])
    if job.templates & ROW_LEVEL:
        _compile_in_memory()

    def tell(fraction: float, what: str) -> None:
        send({"event": "progress", "fraction": round(fraction, 3), "what": what})

    if start.get("stream") is True:
        _stream(enclave, job, send, tell)
    else:
        send(_result_event(enclave.run(job, tell)))


def _stream(enclave: Enclave, job: JobSpec, send: Send, tell: Progress) -> None:
    """The first job, then a line for every batch until standard input ends; a refused batch is told and passed over."""
    from adyton.cleanroom.engine import open_engine_of
    from adyton.cleanroom.opened_inputs import SealedInput
    from adyton.cleanroom.scored_stream import start_stream

    with open_engine_of(job.engine, job.memory_mb, enclave.threads) as engine:
        result, stream = start_stream(enclave, job, engine, tell)
        send(_result_event(result))
        for line in iter(lambda: sys.stdin.buffer.readline(MAX_LINE_BYTES), b""):
            batch = json.loads(line)["batch"]
            try:
                scored = stream.score({name: SealedInput(Path(s), Path(m)) for name, (s, m) in batch.items()})
                send(_result_event(scored) if scored is not None else {"event": "taken"})
            except AdytonError as error:
                send({"event": "error", **error.as_json(), "exit_code": error.exit_code})
                continue
            stream.sum_up()


def _result_event(result: EnclaveResult) -> dict[str, Any]:
    return {
        "event": "result",
        "receipt": result.receipt.as_json(),
        "outputs": [
            {
                "output": one.output.value,
                "recipient": one.recipient,
                "file": one.file,
                "box": base64.b64encode(one.box).decode(),
            }
            for one in result.outputs
        ],
    }


def _use_private_memory(held: tuple[Measure, ...], ports: list[int]) -> None:
    """Temporary files go to private memory, or the run ends: Spark would write rows to a disk, or to a network."""
    if ports:
        raise EnclaveUnavailableError(
            "with Spark, brokers are reached by UNIX socket only", hint="`adyton broker serve --listen unix:/path`"
        )
    needed = {"private-memory", "network-namespace", "loopback", "landlock-files"}
    if missing := needed - {measure.name for measure in held if measure.held}:
        raise EnclaveUnavailableError(
            f"Spark cannot be shut in on this machine: {', '.join(sorted(missing))} did not hold",
            hint="use the engine duckdb",
        )
    tempfile.tempdir = str(FOLDER)


def _compile_in_memory() -> None:
    """Keep numba from its cache on disk: that holds machine code which no measurement covers, and cannot be written."""
    from numba.core.dispatcher import Dispatcher

    Dispatcher.enable_caching = lambda _dispatcher: None  # type: ignore[method-assign, assignment]


def _tcp_port(address: str) -> int | None:
    if address.startswith("unix:"):
        return None
    port = address.rstrip("/").rpartition(":")[2]
    if not port.isdecimal():
        raise BadInputError("a broker's address has no port", where=address, hint="http://HOST:PORT or unix:/path")
    return int(port)


if __name__ == "__main__":
    sys.exit(main())
