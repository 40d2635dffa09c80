"""Signals that a partner creates for an ad tech: verification tokens and acknowledgement.

A token is base64url of the claims' canonical JSON, a dot, base64url of the ad tech's Ed25519 signature over it. An ad
tech may also ask to acknowledge every update: the device posts it the token and the update's SHA-256, not the update.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from adyton.device.errors import AdTechServerError, DelegationError
from adyton.device.web import Web
from adyton.kernel.canonical import canonical_bytes

PACKAGE_HEADER = "X-PROTECTED-SIGNALS-PACKAGE"
_PARTNER_HEADER = "X-PROTECTED-SIGNALS-PARTNER"
_DIGEST_HEADER = "X-PROTECTED-SIGNALS-DIGEST"


@dataclass(frozen=True)
class Grant:
    """What a verification token says."""

    ad_tech: str
    partner: str
    package: str
    not_after_ms: int


def sign_token(grant: Grant, private_key: bytes) -> str:
    """A verification token: base64url of the claims' canonical JSON, a dot, base64url of the Ed25519 signature."""
    claims = canonical_bytes(vars(grant))
    signature = Ed25519PrivateKey.from_private_bytes(private_key).sign(claims)
    return ".".join(base64.urlsafe_b64encode(part).decode() for part in (claims, signature))


def open_token(token: str, verification_key: bytes) -> Grant:
    """What a token of the ad tech with this public key says.

    Raises DelegationError if the ad tech did not sign it.
    """
    try:
        claims, signature = (base64.urlsafe_b64decode(part) for part in token.split("."))
        Ed25519PublicKey.from_public_bytes(verification_key).verify(signature, claims)
        tree = json.loads(claims)
        grant = Grant(tree["ad_tech"], tree["partner"], tree["package"], tree["not_after_ms"])
    except (InvalidSignature, ValueError, KeyError, TypeError) as error:
        raise DelegationError("the verification token is not signed by the ad tech") from error
    if not isinstance(grant.not_after_ms, int) or not all(
        isinstance(text, str) and text for text in (grant.ad_tech, grant.partner, grant.package)
    ):
        raise DelegationError("the verification token is malformed")
    return grant


async def ask_acknowledgement(
    endpoint: str, web: Web, *, token: str, partner: str, package: str, update: bytes
) -> None:
    """Ask the ad tech at `endpoint` about a partner's update.

    Raises DelegationError unless it answers with 2xx.
    """
    headers = {
        PACKAGE_HEADER: package,
        _PARTNER_HEADER: partner,
        _DIGEST_HEADER: hashlib.sha256(update).hexdigest(),
    }
    try:
        await web.post(endpoint, token.encode(), max_bytes=1024, headers=headers)
    except AdTechServerError as error:
        raise DelegationError("the ad tech did not acknowledge its partner's update", where=error.where) from error
