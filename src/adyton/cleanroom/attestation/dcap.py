"""Intel SGX and TDX: who signed a quote, and what may be believed of it.

    attestation key signs the quote;  QE report holds SHA-256(attestation key | authentication data);
    PCK signs the QE report;          PCK <- Intel's CA <- the pinned "Intel SGX Root CA"

The provisioning service certifies any enclave that asks for it, so the quoting enclave must be Intel's own, by signer.
Revocation and TCB need Intel's collateral, which changes daily: `dcap-qvl` reads it where it is installed. With lists
of revoked certificates alone, `revocation` is checked here and `tcb` stays open.
Measurement: SGX MRENCLAVE. TDX MRTD, or MRTD and RTMR0 up to RTMR3 one after another; MRTD covers only the firmware.
Source: cleanroom §2.2.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from types import ModuleType

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from adyton.cleanroom.attestation.certificate_chain import (
    check_chain,
    check_revocation,
    check_validity,
    common_name,
    load_certificates,
    pem_of,
)
from adyton.cleanroom.attestation.checks import CheckName, Findings, Platform, Verdict
from adyton.cleanroom.attestation.dcap_quote import PCK_CHAIN, TEE_SGX, Quote, SgxBody, TdBody, parse
from adyton.cleanroom.attestation.ecdsa import verifies
from adyton.cleanroom.attestation.errors import EvidenceFormatError
from adyton.cleanroom.attestation.expected import (
    Expected,
    check_development,
    check_measurement,
    check_report_data,
    same_bytes,
)
from adyton.cleanroom.attestation.roots import key_fingerprint
from adyton.kernel.errors import InternalError

_SGX_DEBUG, _SGX_INITIALISED = 0x2, 0x1
_INTEL_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
# MRSIGNER and product id of Intel's quoting enclaves, from its published QE identities.
_QUOTING_ENCLAVES = {
    Platform.SGX: (bytes.fromhex("8c4f5775d796503e96137f77c68a829a0056ac8ded70140b081b094490c57bff"), 1),
    Platform.TDX: (bytes.fromhex("dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5"), 2),
}
_PCK_NAME = "Intel SGX PCK Certificate"


def verify_sgx(evidence: bytes, expected: Expected) -> Verdict:
    """The verdict on an SGX quote. Raises EvidenceFormatError if the bytes are something else."""
    return _verify(Platform.SGX, evidence, expected)


def verify_tdx(evidence: bytes, expected: Expected) -> Verdict:
    """The verdict on a TDX quote. Raises EvidenceFormatError if the bytes are something else."""
    return _verify(Platform.TDX, evidence, expected)


def _verify(platform: Platform, evidence: bytes, expected: Expected) -> Verdict:
    quote = parse(evidence)
    if (quote.tee == TEE_SGX) != (platform is Platform.SGX):
        raise EvidenceFormatError(f"the quote is not one of {platform}")
    findings = Findings(platform)
    ignored = f"; {quote.trailing_bytes} bytes after it are ignored" if quote.trailing_bytes else ""
    findings.add(CheckName.FORMAT, True, f"quote version {quote.version}{ignored}")
    carried = quote_certificates(quote)
    certificates = carried or (*load_certificates(expected.certificates), *expected.roots.issuers)
    pck = next((certificate for certificate in certificates if common_name(certificate.subject) == _PCK_NAME), None)
    _signatures(findings, quote, pck)
    _quoting_enclave(findings, platform, quote)
    if pck is None:
        findings.add(CheckName.CHAIN, False, "the quote carries no PCK certificate and none was given")
    else:
        path = _chain(findings, pck, certificates, expected)
        if carried and path is not None and set(path) != set(carried):
            findings.add(CheckName.CHAIN, False, "the quote carries certificates that are not of its chain")
    _tcb(findings, evidence[: len(evidence) - quote.trailing_bytes], expected)
    body = quote.body
    registers = _sgx(findings, body) if isinstance(body, SgxBody) else _td(findings, body)
    check_measurement(findings, registers, expected)
    check_report_data(findings, "report_data", body.report_data, expected)
    check_development(findings, expected)
    return findings.verdict(measurement=b"".join(value for _, value in registers))


def quote_certificates(quote: Quote) -> tuple[x509.Certificate, ...]:
    """The PCK chain inside the quote; empty if it carries none. Raises EvidenceFormatError."""
    if quote.certificates_kind != PCK_CHAIN:
        return ()
    certificates = load_certificates([quote.certificates])
    text = quote.certificates.rstrip(b"\0").replace(b"\r\n", b"\n").rstrip(b"\n") + b"\n"
    if pem_of(certificates) != text:
        # No signature covers white space or words between certificates.
        raise EvidenceFormatError("the PCK chain is not plain PEM")
    return certificates


def _signatures(findings: Findings, quote: Quote, pck: x509.Certificate | None) -> None:
    try:
        numbers = ec.EllipticCurvePublicNumbers(*_pair(quote.attestation_key), ec.SECP256R1())
        attestation_key = numbers.public_key()
        pck_key = None if pck is None else pck.public_key()
    except ValueError as error:
        raise EvidenceFormatError("the attestation key is not a point of P-256") from error
    signed = verifies(attestation_key, *_pair(quote.signature), quote.signed, SHA256())
    findings.add(CheckName.SIGNATURE, signed, f"quote {'signed by' if signed else 'not signed by'} its attestation key")
    bound = hashlib.sha256(quote.attestation_key + quote.qe_authentication).digest().ljust(64, b"\0")
    holds = same_bytes(quote.qe.report_data, bound)
    findings.add(CheckName.SIGNATURE, holds, f"quoting enclave {'vouches' if holds else 'does not vouch'} for that key")
    if not isinstance(pck_key, ec.EllipticCurvePublicKey) or not isinstance(pck_key.curve, ec.SECP256R1):
        findings.add(CheckName.SIGNATURE, False, "there is no P-256 PCK to check the quoting enclave's report with")
        return
    signed = verifies(pck_key, *_pair(quote.qe_signature), quote.qe_report, SHA256())
    findings.add(
        CheckName.SIGNATURE, signed, f"PCK {'signs' if signed else 'does not sign'} the quoting enclave's report"
    )


def _quoting_enclave(findings: Findings, platform: Platform, quote: Quote) -> None:
    signer, product_id = _QUOTING_ENCLAVES[platform]
    intels = quote.qe_vendor == _INTEL_VENDOR and (quote.qe.mrsigner, quote.qe.product_id) == (signer, product_id)
    what = "quoting enclave is Intel's" if intels else "the quoting enclave is not Intel's"
    findings.add(CheckName.CHAIN, intels, what)
    if quote.qe.attributes & _SGX_DEBUG:
        findings.add(CheckName.DEBUG_OFF, False, "the quoting enclave is a debug enclave")


def _chain(
    findings: Findings, pck: x509.Certificate, certificates: tuple[x509.Certificate, ...], expected: Expected
) -> tuple[x509.Certificate, ...] | None:
    path = check_chain(
        findings,
        pck,
        certificates,
        lambda root: key_fingerprint(root) in expected.roots.intel_keys,
        "the pinned Intel SGX Root CA",
    )
    if path is not None:
        check_validity(findings, path, expected.at_ms)
        if expected.collateral is None:
            check_revocation(findings, path, path[:-1], expected.revocation_lists, expected.at_ms)
    return path


def _tcb(findings: Findings, quote: bytes, expected: Expected) -> None:
    if expected.collateral is None:
        findings.not_asked(CheckName.TCB, "no collateral (TCB info, QE identity) was given")
        return
    library = _dcap_qvl()
    if library is None:
        for name in (CheckName.TCB, CheckName.REVOCATION):
            findings.add(name, False, "collateral needs the dcap-qvl package, which is not installed")
        return
    try:
        json.loads(expected.collateral)
        collateral = library.QuoteCollateralV3.from_json(expected.collateral.decode())
    except (ValueError, RecursionError) as error:
        raise EvidenceFormatError("the collateral cannot be read") from error
    root = next((one for one in expected.roots.issuers if key_fingerprint(one) in expected.roots.intel_keys), None)
    if root is None:
        raise InternalError("no certificate of a pinned Intel root is at hand")
    try:
        verified = library.verify_with_root_ca(
            quote, collateral, root.public_bytes(Encoding.DER), expected.at_ms // 1000
        )
    except (ValueError, OverflowError) as error:
        reason = str(error).splitlines()[0][:160]
        for name in (CheckName.TCB, CheckName.REVOCATION):
            findings.add(name, False, f"refused by dcap-qvl: {reason}")
        return
    status = str(verified.status)
    findings.add(CheckName.REVOCATION, status != "Revoked", "lists are current; nothing of the chain is on them")
    accepted = ", ".join(sorted(expected.tcb_statuses))
    is_accepted, advisories = status in expected.tcb_statuses, ", ".join(sorted(verified.advisory_ids))
    told = f"status {status}{f' ({advisories})' if advisories else ''}"
    findings.add(CheckName.TCB, is_accepted, told if is_accepted else f"{told}; accepted: {accepted or 'none'}")


def _dcap_qvl() -> ModuleType | None:
    try:
        return importlib.import_module("dcap_qvl")
    except ImportError:
        return None


def _sgx(findings: Findings, body: SgxBody) -> list[tuple[str, bytes]]:
    debug = bool(body.attributes & _SGX_DEBUG)
    what = f"attributes {body.attributes:#x}: {'a debug enclave' if debug else 'debug is off'}"
    findings.add(CheckName.DEBUG_OFF, not debug and bool(body.attributes & _SGX_INITIALISED), what)
    return [("MRENCLAVE", body.mrenclave)]


def _td(findings: Findings, body: TdBody) -> list[tuple[str, bytes]]:
    # The whole first byte is the "TD under debug" group: any bit of it makes the TD untrusted.
    debug = body.td_attributes[0] != 0
    what = f"attributes {body.td_attributes.hex()}: {'debug is on' if debug else 'debug is off'}"
    findings.add(CheckName.DEBUG_OFF, not debug, what)
    if any(body.module_signer) or any(body.module_attributes):
        findings.add(CheckName.CHAIN, False, "the TDX module is not Intel's production module")
    if any(body.service_td):
        # A migration TD, which takes the TD's memory elsewhere, and whose code nobody was asked about.
        findings.add(CheckName.DEBUG_OFF, False, "a service TD may take the TD's memory")
    return [("MRTD", body.mrtd), *((f"RTMR{i}", value) for i, value in enumerate(body.rtmrs))]


def _pair(data: bytes) -> tuple[int, int]:
    return int.from_bytes(data[:32], "big"), int.from_bytes(data[32:], "big")
