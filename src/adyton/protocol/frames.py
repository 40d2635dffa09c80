"""Length frames with zero padding, and how long each hop pads them.

Two frames that look alike (protected-auction §5.3 and §5.5):

    client <-> seller front end, bidding <-> key/value:   (version << 5) | compression, length u32 BE, payload, zeros
    seller front end <-> buyer front end (GetBids):       (version << 4) | compression, the same, with gzip = 1
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from adyton.protocol.compression import gzip_compress, gzip_decompress
from adyton.protocol.errors import MalformedMessageError

HEADER_BYTES = 5
MIN_RESPONSE_BYTES = 512
"""Smallest frame of a response to a client and of a key/value request."""
_MAX_LENGTH = 2**32 - 1


class Compression(IntEnum):
    """The 5-bit compression field of a client frame."""

    NONE = 0
    BROTLI = 1
    GZIP = 2


@dataclass(frozen=True)
class ClientFrame:
    """A decoded client or key/value frame. `compression` may be a number outside `Compression` if it was not read."""

    version: int
    compression: int
    payload: bytes = field(repr=False)


class PaddingFormat(Enum):
    """How a device chooses the size of its frame (§4.2)."""

    V0 = "buckets up to 64 KiB"
    V1 = "1 KiB doubled without bound"
    V2 = "exactly the seller's maximum"


_V0_BUCKETS = (0, 1024, 2048, 4096, 8192, 16384, 32768, 65536)


def padded_request_size(n_payload: int, padding: PaddingFormat, *, max_size: int | None = None) -> int:
    """Bytes of a device's frame around `n_payload` bytes.

    max_size: the seller's configured maximum, for V2 only.   Raises MalformedMessageError if the payload is too large.
    """
    needed = HEADER_BYTES + n_payload
    if padding is PaddingFormat.V0:
        for bucket in _V0_BUCKETS:
            if bucket >= needed:
                return bucket
        raise MalformedMessageError("Payload exceeds maximum size of 64KB")
    if padding is PaddingFormat.V1:
        size = 1024
        while size < needed:
            size *= 2
        return size
    if max_size is None:
        raise MalformedMessageError("padding format V2 needs the seller's maximum size")
    if needed > max_size:
        raise MalformedMessageError(f"Payload exceeds the seller's maximum size of {max_size} bytes")
    return max_size


def padded_response_size(n_payload: int) -> int:
    """Bytes of a response to a client, and of a key/value request: max(512, next power of two) (§5.3)."""
    return max(MIN_RESPONSE_BYTES, next_power_of_two(HEADER_BYTES + n_payload))


def padded_key_value_response_size(n_payload: int) -> int:
    """Bytes of a key/value response: the next power of two (§5.3)."""
    return next_power_of_two(HEADER_BYTES + n_payload)


def next_power_of_two(n: int) -> int:
    """The smallest power of two that is at least `n` >= 1."""
    return 1 << (n - 1).bit_length()


def encode_client_frame(
    payload: bytes, *, compression: Compression = Compression.NONE, size: int | None = None, version: int = 0
) -> bytes:
    """The frame around an already compressed `payload`, zero-padded to `size` bytes (no padding if None)."""
    return _encode((version << 5) | compression, payload, size)


def decode_client_frame(frame: bytes, *, read_compression: bool = True) -> ClientFrame:
    """The frame's parts; the payload is left compressed.

    read_compression: False leaves version and compression unchecked, as the seller front end does for Android, whose
    frames say gzip around an uncompressed payload.
    Raises MalformedMessageError: shorter than 5 bytes, a length beyond the end, an unsupported first byte.
    """
    first, payload = _decode(frame)
    version, compression = first >> 5, first & 0x1F
    if read_compression and (version != 0 or compression not in tuple(Compression)):
        raise MalformedMessageError("the frame has an unsupported version or compression")
    return ClientFrame(version, compression, payload)


def encode_get_bids_frame(payload: bytes, *, gzip: bool, size: int | None = None) -> bytes:
    """The GetBids frame of an uncompressed `payload`: compressed inside if `gzip`, padded to `size` bytes."""
    return _encode(1 if gzip else 0, gzip_compress(payload) if gzip else payload, size)


def decode_get_bids_frame(frame: bytes) -> bytes:
    """The uncompressed payload of a GetBids frame.

    Raises MalformedMessageError "Malformed request." or "Unsupported version and compression combination" (§5.5).
    """
    if frame and frame[0] not in (0, 1):
        raise MalformedMessageError("Unsupported version and compression combination")
    try:
        first, payload = _decode(frame)
        return gzip_decompress(payload) if first == 1 else payload
    except MalformedMessageError as error:
        raise MalformedMessageError("Malformed request.") from error


def _encode(first: int, payload: bytes, size: int | None) -> bytes:
    if not 0 <= first <= 0xFF or len(payload) > _MAX_LENGTH:
        raise MalformedMessageError("the frame's version, compression or payload does not fit")
    frame = struct.pack(">BI", first, len(payload)) + payload
    if size is None:
        return frame
    if len(frame) > size:
        raise MalformedMessageError(f"a frame of {len(frame)} bytes does not fit into {size}")
    return frame.ljust(size, b"\0")


def _decode(frame: bytes) -> tuple[int, bytes]:
    if len(frame) < HEADER_BYTES:
        raise MalformedMessageError(f"a frame has at least {HEADER_BYTES} bytes, got {len(frame)}")
    first, length = struct.unpack_from(">BI", frame)
    if length > len(frame) - HEADER_BYTES:
        raise MalformedMessageError("the frame's length is beyond its end")
    return first, frame[HEADER_BYTES : HEADER_BYTES + length]
