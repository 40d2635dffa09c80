"""Running the clean room from outside: start the enclave's process, show its progress, keep what it hands out.

    result = run_cleanroom(contract_path, inputs, brokers, job, out_dir, ledger=..., counter=..., progress=...)
    data = open_output(result.outputs[0].path, advertiser)

The caller is the machine's operator: it holds sealed files, sees progress and errors, and can open nothing.
"""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adyton.cleanroom.attestation import errors as attestation_errors
from adyton.cleanroom.contract import Output
from adyton.cleanroom.enclave_process import EnclaveProcess
from adyton.cleanroom.errors import EnclaveProtocolError, SealWriteError
from adyton.cleanroom.job import JobSpec, Progress
from adyton.cleanroom.measurement import code_measurement
from adyton.cleanroom.party import Party
from adyton.cleanroom.receipt import Receipt
from adyton.cleanroom.sealed_box import open_box
from adyton.cleanroom.tpm_folder import started_tpm
from adyton.kernel.chance import OsRandom
from adyton.kernel.errors import (
    AdytonError,
    BadInputError,
    InternalError,
    PeerError,
    RefusedError,
    UnavailableError,
)
from adyton.learning import errors as learning_errors
from adyton.learning.synth import errors as synth_errors

RECEIPT_FILE = "receipt.json"
# Imported so that their classes are known when an error comes back by name.
_ERROR_MODULES = (attestation_errors, learning_errors, synth_errors)
_BY_EXIT_CODE: Mapping[int, type[AdytonError]] = {
    cls.exit_code: cls for cls in (BadInputError, RefusedError, PeerError, UnavailableError, InternalError)
}


@dataclass(frozen=True)
class SealedFile:
    """A sealed output on disk."""

    output: Output
    recipient: str
    path: Path


@dataclass(frozen=True)
class RunResult:
    """What a run left in `out_dir`: the receipt and one box per output and recipient."""

    receipt: Receipt
    receipt_path: Path
    outputs: tuple[SealedFile, ...]

    def box(self, output: Output, recipient: str) -> Path:
        """The box of `output` for `recipient`. Raises BadInputError if there is none."""
        for one in self.outputs:
            if (one.output, one.recipient) == (output, recipient):
                return one.path
        raise BadInputError(f"{recipient} received no {output.value} from this run")


def run_cleanroom(
    contract: Path,
    inputs: Mapping[str, tuple[Path, Path]],
    brokers: Mapping[str, str],
    job: JobSpec,
    out_dir: Path,
    *,
    ledger: Path,
    counter: Path,
    progress: Progress | None = None,
    tpm: Path | None = None,
    threads: int = 2,
    timeout_s: float = 3600.0,
    insecure_fixed_noise: int | None = None,
) -> RunResult:
    """Run one job in an enclave process and write its outputs to `out_dir`, all of them or none.

    contract: signed contract file.   inputs: (sealed file, manifest) by dataset id.   brokers: address by owner.
    ledger: SQLite file.   counter: file that guards it, better kept elsewhere.   out_dir: must not exist.
    tpm: folder of a software TPM (`tpm_folder`) that makes the evidence and vouches for the counter.
    Raises the error that the enclave reported, with its own class; EnclaveUnavailableError if it was killed.
    """
    check_out_dir(out_dir)
    start = {
        **start_line(contract, inputs, brokers, job, ledger=ledger, counter=counter, threads=threads),
        "insecure_fixed_noise": insecure_fixed_noise,
    }
    if tpm is None:
        return _run(start, out_dir, threads, timeout_s, progress)
    with started_tpm(tpm, code_measurement()) as wire:
        return _run({**start, "tpm": wire.address}, out_dir, threads, timeout_s, progress)


def start_line(
    contract: Path,
    inputs: Mapping[str, tuple[Path, Path]],
    brokers: Mapping[str, str],
    job: JobSpec,
    *,
    ledger: Path,
    counter: Path,
    threads: int,
) -> dict[str, Any]:
    """What an enclave's process is told first. The folders of ledger and counter are made. Raises SealWriteError."""
    for path in (ledger, counter):
        _make_folder(path.resolve().parent)
    return {
        "contract": str(contract.resolve()),
        "inputs": input_paths(inputs),
        "brokers": dict(brokers),
        "ledger": str(ledger.resolve()),
        "counter": str(counter.resolve()),
        "job": job.as_json(),
        "threads": threads,
    }


def input_paths(inputs: Mapping[str, tuple[Path, Path]]) -> dict[str, list[str]]:
    return {name: [str(path.resolve()) for path in pair] for name, pair in inputs.items()}


def _run(
    start: Mapping[str, Any], out_dir: Path, threads: int, timeout_s: float, progress: Progress | None
) -> RunResult:
    with EnclaveProcess(start, threads, timeout_s) as process:
        return keep_result(next_result(process.events(), progress), out_dir)


