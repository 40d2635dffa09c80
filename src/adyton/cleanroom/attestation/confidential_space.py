"""Google Confidential Space: an attestation token, JWT with RS256, from Google's verifier.

Trust is in Google: its key checks the token, either by `kid` in a JWKS or by an `x5c` chain to a root certificate. No
Google key is in this package (they rotate, and no genuine token was at hand): the caller gives one as a trust anchor.

`eat_nonce` carries what the workload asked for, as text: hex (ours), URL-safe base64, or the bytes themselves.
Measurement: the container's image digest. `debug_off` asks for `dbgstat` "disabled-since-boot" and a production image.
Source: cleanroom §2.2.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from adyton.cleanroom.attestation.certificate_chain import check_chain, check_validity, load_certificates
from adyton.cleanroom.attestation.checks import CheckName, Findings, Platform, Verdict
from adyton.cleanroom.attestation.errors import EvidenceFormatError
from adyton.cleanroom.attestation.expected import Expected, check_age, check_development, check_measurement
from adyton.cleanroom.attestation.roots import certificate_fingerprint
from adyton.cleanroom.attestation.strict_json import parse_object
from adyton.kernel.clock import iso_utc

ISSUER = "https://confidentialcomputing.googleapis.com"
MAX_TOKEN_BYTES = 64 << 10
MIN_RSA_BITS = 2048
HARDWARE = frozenset({"GCP_AMD_SEV", "GCP_AMD_SEV_ES", "GCP_AMD_SEV_SNP", "GCP_INTEL_TDX"})
PRODUCTION_IMAGES = frozenset({"LATEST", "STABLE", "USABLE"})
_MAX_TIME_S = 7_258_118_400  # 2200-01-01


def verify(evidence: bytes, expected: Expected) -> Verdict:
    """The verdict on a Confidential Space token. Raises EvidenceFormatError if the bytes are something else."""
    token, header, claims = _parse(evidence)
    findings = Findings(Platform.CONFIDENTIAL_SPACE)
    issued_s, expires_s = _seconds(claims, "iat"), _seconds(claims, "exp")
    not_before_s = _seconds(claims, "nbf") if "nbf" in claims else issued_s
    digest = _image_digest(claims)

    ours = (claims.get("iss"), claims.get("swname")) == (ISSUER, "CONFIDENTIAL_SPACE")
    hardware = claims.get("hwmodel")
    findings.add(CheckName.FORMAT, True, "JWT, RS256")
    if not ours:
        findings.add(CheckName.FORMAT, False, "issuer or software name is not Confidential Space's")
    if hardware not in HARDWARE:
        findings.add(CheckName.FORMAT, False, "hwmodel is absent or not confidential hardware")
    valid = not_before_s * 1000 <= expected.at_ms < expires_s * 1000
    what = f"token from {iso_utc(not_before_s * 1000)} until {iso_utc(expires_s * 1000)}"
    findings.add(CheckName.VALIDITY, valid, what)
    key = _signing_key(findings, header, expected)
    if key is None:
        findings.add(CheckName.SIGNATURE, False, "there is no key to check it with")
    else:
        signed = _verifies(token, key)
        findings.add(CheckName.SIGNATURE, signed, "RS256" if signed else "does not verify")
    _debug(findings, claims)
    check_measurement(findings, [("image digest", digest)], expected)
    _binding(findings, claims, expected)
    check_age(findings, issued_s * 1000, expected)
    check_development(findings, expected)
    return findings.verdict(measurement=digest, issued_at_ms=issued_s * 1000)


def document_time_ms(evidence: bytes) -> int:
    """When the token was issued. Raises EvidenceFormatError."""
    return _seconds(_parse(evidence)[2], "iat") * 1000


def _parse(evidence: bytes) -> tuple[str, Mapping[str, object], Mapping[str, object]]:
    if len(evidence) > MAX_TOKEN_BYTES:
        raise EvidenceFormatError(f"a token has at most {MAX_TOKEN_BYTES} bytes")
    try:
        token = evidence.decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise EvidenceFormatError("a token is ASCII text") from error
    parts = token.split(".")
    if len(parts) != 3:
        raise EvidenceFormatError("a token has three parts")
    header, claims = (parse_object(_decode(part), "a part of the token") for part in parts[:2])
    _decode(parts[2])
    if header.get("alg") != "RS256":
        # Whatever else the token proposes ("none", HS256 with a public key as secret) is confusion or attack.
        raise EvidenceFormatError("the signature algorithm is not RS256")
    if "crit" in header:
        raise EvidenceFormatError("the token asks for an extension that is not known")
    return token, header, claims


def _decode(part: str) -> bytes:
    try:
        data = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise EvidenceFormatError("a part of the token is not base64") from error
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != part:
        raise EvidenceFormatError("a part of the token is not canonical base64")
    return data


def _signing_key(findings: Findings, header: Mapping[str, object], expected: Expected) -> rsa.RSAPublicKey | None:
    if not expected.trust_anchors:
        findings.add(CheckName.CHAIN, False, "no key of Google's verifier was given: a JWKS or its root certificate")
        return None
    if "x5c" in header:
        return _certified_key(findings, header["x5c"], expected)
    kid = header.get("kid")
    for anchor in expected.trust_anchors:
        for entry in _jwks(anchor):
            if isinstance(kid, str) and entry.get("kid") == kid and _is_for_signing(entry):
                key = _rsa_key(entry)
                findings.add(CheckName.CHAIN, True, "key of the JWKS given")
                return key
    findings.add(CheckName.CHAIN, False, "no key given has the token's key id")
    return None


def _is_for_signing(entry: Mapping[str, object]) -> bool:
    return entry.get("use", "sig") == "sig" and entry.get("alg", "RS256") == "RS256"


def _certified_key(findings: Findings, chain: object, expected: Expected) -> rsa.RSAPublicKey | None:
    if not isinstance(chain, list) or not chain or not all(isinstance(item, str) for item in chain):
        raise EvidenceFormatError("x5c is not a list of certificates")
    try:
        certificates = load_certificates([base64.b64decode(item, validate=True) for item in chain])
    except (ValueError, binascii.Error) as error:
        raise EvidenceFormatError("x5c is not base64") from error
    roots = load_certificates(anchor for anchor in expected.trust_anchors if not _is_json(anchor))
    trusted = {certificate_fingerprint(root) for root in roots}
    path = check_chain(
        findings,
        certificates[0],
        (*certificates[1:], *roots),
        lambda root: certificate_fingerprint(root) in trusted,
        "the root certificate given",
    )
    if path is None:
        return None
    check_validity(findings, path, expected.at_ms)
    return _strong(certificates[0].public_key())


def _is_json(data: bytes) -> bool:
    return data.lstrip()[:1] == b"{"


def _jwks(anchor: bytes) -> list[Mapping[str, object]]:
    if not _is_json(anchor):
        return []
    keys = parse_object(anchor, "the JWKS").get("keys")
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise EvidenceFormatError("the JWKS has no list of keys")
    return keys


def _rsa_key(entry: Mapping[str, object]) -> rsa.RSAPublicKey:
    try:
        return _strong(jwt.PyJWK(dict(entry), algorithm="RS256").key)
    except (jwt.PyJWTError, ValueError, KeyError, TypeError) as error:
        raise EvidenceFormatError("a key of the JWKS cannot be read") from error


def _strong(key: object) -> rsa.RSAPublicKey:
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < MIN_RSA_BITS:
        raise EvidenceFormatError(f"the signing key is not RSA with at least {MIN_RSA_BITS} bits")
    return key


def _verifies(token: str, key: rsa.RSAPublicKey) -> bool:
    unchecked = {f"verify_{name}": False for name in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")}
    try:
        # Times and names are named checks of their own, at a time that is an argument.
        jwt.decode(token, key, algorithms=["RS256"], options={**unchecked, "verify_signature": True})  # type: ignore[arg-type]
    except (jwt.PyJWTError, ValueError, TypeError):
        return False
    return True


def _seconds(claims: Mapping[str, object], name: str) -> int:
    value = claims.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < _MAX_TIME_S:
        raise EvidenceFormatError(f"the claim {name} is missing or not a time")
    return value


def _image_digest(claims: Mapping[str, object]) -> bytes:
    digest = _at(claims, "submods", "container", "image_digest")
    if not isinstance(digest, str) or not digest.startswith("sha256:") or len(digest) != 71 or digest != digest.lower():
        raise EvidenceFormatError("the container's image digest is missing or not SHA-256")
    try:
        return bytes.fromhex(digest.removeprefix("sha256:"))
    except ValueError as error:
        raise EvidenceFormatError("the container's image digest is not hex") from error


def _debug(findings: Findings, claims: Mapping[str, object]) -> None:
    status = claims.get("dbgstat")
    off = status == "disabled-since-boot"
    findings.add(CheckName.DEBUG_OFF, off, "dbgstat disabled-since-boot" if off else "dbgstat is absent or says debug")
    support = _at(claims, "submods", "confidential_space", "support_attributes")
    production = isinstance(support, list) and any(
        item in PRODUCTION_IMAGES for item in support if isinstance(item, str)
    )
    what = "a supported production image" if production else "no support attribute: a debug or unsupported image"
    findings.add(CheckName.DEBUG_OFF, production, what)


def _binding(findings: Findings, claims: Mapping[str, object], expected: Expected) -> None:
    nonces = claims.get("eat_nonce")
    said = [nonces] if isinstance(nonces, str) else nonces if isinstance(nonces, list) else []
    if expected.binding is None and expected.nonce is None:
        findings.not_asked(CheckName.BINDING, f"{len(said)} eat_nonce; give the nonce to check it")
    wanted = expected.binding if expected.binding is not None else expected.nonce
    if wanted is not None:
        bound = any(isinstance(text, str) and text.encode() in _spellings(wanted) for text in said)
        what = "in eat_nonce" if bound else "not in eat_nonce: replayed or foreign" if said else "absent: no eat_nonce"
        findings.add(CheckName.BINDING, bound, f"what was asked is {what}")
        findings.add(CheckName.FRESHNESS, bound, f"what was asked is {what}")
    if expected.audience is None:
        findings.not_asked(CheckName.BINDING, "the audience was not given")
    else:
        audience = claims.get("aud")
        right = audience == expected.audience
        findings.add(CheckName.BINDING, right, "audience is right" if right else "audience is absent or another's")


def _spellings(wanted: bytes) -> tuple[bytes, ...]:
    return (
        wanted,
        wanted.hex().encode(),
        base64.urlsafe_b64encode(wanted),
        base64.urlsafe_b64encode(wanted).rstrip(b"="),
    )


def _at(value: object, *path: str) -> object:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
