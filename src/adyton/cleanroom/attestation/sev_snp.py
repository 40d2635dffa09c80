"""AMD SEV-SNP: an attestation report of 1184 bytes, signed by a chip's VCEK or a cloud's VLEK.

    0x000 version   0x008 policy      0x030 VMPL        0x034 signature algorithm   0x048 key flags
    0x050 report data (64)            0x090 measurement (48)                        0x0C0 host data (32)
    0x180 reported TCB                0x1A0 chip id (64)                            0x2A0 signature: r, s (72 each)

Numbers are little-endian. The certificate comes beside the report: VCEK <- ASK <- ARK, or VLEK <- ASVK <- ARK.
Only Milan's issuers are in the package. Genoa's and Turin's ARKs are pinned by key; their ASK/ASVK and ARK certificates
must be given with the evidence. Measurement: the launch measurement.
Source: cleanroom §2.2; AMD 56860 (report), 57230 (VCEK extensions).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384

from adyton.cleanroom.attestation.certificate_chain import (
    check_chain,
    check_revocation,
    check_validity,
    common_name,
    load_certificates,
)
from adyton.cleanroom.attestation.checks import CheckName, Findings, Platform, Verdict
from adyton.cleanroom.attestation.ecdsa import verifies
from adyton.cleanroom.attestation.errors import EvidenceFormatError
from adyton.cleanroom.attestation.expected import (
    Expected,
    check_development,
    check_measurement,
    check_report_data,
)
from adyton.cleanroom.attestation.roots import key_fingerprint
from adyton.cleanroom.attestation.snp_tcb import SnpTcb

REPORT_BYTES = 1184
SIGNED_BYTES = 0x2A0
_NUMBER_BYTES = 72
_ECDSA_P384_SHA384 = 1
_DEBUG_BIT, _MIGRATION_BIT, _MUST_BE_ONE_BIT = 19, 18, 17
_CERTIFICATE_NAMES = {0: "SEV-VCEK", 1: "SEV-VLEK"}
_OID = "1.3.6.1.4.1.3704.1"
_CHIP_ID_OID = x509.ObjectIdentifier(f"{_OID}.4")

# Chips whose endorsement keys were extracted and published: whoever has them signs any report at any TCB version.
# Buhren, Jacob, Krachenfels, Seifert, "One Glitch to Rule Them All" (CCS 2021): EPYC 72F3 (Milan) and 7272 (Rome).
LEAKED_CHIPS = frozenset(
    {
        "91c44a33162d17b3a04ff6b631b6f6bc735b1b81cc103b69dced1c72b15a376c"
        "486a36da75e1d9239f1a18a62bd52b14a5e31af999472dbc068d22728181a0d7",
        "ded5992ef2ed25e5325748671b6114e5cfac801d7420b3d289c833db2bf755ea"
        "735bbe1092e5cd33bc4e31af1a2880ad8d1fbf640c8f80dc02ba464e6c6c9395",
    }
)


@dataclass(frozen=True)
class SnpReport:
    """The fields that are judged. Byte fields are raw; `reported_tcb` etc. are the eight bytes as stored."""

    version: int
    policy: int
    vmpl: int
    key_flags: int
    report_data: bytes
    measurement: bytes
    host_data: bytes
    current_tcb: bytes
    reported_tcb: bytes
    committed_tcb: bytes
    chip_id: bytes
    signed: bytes
    r: int
    s: int

    @property
    def signing_key(self) -> int:
        """0 VCEK, 1 VLEK, 7 none."""
        return self.key_flags >> 2 & 7

    @property
    def chip_id_is_masked(self) -> bool:
        return bool(self.key_flags & 2)


def parse(evidence: bytes) -> SnpReport:
    """The report in `evidence`. Raises EvidenceFormatError."""
    if len(evidence) != REPORT_BYTES:
        raise EvidenceFormatError(f"an SEV-SNP report has {REPORT_BYTES} bytes, not {len(evidence)}")
    (version,) = struct.unpack_from("<I", evidence, 0)
    (policy,) = struct.unpack_from("<Q", evidence, 0x08)
    vmpl, algorithm = struct.unpack_from("<II", evidence, 0x30)
    (key_flags,) = struct.unpack_from("<I", evidence, 0x48)
    signature = evidence[SIGNED_BYTES:]
    if not 2 <= version <= 5:
        raise EvidenceFormatError(f"report version {version} is not known")
    if algorithm != _ECDSA_P384_SHA384:
        raise EvidenceFormatError("the signature algorithm is not ECDSA P-384 with SHA-384")
    if any(signature[2 * _NUMBER_BYTES :]):
        # Nothing signs these bytes, so nothing may be written there.
        raise EvidenceFormatError("bytes follow the signature")
    if not policy >> _MUST_BE_ONE_BIT & 1:
        raise EvidenceFormatError("the policy's reserved bit is not set")
    return SnpReport(
        version=version,
        policy=policy,
        vmpl=vmpl,
        key_flags=key_flags,
        report_data=evidence[0x50:0x90],
        measurement=evidence[0x90:0xC0],
        host_data=evidence[0xC0:0xE0],
        current_tcb=evidence[0x38:0x40],
        reported_tcb=evidence[0x180:0x188],
        committed_tcb=evidence[0x1E0:0x1E8],
        chip_id=evidence[0x1A0:0x1E0],
        signed=evidence[:SIGNED_BYTES],
        r=int.from_bytes(signature[:_NUMBER_BYTES], "little"),
        s=int.from_bytes(signature[_NUMBER_BYTES : 2 * _NUMBER_BYTES], "little"),
    )


def verify(evidence: bytes, expected: Expected) -> Verdict:
    """The verdict on an SEV-SNP report with its VCEK or VLEK in `expected.certificates`.

    Raises EvidenceFormatError if the bytes are something else.
    """
    report = parse(evidence)
    given = load_certificates(expected.certificates)
    findings = Findings(Platform.SEV_SNP)
    findings.add(CheckName.FORMAT, True, f"report version {report.version}")
    wanted = _CERTIFICATE_NAMES.get(report.signing_key)
    named = [certificate for certificate in given if common_name(certificate.subject) == wanted]
    # Several may be given, of several chips or versions: the one that signed it, wherever it stands.
    leaf = next((certificate for certificate in named if _signature(report, certificate)[0]), next(iter(named), None))
    if wanted is None:
        findings.add(CheckName.SIGNATURE, False, "the report says that no key of AMD's signed it")
    elif leaf is None:
        findings.add(CheckName.SIGNATURE, False, f"the report is signed by a {wanted}, whose certificate was not given")
    else:
        findings.add(CheckName.SIGNATURE, *_signature(report, leaf))
        _chain(findings, leaf, given, expected)
        _tcb(findings, report, leaf, expected)
    debug = bool(report.policy >> _DEBUG_BIT & 1)
    findings.add(CheckName.DEBUG_OFF, not debug, f"policy {report.policy:#x}: debug is {'allowed' if debug else 'off'}")
    if report.policy >> _MIGRATION_BIT & 1:
        # Such an agent gets the guest's memory, and nothing here says which code it is.
        findings.add(CheckName.DEBUG_OFF, False, "a migration agent may take the guest's memory")
    if expected.allowed_vmpls is None and report.vmpl != 0:
        findings.not_asked(CheckName.VMPL, f"privilege level {report.vmpl}; say which levels may ask for reports")
    else:
        allowed = report.vmpl in (expected.allowed_vmpls or {0})
        findings.add(CheckName.VMPL, allowed, f"privilege level {report.vmpl}{'' if allowed else ' is not allowed'}")
    check_measurement(findings, [("measurement", report.measurement)], expected)
    check_report_data(findings, "report_data", report.report_data, expected)
    check_development(findings, expected)
    return findings.verdict(measurement=report.measurement)


def _chain(findings: Findings, leaf: x509.Certificate, given: tuple[x509.Certificate, ...], expected: Expected) -> None:
    path = check_chain(
        findings,
        leaf,
        (*given, *expected.roots.issuers),
        lambda root: key_fingerprint(root) in expected.roots.amd_keys,
        "a pinned AMD root (only Milan's issuers are in this package; give ASK and ARK of others)",
    )
    if path is None:
        return
    check_validity(findings, path, expected.at_ms)
    # AMD lists ASKs and ASVKs; a VCEK or VLEK is withdrawn by raising the TCB floor.
    check_revocation(findings, path, path[1:-1], expected.revocation_lists, expected.at_ms)


def _tcb(findings: Findings, report: SnpReport, leaf: x509.Certificate, expected: Expected) -> None:
    chip = _extension(leaf, f"{_OID}.4")
    chip = chip[2:] if chip is not None and len(chip) == 66 and chip[:2] == b"\x04\x40" else chip
    if any(known.hex() in LEAKED_CHIPS for known in (chip or b"", report.chip_id)):
        findings.add(CheckName.REVOCATION, False, "this chip's private keys were extracted and published")
    turin = _number(leaf, f"{_OID}.3.9") is not None
    reported = _tcb_of(report.reported_tcb, turin=turin)
    certified = _certified_tcb(leaf)
    if certified is None:
        findings.add(CheckName.TCB, False, "the certificate does not say its TCB version")
    else:
        same = certified == reported
        findings.add(CheckName.TCB, same, f"{reported}" if same else f"report {reported}; certificate {certified}")
    current = _tcb_of(report.current_tcb, turin=turin)
    committed = _tcb_of(report.committed_tcb, turin=turin)
    if not current.at_least(committed) or not current.at_least(reported):
        findings.add(CheckName.TCB, False, "the firmware is older than what the report commits to")
    if expected.snp_floor is not None and not reported.at_least(expected.snp_floor):
        findings.add(CheckName.TCB, False, f"{reported} is under the floor {expected.snp_floor}")
    if report.signing_key == 0:
        if chip is None or len(chip) != 64:
            findings.add(CheckName.TCB, False, "the VCEK does not name its chip")
        elif not report.chip_id_is_masked and chip != report.chip_id:
            findings.add(CheckName.TCB, False, "the VCEK is another chip's")


def _signature(report: SnpReport, leaf: x509.Certificate) -> tuple[bool, str]:
    key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        return False, "the certificate's key is not P-384"
    holds = verifies(key, report.r, report.s, report.signed, SHA384())
    return (
        holds,
        f"ECDSA P-384 by the {common_name(leaf.subject)}"
        if holds
        else f"does not verify with the {common_name(leaf.subject)}",
    )


def _tcb_of(stored: bytes, *, turin: bool) -> SnpTcb:
    if turin:
        return SnpTcb(fmc=stored[0], bootloader=stored[1], tee=stored[2], snp=stored[3], microcode=stored[7])
    return SnpTcb(bootloader=stored[0], tee=stored[1], snp=stored[6], microcode=stored[7])


def _certified_tcb(leaf: x509.Certificate) -> SnpTcb | None:
    bootloader, tee, snp, microcode = (_number(leaf, f"{_OID}.3.{part}") for part in (1, 2, 3, 8))
    if bootloader is None or tee is None or snp is None or microcode is None:
        return None
    return SnpTcb(bootloader, tee, snp, microcode, _number(leaf, f"{_OID}.3.9"))


def _number(leaf: x509.Certificate, oid: str) -> int | None:
    """A DER INTEGER of one or two content bytes."""
    value = _extension(leaf, oid)
    if value is None:
        return None
    if len(value) not in (3, 4) or value[0] != 2 or value[1] != len(value) - 2 or value[2] & 0x80:
        raise EvidenceFormatError("a TCB extension of the certificate cannot be read")
    return int.from_bytes(value[2:], "big")


def _extension(leaf: x509.Certificate, oid: str) -> bytes | None:
    try:
        found = leaf.extensions.get_extension_for_oid(x509.ObjectIdentifier(oid)).value
    except x509.ExtensionNotFound:
        return None
    return found.value if isinstance(found, x509.UnrecognizedExtension) else None
