"""`adyton attest`: look at evidence with the same verifiers that the key brokers use."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click

from adyton.cleanroom.attestation.checks import CheckName, Platform, Verdict
from adyton.cleanroom.attestation.document_time import document_time_ms
from adyton.cleanroom.attestation.errors import EvidenceFormatError
from adyton.cleanroom.attestation.expected import TCB_STATUSES, Expected
from adyton.cleanroom.attestation.snp_tcb import SnpTcb
from adyton.cleanroom.attestation.verify import verify
from adyton.kernel.clock import SystemClock, iso_utc
from adyton.kernel.errors import BadInputError, RefusedError

MAX_FILE_BYTES = 1 << 20
# Longer than a broker allows: a Nitro document's own certificate lives three hours.
DEFAULT_MAX_AGE_S = 3 * 3600
_ANCHORED = (Platform.CONFIDENTIAL_SPACE, Platform.TPM, Platform.DEV_TPM)
_KEYS_OF_ANYBODY = (Platform.TPM, Platform.DEV_TPM)
"""Platforms without a pinned root, whose evidence names a key that anybody can make."""
_TEXT_EVIDENCE = (Platform.CONFIDENTIAL_SPACE, Platform.TPM, Platform.DEV_TPM, Platform.DEV_SIM)
_MARKS = {"ok": "ok", "failed": "FAILED", "not asked": "not asked"}


@click.group()
def attest() -> None:
    """Look at attestation evidence."""


@attest.command("verify")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--platform", required=True, type=click.Choice([platform.value for platform in Platform]))
@click.option(
    "--certificate",
    "certificates",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Comes with the evidence (PEM or DER): VCEK, VLEK, issuers. For confidential-space and tpm, which have no "
    "pinned root, what you trust: a JWKS, a root, an attestation key. Repeatable.",
)
@click.option(
    "--nonce", metavar="HEX", help="What the evidence must be bound to (Nitro: nonce; SNP, TDX: report data)."
)
@click.option("--measurement", "measurements", metavar="HEX", multiple=True, help="Allowed code. Repeatable.")
@click.option(
    "--at",
    "at",
    metavar="TIME|document",
    default="now",
    show_default=True,
    help="When it must hold: ISO 8601 in UTC, a date, or 'document' for its own date.",
)
@click.option("--max-age", metavar="SECONDS", type=click.IntRange(1), default=DEFAULT_MAX_AGE_S, show_default=True)
@click.option(
    "--crl",
    "revocation_lists",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The issuers' lists of revoked certificates. Repeatable.",
)
@click.option(
    "--collateral",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Intel's TCB info, QE identity and lists as JSON; needs dcap-qvl.",
)
@click.option("--vmpl", "vmpls", type=click.IntRange(0, 3), multiple=True, help="SNP levels that may ask. Repeatable.")
@click.option(
    "--pcr",
    "pcrs",
    type=click.IntRange(0, 23),
    multiple=True,
    help="What a TPM quote must be over; default: the first ones without a gap. Repeatable.",
)
@click.option("--snp-floor", metavar="BOOTLOADER.TEE.SNP.MICROCODE", help="Oldest SEV-SNP firmware: 3.0.8.115.")
@click.option(
    "--tcb-status",
    "tcb_statuses",
    type=click.Choice(sorted(TCB_STATUSES)),
    multiple=True,
    help="What Intel may say of the firmware; default: UpToDate only. Repeatable.",
)
@click.option(
    "--any-key", is_flag=True, help="For tpm: leave open whose key signed; chain and validity are then not asked."
)
@click.option("--audience", help="The aud that a Confidential Space token must carry.")
@click.option("--allow-dev", is_flag=True, help="Let development platforms pass; they protect nothing.")
@click.option("--strict", is_flag=True, help="Fail also for checks that were not asked, as a key broker does.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def verify_command(
    file: Path,
    platform: str,
    certificates: tuple[Path, ...],
    nonce: str | None,
    measurements: tuple[str, ...],
    at: str,
    max_age: int,
    revocation_lists: tuple[Path, ...],
    collateral: Path | None,
    vmpls: tuple[int, ...],
    pcrs: tuple[int, ...],
    snp_floor: str | None,
    tcb_statuses: tuple[str, ...],
    any_key: bool,
    audience: str | None,
    allow_dev: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Print every named check of the evidence in FILE; exit 0 only if all that apply hold.

    Checks that need what was not given (--nonce, --measurement, --crl, --collateral, --vmpl, --pcr) are reported as
    "not asked" and do not fail the command; a key broker refuses them, and so does --strict.
    """
    kind = Platform(platform)
    if any_key and (kind not in _KEYS_OF_ANYBODY or certificates):
        raise click.UsageError("--any-key is for a TPM's quote without --certificate")
    evidence = _evidence(kind, _read(file))
    given = tuple(_read(path) for path in certificates)
    asked = Expected(
        at_ms=SystemClock().now_ms(),
        nonce=None if nonce is None else _hex(nonce, "--nonce"),
        allowed_measurements=frozenset(_hex(m, "--measurement").hex() for m in measurements) if measurements else None,
        allow_dev=allow_dev,
        max_age_ms=max_age * 1000,
        certificates=() if kind in _ANCHORED else given,
        trust_anchors=given if kind in _ANCHORED else (),
        any_key=any_key,
        revocation_lists=tuple(_read(path) for path in revocation_lists),
        collateral=None if collateral is None else _read(collateral),
        audience=audience,
        allowed_vmpls=frozenset(vmpls) or None,
        pcrs=frozenset(pcrs) or None,
        snp_floor=None if snp_floor is None else SnpTcb.parse(snp_floor),
        tcb_statuses=frozenset(tcb_statuses or ("UpToDate",)),
    )
    at_ms, origin = _judged_at(at, kind, evidence, asked)
    verdict = verify(kind, evidence, expected=replace(asked, at_ms=at_ms))
    holds = verdict.holds if strict else verdict.holds_as_asked
    if as_json:
        body = {**verdict.as_json(), "holds_as_asked": verdict.holds_as_asked, "at": iso_utc(at_ms), "at_from": origin}
        click.echo(json.dumps(body, indent=2))
    else:
        _print(verdict, at_ms, origin, holds=holds)
    if not holds:
        failed = [c.name.value for c in verdict.complete if not c.passed and (c.asked or strict)]
        hint = None
        if kind in _KEYS_OF_ANYBODY and not certificates and not any_key:
            hint = "name the attestation key or its issuer with --certificate; --any-key leaves open whose key it is"
        raise RefusedError(f"the evidence does not hold: {', '.join(failed)}", where=file.name, hint=hint)


