"""`adyton cleanroom`: run a job, open its outputs, show the code measurement."""

from __future__ import annotations

import json
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from adyton.cleanroom.appended import sealed_files
from adyton.cleanroom.attestation.checks import Platform
from adyton.cleanroom.attestation.dev_tpm import measurement_of
from adyton.cleanroom.attestation.tpm_counter import TpmCounter
from adyton.cleanroom.engine import EngineKind
from adyton.cleanroom.errors import EnclaveUnavailableError
from adyton.cleanroom.job import JobSpec
from adyton.cleanroom.ledger_store import FileCounter, LedgerStore, MonotonicCounter
from adyton.cleanroom.measurement import code_measurement, measured
from adyton.cleanroom.receipt import load_receipt
from adyton.cleanroom.run import open_output, run_cleanroom
from adyton.cleanroom.signed_contract import load_contract
from adyton.cleanroom.stream_run import CleanroomStream
from adyton.cleanroom.tpm_folder import make_tpm_folder, started_tpm
from adyton.cleanroom.tpm_guard import TpmGuardedCounter
from adyton.cleanroom.whole_file import write_whole
from adyton.cli.passphrase import PASSPHRASE_VARIABLE, open_party
from adyton.kernel.errors import BadInputError, RefusedError

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_PATH = click.Path(path_type=Path)
_tpm = click.option(
    "--tpm",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of a software TPM (`cleanroom tpm`): it makes the evidence and guards the ledger's counter.",
)


@click.group()
def cleanroom() -> None:
    """Run jobs on sealed tables in an attested enclave."""


