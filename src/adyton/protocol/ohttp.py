"""The OHTTP-like encapsulation of client <-> seller front end and of bidding <-> key/value service.

    request  = [00] || hdr || enc || HPKE.Seal("", plaintext)      hdr = key id || 00 20 || 00 01 || 00 02
    response = nonce || AES-256-GCM(key, iv, "", plaintext)        key and iv from the exported secret and the nonce

The two formats of the seller front end differ in their labels and in the leading zero byte.
Source: protected-auction §5.2 and §5.4; RFC 9458 §4.3 and §4.4 for the shape.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from enum import Enum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from adyton.kernel.chance import OsRandom, RandomSource
from adyton.protocol.errors import DecryptionError, EncapsulationError
from adyton.protocol.hpke import KEY_BYTES, TAG_BYTES, Aead, setup_recipient, setup_sender
from adyton.protocol.keys import KeyRing, PublicKey

_ALGORITHMS = bytes.fromhex("002000010002")
_HEADER_BYTES = 1 + len(_ALGORITHMS)
NONCE_BYTES = 32
"""max(Nk, Nn) of the suite."""
_OS_RANDOM = OsRandom()


class Label(Enum):
    """A request format: its labels and whether a zero byte leads."""

    SFE_CURRENT = ("message/auction request", "message/auction response", True)
    SFE_LEGACY = ("message/bhttp request", "message/bhttp response", False)
    KEY_VALUE = (
        "message/ad-auction-trusted-signals-request",
        "message/ad-auction-trusted-signals-response",
        False,
    )

    @property
    def request(self) -> bytes:
        return self.value[0].encode()

    @property
    def response(self) -> bytes:
        return self.value[1].encode()

    @property
    def prefix(self) -> bytes:
        return b"\0" if self.value[2] else b""


class Receiver(Enum):
    """Who decapsulates: the seller front end knows two formats and tells them apart by the first 8 bytes."""

    SELLER_FRONT_END = "seller front end"
    KEY_VALUE = "key/value service"


@dataclass(frozen=True)
class ClientContext:
    """What a client keeps between its request and the response. Holds a secret; its repr does not."""

    label: Label
    enc: bytes = field(repr=False)
    secret: bytes = field(repr=False)

    def decapsulate_response(self, body: bytes) -> bytes:
        """The plaintext of a response to this context's request.

        Raises DecryptionError for anything else.
        """
        if len(body) < NONCE_BYTES + TAG_BYTES:
            raise DecryptionError("the encapsulated response is too short")
        nonce, ciphertext = body[:NONCE_BYTES], body[NONCE_BYTES:]
        key, iv = _response_key(self.secret, self.enc, nonce)
        try:
            return AESGCM(key).decrypt(iv, ciphertext, b"")
        except InvalidTag as error:
            raise DecryptionError("the encapsulated response does not open") from error


@dataclass(frozen=True)
class ServerContext:
    """What a server keeps to answer one request. Holds a secret; its repr does not."""

    label: Label
    key_id: int
    enc: bytes = field(repr=False)
    secret: bytes = field(repr=False)

    def encapsulate_response(
        self, plaintext: bytes, nonce: bytes | None = None, *, source: RandomSource = _OS_RANDOM
    ) -> bytes:
        """The response body. `nonce`: 32 bytes, for test vectors only; drawn from `source` otherwise."""
        nonce = source.token(NONCE_BYTES) if nonce is None else nonce
        if len(nonce) != NONCE_BYTES:
            raise EncapsulationError(f"a response nonce has {NONCE_BYTES} bytes, got {len(nonce)}")
        key, iv = _response_key(self.secret, self.enc, nonce)
        return nonce + AESGCM(key).encrypt(iv, plaintext, b"")


def encapsulate_request(
    key: PublicKey, plaintext: bytes, label: Label, *, ephemeral_private: bytes | None = None
) -> tuple[bytes, ClientContext]:
    """The request body and the context that opens its response.

    ephemeral_private: 32 bytes, for test vectors only.
    """
    header = bytes([key.key_id]) + _ALGORITHMS
    sender = setup_sender(
        key.public, info=_info(label, header), aead=Aead.AES_256_GCM, ephemeral_private=ephemeral_private
    )
    body = label.prefix + header + sender.enc + sender.seal(plaintext)
    return body, ClientContext(label, sender.enc, sender.export(label.response, KEY_BYTES))


def decapsulate_request(
    ring: KeyRing, body: bytes, *, expect: Receiver = Receiver.SELLER_FRONT_END
) -> tuple[bytes, ServerContext]:
    """The plaintext of a request and the context that answers it in the same format.

    Raises EncapsulationError ("Unrecognized encapsulated request format", or an unparsable key id), UnknownKeyError
    or DecryptionError ("Malformed OHTTP encapsulated request provided ..."), with the texts of §5.4.
    """
    label = _detect(body) if expect is Receiver.SELLER_FRONT_END else Label.KEY_VALUE
    body = body[len(label.prefix) :]
    header, rest = body[:_HEADER_BYTES], body[_HEADER_BYTES:]
    if len(header) < _HEADER_BYTES or header[1:] != _ALGORITHMS:
        raise EncapsulationError("Invalid key ID provided in OHTTP encapsulated request")
    key = ring.private_key(header[0])
    if len(rest) < KEY_BYTES + TAG_BYTES:
        raise DecryptionError("Malformed OHTTP encapsulated request provided it is too short")
    enc, ciphertext = rest[:KEY_BYTES], rest[KEY_BYTES:]
    try:
        recipient = setup_recipient(enc, key.private, info=_info(label, header), aead=Aead.AES_256_GCM)
        plaintext = recipient.open(ciphertext)
    except DecryptionError as error:
        raise DecryptionError(f"Malformed OHTTP encapsulated request provided {error.what}") from error
    return plaintext, ServerContext(label, key.key_id, enc, recipient.export(label.response, KEY_BYTES))


def _detect(body: bytes) -> Label:
    head = body[: _HEADER_BYTES + 1]
    if head[1:_HEADER_BYTES] == _ALGORITHMS:
        return Label.SFE_LEGACY
    if head[:1] == b"\0" and head[2:] == _ALGORITHMS:
        return Label.SFE_CURRENT
    raise EncapsulationError("Unrecognized encapsulated request format")


def _info(label: Label, header: bytes) -> bytes:
    return label.request + b"\0" + header


def _response_key(secret: bytes, enc: bytes, nonce: bytes) -> tuple[bytes, bytes]:
    prk = hmac.digest(enc + nonce, secret, "sha256")  # HKDF-Extract
    return _expand(prk, b"key", 32), _expand(prk, b"nonce", 12)


def _expand(prk: bytes, info: bytes, length: int) -> bytes:
    return HKDFExpand(hashes.SHA256(), length, info).derive(prk)
