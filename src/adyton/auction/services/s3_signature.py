"""Signature version 4 of S3 requests, which Google's storage takes too with its interoperability keys.

Pure: the caller sends the request with the headers given back. Only what reading a bucket needs: GET without a body.
Source: Amazon S3 API reference, "Authenticating requests: using the Authorization header (AWS Signature Version 4)".
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote

_ALGORITHM = "AWS4-HMAC-SHA256"
_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Credentials:
    """Access key id, secret and, for temporary ones, the session token."""

    key_id: str
    secret: str = field(repr=False)
    session_token: str = field(default="", repr=False)


def signed_headers(
    *,
    host: str,
    path: str,
    query: Mapping[str, str],
    credentials: Credentials,
    region: str,
    at_ms: int,
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """All headers of a signed GET but `Host`.

    path: absolute and not encoded.   query: not encoded.   extra: further headers to sign, such as `range`.
    """
    moment = datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {"x-amz-content-sha256": _EMPTY_SHA256, "x-amz-date": moment}
    headers |= {name.lower(): value.strip() for name, value in (extra or {}).items()}
    if credentials.session_token:
        headers["x-amz-security-token"] = credentials.session_token
    signed = {**headers, "host": host}
    names = ";".join(sorted(signed))
    canonical = "\n".join(
        [
            "GET",
            quote(path, safe="/-_.~"),
            encoded_query(query),
            "".join(f"{name}:{signed[name]}\n" for name in sorted(signed)),
            names,
            _EMPTY_SHA256,
        ]
    )
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    to_sign = "\n".join([_ALGORITHM, moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{credentials.secret}".encode()
    for part in (moment[:8], region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    headers["authorization"] = (
        f"{_ALGORITHM} Credential={credentials.key_id}/{scope},SignedHeaders={names},Signature={signature}"
    )
    return headers


def encoded_query(query: Mapping[str, str]) -> str:
    """The canonical query string, sorted by name."""
    return "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in sorted(query.items()))
