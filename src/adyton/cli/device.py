"""`adyton device`: play a device, from signal updates to reports (protected-auction §2-§4, §13)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import ssl
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click
from google.protobuf import json_format
from rich.console import Console
from rich.table import Table

from adyton.cli.ad_server import select_ad
from adyton.cli.input_file import about, read_input
from adyton.device.auction import AdSelectionOutcome, AuctionPolicy, SellerConfiguration
from adyton.device.device import Device
from adyton.device.enrolment import OPEN_ENROLMENT, parse_enrolment
from adyton.device.errors import AdTechServerError, DeviceStoreError
from adyton.device.reporting import Destination, ReportOutcome
from adyton.device.runtime import SandboxEncoder
from adyton.device.vault import load_device_key
from adyton.device.web import Web
from adyton.kernel.clock import iso_utc
from adyton.kernel.errors import BadInputError, PeerError
from adyton.protocol.errors import SignalUpdateError
from adyton.protocol.keys import TEST_MODE_KEY, PublicKey, parse_public_key_list
from adyton.protocol.ohttp import Label
from adyton.sandbox.pool import SandboxPool

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_INPUT = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
_SELECTION_ID = click.IntRange(1, 2**63 - 1)
_ENCODER_VERSION = click.IntRange(-(2**31), 2**31 - 1)
_REQUEST_BYTES = click.IntRange(64, 4 * 1024 * 1024)
"""Up to what a gRPC server takes unless it is told otherwise."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class _Settings:
    """What every command needs to open the device."""

    home: Path
    enrolment: Path | None
    authority: Path | None
    routes: dict[str, str]
    enforce_foreground: bool


_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_package_option = click.option("--package", required=True, help="The calling app, for instance com.news.")


@click.group()
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: Path(click.get_app_dir("adyton")) / "device",
    envvar="ADYTON_DEVICE_HOME",
    show_default="the user's application folder",
    help="Folder of the device's store and key.",
)
@click.option("--enrolment", type=_FILE, help="Registry of ad techs and apps; without it every host acts for itself.")
@click.option("--authority", type=_FILE, help="Trust this certificate authority (PEM), for test servers.")
@click.option(
    "--route",
    "routes",
    multiple=True,
    metavar="HOST=URL",
    help="Send https requests for HOST to URL instead; for test servers.",
)
@click.option("--enforce-foreground", is_flag=True, help="Refuse updates of apps in the background.")
@click.pass_context
def device(
    ctx: click.Context,
    home: Path,
    enrolment: Path | None,
    authority: Path | None,
    routes: tuple[str, ...],
    enforce_foreground: bool,
) -> None:
    """Play a device: signals, encoding, auctions, user controls."""
    pairs = [route.partition("=") for route in routes]
    if any(not host or not url.startswith(("http://", "https://")) for host, _, url in pairs):
        raise click.BadParameter("a route is HOST=URL, with an http or https URL", param_hint="--route")
    ctx.obj = _Settings(home, enrolment, authority, {host: url for host, _, url in pairs}, enforce_foreground)


# ---- signals


@device.command()
@_package_option
@click.option("--uri", help="Fetch the update from this https URI.")
@click.option("--file", "path", type=_INPUT, help="Apply the update JSON in this file instead, - for standard input.")
@click.option("--buyer", help="The ad tech; with --uri only if a partner serves the update.")
@click.option("--token", help="The partner's verification token.")
@click.option("--background", is_flag=True, help="The app is in the background.")
@click.pass_obj
def update(
    settings: _Settings,
    package: str,
    uri: str | None,
    path: Path | None,
    buyer: str | None,
    token: str | None,
    background: bool,
) -> None:
    """Update an ad tech's signals, as an app would ask for it."""
    if (uri is None) == (path is None):
        raise click.UsageError("give one of --uri and --file")
    if path is not None and buyer is None:
        raise click.UsageError("--file needs --buyer")

    async def run(opened: Device) -> None:
        if uri is not None:
            await opened.update_signals(
                uri, package=package, is_foreground=not background, buyer=buyer, verification_token=token
            )
        elif path is not None and buyer is not None:
            try:
                opened.apply_update(buyer, package, read_input(path))
            except SignalUpdateError as error:
                raise error.inside(str(path)) from error

    _with_device(settings, run)


