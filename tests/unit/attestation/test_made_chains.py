"""What no genuine file shows: made evidence under made roots, which the same rules must accept or refuse by name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

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

    def issue(self, name: str, *, ca: bool, extensions: dict[str, bytes] | None = None, **made: Any) -> Authority:
        key = ec.generate_private_key(ec.SECP384R1())
        return Authority(key, _certificate(name, key, self.certificate.subject, self.key, ca, extensions or {}, **made))

    def list(self, *revoked: x509.Certificate, at: datetime = AT, partial: bool = False) -> bytes:
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(at - timedelta(days=1)).next_update(at + timedelta(days=1))
        for certificate in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(at - timedelta(days=1)).build())
        if partial:
            builder = builder.add_extension(x509.DeltaCRLIndicator(1), critical=True)
        return builder.sign(self.key, hashes.SHA384()).public_bytes(Encoding.DER)


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    ca: bool,
    extensions: dict[str, bytes],
    *,
    until: datetime = AT + timedelta(days=10),
    usage: x509.KeyUsage | None = None,
    critical: bool = False,
    path_length: int | None = None,
    algorithm: Any = None,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(AT - timedelta(days=10))
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
    )
    if usage is not None:
        builder = builder.add_extension(usage, critical=True)
    for oid, value in extensions.items():
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
        builder = builder.add_extension(unknown, critical=critical)
    return builder.sign(issuer_key, algorithm or hashes.SHA384())


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


def endorsement(
    name: str = "SEV-VCEK", chip: bytes | None = CHIP, snp: int = 20, middle: Authority = MIDDLE
) -> Authority:
    oid = "1.3.6.1.4.1.3704.1"
    numbers = {f"{oid}.3.1": 3, f"{oid}.3.2": 0, f"{oid}.3.3": snp, f"{oid}.3.8": 115}
    extensions = {name: bytes([2, 1, number]) for name, number in numbers.items()}
    if chip is not None:
        extensions[f"{oid}.4"] = chip
    return middle.issue(name, ca=False, extensions=extensions)


def report(
    key: Authority,
    *,
    vlek: bool = False,
    chip: bytes = CHIP,
    policy: int = 0x30000,
    nonce: bytes = NONCE,
    vmpl: int = 0,
) -> bytes:
    body = bytearray(0x2A0)
    body[0:4] = (3).to_bytes(4, "little")
    body[8:16] = policy.to_bytes(8, "little")
    body[0x30:0x34] = vmpl.to_bytes(4, "little")
    body[0x34:0x38] = (1).to_bytes(4, "little")
    body[0x38:0x40] = body[0x180:0x188] = body[0x1E0:0x1E8] = bytes([3, 0, 0, 0, 0, 0, 20, 115])
    body[0x48:0x4C] = ((1 << 2) if vlek else 0).to_bytes(4, "little")
    body[0x50:0x90] = nonce.ljust(64, b"\0")
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


def nitro(pcr: bytes, leaf: Authority | None = None, **changed: object) -> bytes:
    leaf = leaf or MIDDLE.issue("enclave", ca=False)
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


def _usage(*, sign: bool = False, certify: bool = False) -> x509.KeyUsage:
    others = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
    )
    return x509.KeyUsage(digital_signature=sign, key_cert_sign=certify, crl_sign=certify, decipher_only=False, **others)


MIDDLES: dict[str, dict[str, Any]] = {
    "may not issue": {"ca": True, "usage": _usage(sign=True)},
    "is no authority": {"ca": False},
    "expired before the time asked": {"ca": True, "until": AT - timedelta(days=1)},
    "signed with a short hash": {"ca": True, "algorithm": hashes.SHA224()},
    "asks for what is not understood": {"ca": True, "extensions": {"1.2.3.4": b"x"}, "critical": True},
}


@pytest.mark.parametrize("name", sorted(MIDDLES))
def test_an_issuer_that_may_not_vouch_vouches_for_nothing(name: str) -> None:
    middle = ROOT.issue("made ASK", **MIDDLES[name])
    vcek = endorsement(middle=middle)

    failed = judge(report(vcek), vcek, certificates=der(vcek, middle, ROOT)).failed
    wanted = CheckName.VALIDITY if "expired" in name else CheckName.CHAIN
    assert wanted in failed


@pytest.mark.parametrize(
    "made", [{"ca": True}, {"ca": False, "usage": _usage(certify=False)}], ids=["an authority", "not for signing"]
)
def test_a_leaf_whose_key_is_for_something_else_signs_no_evidence(made: dict[str, Any]) -> None:
    leaf = MIDDLE.issue("enclave", **made)

    failed = judge_nitro(nitro(CODE, leaf=leaf)).failed
    assert failed == (CheckName.CHAIN, CheckName.VALIDITY)
    good = MIDDLE.issue("enclave", ca=False, usage=_usage(sign=True))
    assert judge_nitro(nitro(CODE, leaf=good)).holds


def test_a_path_that_is_longer_than_an_issuer_allows_is_refused() -> None:
    short = ROOT.issue("made ASK", ca=True, path_length=0)
    below = short.issue("made ASK below", ca=True)
    vcek = endorsement(middle=below)

    assert CheckName.CHAIN in judge(report(vcek), vcek, certificates=der(vcek, below, short, ROOT)).failed


def test_the_same_names_under_another_key_are_no_chain() -> None:
    other = made_root("made ARK")
    middle = other.issue("made ASK", ca=True)
    vcek = endorsement(middle=middle)

    for pool in (der(vcek, middle, other), der(vcek, middle, ROOT), der(vcek, MIDDLE, ROOT), der(vcek, vcek)):
        assert CheckName.CHAIN in judge(report(vcek), vcek, certificates=pool).failed


def test_certificates_count_in_any_order_and_beside_those_of_other_chips() -> None:
    vcek, other = endorsement(), endorsement(chip=bytes(reversed(CHIP)))

    for pool in (der(ROOT, MIDDLE, vcek), der(other, MIDDLE, vcek, ROOT)):
        assert judge(report(vcek), vcek, certificates=pool).holds


def test_a_list_of_changes_only_is_no_list() -> None:
    vcek = endorsement()

    assert judge(report(vcek), vcek, revocation_lists=(ROOT.list(partial=True),)).failed == (CheckName.REVOCATION,)


@pytest.mark.parametrize(
    ("changed", "check"),
    [
        ({"policy": 0xB0000}, CheckName.DEBUG_OFF),
        ({"policy": 0x70000}, CheckName.DEBUG_OFF),
        ({"vmpl": 1}, CheckName.VMPL),
        ({"nonce": NONCE[:16]}, CheckName.FRESHNESS),
        ({"nonce": b""}, CheckName.BINDING),
        ({"nonce": NONCE + b"more"}, CheckName.BINDING),
    ],
    ids=["debug", "migration", "lower level", "half a nonce", "no nonce", "more than the nonce"],
)
def test_each_snp_lie_fails_the_check_that_names_it(changed: dict[str, Any], check: CheckName) -> None:
    vcek = endorsement()

    failed = judge(report(vcek, **changed), vcek).failed
    assert check in failed
    assert not {CheckName.SIGNATURE, CheckName.CHAIN} & set(failed)


def test_a_report_that_says_nobody_signed_it_is_refused_whatever_lies_beside_it() -> None:
    nobody = endorsement("none")
    unsigned = bytearray(report(nobody))
    unsigned[0x48:0x4C] = (7 << 2).to_bytes(4, "little")

    assert CheckName.SIGNATURE in judge(bytes(unsigned), nobody).failed


def _respelt(document: bytes) -> dict[str, bytes]:
    """Other bytes for the same COSE message, none of which a signature covers."""
    protected, _, payload, signature = cbor2.loads(document)
    parts = [cbor2.dumps(part) for part in (protected, {}, payload, signature)]
    size = len(signature).to_bytes(4, "big")
    return {
        "an array without a length": b"\x9f" + b"".join(parts) + b"\xff",
        "a length in more bytes than it needs": b"\x98\x04" + b"".join(parts),
        "a long length of the signature": b"\x84" + b"".join(parts[:3]) + b"\x5a" + size + signature,
        "a string in pieces": b"\x84" + b"".join(parts[:3]) + b"\x5f" + parts[3] + b"\xff",
        "a byte too many": document + b"\0",
        "two documents": document + document,
        "another tag": b"\xd1" + document,
        "two tags": b"\xd2\xd2" + document,
        "a list in a list": b"\x81" + document,
        "five fields": b"\x85" + b"".join(parts) + b"\xf6",
    }


@pytest.mark.parametrize("name", sorted(_respelt(cbor2.dumps([b"", {}, b"", b""]))))
def test_a_nitro_document_has_one_spelling(name: str) -> None:
    document = nitro(CODE)

    assert judge_nitro(b"\xd2" + document).holds
    assert CheckName.FORMAT in judge_nitro(_respelt(document)[name]).failed


def _with_raw_payload(payload: bytes, leaf: Authority, protected: bytes = b"\xa1\x01\x38\x22") -> bytes:
    signed = cbor2.dumps(["Signature1", protected, b"", payload])
    r, s = decode_dss_signature(leaf.key.sign(signed, ec.ECDSA(hashes.SHA384())))
    return cbor2.dumps([protected, {}, payload, r.to_bytes(48, "big") + s.to_bytes(48, "big")])


def test_a_nitro_payload_that_says_a_name_twice_is_refused_although_it_is_signed() -> None:
    leaf = MIDDLE.issue("enclave", ca=False)
    whole = cbor2.loads(nitro(CODE, leaf=leaf))[2]
    assert judge_nitro(_with_raw_payload(whole, leaf)).holds

    twice = bytes([whole[0] + 1]) + whole[1:] + cbor2.dumps("nonce") + cbor2.dumps(NONCE)
    pcr_twice = whole.replace(cbor2.dumps("pcrs") + b"\xb0", cbor2.dumps("pcrs") + b"\xb1" + b"\x00\x58\x30" + CODE)
    for payload in (twice, pcr_twice):
        assert payload != whole
        assert CheckName.FORMAT in judge_nitro(_with_raw_payload(payload, leaf)).failed


@pytest.mark.parametrize("protected", [{1: -35.0}, {True: -35}, {1: -36}, {1: -35, 2: [1]}, {}])
def test_only_es384_in_its_one_encoding_is_taken(protected: dict[Any, Any]) -> None:
    leaf = MIDDLE.issue("enclave", ca=False)
    payload = cbor2.loads(nitro(CODE, leaf=leaf))[2]

    assert CheckName.FORMAT in judge_nitro(_with_raw_payload(payload, leaf, cbor2.dumps(protected))).failed


@pytest.mark.parametrize("nonce", [None, b"", NONCE[:16], NONCE + b"\0", NONCE[::-1]])
def test_a_part_of_a_nonce_is_not_the_nonce(nonce: bytes | None) -> None:
    assert {CheckName.BINDING, CheckName.FRESHNESS} <= set(judge_nitro(nitro(CODE, nonce=nonce)).failed)
