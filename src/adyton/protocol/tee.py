"""Encryption between the auction services: bare HPKE to, AES-256-GCM back (protected-auction §5.5)."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from adyton.kernel.chance import OsRandom, RandomSource
from adyton.protocol.errors import DecryptionError, EncapsulationError, UnknownKeyError
from adyton.protocol.hpke import KEY_BYTES, TAG_BYTES, Aead, setup_recipient, setup_sender
from adyton.protocol.keys import KeyRing, PublicKey

_AAD = b"shared_info"
_EXPORTER_CONTEXT = b"aead key"
_IV_BYTES = 12
_OS_RANDOM = OsRandom()


@dataclass(frozen=True)
class TeeClientContext:
    """Opens the response to one request. Its repr hides the secret."""

    secret: bytes = field(repr=False)

    def open_response(self, ciphertext: bytes) -> bytes:
        """The plaintext of a response.

        Raises DecryptionError for anything else.
        """
        if len(ciphertext) < _IV_BYTES + TAG_BYTES:
            raise DecryptionError("the response ciphertext is too short")
        try:
            return AESGCM(self.secret).decrypt(ciphertext[:_IV_BYTES], ciphertext[_IV_BYTES:], _AAD)
        except InvalidTag as error:
            raise DecryptionError("the response ciphertext does not open") from error


@dataclass(frozen=True)
class TeeServerContext:
    """Seals the response to one request. Its repr hides the secret."""

    secret: bytes = field(repr=False)

    def seal_response(self, plaintext: bytes, iv: bytes | None = None, *, source: RandomSource = _OS_RANDOM) -> bytes:
        """iv (12 bytes) || ciphertext || tag. A given `iv` is for test vectors only."""
        iv = source.token(_IV_BYTES) if iv is None else iv
        if len(iv) != _IV_BYTES:
            raise EncapsulationError(f"an IV has {_IV_BYTES} bytes, got {len(iv)}")
        return iv + AESGCM(self.secret).encrypt(iv, plaintext, _AAD)


def seal_request(
    key: PublicKey, plaintext: bytes, *, ephemeral_private: bytes | None = None
) -> tuple[bytes, TeeClientContext]:
    """enc || ciphertext, to travel with `key.decimal_id`, and the context that opens the response."""
    sender = setup_sender(key.public, info=b"", aead=Aead.CHACHA20_POLY1305, ephemeral_private=ephemeral_private)
    ciphertext = sender.enc + sender.seal(plaintext, aad=_AAD)
    return ciphertext, TeeClientContext(sender.export(_EXPORTER_CONTEXT, KEY_BYTES))


def open_request(ring: KeyRing, ciphertext: bytes, key_id: str | bytes | int) -> tuple[bytes, TeeServerContext]:
    """The plaintext of a request and the context that answers it.

    key_id: the decimal string of the request (`ScoreAdsRequest` carries it as bytes), or the number.
    Raises EncapsulationError "Invalid key_id." (UnknownKeyError for a number without a key), or DecryptionError
    "Malformed request ciphertext."
    """
    try:
        key = ring.private_key(_number(key_id))
    except UnknownKeyError as error:
        raise UnknownKeyError("Invalid key_id.") from error
    if len(ciphertext) < KEY_BYTES + TAG_BYTES:
        raise DecryptionError("Malformed request ciphertext.")
    try:
        recipient = setup_recipient(ciphertext[:KEY_BYTES], key.private, info=b"", aead=Aead.CHACHA20_POLY1305)
        plaintext = recipient.open(ciphertext[KEY_BYTES:], aad=_AAD)
    except DecryptionError as error:
        raise DecryptionError("Malformed request ciphertext.") from error
    return plaintext, TeeServerContext(recipient.export(_EXPORTER_CONTEXT, KEY_BYTES))


def _number(key_id: str | bytes | int) -> int:
    if isinstance(key_id, int):
        return key_id
    text = key_id.decode("ascii", "replace") if isinstance(key_id, bytes) else key_id
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= 255):
        raise EncapsulationError("Invalid key_id.")
    return int(text)