@device.group()
def signals() -> None:
    """What is stored; never the values."""


@signals.command("list")
@_json_option
@click.pass_obj
def list_signals(settings: _Settings, as_json: bool) -> None:
    """Ad tech, app, time and size of every signal."""
    facts = _with_device(settings, _sync(lambda opened: opened.list_signals()))
    rows = [
        {"buyer": f.buyer, "package": f.package, "created_at": iso_utc(f.created_at_ms), "size_bytes": f.size_bytes}
        for f in facts
    ]
    _print_rows(rows, ("buyer", "package", "created_at", "size_bytes"), as_json)


@device.command()
@_json_option
@click.pass_obj
def apps(settings: _Settings, as_json: bool) -> None:
    """Apps that hold signals or are blocked."""
    uses = _with_device(settings, _sync(lambda opened: opened.list_apps()))
    rows = []
    for use in uses:
        at_ms = use.consented_at_ms
        facts = {"package": use.package, "signals": use.signals, "size_bytes": use.size_bytes, "blocked": use.blocked}
        rows.append({**facts, "consented_at": None if at_ms is None else iso_utc(at_ms)})
    _print_rows(rows, ("package", "signals", "size_bytes", "blocked", "consented_at"), as_json)


@device.command("install-encoder")
@click.option("--buyer", required=True)
@click.option("--script", type=_INPUT, required=True, help="JavaScript with encodeSignals, - for standard input.")
@click.option("--version", type=_ENCODER_VERSION, default=0, show_default=True)
@click.pass_obj
def install_encoder(settings: _Settings, buyer: str, script: Path, version: int) -> None:
    """Give a buyer an encoding script from a file, as a registration with its download would."""

    async def run(opened: Device) -> None:
        try:
            opened.install_encoder(buyer, read_input(script), version=version)
        except AdTechServerError as error:  # here no server gave it
            raise BadInputError(error.what, where=str(script)) from error

    _with_device(settings, run)


@device.command()
@click.option("--buyer", help="Only this ad tech.")
@_json_option
@click.pass_obj
def encode(settings: _Settings, buyer: str | None, as_json: bool) -> int:
    """Run the hourly encoder job now; exit code 12 if a script failed."""
    outcomes = _with_device(settings, lambda opened: opened.encode(buyer), with_sandbox=True)
    rows = [
        {"buyer": o.buyer, "step": o.step.value, "payload_bytes": o.payload_bytes, "failure": o.failure}
        for o in outcomes
    ]
    _print_rows(rows, ("buyer", "step", "payload_bytes", "failure"), as_json)
    return PeerError.exit_code if any(o.failure for o in outcomes) else 0


# ---- auction