@cleanroom.command("run")
@click.argument("contract", type=_FILE)
@click.option("--job", "job_file", required=True, type=_FILE, help="JSON: what to run.")
@click.option("--sealed", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--broker", "brokers", multiple=True, required=True, metavar="OWNER=ADDRESS", help="Repeatable.")
@click.option("--ledger", required=True, type=_PATH, help="SQLite file of the privacy ledger.")
@click.option("--counter", required=True, type=_PATH, help="File that guards the ledger; keep it elsewhere.")
@click.option("--out", required=True, type=_PATH, help="New folder for receipt and sealed outputs.")
@_tpm
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
@click.option("--engine", type=click.Choice([kind.value for kind in EngineKind]), help="Instead of the job's own.")
@click.option(
    "--incremental",
    is_flag=True,
    help="Join only what was appended since the run before; its state lies by the ledger.",
)
@click.option("--json", "as_json", is_flag=True, help="The receipt as JSON on stdout.")
def run_command(
    contract: Path,
    job_file: Path,
    sealed: Path,
    brokers: tuple[str, ...],
    ledger: Path,
    counter: Path,
    out: Path,
    tpm: Path | None,
    threads: int,
    engine: str | None,
    incremental: bool,
    as_json: bool,
) -> None:
    """Run a job of CONTRACT. The enclave's process opens the tables; this one sees nothing of them."""
    # Whoever ends this process ends the enclave with it, which would else go on and spend for nobody.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    job = _job(job_file)
    if engine is not None:
        job = replace(job, engine=EngineKind(engine))
    if incremental:
        job = replace(job, incremental=True)
    addresses = _addresses(brokers)
    inputs = sealed_files(load_contract(contract).contract, sealed)
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as bar:
        task = bar.add_task("starting the enclave", total=1.0)
        result = run_cleanroom(
            contract,
            inputs,
            addresses,
            job,
            out,
            ledger=ledger,
            counter=counter,
            tpm=tpm,
            threads=threads,
            progress=lambda fraction, what: bar.update(task, completed=fraction, description=what),
        )
    if as_json:
        click.echo(json.dumps(result.receipt.as_json()))
    else:
        click.echo("\n".join([str(result.receipt_path), *(str(one.path) for one in result.outputs)]))
    if result.receipt.is_development:
        click.echo("DEVELOPMENT enclave: the protocol is real, the protection is not", err=True)


@cleanroom.command("stream")
@click.argument("contract", type=_FILE)
@click.option("--job", "job_file", required=True, type=_FILE, help="JSON: a job that trains and scores.")
@click.option("--sealed", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--broker", "brokers", multiple=True, required=True, metavar="OWNER=ADDRESS", help="Repeatable.")
@click.option("--ledger", required=True, type=_PATH, help="SQLite file of the privacy ledger.")
@click.option("--counter", required=True, type=_PATH, help="File that guards the ledger; keep it elsewhere.")
@click.option("--out", required=True, type=_PATH, help="New folder: `first`, then `batch-000001` and so on.")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
@click.option("--poll-ms", type=click.IntRange(1), default=50, show_default=True, help="How often to look for a batch.")
@click.option("--batches", type=click.IntRange(1), help="End after so many batches with scores.")
def stream_command(
    contract: Path,
    job_file: Path,
    sealed: Path,
    brokers: tuple[str, ...],
    ledger: Path,
    counter: Path,
    out: Path,
    threads: int,
    poll_ms: int,
    batches: int | None,
) -> None:
    """Train once, then score every version that parties append to the folder of sealed tables.

    Prints one JSON line for each batch: its folder and the milliseconds from seeing it to its sealed scores.
    """
    agreed = load_contract(contract).contract
    seen = sealed_files(agreed, sealed)
    done = 0
    with CleanroomStream(
        contract, seen, _addresses(brokers), _job(job_file), out, ledger=ledger, counter=counter, threads=threads
    ) as stream:
        click.echo(json.dumps({"folder": str(stream.first.receipt_path.parent)}))
        if stream.first.receipt.is_development:
            click.echo("DEVELOPMENT enclave: the protocol is real, the protection is not", err=True)
        taken, tried = set(seen), dict[str, int]()
        while batches is None or done < batches:
            batch = {name: files for name, files in sealed_files(agreed, sealed).items() if name not in taken}
            ages = {name: manifest.stat().st_mtime_ns for name, (_, manifest) in batch.items()}
            if ages == tried:
                time.sleep(poll_ms / 1000)
                continue
            tried = ages
            started = time.monotonic()
            try:
                result = stream.score(batch)
            except (RefusedError, BadInputError) as refusal:
                # Told once; tried again with what comes next, or when the owner puts another file in its place.
                click.echo(json.dumps({"batch": sorted(batch), **refusal.as_json()}))
                continue
            taken |= set(batch)
            tried = {}
            took_ms = round(1000 * (time.monotonic() - started), 1)
            folder = None if result is None else str(result.receipt_path.parent)
            click.echo(json.dumps({"batch": sorted(batch), "folder": folder, "took_ms": took_ms}))
            done += result is not None


@cleanroom.command("open")
@click.argument("box", type=_FILE)
@click.option("--key", "key_file", required=True, type=_FILE)
@click.option("--passphrase-file", type=_FILE, help=f"Otherwise {PASSPHRASE_VARIABLE} of the environment.")
@click.option("--receipt", type=_FILE, help="Refuse a box that this receipt's enclave did not sign.")
@click.option("-o", "out", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path), required=True)
def open_command(box: Path, key_file: Path, passphrase_file: Path | None, receipt: Path | None, out: Path) -> None:
    """Open a sealed output that was made for this party; `-o -` writes to stdout."""
    party = open_party(key_file, passphrase_file)
    content = open_output(box, party, receipt=load_receipt(receipt) if receipt else None)
    if str(out) == "-":
        sys.stdout.buffer.write(content)
    else:
        write_whole(out, content, replace=True)


@cleanroom.command("settle")
@click.option("--ledger", required=True, type=_FILE)
@click.option("--counter", required=True, type=_PATH)
@_tpm
def settle_command(ledger: Path, counter: Path, tpm: Path | None) -> None:
    """Give back what dead jobs left open in the ledger, which released nothing; prints each."""
    with ExitStack() as stack:
        guard: MonotonicCounter = FileCounter(counter)
        if tpm is not None:
            guard = TpmGuardedCounter(counter, TpmCounter(stack.enter_context(started_tpm(tpm))))
        store = LedgerStore(ledger, guard)
        stack.callback(store.close)
        for one in store.settle_crashed():
            click.echo(f"{one} given back")


@cleanroom.command("tpm")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--counter", required=True, type=_PATH, help="The file that will guard the ledger; not there yet.")
def tpm_command(folder: Path, counter: Path) -> None:
    """Make a software TPM in FOLDER for `run --tpm`; prints the attestation key that brokers trust.

    DEVELOPMENT only: a TPM in user space protects nothing from the machine's administrator.
    """
    counter.parent.mkdir(parents=True, exist_ok=True)
    click.echo(make_tpm_folder(folder, counter))


@cleanroom.command("measurement")
@click.option("--json", "as_json", is_flag=True, help="What was measured, to compare two installations.")
@click.option(
    "--platform",
    type=click.Choice([p.value for p in Platform if p.is_development]),
    default=Platform.DEV_SIM.value,
    show_default=True,
    help="How the platform states it: a TPM's quote carries a hash of it.",
)
def measurement_command(as_json: bool, platform: str) -> None:
    """Print the hash of this installation's enclave code."""
    if sys.platform != "linux":
        raise EnclaveUnavailableError("the enclave runs on Linux only")
    code = code_measurement()
    stated = measurement_of(code) if platform == Platform.DEV_TPM.value else code
    click.echo(json.dumps(measured(), indent=1) if as_json else stated.hex())


def _job(path: Path) -> JobSpec:
    try:
        return JobSpec.from_json(json.loads(path.read_text()))
    except (ValueError, RecursionError) as error:
        raise BadInputError("the job is no JSON", where=path.name) from error


def _addresses(brokers: tuple[str, ...]) -> dict[str, str]:
    addresses = {}
    for text in brokers:
        owner, separator, address = text.partition("=")
        socket = address.removeprefix("unix:") if address.startswith("unix:") else ""
        if not separator or not (socket or address.startswith(("http://", "https://"))):
            hint = "publisher=unix:/path or publisher=http://HOST:PORT"
            raise BadInputError(f"{text!r} is not OWNER=ADDRESS", where="--broker", hint=hint)
        # The enclave works in a folder of its own.
        if owner in addresses:
            raise BadInputError(f"two brokers are given for {owner}", where="--broker")
        addresses[owner] = f"unix:{Path(socket).absolute()}" if socket else address
    return addresses
