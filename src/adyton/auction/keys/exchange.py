"""How the primary coordinator gives the other one its share: sealed and authenticated with a key that both were given.

    body = nonce(12) || AES-256-GCM(exchange key, aad = domain, JSON of the share)

A body that is sent again changes nothing: a share that is already held stays as it is.
"""

from __future__ import annotations

import json

import httpx
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from adyton.auction.keys.errors import KeyServiceDownError, KeyServiceRequestError
from adyton.auction.keys.rotation import KeyShare
from adyton.auction.keys.store import share_from_json, share_to_json
from adyton.kernel.chance import RandomSource

EXCHANGE_KEY_BYTES = 32
SHARES_PATH = "/v1/shares"
_DOMAIN = b"adyton key share v1"
_NONCE_BYTES = 12
_TIMEOUT_S = 10.0


def seal_share(share: KeyShare, exchange_key: bytes, source: RandomSource) -> bytes:
    """The body that carries a share to the other coordinator."""
    nonce = source.token(_NONCE_BYTES)
    return nonce + AESGCM(exchange_key).encrypt(nonce, json.dumps(share_to_json(share)).encode(), _DOMAIN)


def open_share(body: bytes, exchange_key: bytes) -> KeyShare:
    """The share of a body.

    Raises KeyServiceRequestError if it was not sealed with this key or holds no share.
    """
    try:
        text = AESGCM(exchange_key).decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], _DOMAIN)
        return share_from_json(json.loads(text))
    except (InvalidTag, ValueError, KeyError, TypeError) as error:
        raise KeyServiceRequestError("the share cannot be opened", hint="both need the same exchange key") from error


async def deliver_share(body: bytes, address: str) -> None:
    """Hand a sealed share to the coordinator at `address` (an http(s) URL).

    Raises KeyServiceDownError unless it says that it holds the share now.
    """
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client:
            response = await client.post(address.rstrip("/") + SHARES_PATH, content=body)
    except httpx.HTTPError as error:
        raise KeyServiceDownError("the other coordinator does not answer", where=address) from error
    if response.status_code != 204:
        raise KeyServiceDownError(f"the other coordinator answered {response.status_code}", where=address)
