"""`adyton broker`: an owner's key broker, and a look at its log."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import click

from adyton.cleanroom.attestation.expected import MAX_AGE_MS, TCB_STATUSES, Expected
from adyton.cleanroom.attestation.snp_tcb import SnpTcb
from adyton.cleanroom.broker import ContractTerms, KeyBroker
from adyton.cleanroom.broker_client import BrokerClient
from adyton.cleanroom.broker_server import address_of, listen, serve
from adyton.cleanroom.broker_store import BrokerStore
from adyton.cleanroom.hardening import no_core_dump
from adyton.cleanroom.key_release import OwnedManifests, active_contracts, data_keys
from adyton.cleanroom.sealed_table import Manifest, load_manifest
from adyton.cleanroom.signed_contract import load_contract
from adyton.cli.passphrase import PASSPHRASE_VARIABLE, open_party
from adyton.kernel.audit import GENESIS_HASH, verify_chain
from adyton.kernel.clock import SystemClock, iso_utc
from adyton.kernel.errors import BadInputError
from adyton.kernel.ids import ContractHash

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def broker() -> None:
    """Release data keys to attested code only."""


@broker.command("serve")
@click.option("--key", "key_file", required=True, type=_FILE, help="The owner's NAME.key.json.")
@click.option("--passphrase-file", type=_FILE, help=f"Otherwise {PASSPHRASE_VARIABLE} of the environment.")
@click.option(
    "--contract", "contracts", required=True, multiple=True, type=_FILE, help="A signed contract. Repeatable."
)
@click.option("--manifest", "manifests", multiple=True, type=_FILE, help="A sealed table's. Repeatable.")
@click.option(
    "--sealed",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of sealed tables: the owner's manifests there count, also those that come later.",
)
@click.option(
    "--store",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where nonces and the log are kept (SQLite); losing it lets old evidence be replayed.",
)
@click.option("--listen", "address", default="http://127.0.0.1:0", show_default=True, help="Or unix:/path.")
@click.option("--crl", "revocation_lists", multiple=True, type=_FILE, help="AMD's or Intel's lists. Repeatable.")
@click.option("--collateral", type=_FILE, help="Intel's collateral as JSON; needs dcap-qvl.")
@click.option(
    "--trust", "trust_anchors", multiple=True, type=_FILE, help="A JWKS, or a TPM's key or issuer. Repeatable."
)
@click.option("--audience", help="The aud that Confidential Space tokens must carry.")
@click.option(
    "--vmpl",
    "vmpls",
    type=click.IntRange(0, 3),
    multiple=True,
    help="SEV-SNP privilege levels that may ask; default: 0 only. Repeatable.",
)
@click.option(
    "--pcr",
    "pcrs",
    type=click.IntRange(0, 23),
    multiple=True,
    help="What TPM quotes must be over; default: the first ones without a gap. Repeatable.",
)
@click.option(
    "--snp-floor",
    metavar="BOOTLOADER.TEE.SNP.MICROCODE",
    help="Oldest SEV-SNP firmware to accept, such as 3.0.8.115; default: any that its certificate names.",
)
@click.option(
    "--tcb-status",
    "tcb_statuses",
    type=click.Choice(sorted(TCB_STATUSES)),
    multiple=True,
    help="What Intel may say of a platform's firmware; default: UpToDate only. Repeatable.",
)
@click.option(
    "--max-age",
    "max_age_s",
    metavar="SECONDS",
    type=click.IntRange(1),
    default=MAX_AGE_MS // 1000,
    show_default=True,
    help="How old evidence may be, where it carries a time.",
)
def serve_command(
    key_file: Path,
    passphrase_file: Path | None,
    contracts: tuple[Path, ...],
    manifests: tuple[Path, ...],
    sealed: Path | None,
    store: Path,
    address: str,
    revocation_lists: tuple[Path, ...],
    collateral: Path | None,
    trust_anchors: tuple[Path, ...],
    audience: str | None,
    vmpls: tuple[int, ...],
    pcrs: tuple[int, ...],
    snp_floor: str | None,
    tcb_statuses: tuple[str, ...],
    max_age_s: int,
) -> None:
    """Serve one owner's broker until interrupted; prints its address on stdout.

    Contract files are read again at each request: a notice that suspends or revokes a contract counts at once.
    """
    clock = SystemClock()
    # The owner's keys stay in this process: out of core files, and not to be read by the user's other processes.
    if sys.platform == "linux":
        no_core_dump()
    owner = open_party(key_file, passphrase_file)
    if not manifests and sealed is None:
        raise BadInputError("name the owner's sealed tables", hint="--manifest FILE or --sealed FOLDER")
    tables = [load_manifest(path) for path in manifests]
    for table in tables:
        table.check_signature(owner.identity)
    lying = OwnedManifests(sealed, owner.identity) if sealed is not None else None

    def owned() -> list[Manifest]:
        return [*tables, *(lying.now() if lying is not None else ())]

    def active(contract_hash: ContractHash) -> ContractTerms | None:
        signed = [load_contract(path) for path in contracts]
        return active_contracts(signed, owner.name, clock, owned)(contract_hash)

    for path in contracts:
        load_contract(path)
    reference = Expected(
        at_ms=0,
        revocation_lists=tuple(path.read_bytes() for path in revocation_lists),
        collateral=None if collateral is None else collateral.read_bytes(),
        trust_anchors=tuple(path.read_bytes() for path in trust_anchors),
        audience=audience,
        allowed_vmpls=frozenset(vmpls or (0,)),
        pcrs=frozenset(pcrs) or None,
        snp_floor=None if snp_floor is None else SnpTcb.parse(snp_floor),
        tcb_statuses=frozenset(tcb_statuses or ("UpToDate",)),
        max_age_ms=max_age_s * 1000,
    )
    memory = BrokerStore(store)
    sock = listen(address)
    # Ended as a service is, it leaves store and socket as tidy as after an interrupt.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        click.echo(address_of(sock))
        click.echo(f"broker of {owner.name}: {len(contracts)} contracts, {len(owned())} tables", err=True)
        serve(KeyBroker(owner.name, memory, active, data_keys(owned, owner), clock=clock, reference=reference), sock)
    finally:
        memory.close()
        # First the name: whoever finds it free meanwhile has made a socket of its own.
        if address.startswith("unix:"):
            Path(address.removeprefix("unix:")).unlink(missing_ok=True)
        sock.close()


@broker.command("ledger")
@click.option("--store", required=True, type=_FILE, help="The broker's store, as given to `adyton broker serve`.")
@click.option(
    "--forget", is_flag=True, help="Take the next ledger that an enclave speaks of, whatever was spent before."
)
def ledger_command(store: Path, forget: bool) -> None:
    """Print where the owner's privacy ledger stood when an enclave last spoke of it.

    A ledger that does not go on from there gets no key. Where the newest one is really lost, --forget lets a new one
    in; what was spent before then counts for nothing, and the broker's log says so.
    """
    memory = BrokerStore(store)
    try:
        head = memory.forget_ledger_head(SystemClock().now_ms()) if forget else memory.ledger_head()
    finally:
        memory.close()
    if head is None:
        click.echo("no enclave spoke of a ledger yet")
        return
    click.echo(f"{'forgotten: ' if forget else ''}{head.entries} entries, newest {head.newest_hash}")


@broker.command("log")
@click.argument("address")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def log_command(address: str, as_json: bool) -> None:
    """Print the log of the broker at ADDRESS, oldest first; fails if its hash chain is broken."""
    with BrokerClient(address) as client:
        entries = client.log()
    newest = verify_chain(entries)
    if as_json:
        click.echo(json.dumps({"newest_hash": newest, "entries": [entry.as_json() for entry in entries]}, indent=2))
        return
    for entry in entries:
        why = (
            "" if entry.kind != "refused" else f"  {entry.body.get('error')} {entry.body.get('failed') or ''}".rstrip()
        )
        click.echo(
            f"{iso_utc(entry.at_ms)}  {entry.kind:<8} {entry.body.get('dataset_id', '-')} "
            f"{entry.body.get('platform', '-')}{why}"
        )
    click.echo(f"{len(entries)} entries, chain whole, newest {newest if newest != GENESIS_HASH else '-'}", err=True)
