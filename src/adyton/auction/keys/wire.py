"""The JSON of the private key endpoints (protected-auction §14.2), and what its `keyMaterial` is encrypted with.

    keyMaterial = base64( nonce(12) || AES-256-GCM(key of the admission, aad = name of the key, material) )

The admission's key takes the place of the reference's cloud KMS: it is fresh for each answer, and only the attested
caller can open it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from adyton.auction.keys.attestation import Admission
from adyton.auction.keys.errors import KeyServiceAnswerError
from adyton.auction.keys.json_members import from_base64, items, text, to_base64
from adyton.auction.keys.rotation import KeyShare, KeyType
from adyton.kernel.chance import RandomSource

PUBLIC_PATH = "/.well-known/protected-auction/v1/public-keys"
CHALLENGE_PATH = "/v1/challenge"
PRIVATE_PATH = "/v1alpha/encryptionKeys"
NAME_PREFIX = "encryptionKeys/"
GRANT_HEADER = "adyton-key-grant"
_NONCE_BYTES = 12
_ID = re.compile(r"[0-9a-f]{16}")
_Object = dict[str, object]


@dataclass(frozen=True)
class ReleasedShare:
    """One share that a coordinator released. `index`: which of `n_shares` it is."""

    kms_id: str
    key_type: KeyType
    index: int
    n_shares: int
    material: bytes = field(repr=False)
    expires_at_ms: int


def keys_to_json(
    shares: Sequence[KeyShare], admission: Admission, *, encryption_uri: str, source: RandomSource
) -> _Object:
    """The answer for one admitted caller. A split key names both shares, the other one with empty material."""
    cipher = AESGCM(admission.key)
    return {"keys": [_key(share, cipher, encryption_uri, source) for share in shares]}


def shares_from_bytes(body: bytes, key: bytes) -> tuple[ReleasedShare, ...]:
    """The shares in an answer, opened with the admission's key.

    Raises KeyServiceAnswerError, never quoting what it read.
    """
    try:
        return tuple(_share(entry, AESGCM(key)) for entry in items(json.loads(body)["keys"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InvalidTag) as error:
        raise KeyServiceAnswerError("the released keys cannot be read") from error


def _key(share: KeyShare, cipher: AESGCM, encryption_uri: str, source: RandomSource) -> _Object:
    name, nonce = NAME_PREFIX + share.kms_id, source.token(_NONCE_BYTES)
    material = to_base64(nonce + cipher.encrypt(nonce, share.material, name.encode()))
    data: list[_Object] = [{"publicKeySignature": "", "keyEncryptionKeyUri": "", "keyMaterial": ""}]
    data *= _n_shares(share.key_type)
    data[share.index] = {"publicKeySignature": "", "keyEncryptionKeyUri": encryption_uri, "keyMaterial": material}
    return {
        "name": name,
        "encryptionKeyType": share.key_type.value,
        "publicKeysetHandle": to_base64(share.public_keyset),
        "publicKeyMaterial": to_base64(share.public_key),
        "creationTime": str(share.created_at_ms),
        "expirationTime": str(share.expires_at_ms),
        "keyData": data,
    }


def _share(entry: _Object, cipher: AESGCM) -> ReleasedShare:
    name, data = text(entry["name"]), items(entry["keyData"])
    kms_id, key_type = name.removeprefix(NAME_PREFIX), KeyType(text(entry["encryptionKeyType"]))
    if not _ID.fullmatch(kms_id) or len(data) != _n_shares(key_type):
        raise ValueError("not a key")
    held = [(index, from_base64(item["keyMaterial"])) for index, item in enumerate(data) if item["keyMaterial"]]
    if len(held) != 1:
        raise ValueError("not exactly one share")
    index, sealed = held[0]
    return ReleasedShare(
        kms_id=kms_id,
        key_type=key_type,
        index=index,
        n_shares=len(data),
        material=cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode()),
        expires_at_ms=int(text(entry["expirationTime"])),
    )


def _n_shares(key_type: KeyType) -> int:
    return 1 if key_type is KeyType.SINGLE else 2
