"""Tokens signed by a test key that the caller trusts on purpose; no genuine Google token was at hand."""

from __future__ import annotations

import base64
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from adyton.cleanroom.attestation.checks import CheckName, Platform, Verdict
from adyton.cleanroom.attestation.expected import Expected
from adyton.cleanroom.attestation.verify import verify

AT_S = 1_790_000_000
NONCE = bytes(range(32))
DIGEST = "5d" * 32
KEY = rsa.generate_private_key(65537, 2048)
STRANGER = rsa.generate_private_key(65537, 2048)
KID = "test-key-1"
JWKS = json.dumps(
    {"keys": [{**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key())), "kid": KID, "alg": "RS256"}]}
).encode()
CLAIMS = {
    "iss": "https://confidentialcomputing.googleapis.com",
    "aud": "https://broker.example",
    "iat": AT_S - 10,
    "nbf": AT_S - 10,
    "exp": AT_S + 3590,
    "eat_nonce": [NONCE.hex(), "another nonce"],
    "dbgstat": "disabled-since-boot",
    "hwmodel": "GCP_INTEL_TDX",
    "swname": "CONFIDENTIAL_SPACE",
    "submods": {
        "confidential_space": {"support_attributes": ["LATEST", "STABLE", "USABLE"]},
        "container": {"image_digest": f"sha256:{DIGEST}"},
    },
}


def token(key: rsa.RSAPrivateKey = KEY, headers: dict[str, object] | None = None, **changed: object) -> bytes:
    claims = {name: value for name, value in {**CLAIMS, **changed}.items() if value is not None}
    return jwt.encode(claims, key, algorithm="RS256", headers=headers or {"kid": KID}).encode()


def judge(evidence: bytes, **changed: object) -> Verdict:
    asked: dict[str, object] = {
        "at_ms": AT_S * 1000,
        "nonce": NONCE,
        "allowed_measurements": frozenset({DIGEST}),
        "trust_anchors": (JWKS,),
        "audience": "https://broker.example",
    }
    return verify(Platform.CONFIDENTIAL_SPACE, evidence, expected=Expected(**{**asked, **changed}))  # type: ignore[arg-type]


def test_a_token_of_a_trusted_key_holds() -> None:
    verdict = judge(token())

    assert verdict.holds
    assert verdict.measurement == DIGEST


@pytest.mark.parametrize(
    ("claim", "value", "check"),
    [
        ("iss", "https://evil.example", "format"),
        ("iss", None, "format"),
        ("hwmodel", "GCP_SHIELDED_VM", "format"),
        ("hwmodel", None, "format"),
        ("swname", "GCE", "format"),
        ("aud", "https://other.example", "binding"),
        ("aud", None, "binding"),
        ("eat_nonce", None, "binding"),
        ("eat_nonce", ["nothing of ours"], "freshness"),
        ("eat_nonce", [17], "binding"),
        ("eat_nonce", "", "binding"),
        ("eat_nonce", NONCE.hex()[:32], "binding"),
        ("eat_nonce", NONCE.hex().upper(), "binding"),
        ("eat_nonce", {"nonce": NONCE.hex()}, "binding"),
        ("aud", ["https://broker.example", "https://other.example"], "binding"),
        ("dbgstat", "disabled", "debug_off"),
        ("submods", {"container": {"image_digest": f"sha256:{DIGEST.upper()}"}}, "format"),
        ("exp", True, "format"),
        ("iat", 1e400, "format"),
        ("dbgstat", "enabled", "debug_off"),
        ("dbgstat", None, "debug_off"),
        ("submods", {"container": {"image_digest": f"sha256:{DIGEST}"}}, "debug_off"),
        ("submods", {"container": {"image_digest": f"sha256:{'00' * 32}"}}, "measurement"),
        ("submods", {"container": {"image_digest": f"sha256:{'ab' * 32}"}}, "measurement"),
        ("submods", {}, "format"),
        ("exp", AT_S - 1, "validity"),
        ("nbf", AT_S + 100, "validity"),
        ("iat", AT_S - 600, "freshness"),
        ("iat", AT_S + 600, "freshness"),
        ("exp", None, "format"),
        ("iat", "soon", "format"),
    ],
)
def test_each_absent_or_wrong_claim_fails_the_check_that_names_it(claim: str, value: object, check: str) -> None:
    verdict = judge(token(**{claim: value}))

    assert check in verdict.failed
    assert not verdict.holds_as_asked


def test_a_stranger_with_the_right_key_id_is_refused() -> None:
    assert judge(token(STRANGER)).failed == (CheckName.SIGNATURE,)


def test_an_unknown_key_id_or_no_key_at_all_is_refused() -> None:
    assert CheckName.CHAIN in judge(token(headers={"kid": "other"})).failed
    assert CheckName.CHAIN in judge(token(), trust_anchors=()).failed
    assert not judge(token(), trust_anchors=()).holds_as_asked


def _by_hand(header: dict[str, object] | bytes, signature: bytes, claims: bytes = json.dumps(CLAIMS).encode()) -> bytes:
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    parts = (head, claims, signature)
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)


def test_no_other_algorithm_is_taken_neither_none_nor_the_public_key_as_a_secret() -> None:
    secret = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    header = {"alg": "HS256", "kid": KID}
    body = _by_hand(header, b"").rpartition(b".")[0]
    confused = body + b"." + base64.urlsafe_b64encode(hmac.new(secret, body, "sha256").digest()).rstrip(b"=")

    for evidence in (confused, _by_hand({"alg": "none", "kid": KID}, b""), _by_hand({"kid": KID}, b"x")):
        assert CheckName.FORMAT in judge(evidence).failed


