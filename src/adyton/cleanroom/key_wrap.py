"""Wrapping small keys for one receiver: HPKE base mode, X25519, HKDF-SHA-256, AES-256-GCM (RFC 9180).

HPKE's one-shot interface takes no associated data, so everything that must match goes into `info` (cleanroom §3).
Base mode does not say who wrapped: the manifest or header around a wrapped key is signed for that.
"""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from adyton.cleanroom.errors import SealBrokenError
from adyton.kernel.canonical import Json, canonical_bytes

KEY_BYTES = 32
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def wrap_info(domain: str, context: Mapping[str, Json]) -> bytes:
    """The `info` bytes that tie a wrapped key to its use: a domain and canonical JSON of the context."""
    return domain.encode() + b"\x00" + canonical_bytes(dict(context))


def wrap_key(key: bytes, receiver_public: bytes, info: bytes) -> bytes:
    """`key` (32 bytes) encrypted to a raw X25519 public key (32 bytes): encapsulated key, then ciphertext, 80 bytes."""
    assert len(key) == KEY_BYTES, "a data key has 32 bytes"
    return _SUITE.encrypt(key, X25519PublicKey.from_public_bytes(receiver_public), info=info)


def unwrap_key(wrapped: bytes, receiver_private: X25519PrivateKey, info: bytes) -> bytes:
    """The 32-byte key inside `wrapped`.

    Raises SealBrokenError if key, bytes or context differ from those of `wrap_key`.
    """
    try:
        key = bytes(_SUITE.decrypt(wrapped, receiver_private, info=info))
    except (InvalidTag, ValueError) as error:
        raise SealBrokenError(
            "the wrapped key does not open: another receiver, another context or changed bytes"
        ) from error
    if len(key) != KEY_BYTES:
        raise SealBrokenError("the wrapped key has another length than a data key")
    return key
