"""`dev-sim`: evidence that a laptop can make. DEVELOPMENT ONLY: it proves the protocol and protects nothing.

    evidence    = canonical JSON {"certificate", "report", "signature"}
    certificate = {"public_key", "valid_from_ms", "valid_until_ms", "signature"}   signed by the development root
    report      = {"format", "measurement", "report_data", "issued_at_ms", "debug"} signed by the certificate's key

Bytes are lower-case hex, signatures Ed25519 over a domain and the canonical bytes of the other fields. The root's
private key is in `roots.py`, so anybody can make such evidence; it is refused unless the caller says `allow_dev`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from adyton.cleanroom.attestation.binding import REPORT_DATA_BYTES, report_data
from adyton.cleanroom.attestation.checks import CheckName, Findings, Platform, Verdict
from adyton.cleanroom.attestation.errors import EvidenceFormatError, ExpectationError
from adyton.cleanroom.attestation.expected import (
    Expected,
    check_age,
    check_development,
    check_measurement,
    check_report_data,
)
from adyton.cleanroom.attestation.roots import development_root
from adyton.kernel.canonical import Json, canonical_bytes
from adyton.kernel.chance import OsRandom, RandomSource
from adyton.kernel.clock import iso_utc
from adyton.kernel.errors import BadInputError

FORMAT = "adyton-dev-sim/1"
MEASUREMENT_BYTES = 32
CERTIFICATE_LIFE_MS = 3 * 3_600_000
MAX_EVIDENCE_BYTES = 8192
_CERTIFICATE_DOMAIN = b"adyton DEVELOPMENT certificate v1\x00"
_REPORT_DOMAIN = b"adyton DEVELOPMENT report v1\x00"


def make_evidence(
    measurement: bytes,
    binding: bytes,
    at_ms: int,
    *,
    debug: bool = False,
    root: Ed25519PrivateKey | None = None,
    random: RandomSource | None = None,
) -> bytes:
    """Development evidence for `measurement` (32 bytes) that carries `binding` (at most 64 bytes), made at `at_ms`.

    debug: sets the debug flag, to test that it is refused.   root: another root, to test that it is refused.
    """
    if len(measurement) != MEASUREMENT_BYTES or len(binding) > REPORT_DATA_BYTES:
        raise ExpectationError("a dev-sim measurement has 32 bytes and a binding at most 64")
    device = Ed25519PrivateKey.from_private_bytes((random or OsRandom()).token(32))
    certificate: dict[str, Json] = {
        "public_key": device.public_key().public_bytes_raw().hex(),
        "valid_from_ms": at_ms,
        "valid_until_ms": at_ms + CERTIFICATE_LIFE_MS,
    }
    report: dict[str, Json] = {
        "format": FORMAT,
        "measurement": measurement.hex(),
        "report_data": report_data(binding).hex(),
        "issued_at_ms": at_ms,
        "debug": debug,
    }
    vouched = (root or development_root()).sign(_CERTIFICATE_DOMAIN + canonical_bytes(certificate))
    return canonical_bytes(
        {
            "certificate": {**certificate, "signature": vouched.hex()},
            "report": report,
            "signature": device.sign(_REPORT_DOMAIN + canonical_bytes(report)).hex(),
        }
    )


def verify(evidence: bytes, expected: Expected) -> Verdict:
    """The verdict on development evidence. Raises EvidenceFormatError if the bytes are something else."""
    outer = _parse(evidence)
    certificate = _fields(outer["certificate"], {"public_key", "valid_from_ms", "valid_until_ms", "signature"})
    report = _fields(outer["report"], {"format", "measurement", "report_data", "issued_at_ms", "debug"})
    if report["format"] != FORMAT:
        raise EvidenceFormatError(f"the report is not {FORMAT}")
    measurement = _hex(report["measurement"], MEASUREMENT_BYTES)
    data = _hex(report["report_data"], REPORT_DATA_BYTES)
    issued_at_ms, debug = _time(report["issued_at_ms"]), report["debug"]
    device_key = _hex(certificate["public_key"], 32)
    valid_from_ms, valid_until_ms = _time(certificate["valid_from_ms"]), _time(certificate["valid_until_ms"])
    if not isinstance(debug, bool):
        raise EvidenceFormatError("debug is not true or false")

    findings = Findings(Platform.DEV_SIM)
    findings.add(CheckName.FORMAT, True, FORMAT)
    signed = _verifies(device_key, outer["signature"], _REPORT_DOMAIN, report)
    findings.add(CheckName.SIGNATURE, signed, "Ed25519 by the certificate's key" if signed else "does not verify")
    unsigned = {name: value for name, value in certificate.items() if name != "signature"}
    chained = _verifies(expected.roots.development_key, certificate["signature"], _CERTIFICATE_DOMAIN, unsigned)
    findings.add(CheckName.CHAIN, chained, "the DEVELOPMENT root" if chained else "not signed by the DEVELOPMENT root")
    valid = valid_from_ms <= expected.at_ms < valid_until_ms
    findings.add(
        CheckName.VALIDITY, valid, f"certificate from {iso_utc(valid_from_ms)} until {iso_utc(valid_until_ms)}"
    )
    findings.add(CheckName.DEBUG_OFF, not debug, "debug is on" if debug else "debug is off")
    check_measurement(findings, (("measurement", measurement),), expected)
    check_report_data(findings, "report_data", data, expected)
    check_age(findings, issued_at_ms, expected)
    check_development(findings, expected)
    return findings.verdict(measurement=measurement, issued_at_ms=issued_at_ms)


def document_time_ms(evidence: bytes) -> int:
    """When the evidence says it was made. Raises EvidenceFormatError."""
    report = _fields(_parse(evidence)["report"], {"format", "measurement", "report_data", "issued_at_ms", "debug"})
    return _time(report["issued_at_ms"])


def _parse(evidence: bytes) -> Mapping[str, object]:
    if len(evidence) > MAX_EVIDENCE_BYTES:
        raise EvidenceFormatError(f"dev-sim evidence has at most {MAX_EVIDENCE_BYTES} bytes")
    try:
        value = json.loads(evidence)
        canonical = canonical_bytes(value) == evidence
    except (ValueError, RecursionError, BadInputError) as error:
        raise EvidenceFormatError("not JSON") from error
    if not canonical:
        # One value, one byte string: nothing may hide in a second spelling of a field.
        raise EvidenceFormatError("not canonical JSON")
    return _fields(value, {"certificate", "report", "signature"})


def _fields(value: object, names: set[str]) -> Mapping[str, object]:
    if not isinstance(value, dict) or set(value) != names:
        raise EvidenceFormatError(f"expected an object with exactly {', '.join(sorted(names))}")
    return value


def _hex(value: object, n_bytes: int) -> bytes:
    if not isinstance(value, str) or len(value) != 2 * n_bytes or value != value.lower():
        raise EvidenceFormatError(f"expected {n_bytes} bytes of lower-case hex")
    try:
        return bytes.fromhex(value)
    except ValueError as error:
        raise EvidenceFormatError(f"expected {n_bytes} bytes of lower-case hex") from error


def _time(value: object) -> int:
    # 2200-01-01: a later time is not one that a machine could have read from its clock.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 7_258_118_400_000:
        raise EvidenceFormatError("a time is in milliseconds since 1970, before 2200")
    return value


def _verifies(public_key: bytes, signature: object, domain: bytes, body: Mapping[str, object]) -> bool:
    message = domain + json.dumps(dict(body), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(_hex(signature, 64), message)
    except (InvalidSignature, ValueError):
        return False
    return True
