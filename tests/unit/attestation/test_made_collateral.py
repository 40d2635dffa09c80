"""Intel's collateral, made under a made root: what `dcap-qvl` says of TCB and revocation, and what is made of it.

No genuine collateral of the genuine quote's day was at hand. The PCK's SGX extension is the genuine quote's.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from adyton.cleanroom.attestation import dcap, dcap_quote
from adyton.cleanroom.attestation.checks import CheckName, Platform, Verdict
from adyton.cleanroom.attestation.expected import Expected
from adyton.cleanroom.attestation.roots import PINNED_ROOTS, key_fingerprint
from adyton.cleanroom.attestation.verify import verify

library = pytest.importorskip("dcap_qvl", reason="the extra [dcap] is not installed")
HERE = Path(__file__).parent
GENUINE = (HERE.parents[1] / "vectors" / "attestation" / "data" / "tdx-quote-v4.bin").read_bytes()


def _quotes() -> ModuleType:
    """`test_made_quotes.py` as a module: tests are in no package."""
    spec = importlib.util.spec_from_file_location("made_quotes", HERE / "test_made_quotes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


made = _quotes()
AT, DAY = made.AT, timedelta(days=1)
SGX_EXTENSION = x509.ObjectIdentifier("1.2.840.113741.1.13.1")


def _certificate(
    name: str, key: Any, issuer: str, by: Any, *, ca: bool, extension: x509.UnrecognizedExtension | None = None
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(AT - 10 * DAY)
        .not_valid_after(AT + 10 * DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if extension is not None:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(by, hashes.SHA256())


def _list(name: str, key: Any, *revoked: x509.Certificate, until: Any = AT + DAY) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .last_update(AT - DAY)
        .next_update(until)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    for certificate in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(AT - DAY).build())
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


ROOT_KEY, CA_KEY, TCB_KEY, PCK_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(4))
_GENUINE_PCK = dcap.quote_certificates(dcap_quote.parse(GENUINE))[0]
_EXTENSION = _GENUINE_PCK.extensions.get_extension_for_oid(SGX_EXTENSION).value
assert isinstance(_EXTENSION, x509.UnrecognizedExtension)
ROOT = _certificate("Intel SGX Root CA", ROOT_KEY, "Intel SGX Root CA", ROOT_KEY, ca=True)
CA = _certificate("Intel SGX PCK Platform CA", CA_KEY, "Intel SGX Root CA", ROOT_KEY, ca=True)
SIGNING = _certificate("Intel SGX TCB Signing", TCB_KEY, "Intel SGX Root CA", ROOT_KEY, ca=False)
PCK = _certificate(
    "Intel SGX PCK Certificate", PCK_KEY, "Intel SGX PCK Platform CA", CA_KEY, ca=False, extension=_EXTENSION
)
ROOTS = replace(PINNED_ROOTS, intel_keys=frozenset({key_fingerprint(ROOT)}), issuers=(ROOT,))
CHAIN = b"".join(one.public_bytes(Encoding.PEM) for one in (PCK, CA, ROOT))
QUOTE = made.quote(3, "sgx", made.ENCLAVE, pck=PCK_KEY, chain=CHAIN)


def _pem(*certificates: x509.Certificate) -> str:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates).decode()


def _dated(content: dict[str, Any], until: Any) -> str:
    dates = {"issueDate": f"{AT - DAY:%Y-%m-%dT%H:%M:%SZ}", "nextUpdate": f"{until:%Y-%m-%dT%H:%M:%SZ}"}
    return json.dumps({**content, **dates, "tcbEvaluationDataNumber": 1})


def collateral(
    *,
    status: str = "UpToDate",
    least_svn: int = 0,
    until: Any = AT + DAY,
    revoked: tuple[x509.Certificate, ...] = (),
    signed_by: Any = TCB_KEY,
) -> bytes:
    """What Intel would say of the PCK's platform at `AT`."""
    pck = library.parse_pck_extension_from_pem(PCK.public_bytes(Encoding.PEM))
    level = {"tcbDate": "2026-01-01T00:00:00Z", "tcbStatus": status, "advisoryIDs": ["INTEL-SA-00001"]}
    tcb_info = _dated(
        {
            "id": "SGX",
            "version": 3,
            "fmspc": bytes(pck.fmspc).hex().upper(),
            "pceId": "0000",
            "tcbType": 0,
            "tcbLevels": [{"tcb": {"sgxtcbcomponents": [{"svn": least_svn}] * 16, "pcesvn": 0}, **level}],
        },
        until,
    )
    signer, product = made.QE_SIGNERS["sgx"]
    qe_level = {"tcb": {"isvsvn": 0}, "tcbDate": "2026-01-01T00:00:00Z", "tcbStatus": "UpToDate"}
    qe_identity = _dated(
        {
            "id": "QE",
            "version": 2,
            "miscselect": "00000000",
            "miscselectMask": "FFFFFFFF",
            "attributes": (5).to_bytes(16, "little").hex(),
            "attributesMask": "FB" + "FF" * 7 + "00" * 8,
            "mrsigner": signer.hex(),
            "isvprodid": product,
            "tcbLevels": [qe_level],
        },
        until,
    )
    return json.dumps(
        {
            "pck_crl_issuer_chain": _pem(CA, ROOT),
            "root_ca_crl": _list("Intel SGX Root CA", ROOT_KEY, *revoked, until=until).hex(),
            "pck_crl": _list("Intel SGX PCK Platform CA", CA_KEY, *revoked, until=until).hex(),
            "tcb_info_issuer_chain": _pem(SIGNING, ROOT),
            "tcb_info": tcb_info,
            "tcb_info_signature": made._sign(signed_by, tcb_info.encode()).hex(),
            "qe_identity_issuer_chain": _pem(SIGNING, ROOT),
            "qe_identity": qe_identity,
            "qe_identity_signature": made._sign(TCB_KEY, qe_identity.encode()).hex(),
            "pck_certificate_chain": CHAIN.decode(),
        }
    ).encode()


