"""Intel DCAP quotes, version 3, 4 and 5, as they lie in bytes. Numbers are little-endian.

    header (48) | [v5: body type (2), size (4)] | body: SGX 384, TD 1.0 584, TD 1.5 648 | length (4) | signature data

    signature data, v3:     signature (64) | attestation key (64) | QE part
    signature data, v4, v5: signature (64) | attestation key (64) | type 6 (2) | size (4) | QE part
    QE part: QE report (384) | its signature (64) | size (2), authentication data | type (2) | size (4), certificates

Source: cleanroom §2.2; Intel SGX ECDSA QuoteLibReference appendix A; Intel TDX DCAP Quoting Library appendix A.
"""

from __future__ import annotations

from dataclasses import dataclass

from adyton.cleanroom.attestation.byte_reader import ByteReader
from adyton.cleanroom.attestation.errors import EvidenceFormatError

MAX_QUOTE_BYTES = 64 << 10
HEADER_BYTES, SGX_BODY_BYTES, TD10_BODY_BYTES, TD15_BODY_BYTES = 48, 384, 584, 648
ECDSA_P256 = 2
TEE_SGX, TEE_TDX = 0x00, 0x81
PCK_CHAIN, QE_PART = 5, 6
_BODIES_V5 = {1: (TEE_SGX, SGX_BODY_BYTES), 2: (TEE_TDX, TD10_BODY_BYTES), 3: (TEE_TDX, TD15_BODY_BYTES)}


@dataclass(frozen=True)
class SgxBody:
    """An SGX report body."""

    attributes: int
    mrenclave: bytes
    mrsigner: bytes
    product_id: int
    security_version: int
    report_data: bytes


@dataclass(frozen=True)
class TdBody:
    """A TD report body. `service_td`: empty in TD 1.0, which has no such field."""

    module_signer: bytes
    module_attributes: bytes
    td_attributes: bytes
    mrtd: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    service_td: bytes
    report_data: bytes


@dataclass(frozen=True)
class Quote:
    """A quote in parts. `signed`: what the attestation key signs.   `qe_report`: what the PCK signs."""

    version: int
    tee: int
    qe_vendor: bytes
    body: SgxBody | TdBody
    signed: bytes
    signature: bytes
    attestation_key: bytes
    qe_report: bytes
    qe: SgxBody
    qe_signature: bytes
    qe_authentication: bytes
    certificates_kind: int
    certificates: bytes
    trailing_bytes: int


def parse(evidence: bytes) -> Quote:
    """The quote in `evidence`. Raises EvidenceFormatError."""
    if len(evidence) > MAX_QUOTE_BYTES:
        raise EvidenceFormatError(f"a quote has at most {MAX_QUOTE_BYTES} bytes")
    reader = ByteReader(evidence, "quote", "little")
    header = reader.take(HEADER_BYTES)
    version, key_kind = (int.from_bytes(header[i : i + 2], "little") for i in (0, 2))
    tee = int.from_bytes(header[4:8], "little")
    if version not in (3, 4, 5):
        raise EvidenceFormatError(f"quote version {version} is not known")
    if key_kind != ECDSA_P256:
        raise EvidenceFormatError("the attestation key is not ECDSA P-256")
    if tee not in (TEE_SGX, TEE_TDX) or (version == 3 and tee != TEE_SGX):
        raise EvidenceFormatError("the quote is of no TEE that is known")
    prefix, size = b"", {TEE_SGX: SGX_BODY_BYTES, TEE_TDX: TD10_BODY_BYTES}[tee]
    if version == 5:
        prefix = reader.take(6)
        kind, said = int.from_bytes(prefix[:2], "little"), int.from_bytes(prefix[2:], "little")
        if _BODIES_V5.get(kind) != (tee, said):
            raise EvidenceFormatError("the quote's body has an unknown type or size")
        size = said
    body = reader.take(size)
    signature_data = ByteReader(reader.sized(4), "quote's signature data", "little")
    # Buffers of quoting libraries are often longer than the quote; what follows is no part of it and is never read.
    trailing = len(reader.rest())
    signature, attestation_key = signature_data.take(64), signature_data.take(64)
    if version == 3:
        part = signature_data
    else:
        if signature_data.number(2) != QE_PART:
            raise EvidenceFormatError("the quote does not carry its quoting enclave's report")
        part = ByteReader(signature_data.sized(4), "quoting enclave's part", "little")
        signature_data.end()
    qe_report, qe_signature, qe_authentication = part.take(SGX_BODY_BYTES), part.take(64), part.sized(2)
    kind, certificates = part.number(2), part.sized(4)
    part.end()
    return Quote(
        version=version,
        tee=tee,
        qe_vendor=header[12:28],
        body=_sgx_body(body) if tee == TEE_SGX else _td_body(body),
        signed=header + prefix + body,
        signature=signature,
        attestation_key=attestation_key,
        qe_report=qe_report,
        qe=_sgx_body(qe_report),
        qe_signature=qe_signature,
        qe_authentication=qe_authentication,
        certificates_kind=kind,
        certificates=certificates,
        trailing_bytes=trailing,
    )


def _sgx_body(body: bytes) -> SgxBody:
    return SgxBody(
        attributes=int.from_bytes(body[48:56], "little"),
        mrenclave=body[64:96],
        mrsigner=body[128:160],
        product_id=int.from_bytes(body[256:258], "little"),
        security_version=int.from_bytes(body[258:260], "little"),
        report_data=body[320:384],
    )


def _td_body(body: bytes) -> TdBody:
    return TdBody(
        module_signer=body[64:112],
        module_attributes=body[112:120],
        td_attributes=body[120:128],
        mrtd=body[136:184],
        rtmrs=(body[328:376], body[376:424], body[424:472], body[472:520]),
        report_data=body[520:584],
        service_td=body[600:648],
    )
