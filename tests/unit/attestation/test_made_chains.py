"""What no genuine file shows: made evidence under made roots, which the same rules must accept or refuse by name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from adyton.cleanroom.attestation.checks import CheckName, Platform, Verdict
from adyton.cleanroom.attestation.expected import Expected
from adyton.cleanroom.attestation.roots import PINNED_ROOTS, certificate_fingerprint, key_fingerprint
from adyton.cleanroom.attestation.sev_snp import LEAKED_CHIPS
from adyton.cleanroom.attestation.snp_tcb import SnpTcb
from adyton.cleanroom.attestation.verify import verify

DATA = Path(__file__).parents[2] / "vectors" / "attestation" / "data"
AT = datetime(2026, 9, 1, tzinfo=UTC)
AT_MS = int(AT.timestamp() * 1000)
NONCE = bytes(range(1, 33))
CODE = bytes(range(48))


@dataclass(frozen=True)
class Authority:
    """A name with a key, and a certificate for it."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def issue(self, name: str, *, ca: bool, extensions: dict[str, bytes] | None = None) -> Authority:
        key = ec.generate_private_key(ec.SECP384R1())
        return Authority(key, _certificate(name, key, self.certificate.subject, self.key, ca, extensions or {}))

    def list(self, *revoked: x509.Certificate, at: datetime = AT) -> bytes:
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(at - timedelta(days=1)).next_update(at + timedelta(days=1))
        for certificate in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(at - timedelta(days=1)).build())
        return builder.sign(self.key, hashes.SHA384()).public_bytes(Encoding.DER)


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    ca: bool,
    extensions: dict[str, bytes],
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(AT - timedelta(days=10))
        .not_valid_after(AT + timedelta(days=10))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    for oid, value in extensions.items():
        builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), critical=False)
    return builder.sign(issuer_key, hashes.SHA384())


def made_root(name: str) -> Authority:
    key = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return Authority(key, _certificate(name, key, subject, key, True, {}))


ROOT = made_root("made ARK")
MIDDLE = ROOT.issue("made ASK", ca=True)
ROOTS = replace(
    PINNED_ROOTS,
    amd_keys=frozenset({key_fingerprint(ROOT.certificate)}),
    nitro_certificates=frozenset({certificate_fingerprint(ROOT.certificate)}),
    issuers=(),
)
CHIP = bytes(range(64))


def der(*authorities: Authority) -> tuple[bytes, ...]:
    return tuple(authority.certificate.public_bytes(Encoding.DER) for authority in authorities)


def endorsement(name: str = "SEV-VCEK", chip: bytes | None = CHIP, snp: int = 20) -> Authority:
    oid = "1.3.6.1.4.1.3704.1"
    numbers = {f"{oid}.3.1": 3, f"{oid}.3.2": 0, f"{oid}.3.3": snp, f"{oid}.3.8": 115}
    extensions = {name: bytes([2, 1, number]) for name, number in numbers.items()}
    if chip is not None:
        extensions[f"{oid}.4"] = chip
    return MIDDLE.issue(name, ca=False, extensions=extensions)


def report(key: Authority, *, vlek: bool = False, chip: bytes = CHIP, policy: int = 0x30000) -> bytes:
    body = bytearray(0x2A0)
    body[0:4] = (3).to_bytes(4, "little")
    body[8:16] = policy.to_bytes(8, "little")
    body[0x34:0x38] = (1).to_bytes(4, "little")
    body[0x38:0x40] = body[0x180:0x188] = body[0x1E0:0x1E8] = bytes([3, 0, 0, 0, 0, 0, 20, 115])
    body[0x48:0x4C] = ((1 << 2) if vlek else 0).to_bytes(4, "little")
    body[0x50:0x90] = NONCE.ljust(64, b"\0")
    body[0x90:0xC0] = CODE
    body[0x1A0:0x1E0] = chip
    r, s = decode_dss_signature(key.key.sign(bytes(body), ec.ECDSA(hashes.SHA384())))
    return bytes(body) + r.to_bytes(72, "little") + s.to_bytes(72, "little") + bytes(512 - 144)


def judge(evidence: bytes, *with_it: Authority, **changed: object) -> Verdict:
    expected = Expected(
        at_ms=AT_MS,
        nonce=NONCE,
        allowed_measurements=frozenset({CODE.hex()}),
        certificates=der(*with_it, MIDDLE, ROOT),
        revocation_lists=(ROOT.list(),),
        roots=ROOTS,
    )
    return verify(Platform.SEV_SNP, evidence, expected=replace(expected, **changed))  # type: ignore[arg-type]


def test_a_complete_snp_report_with_lists_holds_for_a_broker() -> None:
    vcek = endorsement()

    assert judge(report(vcek), vcek).holds