def judge(given: bytes, **changed: Any) -> Verdict:
    expected = Expected(
        at_ms=int(AT.timestamp() * 1000),
        nonce=made.NONCE,
        allowed_measurements=frozenset({made.CODE.hex()}),
        roots=ROOTS,
        collateral=given,
    )
    return verify(Platform.SGX, QUOTE, expected=replace(expected, **changed))


def test_a_quote_with_current_collateral_holds_for_a_broker() -> None:
    verdict = judge(collateral())

    assert verdict.holds, [check.found for check in verdict.complete if not check.passed]
    assert "UpToDate (INTEL-SA-00001)" in verdict.check(CheckName.TCB).found


def test_a_status_counts_only_if_it_is_accepted() -> None:
    given = collateral(status="SWHardeningNeeded")

    assert judge(given).failed == (CheckName.TCB,)
    assert judge(given, tcb_statuses=frozenset({"UpToDate", "SWHardeningNeeded"})).holds


@pytest.mark.parametrize(
    "changed",
    [
        {"status": "Revoked"},
        {"least_svn": 255},
        {"until": AT - timedelta(hours=1)},
        {"revoked": (PCK,)},
        {"revoked": (CA,)},
        {"signed_by": CA_KEY},
    ],
    ids=["a revoked level", "older than every level", "expired", "PCK revoked", "CA revoked", "signed by another"],
)
def test_bad_collateral_or_a_bad_platform_is_refused(changed: dict[str, Any]) -> None:
    verdict = judge(collateral(**changed))

    assert CheckName.TCB in verdict.failed
    assert not verdict.holds_as_asked


def test_collateral_under_another_root_is_not_intels() -> None:
    failed = judge(collateral(), roots=PINNED_ROOTS).failed

    assert {CheckName.CHAIN, CheckName.TCB, CheckName.REVOCATION} <= set(failed)


@pytest.mark.parametrize("at_ms", [-86_400_000, 0, 1 << 62])
def test_any_time_and_any_collateral_give_a_verdict(at_ms: int) -> None:
    for given in (collateral(), b"{}", b"[]", b"\xff", b"null", collateral()[:-1]):
        assert not judge(given, at_ms=at_ms).holds
