"""A sealed box: any bytes for one recipient, in chunks, with a signed header.

    8 bytes   magic "ADYTBOX1"
    4 bytes   header length, big-endian
    header    canonical JSON: name, recipient, context, wrapped key, chunk size, plaintext length, sender's public key
    64 bytes  Ed25519 signature of the header by the sender
    chunks    AES-256-GCM, 256 KiB of plaintext each; nonce = 7 zero bytes | 32-bit counter | 1 if last (STREAM, Hoang,
              Reyhanitabar, Rogaway, Vizar 2015); associated data = SHA-256 of header and signature

The key is fresh for each box, so a counter nonce never repeats under a key. Cutting, reordering, extending or mixing
chunks of two boxes fails authentication.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from adyton.cleanroom.errors import SealBrokenError
from adyton.cleanroom.key_wrap import KEY_BYTES, unwrap_key, wrap_info, wrap_key
from adyton.cleanroom.party import Party, PartyIdentity, signature_holds
from adyton.cleanroom.secret_bytes import SecretBytes
from adyton.kernel.canonical import Json, canonical_bytes
from adyton.kernel.chance import OsRandom, RandomSource

MAGIC = b"ADYTBOX1"
BOX_DOMAIN = "adyton sealed box key v1"
CHUNK_BYTES = 1 << 18
TAG_BYTES = 16
MAX_HEADER_BYTES = 1 << 16


class Signer(Protocol):
    """Whoever vouches for a box: an enclave with its attested key, or a party."""

    @property
    def signing_public(self) -> bytes:
        """Raw Ed25519 public key."""
        ...

    def sign(self, message: bytes) -> bytes:
        """A 64-byte Ed25519 signature."""
        ...


@dataclass(frozen=True)
class BoxHeader:
    """What a box says of itself in the clear. `context` ties it to its use, such as a contract hash and a job id."""

    name: str
    recipient: str
    context: Mapping[str, Json]
    plaintext_bytes: int
    sender_public: bytes


def seal_box(
    plaintext: bytes,
    *,
    name: str,
    recipient: PartyIdentity,
    context: Mapping[str, Json],
    signer: Signer,
    random: RandomSource | None = None,
) -> bytes:
    """`plaintext` sealed to `recipient`."""
    key = SecretBytes((random or OsRandom()).token(KEY_BYTES))
    info = _info(name, str(recipient.name), context)
    header = canonical_bytes(
        {
            "name": name,
            "recipient": str(recipient.name),
            "context": dict(context),
            "chunk_bytes": CHUNK_BYTES,
            "plaintext_bytes": len(plaintext),
            "wrapped_key": base64.b64encode(wrap_key(key.data, recipient.receiving_public, info)).decode(),
            "sender_public": signer.signing_public.hex(),
        }
    )
    signature = signer.sign(_signed(header))
    aad = hashlib.sha256(header + signature).digest()
    parts = [MAGIC, len(header).to_bytes(4, "big"), header, signature]
    starts = range(0, max(len(plaintext), 1), CHUNK_BYTES)
    # The cipher reads the key at each call, so it is wiped after the last.
    with key:
        cipher = AESGCM(key.data)
        for counter, start in enumerate(starts):
            is_last = counter == len(starts) - 1
            parts.append(cipher.encrypt(_nonce(counter, is_last), plaintext[start : start + CHUNK_BYTES], aad))
    return b"".join(parts)


def read_header(box: bytes) -> BoxHeader:
    """The header of a box, after its signature was checked against the key that it names.

    Raises SealBrokenError. Whether that key is trusted is for the caller: compare it with a receipt's attested key.
    """
    return _parse(box)[0]


def open_box(box: bytes, recipient: Party, *, sender_public: bytes | None = None) -> bytes:
    """The plaintext.   sender_public: if given, the box must be signed by this raw Ed25519 key.

    Raises SealBrokenError with the reason.
    """
    header, wrapped, aad, body = _parse(box)
    if header.recipient != recipient.name:
        raise SealBrokenError(f"the box is for {header.recipient}", where=header.name)
    if sender_public is not None and header.sender_public != sender_public:
        raise SealBrokenError("the box was signed with another key than the expected one", where=header.name)
    chunks = []
    n_chunks = max(1, -(-header.plaintext_bytes // CHUNK_BYTES))
    if len(body) != header.plaintext_bytes + n_chunks * TAG_BYTES:
        raise SealBrokenError("the box is cut or extended", where=header.name)
    step = CHUNK_BYTES + TAG_BYTES
    info = _info(header.name, header.recipient, header.context)
    with SecretBytes(unwrap_key(wrapped, recipient.receiving_private, info)) as key:
        cipher = AESGCM(key.data)
        for counter in range(n_chunks):
            chunk = body[counter * step : (counter + 1) * step]
            try:
                chunks.append(cipher.decrypt(_nonce(counter, counter == n_chunks - 1), chunk, aad))
            except InvalidTag as error:
                raise SealBrokenError(f"chunk {counter} of the box was changed", where=header.name) from error
    return b"".join(chunks)


def _parse(box: bytes) -> tuple[BoxHeader, bytes, bytes, bytes]:
    """Header, wrapped key, associated data of the chunks, chunk bytes."""
    length = int.from_bytes(box[8:12], "big")
    if box[:8] != MAGIC or not 0 < length <= MAX_HEADER_BYTES or len(box) < 12 + length + 64 + TAG_BYTES:
        raise SealBrokenError("this is no sealed box, or it is cut")
    header, signature = box[12 : 12 + length], box[12 + length : 12 + length + 64]
    try:
        record = json.loads(header)
        parsed = BoxHeader(
            name=str(record["name"]),
            recipient=str(record["recipient"]),
            context=dict(record["context"]),
            plaintext_bytes=int(record["plaintext_bytes"]),
            sender_public=bytes.fromhex(record["sender_public"]),
        )
        wrapped = base64.b64decode(record["wrapped_key"], validate=True)
        is_known = record["chunk_bytes"] == CHUNK_BYTES and parsed.plaintext_bytes >= 0
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SealBrokenError("the header of the box is damaged") from error
    if not is_known or not signature_holds(parsed.sender_public, _signed(header), signature):
        raise SealBrokenError("the header of the box is not signed by its sender", where=parsed.name)
    return parsed, wrapped, hashlib.sha256(header + signature).digest(), box[12 + length + 64 :]


def _signed(header: bytes) -> bytes:
    return b"adyton sealed box v1\x00" + header


def _info(name: str, recipient: str, context: Mapping[str, Json]) -> bytes:
    return wrap_info(BOX_DOMAIN, {"name": name, "recipient": recipient, "context": dict(context)})


def _nonce(counter: int, is_last: bool) -> bytes:
    return bytes(7) + counter.to_bytes(4, "big") + bytes([is_last])
