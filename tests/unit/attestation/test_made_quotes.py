"""SGX and TDX quotes of each version under a made root: what holds, and lies refused by the check that names them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from adyton.cleanroom.attestation.checks import CheckName, Platform, Verdict
from adyton.cleanroom.attestation.errors import ExpectationError
from adyton.cleanroom.attestation.expected import Expected
from adyton.cleanroom.attestation.roots import PINNED_ROOTS, key_fingerprint
from adyton.cleanroom.attestation.verify import verify

AT = datetime(2026, 9, 1, tzinfo=UTC)
NONCE, CODE = bytes(range(1, 33)), bytes(range(32))
AUTHENTICATION = bytes(range(32))
QE_SIGNERS = {
    "sgx": (bytes.fromhex("8c4f5775d796503e96137f77c68a829a0056ac8ded70140b081b094490c57bff"), 1),
    "tdx": (bytes.fromhex("dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5"), 2),
}


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, by: ec.EllipticCurvePrivateKey, ca: bool
) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(AT - timedelta(days=10))
        .not_valid_after(AT + timedelta(days=10))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(by, hashes.SHA256())
    )


ROOT_KEY, PCK_KEY, ATTESTATION_KEY = _new_key(), _new_key(), _new_key()
ROOT = _certificate("made root", ROOT_KEY, "made root", ROOT_KEY, True)
PCK = _certificate("Intel SGX PCK Certificate", PCK_KEY, "made root", ROOT_KEY, False)
STRANGER = _certificate("a stranger", PCK_KEY, "a stranger", PCK_KEY, True)
PCK_THAT_ISSUES = _certificate("Intel SGX PCK Certificate", PCK_KEY, "made root", ROOT_KEY, True)
ROOTS = replace(PINNED_ROOTS, intel_keys=frozenset({key_fingerprint(ROOT)}), issuers=())


def _sign(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _sized(data: bytes, n: int = 4) -> bytes:
    return len(data).to_bytes(n, "little") + data


def sgx_body(code: bytes, signer: bytes, product: int, data: bytes, attributes: int = 5) -> bytes:
    body = bytearray(384)
    body[48:56] = attributes.to_bytes(8, "little")
    body[64:96], body[128:160] = code, signer
    body[256:258] = product.to_bytes(2, "little")
    body[320:384] = data.ljust(64, b"\0")
    return bytes(body)


def td_body(
    size: int,
    attributes: bytes = bytes(8),
    module_signer: bytes = bytes(48),
    service: bytes = b"",
    nonce: bytes = NONCE,
) -> bytes:
    body = bytearray(size)
    if service:
        body[600:648] = service
    body[64:112], body[120:128] = module_signer, attributes
    body[136:184] = CODE.ljust(48, b"\1")
    body[520:584] = nonce.ljust(64, b"\0")
    return bytes(body)


def quote(
    version: int,
    tee: str,
    body: bytes,
    *,
    body_type: int = 1,
    qe_attributes: int = 5,
    qe_signer: bytes | None = None,
    vouched: ec.EllipticCurvePrivateKey = ATTESTATION_KEY,
    pck: ec.EllipticCurvePrivateKey = PCK_KEY,
    chain: bytes = PCK.public_bytes(Encoding.PEM) + ROOT.public_bytes(Encoding.PEM),
    key_kind: int = 2,
    vendor: str = "939a7233f79c4ca9940a0db3957f0607",
    part_kind: int = 6,
) -> bytes:
    header = bytearray(48)
    header[0:2], header[2:4] = version.to_bytes(2, "little"), key_kind.to_bytes(2, "little")
    header[4:8] = (0x81 if tee == "tdx" else 0).to_bytes(4, "little")
    header[12:28] = bytes.fromhex(vendor)
    prefix = body_type.to_bytes(2, "little") + len(body).to_bytes(4, "little") if version == 5 else b""
    signed = bytes(header) + prefix + body
    points = (
        key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
        for key in (ATTESTATION_KEY, vouched)
    )
    used, named = points
    signer, product = QE_SIGNERS[tee]
    digest = hashlib.sha256(named + AUTHENTICATION).digest()
    qe = sgx_body(bytes(32), qe_signer or signer, product, digest, qe_attributes)
    part = qe + _sign(pck, qe) + _sized(AUTHENTICATION, 2) + (5).to_bytes(2, "little") + _sized(chain)
    if version > 3:
        part = part_kind.to_bytes(2, "little") + _sized(part)
    return signed + _sized(_sign(ATTESTATION_KEY, signed) + used + part)


def judge(tee: str, evidence: bytes) -> Verdict:
    code = CODE if tee == "sgx" else CODE.ljust(48, b"\1")
    expected = Expected(
        at_ms=int(AT.timestamp() * 1000), nonce=NONCE, allowed_measurements=frozenset({code.hex()}), roots=ROOTS
    )
    return verify(Platform(tee), evidence, expected=expected)


OPEN = (CheckName.REVOCATION, CheckName.TCB)
ENCLAVE = sgx_body(CODE, bytes(32), 0, NONCE)
GOOD = {
    "sgx v3": ("sgx", quote(3, "sgx", ENCLAVE)),
    "sgx v4": ("sgx", quote(4, "sgx", ENCLAVE)),
    "sgx v5": ("sgx", quote(5, "sgx", ENCLAVE, body_type=1)),
    "tdx v4": ("tdx", quote(4, "tdx", td_body(584))),
    "tdx v5, TD 1.0": ("tdx", quote(5, "tdx", td_body(584), body_type=2)),
    "tdx v5, TD 1.5": ("tdx", quote(5, "tdx", td_body(648), body_type=3)),
}


@pytest.mark.parametrize("name", sorted(GOOD))
def test_each_version_holds_but_for_what_needs_collateral(name: str) -> None:
    tee, evidence = GOOD[name]
    verdict = judge(tee, evidence)

    assert tuple(sorted(verdict.failed)) == OPEN
    assert verdict.holds_as_asked
    assert not verdict.holds


LIES = {
    "a debug enclave": ("sgx", quote(3, "sgx", sgx_body(CODE, bytes(32), 0, NONCE, attributes=7)), "debug_off"),
    "a debug TD": ("tdx", quote(4, "tdx", td_body(584, attributes=b"\1" + bytes(7))), "debug_off"),
    "a debug quoting enclave": ("sgx", quote(3, "sgx", ENCLAVE, qe_attributes=7), "debug_off"),
    "a quoting enclave of somebody else": ("sgx", quote(3, "sgx", ENCLAVE, qe_signer=bytes(32)), "chain"),
    "the quoting enclave of the other TEE": ("sgx", quote(3, "sgx", ENCLAVE, qe_signer=QE_SIGNERS["tdx"][0]), "chain"),
    "a module of somebody else": ("tdx", quote(4, "tdx", td_body(584, module_signer=b"\1" * 48)), "chain"),
    "a key the quoting enclave did not vouch for": ("sgx", quote(3, "sgx", ENCLAVE, vouched=PCK_KEY), "signature"),
    "a report that the PCK did not sign": ("sgx", quote(3, "sgx", ENCLAVE, pck=ROOT_KEY), "signature"),
    "no certificates": ("sgx", quote(3, "sgx", ENCLAVE, chain=b""), "format"),
    "words between certificates": (
        "sgx",
        quote(3, "sgx", ENCLAVE, chain=PCK.public_bytes(Encoding.PEM) + b"hello\n" + ROOT.public_bytes(Encoding.PEM)),
        "format",
    ),
    "other code": ("sgx", quote(3, "sgx", sgx_body(NONCE, bytes(32), 0, NONCE)), "measurement"),
    "zero code": ("sgx", quote(3, "sgx", sgx_body(bytes(32), bytes(32), 0, NONCE)), "measurement"),
    "another nonce": ("sgx", quote(3, "sgx", sgx_body(CODE, bytes(32), 0, CODE)), "freshness"),
    "no nonce": ("sgx", quote(3, "sgx", sgx_body(CODE, bytes(32), 0, b"")), "binding"),
    "a TD body of a size that its type has not": ("tdx", quote(5, "tdx", td_body(648), body_type=2), "format"),
    "a service TD that may take its memory": (
        "tdx",
        quote(5, "tdx", td_body(648, service=b"\1" * 48), body_type=3),
        "debug_off",
    ),
    "a debug TD 1.5": ("tdx", quote(5, "tdx", td_body(648, attributes=b"\1" + bytes(7)), body_type=3), "debug_off"),
    "profiling, of the debug group too": (
        "tdx",
        quote(4, "tdx", td_body(584, attributes=b"\2" + bytes(7))),
        "debug_off",
    ),
    "an enclave that was never initialised": (
        "sgx",
        quote(4, "sgx", sgx_body(CODE, bytes(32), 0, NONCE, attributes=4)),
        "debug_off",
    ),
    "half a nonce": ("tdx", quote(4, "tdx", td_body(584, nonce=NONCE[:16])), "freshness"),
    "more than the nonce": ("tdx", quote(4, "tdx", td_body(584, nonce=NONCE + b"x")), "binding"),
    "an SGX body that says TD": ("tdx", quote(5, "tdx", ENCLAVE, body_type=1), "format"),
    "a TD body that says SGX": ("sgx", quote(5, "sgx", td_body(584), body_type=2), "format"),
    "a body type of no TEE": ("tdx", quote(5, "tdx", td_body(648), body_type=4), "format"),
    "a TD in version 3": ("tdx", quote(3, "tdx", td_body(584)), "format"),
    "another kind of key": ("sgx", quote(3, "sgx", ENCLAVE, key_kind=3), "format"),
    "another vendor's quoting enclave": ("sgx", quote(3, "sgx", ENCLAVE, vendor="00" * 16), "chain"),
    "no report of the quoting enclave": ("sgx", quote(4, "sgx", ENCLAVE, part_kind=5), "format"),
    "a chain that ends early": ("sgx", quote(3, "sgx", ENCLAVE, chain=PCK.public_bytes(Encoding.PEM)), "chain"),
    "a stranger among the certificates": (
        "sgx",
        quote(3, "sgx", ENCLAVE, chain=b"".join(c.public_bytes(Encoding.PEM) for c in (PCK, ROOT, STRANGER))),
        "chain",
    ),
    "an authority in the PCK's place": (
        "sgx",
        quote(3, "sgx", ENCLAVE, chain=b"".join(c.public_bytes(Encoding.PEM) for c in (PCK_THAT_ISSUES, ROOT))),
        "chain",
    ),
    "an unknown version": ("sgx", quote(6, "sgx", ENCLAVE), "format"),
}


@pytest.mark.parametrize("lie", sorted(LIES))
def test_each_lie_is_refused_by_the_check_that_names_it(lie: str) -> None:
    tee, evidence, check = LIES[lie]
    verdict = judge(tee, evidence)

    assert check in verdict.failed
    assert not verdict.holds_as_asked


def test_the_order_of_certificates_says_nothing() -> None:
    backwards = ROOT.public_bytes(Encoding.PEM) + PCK.public_bytes(Encoding.PEM)

    assert judge("sgx", quote(3, "sgx", ENCLAVE, chain=backwards)).holds_as_asked


def test_a_made_root_is_not_intels() -> None:
    expected = Expected(at_ms=int(AT.timestamp() * 1000), nonce=NONCE)

    assert CheckName.CHAIN in verify(Platform.SGX, GOOD["sgx v3"][1], expected=expected).failed


def test_a_status_that_intel_never_gives_or_that_nobody_may_accept_is_no_policy() -> None:
    assert Expected(at_ms=1, tcb_statuses=frozenset({"SWHardeningNeeded"})).tcb_statuses == {"SWHardeningNeeded"}
    for status in ("Revoked", "uptodate", ""):
        with pytest.raises(ExpectationError, match="not a TCB status"):
            Expected(at_ms=1, tcb_statuses=frozenset({status}))


def test_collateral_without_its_library_or_that_is_no_collateral_is_refused() -> None:
    expected = Expected(at_ms=int(AT.timestamp() * 1000), nonce=NONCE, roots=ROOTS, collateral=b"{}")
    verdict = verify(Platform.SGX, GOOD["sgx v3"][1], expected=expected)

    assert not verdict.holds_as_asked
    assert {CheckName.TCB, CheckName.REVOCATION} <= set(verdict.failed)
