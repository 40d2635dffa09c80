"""What a caller expects of evidence, and the checks that compare it in the same way on every platform."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from adyton.cleanroom.attestation.binding import REPORT_DATA_BYTES
from adyton.cleanroom.attestation.checks import CheckName, Findings
from adyton.cleanroom.attestation.errors import ExpectationError
from adyton.cleanroom.attestation.roots import PINNED_ROOTS, Roots
from adyton.cleanroom.attestation.snp_tcb import SnpTcb
from adyton.kernel.clock import iso_utc

MAX_AGE_MS = 5 * 60_000
# Clocks of two machines differ; more than this ahead of ours is not a clock that is merely wrong.
MAX_AHEAD_MS = 60_000
# What a Nitro document can carry; other platforms carry less, and a longer nonce cannot be in their evidence.
MAX_NONCE_BYTES = 512
# Intel's words, without "Revoked", which nobody can accept. Source: Intel PCS v4, "tcbStatus".
TCB_STATUSES = frozenset(
    (
        *("UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded"),
        *("OutOfDate", "OutOfDateConfigurationNeeded"),
    )
)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The questions. None means "not asked": a broker asks all of them, since a check that was not asked did not pass.

    at_ms: the time T at which certificates must be valid, milliseconds since the epoch.
    nonce: as issued, at most 512 bytes.   binding: 32 bytes of `binding_hash`.
    allowed_measurements: lower-case hex; each is one measured register or several of them in order, see the verifier.
    max_age_ms: how old evidence may be, where it carries a time.
    certificates, revocation_lists: PEM or DER files that came with the evidence; never trusted by themselves.
    trust_anchors: files that the caller trusts on purpose, where no vendor's root can be pinned: a JWKS or a root
        certificate for Confidential Space; an attestation key (PEM or DER) or its issuer's certificate for TPMs.
    any_key: leave open whose a TPM's attestation key is, where no trust anchor is given; never enough for a broker.
    collateral: Intel's TCB info, QE identity and CRLs, as `dcap-qvl` reads it (JSON).
    tcb_statuses: what Intel may say of a platform's firmware, of `TCB_STATUSES`.
    audience: the `aud` that a Confidential Space token must carry.
    snp_floor: the oldest SEV-SNP firmware to accept.   allowed_vmpls: privilege levels that may ask for SNP reports.
    pcrs: what a TPM quote must be over; None for the first ones without a gap (a digest does not say of which it is).
    """

    at_ms: int
    nonce: bytes | None = None
    binding: bytes | None = None
    allowed_measurements: frozenset[str] | None = None
    allow_dev: bool = False
    max_age_ms: int = MAX_AGE_MS
    certificates: tuple[bytes, ...] = ()
    revocation_lists: tuple[bytes, ...] = ()
    trust_anchors: tuple[bytes, ...] = ()
    any_key: bool = False
    collateral: bytes | None = None
    tcb_statuses: frozenset[str] = frozenset({"UpToDate"})
    audience: str | None = None
    snp_floor: SnpTcb | None = None
    allowed_vmpls: frozenset[int] | None = frozenset({0})
    pcrs: frozenset[int] | None = None
    roots: Roots = PINNED_ROOTS

    def __post_init__(self) -> None:
        for name, value, most in (
            ("nonce", self.nonce, MAX_NONCE_BYTES),
            ("binding", self.binding, REPORT_DATA_BYTES),
        ):
            if value is None:
                continue
            if len(value) > most:
                raise ExpectationError(f"a {name} has at most {most} bytes, got {len(value)}")
            if not any(value):
                # Zero bytes are what evidence carries when nothing was bound to it.
                raise ExpectationError(f"a {name} without a byte other than zero binds nothing")
        if unknown := self.tcb_statuses - TCB_STATUSES:
            raise ExpectationError(
                f"not a TCB status: {', '.join(sorted(unknown))}", hint=", ".join(sorted(TCB_STATUSES))
            )
        for measurement in self.allowed_measurements or ():
            if not measurement or measurement != measurement.lower() or not _is_hex(measurement):
                raise ExpectationError("a measurement is lower-case hex", where="allowed_measurements")


def _is_hex(text: str) -> bool:
    try:
        bytes.fromhex(text)
    except ValueError:
        return False
    return text.isalnum()


def check_development(findings: Findings, expected: Expected) -> None:
    """`development`: hardware passes; a development platform passes only if it is allowed."""
    if not findings.platform.is_development:
        findings.add(CheckName.DEVELOPMENT, True, "not a development platform")
    elif expected.allow_dev:
        findings.add(CheckName.DEVELOPMENT, True, "DEVELOPMENT evidence, protects nothing; allowed on purpose")
    else:
        findings.add(CheckName.DEVELOPMENT, False, "DEVELOPMENT evidence, protects nothing; not allowed")


def check_measurement(findings: Findings, registers: Sequence[tuple[str, bytes]], expected: Expected) -> None:
    """`measurement`: an allowed value equals the first register, or the first few of them written one after another."""
    if not any(any(value) for _, value in registers):
        findings.add(CheckName.MEASUREMENT, False, "every measured register is zero")
        return
    so_far, prefixes = "", {}
    for name, value in registers:
        so_far += value.hex()
        prefixes[so_far] = name
    first = f"{registers[0][0]} {registers[0][1].hex()}"
    if expected.allowed_measurements is None:
        findings.not_asked(CheckName.MEASUREMENT, f"{first}; give the allowed measurement to check it")
        return
    matched = [name for prefix, name in prefixes.items() if prefix in expected.allowed_measurements]
    if matched:
        upto = "" if matched[-1] == registers[0][0] else f" up to {matched[-1]}"
        findings.add(CheckName.MEASUREMENT, True, f"{first}{upto} is allowed")
    else:
        findings.add(CheckName.MEASUREMENT, False, f"{first} is not among the allowed measurements")


def check_report_data(findings: Findings, field: str, value: bytes, expected: Expected) -> None:
    """`binding` and `freshness` of platforms that carry 64 caller-chosen bytes and no time of their own."""
    wanted = expected.binding if expected.binding is not None else expected.nonce
    if wanted is None:
        findings.not_asked(CheckName.BINDING, f"{field} {value.hex()}; give the nonce to check it")
        findings.not_asked(CheckName.FRESHNESS, "the platform signs no time; only a nonce shows freshness")
        return
    bound = same_bytes(value, wanted.ljust(len(value), b"\0"))
    what = "the binding of nonce, contract and key" if expected.binding is not None else "the nonce"
    findings.add(CheckName.BINDING, bound, f"{field} {'is' if bound else 'is not'} {what}")
    if expected.nonce is None:
        findings.not_asked(CheckName.FRESHNESS, "the platform signs no time; only a nonce shows freshness")
    else:
        findings.add(
            CheckName.FRESHNESS,
            bound,
            "made for this nonce" if bound else "the nonce is not in it: replayed or foreign",
        )


def check_age(findings: Findings, issued_at_ms: int, expected: Expected) -> None:
    """`freshness` of platforms that sign a time: not older than `max_age_ms`, not from the future."""
    age = expected.at_ms - issued_at_ms
    passed = -MAX_AHEAD_MS <= age <= expected.max_age_ms
    found = f"made {iso_utc(issued_at_ms)}, {abs(age) / 1000:.0f} s {'before' if age >= 0 else 'after'} the time asked"
    findings.add(CheckName.FRESHNESS, passed, found)


def same_bytes(left: bytes, right: bytes) -> bool:
    """Equality without an early exit."""
    return hmac.compare_digest(left, right)
