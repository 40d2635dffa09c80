"""A TPM 2.0 quote as evidence: `tpm` (a real one) and `dev-tpm` (swtpm; DEVELOPMENT ONLY, protects nothing from root).

    {"ak_public": base64 DER, "tpm_quote": {"message": base64, "signature": base64, "pcrs": [hex, ...]}}

`ak_certificate` (base64 DER) may stand beside `ak_public`. Anybody can make a key and sign a quote with it, so the
attestation key counts only if the caller trusts it: enrolled by itself (after credential activation against the TPM's
endorsement key, see `dev_tpm.py`), or certified by an issuer whose certificate the caller gives.
Measurement: the PCR digest. Source: cleanroom §2.2.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from adyton.cleanroom.attestation.certificate_chain import check_chain, check_validity, load_certificates
from adyton.cleanroom.attestation.checks import CheckName, Findings, Platform, Verdict
from adyton.cleanroom.attestation.errors import EvidenceFormatError
from adyton.cleanroom.attestation.expected import (
    Expected,
    check_development,
    check_measurement,
    check_report_data,
    same_bytes,
)
from adyton.cleanroom.attestation.roots import certificate_fingerprint
from adyton.cleanroom.attestation.strict_json import parse_object
from adyton.cleanroom.attestation.tpm_quote import (
    Attest,
    TpmSignature,
    parse_attest,
    parse_signature,
    pcr_digest,
    signature_holds,
)

MAX_EVIDENCE_BYTES = 64 << 10
DEV_PCR = 14
"""The one register that a development enclave's code is measured into."""


@dataclass(frozen=True)
class TpmEvidence:
    """A quote in parts. `ak_public`: DER SubjectPublicKeyInfo."""

    ak_public: bytes
    ak_certificate: bytes | None
    message: bytes
    attest: Attest
    signature: TpmSignature
    pcrs: tuple[bytes, ...]


def parse(evidence: bytes) -> TpmEvidence:
    """The quote in `evidence`. Raises EvidenceFormatError."""
    if len(evidence) > MAX_EVIDENCE_BYTES:
        raise EvidenceFormatError(f"TPM evidence has at most {MAX_EVIDENCE_BYTES} bytes")
    outer = parse_object(evidence, "the evidence")
    quote = outer.get("tpm_quote")
    if not isinstance(quote, dict):
        raise EvidenceFormatError("there is no tpm_quote")
    pcrs = quote.get("pcrs")
    if not isinstance(pcrs, list) or len(pcrs) > 24 or not all(isinstance(value, str) for value in pcrs):
        raise EvidenceFormatError("pcrs is not a list of hex values")
    try:
        values = tuple(bytes.fromhex(value) for value in pcrs)
    except ValueError as error:
        raise EvidenceFormatError("pcrs is not a list of hex values") from error
    message = _base64(quote, "message")
    return TpmEvidence(
        ak_public=_base64(outer, "ak_public"),
        ak_certificate=_base64(outer, "ak_certificate") if outer.get("ak_certificate") is not None else None,
        message=message,
        attest=parse_attest(message),
        signature=parse_signature(_base64(quote, "signature")),
        pcrs=values,
    )


def verify_tpm(evidence: bytes, expected: Expected) -> Verdict:
    """The verdict on a TPM quote. Raises EvidenceFormatError if the bytes are something else."""
    return _verify(Platform.TPM, evidence, expected)


def verify_dev_tpm(evidence: bytes, expected: Expected) -> Verdict:
    """The same checks, for a software TPM: refused unless development is allowed."""
    return _verify(Platform.DEV_TPM, evidence, expected)


def _verify(platform: Platform, evidence: bytes, expected: Expected) -> Verdict:
    quote = parse(evidence)
    try:
        key = load_der_public_key(quote.ak_public)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise EvidenceFormatError("the attestation key cannot be read") from error
    if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != quote.ak_public:
        raise EvidenceFormatError("the attestation key is not canonical DER")
    findings = Findings(platform)
    selected = ",".join(str(i) for i in quote.attest.selected)
    findings.add(CheckName.FORMAT, True, f"TPM 2.0 quote over {quote.attest.bank} PCRs {selected}")
    signed = signature_holds(key, quote.signature, quote.message)
    findings.add(CheckName.SIGNATURE, signed, "signed by the attestation key" if signed else "does not verify")
    _chain(findings, quote, expected)
    digest = pcr_digest(quote.attest, quote.pcrs, quote.signature.hash_id)
    if digest is None or not same_bytes(digest, quote.attest.pcr_digest):
        findings.add(CheckName.MEASUREMENT, False, "the PCR values are not those of the quote")
    check_measurement(findings, [("PCR digest", quote.attest.pcr_digest)], expected)
    _selection(findings, platform, quote.attest, expected)
    check_report_data(findings, "extraData", quote.attest.extra_data, expected)
    check_development(findings, expected)
    return findings.verdict(measurement=quote.attest.pcr_digest)


