"""HPKE in base mode with X25519-HKDF-SHA256 and HKDF-SHA256 (RFC 9180), with export. `pyhpke` does the arithmetic.

A context seals or opens one message here: every protocol of protected-auction §5 uses a new context per request.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from typing import Protocol, cast

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pyhpke import AEADId, CipherSuite, KDFId, KEMId, KEMKey, KEMKeyPair
from pyhpke.exceptions import PyHPKEError

from adyton.protocol.errors import DecryptionError, KeyListError

KEY_BYTES = 32
"""Length of an X25519 public or private key and of `enc`."""
TAG_BYTES = 16


class Aead(Enum):
    """The two AEADs in use, by their RFC 9180 §7.3 number."""

    AES_256_GCM = 0x0002
    CHACHA20_POLY1305 = 0x0003


class _Context(Protocol):
    def seal(self, pt: bytes, aad: bytes = b"") -> bytes: ...
    def open(self, ct: bytes, aad: bytes = b"") -> bytes: ...
    def export(self, exporter_context: bytes, length: int) -> bytes: ...


_SUITES = {
    aead: CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId(aead.value)) for aead in Aead
}
_SUITE = _SUITES[Aead.AES_256_GCM]


class Sender:
    """Seals to a public key. `enc` (32 bytes) travels with the ciphertext."""

    def __init__(self, enc: bytes, context: _Context) -> None:
        self.enc = enc
        self._context = context

    def seal(self, plaintext: bytes, *, aad: bytes = b"") -> bytes:
        """Ciphertext with a 16-byte tag at its end."""
        return self._context.seal(plaintext, aad)

    def export(self, exporter_context: bytes, length: int) -> bytes:
        """A secret of `length` bytes that both sides can derive (RFC 9180 §5.3)."""
        return self._context.export(exporter_context, length)


class Recipient:
    """Opens what a `Sender` sealed."""

    def __init__(self, enc: bytes, context: _Context) -> None:
        self.enc = enc
        self._context = context

    def open(self, ciphertext: bytes, *, aad: bytes = b"") -> bytes:
        """The plaintext.

        Raises DecryptionError if the key, the info, the aad or any bit of the ciphertext is another one.
        """
        try:
            return self._context.open(ciphertext, aad)
        except PyHPKEError as error:
            raise DecryptionError("the ciphertext does not open") from error

    def export(self, exporter_context: bytes, length: int) -> bytes:
        """The same secret as the sender's."""
        return self._context.export(exporter_context, length)


def setup_sender(public: bytes, *, info: bytes, aead: Aead, ephemeral_private: bytes | None = None) -> Sender:
    """A sender to the 32-byte X25519 key `public`.

    ephemeral_private: 32 bytes used as the ephemeral key, for test vectors only; None draws one from the operating
    system.   Raises KeyListError for a key that is not usable.
    """
    pair = None
    if ephemeral_private is not None:
        secret = X25519PrivateKey.from_private_bytes(ephemeral_private)
        pair = KEMKeyPair(
            KEMKey.from_pyca_cryptography_key(secret), KEMKey.from_pyca_cryptography_key(secret.public_key())
        )
    try:
        recipient = _SUITE.kem.deserialize_public_key(public)
        enc, context = _SUITES[aead].create_sender_context(recipient, info, eks=pair)
    except ValueError as error:
        raise KeyListError("this is not a usable X25519 public key") from error
    return Sender(enc, cast(_Context, context))


def setup_recipient(enc: bytes, private: bytes, *, info: bytes, aead: Aead) -> Recipient:
    """The recipient for `enc` under the 32-byte X25519 private key.

    Raises DecryptionError if `enc` is not a usable public key.
    """
    try:
        key = _private_key(private)
    except ValueError as error:
        raise KeyListError("this is not an X25519 private key") from error
    try:
        context = _SUITES[aead].create_recipient_context(enc, key, info)
    except ValueError as error:
        raise DecryptionError("the encapsulated key is not usable") from error
    return Recipient(enc, cast(_Context, context))


# A service opens thousands of messages with each of a handful of keys; reading the key anew made a quarter of the cost.
_private_key = lru_cache(maxsize=64)(_SUITE.kem.deserialize_private_key)


def public_of(private: bytes) -> bytes:
    """The 32-byte public key of a 32-byte private key.

    Raises KeyListError for another length.
    """
    try:
        return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    except ValueError as error:
        raise KeyListError("this is not an X25519 private key") from error