def _print(verdict: Verdict, at_ms: int, origin: str, *, holds: bool) -> None:
    click.echo(f"platform    {verdict.platform}{' (DEVELOPMENT)' if verdict.platform.is_development else ''}")
    click.echo(f"judged at   {iso_utc(at_ms)} ({origin})")
    click.echo(f"measurement {verdict.measurement or '-'}")
    for check in verdict.complete:
        click.echo(f"{_MARKS[check.state]:<9}  {check.name.value:<12} {check.found}")
    not_asked = [check.name.value for check in verdict.complete if not check.asked]
    if holds and not_asked:
        click.echo(f"every check that was asked holds; not asked: {', '.join(not_asked)}", err=True)
        if CheckName.CHAIN.value in not_asked:
            click.echo("hint: anybody can make such a quote; nothing says whose key signed it", err=True)
        if {CheckName.BINDING.value, CheckName.MEASUREMENT.value} & set(not_asked):
            click.echo("hint: give --nonce and --measurement, or it proves neither whose code nor for whom", err=True)


def _judged_at(text: str, kind: Platform, evidence: bytes, asked: Expected) -> tuple[int, str]:
    if text == "now":
        return asked.at_ms, "now"
    try:
        own = document_time_ms(kind, evidence, asked)
    except EvidenceFormatError:
        own = None  # the verdict will say what is wrong with it
    if text == "document":
        return own or (asked.at_ms, "now: it has no date of its own")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadInputError("--at takes ISO 8601, a date, 'document' or 'now'", hint="2022-10-13T09:00:00Z") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    at_ms = round(moment.timestamp() * 1000)
    if len(text) == len("2022-10-13") and own is not None and at_ms <= own[0] < at_ms + 86_400_000:
        return own[0], f"on that day: {own[1]}"
    return at_ms, "as given"


def _evidence(kind: Platform, data: bytes) -> bytes:
    """The bytes of the evidence; binary formats may come as hex or base64 text."""
    if kind in _TEXT_EVIDENCE:
        return data
    text = b"".join(data.split())
    if not text or not text.isascii() or not all(32 < byte < 127 for byte in text):
        return data
    for decode in (binascii.unhexlify, _base64):
        try:
            return decode(text)
        except (ValueError, binascii.Error):
            continue
    return data


def _base64(text: bytes) -> bytes:
    return base64.b64decode(text.translate(bytes.maketrans(b"-_", b"+/")) + b"=" * (-len(text) % 4), validate=True)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BadInputError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if len(data) > MAX_FILE_BYTES:
        raise BadInputError(f"longer than {MAX_FILE_BYTES} bytes, which no evidence is", where=str(path))
    return data


def _hex(text: str, option: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x").removeprefix("sha256:"))
    except ValueError:
        raise BadInputError("not hex", where=option) from None