def _selection(findings: Findings, platform: Platform, attest: Attest, expected: Expected) -> None:
    """`measurement`, of which registers: the digest is over values alone.

    Some PCRs start anew without a restart, and free ones can be given the values of others by extending them with the
    same events. So either the caller says which, or they are the first ones without a gap: then their number says it.
    """
    own = frozenset({DEV_PCR}) if platform is Platform.DEV_TPM else None
    wanted = expected.pcrs if expected.pcrs is not None else own
    said = ",".join(str(i) for i in attest.selected)
    if wanted is not None:
        if frozenset(attest.selected) != wanted:
            asked = ",".join(str(i) for i in sorted(wanted))
            findings.add(CheckName.MEASUREMENT, False, f"the quote is over PCRs {said}, not {asked}")
    elif attest.selected != tuple(range(len(attest.selected))):
        findings.not_asked(CheckName.MEASUREMENT, f"the quote is over PCRs {said}; say which ones it must be over")


def _chain(findings: Findings, quote: TpmEvidence, expected: Expected) -> None:
    if not expected.trust_anchors:
        what = "nobody vouches for the attestation key; give the enrolled key or its issuer's certificate"
        if expected.any_key:
            findings.not_asked(CheckName.CHAIN, what)
            findings.not_asked(CheckName.VALIDITY, "no certificate to check dates of")
        else:
            # Not a question that may be left out: whoever signs with a key of its own would pass.
            findings.add(CheckName.CHAIN, False, what)
            findings.add(CheckName.VALIDITY, False, "no certificate to check dates of")
        return
    keys, certificates = _anchors(expected.trust_anchors)
    if quote.ak_public in keys:
        findings.add(CheckName.CHAIN, True, "the attestation key is enrolled")
        enrolled_by = keys[quote.ak_public]
        if enrolled_by is not None:
            check_validity(findings, (enrolled_by,), expected.at_ms)
        else:
            findings.add(CheckName.VALIDITY, True, "an enrolled key holds until it is taken off the list")
        return
    if quote.ak_certificate is None:
        findings.add(CheckName.CHAIN, False, "the attestation key is not enrolled and carries no certificate")
        return
    leaf = load_certificates([quote.ak_certificate])[0]
    trusted = {certificate_fingerprint(certificate) for certificate in certificates}
    certified = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if certified != quote.ak_public:
        findings.add(CheckName.CHAIN, False, "the certificate is of another key")
        return
    path = check_chain(
        findings,
        leaf,
        (*certificates, *load_certificates(expected.certificates)),
        lambda root: certificate_fingerprint(root) in trusted,
        "an issuer that was given",
    )
    if path is not None:
        check_validity(findings, path, expected.at_ms)


def _anchors(files: tuple[bytes, ...]) -> tuple[dict[bytes, x509.Certificate | None], list[x509.Certificate]]:
    """Enrolled keys (DER SubjectPublicKeyInfo) with the certificate that enrols each, if one does; all certificates."""
    keys: dict[bytes, x509.Certificate | None] = {}
    certificates: list[x509.Certificate] = []
    for data in files:
        try:
            key = load_pem_public_key(data) if b"-----BEGIN PUBLIC KEY" in data else load_der_public_key(data)
            keys[key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)] = None
        except (ValueError, UnsupportedAlgorithm):
            certificates += load_certificates([data])
    for certificate in certificates:
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        keys.setdefault(spki, certificate)
    return keys, certificates


def _base64(fields: Mapping[str, object], name: str) -> bytes:
    value = fields.get(name)
    if not isinstance(value, str):
        raise EvidenceFormatError(f"{name} is missing")
    try:
        data = base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error) as error:
        raise EvidenceFormatError(f"{name} is not base64") from error
    if base64.b64encode(data).decode() != value:
        raise EvidenceFormatError(f"{name} is not canonical base64")
    return data