def _signed_by_hand(header: bytes, claims: bytes, key: rsa.RSAPrivateKey = KEY, hashed: Any = hashes.SHA256) -> bytes:
    body = _by_hand(header, b"", claims).rpartition(b".")[0]
    return _by_hand(header, key.sign(body, padding.PKCS1v15(), hashed()), claims)


def test_a_name_that_is_said_twice_has_no_meaning() -> None:
    header, claims = json.dumps({"alg": "RS256", "kid": KID}).encode(), json.dumps(CLAIMS).encode()
    assert judge(_signed_by_hand(header, claims)).holds

    debug_first = b'{"dbgstat": "enabled", ' + claims[1:]
    for head, body in (
        (header, debug_first),
        (b'{"alg": "none", ' + header[1:], claims),
        (header, claims[:-1] + b', "x": NaN}'),
    ):
        assert CheckName.FORMAT in judge(_signed_by_hand(head, body)).failed


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256", "ES384", "ES256", "EdDSA", "rs256", "", None, 256])
def test_only_rs256_is_taken_by_its_own_name(algorithm: object) -> None:
    header = json.dumps({"alg": algorithm, "kid": KID}).encode()

    assert CheckName.FORMAT in judge(_signed_by_hand(header, json.dumps(CLAIMS).encode())).failed


def test_a_key_that_the_token_brings_along_is_never_asked() -> None:
    jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(STRANGER.public_key()))
    for extra in ({"jwk": jwk}, {"jku": "https://evil.example/keys"}, {"x5u": "https://evil.example/chain"}):
        header = json.dumps({"alg": "RS256", "kid": KID, **extra}).encode()
        assert judge(_signed_by_hand(header, json.dumps(CLAIMS).encode(), STRANGER)).failed == (CheckName.SIGNATURE,)
    for header_fields in ({"alg": "RS256", "jwk": jwk}, {"alg": "RS256", "kid": [KID]}, {"alg": "RS256", "kid": None}):
        header = json.dumps(header_fields).encode()
        assert CheckName.CHAIN in judge(_signed_by_hand(header, json.dumps(CLAIMS).encode())).failed


@pytest.mark.parametrize("changed", [{"use": "enc"}, {"alg": "PS256"}, {"kty": "EC"}, {"kty": "oct", "k": "AA"}])
def test_a_listed_key_for_something_else_signs_no_token(changed: dict[str, object]) -> None:
    listed = json.dumps({"keys": [{**json.loads(JWKS)["keys"][0], **changed}]}).encode()

    assert not judge(token(), trust_anchors=(listed,)).holds_as_asked


def test_a_list_of_keys_and_a_chain_do_not_stand_for_each_other() -> None:
    stranger = _certificate("test root", STRANGER, "test root", STRANGER, True)
    own = token(STRANGER, headers={"kid": KID, "x5c": [base64.b64encode(stranger).decode()]})
    empty = token(headers={"kid": KID, "x5c": []})

    # A chain is asked for its root even where the key id is on the list.
    assert CheckName.CHAIN in judge(own).failed
    assert CheckName.FORMAT in judge(empty).failed
    assert CheckName.CHAIN in judge(own, trust_anchors=(stranger,)).failed


def test_changed_claims_under_the_old_signature_are_refused() -> None:
    header, _, signature = token().split(b".")
    claims = base64.urlsafe_b64encode(json.dumps({**CLAIMS, "exp": AT_S + 99_999}).encode()).rstrip(b"=")

    assert CheckName.SIGNATURE in judge(b".".join((header, claims, signature))).failed


def _certificate(name: str, key: rsa.RSAPrivateKey, issuer: str, issuer_key: rsa.RSAPrivateKey, ca: bool) -> bytes:
    start = datetime.fromtimestamp(AT_S, UTC) - timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(issuer_key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


def test_a_chain_in_the_token_counts_only_if_it_ends_in_the_root_given() -> None:
    root_key = rsa.generate_private_key(65537, 2048)
    root = _certificate("test root", root_key, "test root", root_key, True)
    leaf = _certificate("test leaf", KEY, "test root", root_key, False)
    other_root = _certificate("test root", STRANGER, "test root", STRANGER, True)
    chained = token(headers={"x5c": [base64.b64encode(item).decode() for item in (leaf, root)]})

    assert judge(chained, trust_anchors=(root,)).holds
    assert CheckName.CHAIN in judge(chained, trust_anchors=(other_root,)).failed
    assert CheckName.CHAIN in judge(chained, trust_anchors=(JWKS,)).failed
    assert CheckName.VALIDITY in judge(chained, trust_anchors=(root,), at_ms=(AT_S + 60 * 86_400) * 1000).failed


def test_a_leaf_may_not_issue_another_leaf() -> None:
    root_key = rsa.generate_private_key(65537, 2048)
    root = _certificate("test root", root_key, "test root", root_key, True)
    middle = _certificate("test middle", STRANGER, "test root", root_key, False)
    leaf = _certificate("test leaf", KEY, "test middle", STRANGER, False)
    chained = token(headers={"x5c": [base64.b64encode(item).decode() for item in (leaf, middle, root)]})

    assert CheckName.CHAIN in judge(chained, trust_anchors=(root,)).failed