def next_result(events: Iterator[Mapping[str, Any]], progress: Progress | None) -> Mapping[str, Any]:
    """The next event that is a result; progress is told on the way. Raises the error that the enclave reports."""
    for event in events:
        if event.get("event") == "progress":
            if progress is not None:
                progress(float(event["fraction"]), str(event["what"]))
        elif event.get("event") == "error":
            raise remote_error(event)
        elif event.get("event") == "result":
            return event
        else:
            raise EnclaveProtocolError("the enclave said something unexpected")
    raise EnclaveProtocolError("the enclave ended without a result")


def open_output(path: Path, party: Party, *, receipt: Receipt | None = None) -> bytes:
    """The content of a sealed output, for its recipient. `adyton.cleanroom.outputs` reads it.

    receipt: if given, the box must be signed by the key that the receipt's evidence vouches for.
    Raises SealBrokenError.
    """
    sender = bytes.fromhex(str(receipt.body["signing_public"])) if receipt is not None else None
    return open_box(path.read_bytes(), party, sender_public=sender)


def remote_error(event: Mapping[str, Any]) -> AdytonError:
    """An error of the same class as the one that the enclave reported."""
    known = {cls.__name__: cls for cls in _subclasses(AdytonError)}
    cls = known.get(str(event.get("error"))) or _BY_EXIT_CODE.get(int(event.get("exit_code", 70)), InternalError)
    hint, where = event.get("hint"), event.get("where")
    return cls(str(event.get("what")), where=str(where) if where else "enclave", hint=str(hint) if hint else None)


def keep_result(event: Mapping[str, Any], out_dir: Path) -> RunResult:
    """Write receipt and boxes beside the target and rename the folder, so that it is whole or absent.

    Raises SealWriteError, EnclaveProtocolError for a result that is malformed. Their budget is spent by now: where
    they cannot go to `out_dir`, they are kept beside it or in the machine's temporary folder, and the error says where.
    """
    outputs, files = [], dict[str, bytes]()
    try:
        for one in event["outputs"]:
            name = _plain_name(str(one["file"]))
            files[name] = base64.b64decode(one["box"], validate=True)
            outputs.append(SealedFile(Output(one["output"]), str(one["recipient"]), out_dir / name))
        receipt = Receipt.from_json(event["receipt"])
    except (KeyError, TypeError, ValueError) as error:
        raise EnclaveProtocolError("the enclave's result is malformed") from error
    files[RECEIPT_FILE] = (json.dumps(receipt.as_json(), indent=1) + "\n").encode()
    try:
        _write_folder(out_dir, files)
    except OSError as error:
        raise SealWriteError(
            f"the outputs cannot be written ({error.strerror})",
            where=out_dir.name,
            hint=_kept_elsewhere(out_dir, files),
        ) from error
    return RunResult(receipt, out_dir / RECEIPT_FILE, tuple(outputs))


def _kept_elsewhere(out_dir: Path, files: Mapping[str, bytes]) -> str:
    """Write the files where they can be; the hint that says where that is."""
    name = f"{out_dir.name}-{OsRandom().token(6).hex()}"
    for folder in (out_dir.with_name(name), Path(tempfile.gettempdir()) / name):
        try:
            _write_folder(folder, files)
        except OSError:
            continue
        return f"they are whole in {folder}: move them to where they belong"
    return "they are lost and their budget is spent: make room, then run the job under another id"


def _write_folder(target: Path, files: Mapping[str, bytes]) -> None:
    """A new folder with these files, whole or absent. Raises OSError."""
    partial = _new_folder_beside(target)
    try:
        for name, content in files.items():
            (partial / name).write_bytes(content)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def check_out_dir(out_dir: Path) -> None:
    """Look before the run spends anything: the folder is new and can be made.

    Raises BadInputError if it exists, SealWriteError if nothing can be written beside it.
    """
    if out_dir.exists():
        raise BadInputError("the output folder exists", where=out_dir.name, hint="choose a new one")
    try:
        _new_folder_beside(out_dir).rmdir()
    except OSError as error:
        raise SealWriteError(f"the outputs could not be written ({error.strerror})", where=out_dir.name) from error


def _plain_name(name: str) -> str:
    if Path(name).name != name:
        raise EnclaveProtocolError("an output's name is a path")
    return name


def _new_folder_beside(out_dir: Path) -> Path:
    """An empty folder of a name that no earlier run, killed or not, has used. Raises OSError."""
    partial = out_dir.with_name(f".{out_dir.name}.{OsRandom().token(6).hex()}.partial")
    partial.mkdir(parents=True)
    return partial


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SealWriteError(f"the folder cannot be made ({error.strerror})", where=path.name) from error


def _subclasses(cls: type[AdytonError]) -> Iterator[type[AdytonError]]:
    for child in cls.__subclasses__():
        yield child
        yield from _subclasses(child)