@device.command()
@_package_option
@click.option("--seller", required=True, help="The seller's domain.")
@click.option("--keys", "keys_path", type=_FILE, help="The seller's public key list (JSON).")
@click.option("--keys-url", help="Fetch the key list from this https URL.")
@click.option("--coordinator", default="", help="The coordinator's origin, whose list --keys-url is.")
@click.option("--test-key", is_flag=True, help="Use the published TEST_MODE key, which protects nothing.")
@click.option("--legacy", is_flag=True, help="Use the legacy request format.")
@click.option("--sfe", metavar="HOST:PORT", help="Play the ad server too: call this seller front end.")
@click.option("--config", "config_path", type=_FILE, help="AuctionConfig as proto3 JSON, for --sfe.")
@click.option("--max-bytes", type=_REQUEST_BYTES, help="The exact size that the seller configured (padding V2).")
@click.option("--unlimited-egress", is_flag=True, help="Allow the temporary unlimited egress payload.")
@click.option(
    "--debug-token", default="", help="Consent to debugging with the servers' token; prints their debug info to stderr."
)
@_json_option
@click.pass_obj
def select(
    settings: _Settings,
    package: str,
    seller: str,
    keys_path: Path | None,
    keys_url: str | None,
    coordinator: str,
    test_key: bool,
    legacy: bool,
    sfe: str | None,
    config_path: Path | None,
    max_bytes: int | None,
    unlimited_egress: bool,
    debug_token: str,
    as_json: bool,
) -> None:
    """Ask for an ad: with --sfe the whole auction, otherwise print the ciphertext for an ad server."""
    if (keys_path is not None) + (keys_url is not None) + test_key != 1:
        raise click.UsageError("give one of --keys, --keys-url and --test-key")
    if coordinator and keys_url is None:
        raise click.UsageError("--coordinator goes with --keys-url")
    if (sfe is None) != (config_path is None):
        raise click.UsageError("--sfe and --config belong together")
    keys: tuple[PublicKey, ...] = (TEST_MODE_KEY.public_key,) if test_key else ()
    if keys_path is not None:
        with about(keys_path):
            keys = parse_public_key_list(keys_path.read_bytes())

    async def run(opened: Device) -> dict[str, object]:
        if keys_url is not None:
            await opened.fetch_public_keys(keys_url, coordinator=coordinator)
        configuration = None if max_bytes is None else SellerConfiguration(max_bytes)
        asked = opened.get_ad_selection_data(
            seller, package=package, configuration=configuration, coordinator=coordinator
        )
        if sfe is None or config_path is None:
            ciphertext = base64.b64encode(asked.data).decode()
            return {"ad_selection_id": asked.ad_selection_id, "protected_auction_ciphertext": ciphertext}
        answer = await select_ad(sfe, asked.data, config_path)
        if answer.HasField("debug_info"):
            click.echo(json_format.MessageToJson(answer.debug_info, indent=None), err=True)
        result = answer.auction_result_ciphertext
        return _outcome_json(opened.persist_ad_selection_result(asked.ad_selection_id, result))

    policy = AuctionPolicy(
        label=Label.SFE_LEGACY if legacy else Label.SFE_CURRENT,
        enable_unlimited_egress=unlimited_egress,
        consented_debug_token=debug_token,
        debug_info_in_response=bool(debug_token),
    )
    _print_facts(_with_device(settings, run, keys=keys, policy=policy), as_json)


@device.command()
@click.argument("ad_selection_id", type=_SELECTION_ID)
@click.argument("result")
@_json_option
@click.pass_obj
def result(settings: _Settings, ad_selection_id: int, result: str, as_json: bool) -> None:
    """Keep the base64 RESULT that an ad server gave for an ad selection; - reads it from standard input."""
    text = sys.stdin.read().strip() if result == "-" else result
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInputError("the result is not base64") from error
    outcome = _with_device(settings, _sync(lambda opened: opened.persist_ad_selection_result(ad_selection_id, data)))
    _print_facts(_outcome_json(outcome), as_json)


@device.command()
@click.argument("ad_selection_id", type=_SELECTION_ID)
@click.option("--event", help="Report this event instead of the impression.")
@click.option("--data", default="", help="The event's data.")
@click.option(
    "--to",
    "destinations",
    type=click.Choice([d.value for d in Destination]),
    multiple=True,
    default=[d.value for d in Destination],
    show_default=True,
    help="Who is told of an event.",
)
@_json_option
@click.pass_obj
def report(
    settings: _Settings,
    ad_selection_id: int,
    event: str | None,
    data: str,
    destinations: tuple[str, ...],
    as_json: bool,
) -> int:
    """Report the impression, or an event, of a won ad; exit code 12 if a party could not be told."""

    async def run(opened: Device) -> ReportOutcome:
        if event is None:
            return await opened.report_impression(ad_selection_id)
        return await opened.report_event(ad_selection_id, event, data, [Destination(d) for d in destinations])

    told = _with_device(settings, run)
    _print_facts({"sent": [d.value for d in told.sent], "failed": [d.value for d in told.failed]}, as_json)
    return PeerError.exit_code if told.failed else 0


# ---- user controls


@device.command()
@click.argument("package")
@click.pass_obj
def block(settings: _Settings, package: str) -> None:
    """Delete an app's signals and take no new ones."""
    _with_device(settings, _sync(lambda opened: opened.block_app(package)))


