"""gzip with the same bytes on every run and with a bound on what comes out."""

from __future__ import annotations

import gzip
import zlib

from adyton.protocol.errors import MalformedMessageError

MAX_UNCOMPRESSED_BYTES = 16 * 1024 * 1024
"""More than any message of the protocol needs; a bound against bodies that only exist to fill memory."""
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


def gzip_compress(data: bytes, *, level: int = 6) -> bytes:
    """gzip without a time stamp: equal input, equal output."""
    return gzip.compress(data, compresslevel=level, mtime=0)


def gzip_decompress(data: bytes, *, max_bytes: int = MAX_UNCOMPRESSED_BYTES) -> bytes:
    """What was compressed, at most `max_bytes` >= 0. Bytes after the first gzip member are refused.

    Raises MalformedMessageError.
    """
    inflater = zlib.decompressobj(wbits=_GZIP_WINDOW)
    try:
        # One byte more than allowed: zlib takes 0 for no limit at all.
        plain = inflater.decompress(data, max_bytes + 1)
    except zlib.error as error:
        raise MalformedMessageError("the body is not gzip") from error
    if len(plain) > max_bytes:
        raise MalformedMessageError(f"the body is larger than {max_bytes} bytes when uncompressed")
    if not inflater.eof or inflater.unused_data:
        raise MalformedMessageError("the gzip body is cut off or followed by other bytes")
    return plain
