"""The date at which evidence is to be judged "as of itself"."""

from __future__ import annotations

from adyton.cleanroom.attestation import confidential_space, dcap, dcap_quote, dev_sim, nitro
from adyton.cleanroom.attestation.certificate_chain import latest_start_ms, load_certificates
from adyton.cleanroom.attestation.checks import Platform
from adyton.cleanroom.attestation.expected import Expected


def document_time_ms(platform: Platform, evidence: bytes, expected: Expected) -> tuple[int, str] | None:
    """Milliseconds since the epoch and where they come from; None where neither evidence nor certificates have a date.

    Nitro, Confidential Space and dev-sim sign a time. SNP, TDX and SGX do not: the first moment at which all given
    certificates hold stands for it. Nothing here is verified yet. Raises EvidenceFormatError.
    """
    match platform:
        case Platform.NITRO:
            return nitro.parse(evidence).timestamp_ms, "the document's timestamp"
        case Platform.CONFIDENTIAL_SPACE:
            return confidential_space.document_time_ms(evidence), "the token's iat"
        case Platform.DEV_SIM:
            return dev_sim.document_time_ms(evidence), "the report's issued_at_ms"
        case Platform.SEV_SNP | Platform.TPM | Platform.DEV_TPM:
            certificates = load_certificates(expected.certificates)
        case Platform.TDX | Platform.SGX:
            certificates = dcap.quote_certificates(dcap_quote.parse(evidence)) or load_certificates(
                expected.certificates
            )
    start = latest_start_ms(certificates)
    return None if start is None else (start, "the first moment at which its certificates hold; it signs no time")
