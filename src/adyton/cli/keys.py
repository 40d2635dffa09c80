"""`adyton auction keys`: key pairs in files, or a key service that releases them to attested services only."""

from __future__ import annotations

import asyncio
import json
import math
import re
from pathlib import Path

import click

from adyton.cli.log_level import log_level_option
from adyton.kernel.errors import BadInputError

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_NEW_FILE = click.Path(dir_okay=False, path_type=Path)
_MAX_DAYS = 3650
_MEASUREMENT = re.compile(r"(?:[0-9a-fA-F]{2}){32,64}")


def _measurements(_ctx: click.Context, _param: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        if not _MEASUREMENT.fullmatch(text):
            raise click.BadParameter(f"{text!r} is not the hex of 32 to 64 bytes, so no code could get keys")
    return texts


def _days(_ctx: click.Context, _param: click.Parameter, days: float) -> float:
    if math.isnan(days):  # no range keeps it out
        raise click.BadParameter("nan is no number of days")
    return days


@click.group()
def keys() -> None:
    """Make keys for services outside of test mode, or serve them."""


@keys.command()
@click.option("--private", type=_NEW_FILE, required=True, help="New private key file.")
@click.option("--public", type=_NEW_FILE, required=True, help="Public key list.")
@click.option("--count", type=click.IntRange(1, 20), default=1, show_default=True, help="How many key pairs.")
def new(private: Path, public: Path, count: int) -> None:
    """Write key pairs to a private file and their public list."""
    from adyton.auction.services.key_source import write_new_keys

    write_new_keys(private, public, n_keys=count)
    click.echo(f"wrote {count} key pair(s); keep {private} secret, publish {public}", err=True)


@keys.command("exchange-key")
@click.argument("path", type=_NEW_FILE)
def exchange_key(path: Path) -> None:
    """Write the secret that two coordinators share, for its owner only. Bring it to the other one safely."""
    from adyton.auction.keys.exchange import EXCHANGE_KEY_BYTES
    from adyton.kernel.chance import OsRandom

    try:
        path.touch(mode=0o600, exist_ok=False)
        path.write_bytes(OsRandom().token(EXCHANGE_KEY_BYTES))
    except FileExistsError as error:
        raise BadInputError("the file exists", where=str(path), hint="choose another name") from error
    except OSError as error:
        raise BadInputError(f"the file cannot be written ({error.strerror})", where=str(path)) from error


@keys.command()
@click.option("--dev-tpm", is_flag=True, help="As the quotes of a software TPM carry it.")
def measure(dev_tpm: bool) -> None:
    """Print the measurement of the auction code that is installed here, in hex."""
    from adyton.flywheel.key_service import auction_measurement, software_tpm_measurement

    click.echo((software_tpm_measurement() if dev_tpm else auction_measurement()).hex())


@keys.command()
@click.option("--store", type=_NEW_FILE, required=True, help="This coordinator's keys; made if it is missing.")
@click.option("--broker-store", type=_NEW_FILE, required=True, help="Nonces and the log of releases (SQLite).")
@click.option("--name", default="coordinator", show_default=True, help="This coordinator's name in its log.")
@click.option("--listen", default="127.0.0.1:0", show_default=True, help="Address as host:port.")
@click.option(
    "--measurement",
    "measurements",
    multiple=True,
    required=True,
    callback=_measurements,
    help="Code that may have keys, in hex.",
)
@click.option("--allow-dev", is_flag=True, help="Release to DEVELOPMENT evidence, which protects nothing.")
@click.option("--share-with", help="URL of the second coordinator: split every key with it.")
@click.option("--take-shares", is_flag=True, help="Be the second coordinator.")
@click.option("--exchange-key", "exchange_key_file", type=_FILE, help="The secret of the two coordinators.")
@click.option("--published", type=click.IntRange(1, 100), default=5, show_default=True, help="Keys on the list.")
@click.option(
    "--publish-days",
    type=click.FloatRange(0, _MAX_DAYS, min_open=True),
    default=30.0,
    show_default=True,
    callback=_days,
)
@click.option("--grace-days", type=click.FloatRange(0, _MAX_DAYS), default=15.0, show_default=True, callback=_days)
@click.option("--list-age-s", type=click.IntRange(0), default=14 * 86_400, show_default=True, help="Longest max-age.")
@click.option("--trust", "trust_anchors", multiple=True, type=_FILE, help="A JWKS, or a TPM's key or issuer.")
@click.option("--crl", "revocation_lists", multiple=True, type=_FILE, help="AMD's or Intel's lists.")
@click.option("--collateral", type=_FILE, help="Intel's collateral as JSON.")
@click.option("--audience", help="The aud that Confidential Space tokens must carry.")
@log_level_option
def serve(
    store: Path,
    broker_store: Path,
    name: str,
    listen: str,
    measurements: tuple[str, ...],
    allow_dev: bool,
    share_with: str | None,
    take_shares: bool,
    exchange_key_file: Path | None,
    published: int,
    publish_days: float,
    grace_days: float,
    list_age_s: int,
    trust_anchors: tuple[Path, ...],
    revocation_lists: tuple[Path, ...],
    collateral: Path | None,
    audience: str | None,
    log_level: str,
) -> None:
    """Serve the public key list to all, and private keys to attested services. One JSON line says that it is ready."""
    from adyton.auction.keys.rotation import DAY_MS, RotationPolicy
    from adyton.auction.keys.service import Coordinator, SecondCoordinator, serve_keys
    from adyton.auction.keys.store import KeyStore
    from adyton.auction.services.run import stop_on_signals
    from adyton.auction.services.telemetry import log_to_stderr
    from adyton.cleanroom.attestation.expected import Expected
    from adyton.cleanroom.broker_store import BrokerStore
    from adyton.flywheel.key_service import BrokerGate, ReleasePolicy
    from adyton.kernel.ids import PartyName

    if share_with is not None and take_shares:
        raise click.UsageError("--share-with is for the first coordinator, --take-shares for the second")
    if (share_with is not None or take_shares) != (exchange_key_file is not None):
        raise click.UsageError("--exchange-key goes with --share-with or --take-shares")
    log_to_stderr(log_level)
    if allow_dev:
        click.echo("warning: DEVELOPMENT evidence is accepted: anybody can make it, and get the keys", err=True)
    secret = exchange_key_file.read_bytes() if exchange_key_file is not None else b""
    reference = Expected(
        at_ms=0,
        revocation_lists=tuple(path.read_bytes() for path in revocation_lists),
        collateral=None if collateral is None else collateral.read_bytes(),
        trust_anchors=tuple(path.read_bytes() for path in trust_anchors),
        audience=audience,
    )
    policy = ReleasePolicy(frozenset(measurement.lower() for measurement in measurements), allow_dev)
    memory = BrokerStore(broker_store)
    coordinator = Coordinator(
        KeyStore(store),
        BrokerGate(PartyName(name), policy, memory, reference=reference),
        policy=RotationPolicy(
            n_published=published,
            publish_ms=round(publish_days * DAY_MS),
            grace_ms=round(grace_days * DAY_MS),
            list_age_ms=1000 * list_age_s,
        ),
        second=SecondCoordinator(share_with, secret) if share_with is not None else None,
        takes_shares_with=secret if take_shares else None,
    )

    async def run() -> None:
        await serve_keys(coordinator, listen, stop_on_signals(), click.echo)

    try:
        asyncio.run(run())
    finally:
        memory.close()


@keys.command()
@click.argument("url")
@click.option("--json", "as_json", is_flag=True, help="The list as it was sent.")
def show(url: str, as_json: bool) -> None:
    """Print the public key list at URL."""
    from adyton.auction.services.code_store import BlobFetcher
    from adyton.protocol.keys import parse_public_key_list

    text = asyncio.run(BlobFetcher(timeout_ms=10_000).fetch(url))
    found = parse_public_key_list(text, test_mode=True)
    if as_json:
        click.echo(json.dumps(json.loads(text), indent=2))
        return
    for key in found:
        click.echo(f"{key.decimal_id:>3}  {key.public.hex()}")