@device.command()
@click.argument("package")
@click.pass_obj
def unblock(settings: _Settings, package: str) -> None:
    """Let a blocked app store signals again."""
    _with_device(settings, _sync(lambda opened: opened.unblock_app(package)))


@device.command()
@click.argument("package")
@click.pass_obj
def uninstall(settings: _Settings, package: str) -> None:
    """Forget an app and what it stored, as when it is uninstalled."""
    _with_device(settings, _sync(lambda opened: opened.app_uninstalled(package)))


@device.command("clear-data")
@click.argument("package")
@click.pass_obj
def clear_data(settings: _Settings, package: str) -> None:
    """Forget what an app stored, as when its data are cleared."""
    _with_device(settings, _sync(lambda opened: opened.app_data_cleared(package)))


@device.command()
@click.pass_obj
def reset(settings: _Settings) -> None:
    """Delete all signals, payloads, scripts and selections."""
    _with_device(settings, _sync(lambda opened: opened.reset()))


@device.command("opt-out")
@click.pass_obj
def opt_out(settings: _Settings) -> None:
    """Delete everything and ignore all updates from now on."""
    _with_device(settings, _sync(lambda opened: opened.opt_out()))


@device.command("opt-in")
@click.pass_obj
def opt_in(settings: _Settings) -> None:
    """Take updates again after opting out."""
    _with_device(settings, _sync(lambda opened: opened.opt_in()))


@device.command()
@click.pass_obj
def maintain(settings: _Settings) -> None:
    """Delete what is too old or no longer allowed."""
    _with_device(settings, _sync(lambda opened: opened.maintain()))


# ---- inside


def _sync(action: Callable[[Device], _T]) -> Callable[[Device], Awaitable[_T]]:
    async def run(opened: Device) -> _T:
        return action(opened)

    return run


def _with_device(
    settings: _Settings,
    action: Callable[[Device], Awaitable[_T]],
    *,
    keys: tuple[PublicKey, ...] = (),
    policy: AuctionPolicy | None = None,
    with_sandbox: bool = False,
) -> _T:
    enrolment = OPEN_ENROLMENT
    if settings.enrolment is not None:
        with about(settings.enrolment):
            enrolment = parse_enrolment(settings.enrolment.read_bytes())
    tls = None
    if settings.authority is not None:
        try:
            tls = ssl.create_default_context(cafile=settings.authority)
        except ssl.SSLError as error:
            raise BadInputError("this is not a certificate in PEM", where=str(settings.authority)) from error
    try:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DeviceStoreError(f"the folder cannot be made ({error.strerror})", where=str(settings.home)) from error
    key = load_device_key(settings.home / "device.key")

    async def run() -> _T:
        async with Web(tls=tls, routes=settings.routes) as web:
            pool = SandboxPool() if with_sandbox else None
            opened = Device.open(
                settings.home / "device.sqlite",
                device_key=key,
                web=web,
                runtime=SandboxEncoder(pool) if pool else None,
                enrolment=enrolment,
                public_keys=keys,
                policy=policy,
                enforce_foreground=settings.enforce_foreground,
            )
            try:
                if pool is None:
                    return await action(opened)
                async with pool:
                    return await action(opened)
            finally:
                opened.close()

    return asyncio.run(run())


def _outcome_json(outcome: AdSelectionOutcome) -> dict[str, object]:
    return {
        "ad_selection_id": outcome.ad_selection_id,
        "ad_render_uri": outcome.ad_render_uri,
        "buyer": outcome.buyer,
        "seller_events": sorted(outcome.seller_urls.beacons),
        "buyer_events": sorted(outcome.buyer_urls.beacons),
    }


def _print_facts(facts: dict[str, object], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        click.echo(f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}")


def _print_rows(rows: Sequence[Mapping[str, object]], columns: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(rows))
        return
    if not rows:
        click.echo("nothing", err=True)
        return
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right" if column.endswith("bytes") else "left")
    for row in rows:
        table.add_row(*("" if row[column] is None else str(row[column]) for column in columns))
    # A pipe has no width: lines must not be folded there.
    Console(width=None if sys.stdout.isatty() else 250).print(table)
