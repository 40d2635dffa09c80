"""AWS Nitro Enclaves: an attestation document is a COSE_Sign1 message, ES384, over a CBOR map.

    [ protected {1: -35}, unprotected {}, payload, signature (96 bytes) ]
    payload: module_id, digest, timestamp, pcrs, certificate, cabundle, public_key?, user_data?, nonce?

Our enclaves put `binding_hash` into `user_data` and the broker's nonce into `nonce`. A debug enclave has zero PCRs.
Measurement: PCR0 (image), or PCR0 and PCR1 (kernel), or PCR0, PCR1 and PCR2 (application), one after another.
Source: cleanroom §2.2; RFC 9052 §4.4 (Sig_structure).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384

from adyton.cleanroom.attestation.certificate_chain import check_chain, check_validity, load_certificates
from adyton.cleanroom.attestation.checks import CheckName, Findings, Platform, Verdict
from adyton.cleanroom.attestation.ecdsa import verifies
from adyton.cleanroom.attestation.errors import EvidenceFormatError
from adyton.cleanroom.attestation.expected import (
    Expected,
    check_age,
    check_development,
    check_measurement,
    same_bytes,
)
from adyton.cleanroom.attestation.roots import certificate_fingerprint

MAX_DOCUMENT_BYTES = 32 << 10
MAX_TIME_MS = 7_258_118_400_000  # 2200-01-01
# {1: -35}, ES384, in the one encoding that RFC 9052 allows here; `{1: -35.0}` would compare equal as values.
_PROTECTED = bytes.fromhex("a1013822")
_COSE_SIGN1_TAG = 18
_TAG = bytes([0xC0 | _COSE_SIGN1_TAG])


@dataclass(frozen=True)
class NitroDocument:
    """The signed content. PCRs by index, 48 bytes each; bytes fields are None where the enclave gave none."""

    timestamp_ms: int
    pcrs: Mapping[int, bytes]
    certificate: x509.Certificate
    bundle: tuple[x509.Certificate, ...]
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None
    signed: bytes
    signature: bytes


def parse(evidence: bytes) -> NitroDocument:
    """The document in `evidence`. Raises EvidenceFormatError."""
    message = _decode(evidence, MAX_DOCUMENT_BYTES)
    if isinstance(message, cbor2.CBORTag) and message.tag == _COSE_SIGN1_TAG:
        message = message.value
    if not isinstance(message, list | tuple) or len(message) != 4:
        raise EvidenceFormatError("not a COSE_Sign1 message of four fields")
    protected, unprotected, payload, signature = message
    if not all(isinstance(part, bytes) for part in (protected, payload, signature)) or len(signature) != 96:
        raise EvidenceFormatError("a COSE_Sign1 field has the wrong type or length")
    if protected != _PROTECTED:
        raise EvidenceFormatError("the signature algorithm is not ES384")
    if not isinstance(unprotected, Mapping) or len(unprotected) != 0:
        raise EvidenceFormatError("the unprotected header is not empty")
    shortest = cbor2.dumps([protected, {}, payload, signature])
    if evidence not in (shortest, _TAG + shortest):
        # No signature covers the outer message: a second spelling of it would be a second document.
        raise EvidenceFormatError("the message is not in its shortest encoding")
    return _document(payload, cbor2.dumps(["Signature1", protected, b"", payload]), signature)


def _document(payload: bytes, signed: bytes, signature: bytes) -> NitroDocument:
    fields = _decode(payload, MAX_DOCUMENT_BYTES)
    if not isinstance(fields, Mapping) or not all(isinstance(name, str) for name in fields):
        raise EvidenceFormatError("the payload is not a map of names")
    timestamp, pcrs = fields.get("timestamp"), fields.get("pcrs")
    bundle, certificate = fields.get("cabundle"), fields.get("certificate")
    if fields.get("digest") != "SHA384" or not isinstance(fields.get("module_id"), str):
        raise EvidenceFormatError("module_id or digest is missing or wrong")
    if not isinstance(timestamp, int) or isinstance(timestamp, bool) or not 0 < timestamp < MAX_TIME_MS:
        raise EvidenceFormatError("the timestamp is missing or wrong")
    if not isinstance(pcrs, Mapping) or not all(
        type(i) is int and 0 <= i < 32 and isinstance(value, bytes) and len(value) == 48 for i, value in pcrs.items()
    ):
        raise EvidenceFormatError("the PCRs are missing or wrong")
    if not {0, 1, 2} <= set(pcrs):
        raise EvidenceFormatError("PCR0, PCR1 or PCR2 is missing")
    if not isinstance(certificate, bytes) or not isinstance(bundle, list | tuple) or not bundle:
        raise EvidenceFormatError("the certificate or its bundle is missing")
    if not all(isinstance(item, bytes) for item in bundle):
        raise EvidenceFormatError("the certificate bundle is wrong")
    return NitroDocument(
        timestamp_ms=timestamp,
        pcrs=dict(pcrs),
        certificate=load_certificates([certificate])[0],
        bundle=load_certificates(bundle),
        public_key=_optional_bytes(fields, "public_key"),
        user_data=_optional_bytes(fields, "user_data"),
        nonce=_optional_bytes(fields, "nonce"),
        signed=signed,
        signature=signature,
    )


def verify(evidence: bytes, expected: Expected) -> Verdict:
    """The verdict on a Nitro attestation document. Raises EvidenceFormatError if the bytes are something else."""
    document = parse(evidence)
    findings = Findings(Platform.NITRO)
    findings.add(CheckName.FORMAT, True, f"COSE_Sign1, ES384, {len(document.pcrs)} PCRs")
    findings.add(CheckName.SIGNATURE, *_signature(document))
    path = check_chain(
        findings,
        document.certificate,
        (*document.bundle, *expected.roots.issuers),
        lambda root: certificate_fingerprint(root) in expected.roots.nitro_certificates,
        "the pinned AWS Nitro root",
    )
    if path:
        check_validity(findings, path, expected.at_ms)
    zero = [f"PCR{i}" for i in (0, 1, 2) if not any(document.pcrs[i])]
    what = f"{', '.join(zero)} zero: a debug enclave" if zero else "PCR0, PCR1 and PCR2 are not zero"
    findings.add(CheckName.DEBUG_OFF, not zero, what)
    check_measurement(findings, [(f"PCR{i}", document.pcrs[i]) for i in (0, 1, 2)], expected)
    _binding(findings, document, expected)
    check_age(findings, document.timestamp_ms, expected)
    check_development(findings, expected)
    measurement = b"".join(document.pcrs[i] for i in (0, 1, 2))
    return findings.verdict(measurement=measurement, issued_at_ms=document.timestamp_ms)


def _signature(document: NitroDocument) -> tuple[bool, str]:
    key = document.certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        return False, "the certificate's key is not P-384"
    r, s = int.from_bytes(document.signature[:48], "big"), int.from_bytes(document.signature[48:], "big")
    holds = verifies(key, r, s, document.signed, SHA384())
    return holds, "ES384 by the document's certificate" if holds else "does not verify"


def _binding(findings: Findings, document: NitroDocument, expected: Expected) -> None:
    for field, value, wanted in (
        ("nonce", document.nonce, expected.nonce),
        ("user_data", document.user_data, expected.binding),
    ):
        if wanted is None:
            continue
        bound = value is not None and same_bytes(value, wanted)
        state = (
            "is what was asked" if bound else "is absent" if value is None else "is another one: replayed or foreign"
        )
        findings.add(CheckName.BINDING, bound, f"{field} {state}")
        if field == "nonce":
            findings.add(CheckName.FRESHNESS, bound, f"nonce {state}")
    if expected.nonce is None:
        shown = "absent" if document.nonce is None else document.nonce.hex()
        findings.not_asked(CheckName.BINDING, f"nonce {shown}; give the nonce to check it")


def _optional_bytes(fields: Mapping[object, object], name: str) -> bytes | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, bytes):
        raise EvidenceFormatError(f"{name} is not bytes")
    return value or None


def _decode(data: bytes, most: int) -> object:
    """The one CBOR item in `data`."""
    if len(data) > most:
        raise EvidenceFormatError(f"the document is longer than {most} bytes")
    stream = BytesIO(data)
    try:
        value: object = cbor2.load(stream, allow_duplicate_keys=False)
    except (cbor2.CBORDecodeError, ValueError, TypeError, RecursionError, OverflowError, MemoryError) as error:
        raise EvidenceFormatError("not CBOR") from error
    if stream.tell() != len(data):
        raise EvidenceFormatError("bytes follow the CBOR item")
    return value