def test_a_vlek_holds_too_and_neither_kind_passes_for_the_other() -> None:
    vlek, vcek = endorsement("SEV-VLEK", chip=None), endorsement()

    assert judge(report(vlek, vlek=True), vlek).holds
    assert CheckName.SIGNATURE in judge(report(vlek), vlek).failed
    assert CheckName.SIGNATURE in judge(report(vcek, vlek=True), vcek).failed


def test_a_made_root_is_no_pinned_root() -> None:
    vcek = endorsement()

    assert judge(report(vcek), vcek, roots=PINNED_ROOTS).failed == (
        CheckName.CHAIN,
        CheckName.VALIDITY,
        CheckName.REVOCATION,
    )


def test_revoked_unlisted_and_stale_lists_are_refused() -> None:
    vcek, stranger = endorsement(), made_root("made ARK")

    for lists in (
        (ROOT.list(MIDDLE.certificate),),
        (ROOT.list(at=AT - timedelta(days=30)),),
        (stranger.list(),),
    ):
        assert judge(report(vcek), vcek, revocation_lists=lists).failed == (CheckName.REVOCATION,)
    assert judge(report(vcek), vcek, revocation_lists=()).failed == (CheckName.REVOCATION,)


def test_tcb_must_be_that_of_the_certificate_and_not_under_the_floor() -> None:
    vcek, older = endorsement(), endorsement(snp=19)

    assert judge(report(older), older).failed == (CheckName.TCB,)
    assert judge(report(vcek), vcek, snp_floor=SnpTcb(3, 0, 20, 115)).holds
    assert judge(report(vcek), vcek, snp_floor=SnpTcb(3, 0, 21, 115)).failed == (CheckName.TCB,)


def test_a_vcek_of_another_or_no_chip_is_refused() -> None:
    for chip in (bytes(reversed(CHIP)), None):
        vcek = endorsement(chip=chip)
        assert judge(report(vcek), vcek).failed == (CheckName.TCB,)


@pytest.mark.parametrize("chip", sorted(LEAKED_CHIPS))
def test_chips_whose_private_keys_are_public_are_refused_whatever_the_lists_say(chip: str) -> None:
    vcek = endorsement(chip=bytes.fromhex(chip))

    assert judge(report(vcek, chip=bytes.fromhex(chip)), vcek).failed == (CheckName.REVOCATION,)


def test_a_leaf_that_issues_its_own_leaf_is_refused() -> None:
    vcek = endorsement()
    below = vcek.issue("SEV-VCEK", ca=False)

    assert CheckName.CHAIN in judge(report(below), below, vcek).failed


def nitro(pcr: bytes, **changed: object) -> bytes:
    leaf = MIDDLE.issue("enclave", ca=False)
    fields = {
        "module_id": "i-made",
        "digest": "SHA384",
        "timestamp": AT_MS,
        "pcrs": dict.fromkeys(range(16), pcr),
        "certificate": der(leaf)[0],
        "cabundle": list(der(ROOT, MIDDLE)),
        "public_key": None,
        "user_data": hashlib.sha256(b"bound").digest(),
        "nonce": NONCE,
        **changed,
    }
    payload, protected = cbor2.dumps(fields), cbor2.dumps({1: -35})
    signed = cbor2.dumps(["Signature1", protected, b"", payload])
    r, s = decode_dss_signature(leaf.key.sign(signed, ec.ECDSA(hashes.SHA384())))
    return cbor2.dumps([protected, {}, payload, r.to_bytes(48, "big") + s.to_bytes(48, "big")])


def judge_nitro(evidence: bytes) -> Verdict:
    expected = Expected(
        at_ms=AT_MS,
        nonce=NONCE,
        binding=hashlib.sha256(b"bound").digest(),
        allowed_measurements=frozenset({CODE.hex(), "00" * 48}),
        roots=ROOTS,
    )
    return verify(Platform.NITRO, evidence, expected=expected)


def test_a_nitro_debug_enclave_is_refused_even_if_zero_is_on_the_list_of_measurements() -> None:
    assert judge_nitro(nitro(CODE)).holds
    assert judge_nitro(nitro(bytes(48))).failed == (CheckName.DEBUG_OFF, CheckName.MEASUREMENT)


@pytest.mark.parametrize("field", ["nonce", "user_data"])
def test_an_absent_field_binds_nothing(field: str) -> None:
    for absent in (None, b""):
        assert CheckName.BINDING in judge_nitro(nitro(CODE, **{field: absent})).failed


def test_a_foreign_nitro_root_is_refused() -> None:
    stranger = made_root("aws.nitro-enclaves")

    failed = judge_nitro(nitro(CODE, cabundle=list(der(stranger, MIDDLE)))).failed
    assert failed == (CheckName.CHAIN, CheckName.VALIDITY)
